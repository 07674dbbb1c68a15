//! The checks. Each prints how many states it has looked at.

use super::properties::{
    A_PUT_LOSES, A_RUN_LOSES, ANSWER_IS_FRESH, ANSWER_IS_WHOLE, ARCHIVE_IS_WHOLE, BATCH_VIEW_IS_WHOLE,
    BOTH_LAYERS, CRASH_BEFORE_RETIRE, NOTHING_IS_LOST, ONE_PUT_WINS, REFUSED, TOLD_DROPPED,
};
use super::{Grace, HandOff, Mistake};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Two of everything that writes.
const RIVALS: HandOff = HandOff {
    events: 2,
    appended: 0,
    owners: 2,
    runs: 2,
    queries: 1,
    grace: Grace::None,
    lose_stores: true,
    mistake: Mistake::None,
    remember: true,
};

/// Looks at every state: none breaks a property, and some show each of these.
fn assert_kept(model: HandOff, shown: &[&'static str]) -> impl Checker<HandOff> {
    let checker = model.checker().spawn_bfs().join();
    println!("{model:?}: {} states, {} steps deep", checker.unique_state_count(), checker.max_depth());
    for property in model.properties() {
        if property.expectation == Expectation::Always {
            checker.assert_no_discovery(property.name);
        }
    }
    for property in shown {
        checker.assert_any_discovery(property);
    }
    checker
}

/// Looks at states until one breaks the property, which this mistake must bring about.
fn assert_caught(mistake: Mistake, property: &'static str) {
    let stop = HasDiscoveries::AllOf([property].into());
    let checker = HandOff { mistake, ..RIVALS }.checker().finish_when(stop).spawn_bfs().join();
    let steps = checker.assert_any_discovery(property).into_actions();
    println!("{mistake:?}: {} states, broken by {steps:?}", checker.unique_state_count());
}

#[test]
fn the_hand_off_keeps_every_event_once_whatever_crashes() {
    let shown = [BOTH_LAYERS, CRASH_BEFORE_RETIRE, TOLD_DROPPED, REFUSED, A_PUT_LOSES, A_RUN_LOSES];
    assert_kept(RIVALS, &shown);
}

#[test]
fn owners_who_seal_at_different_offsets_do_no_harm() {
    let model = HandOff { events: 3, appended: 3, runs: 1, remember: false, ..RIVALS };
    assert_kept(model, &[BOTH_LAYERS, REFUSED, A_PUT_LOSES]);
}

#[test]
#[ignore = "takes a minute: for changes of the protocol"]
fn owners_who_seal_at_different_offsets_do_no_harm_to_what_comes_in_meanwhile() {
    let model = HandOff { events: 3, runs: 1, ..RIVALS };
    assert_kept(model, &[BOTH_LAYERS, CRASH_BEFORE_RETIRE, TOLD_DROPPED, REFUSED, A_PUT_LOSES]);
}

#[test]
fn with_grace_an_owner_that_keeps_its_store_never_says_dropped() {
    let keeps = HandOff { events: 3, owners: 1, runs: 1, lose_stores: false, ..RIVALS };
    let shown = [BOTH_LAYERS, CRASH_BEFORE_RETIRE];
    assert_kept(HandOff { grace: Grace::OutlastsQueries, ..keeps }, &shown).assert_no_discovery(TOLD_DROPPED);
    assert_kept(keeps, &[TOLD_DROPPED]);
}

#[test]
fn a_put_without_its_condition_is_caught() {
    assert_caught(Mistake::PutWithoutCondition, ONE_PUT_WINS);
    assert_caught(Mistake::PutWithoutCondition, BATCH_VIEW_IS_WHOLE);
}

#[test]
fn a_segment_that_is_named_before_it_is_written_is_caught() {
    assert_caught(Mistake::NameBeforeWrite, ARCHIVE_IS_WHOLE);
}

#[test]
fn a_log_that_is_trimmed_before_it_is_archived_is_caught() {
    assert_caught(Mistake::TrimBeforeArchived, NOTHING_IS_LOST);
}

#[test]
fn a_segment_that_is_merged_twice_is_caught() {
    assert_caught(Mistake::MergeSegmentTwice, BATCH_VIEW_IS_WHOLE);
    assert_caught(Mistake::MergeSegmentTwice, ANSWER_IS_WHOLE);
}

#[test]
fn an_answer_despite_dropped_states_is_caught() {
    assert_caught(Mistake::AnswerDespiteDropped, ANSWER_IS_WHOLE);
}

#[test]
fn an_answer_from_states_across_the_horizon_is_caught() {
    assert_caught(Mistake::AnswerAcrossHorizon, ANSWER_IS_WHOLE);
}

#[test]
fn an_answer_that_does_not_wait_for_the_acknowledged_is_caught() {
    assert_caught(Mistake::AnswerWhatIsThere, ANSWER_IS_FRESH);
}
