//! What must hold in every state of the model, and what must come up in some, lest the model say nothing.

use super::HandOff;
use super::world::{Archiving, Counts, MAX_EVENTS, Met, Query, Range, Run, SoFar, World};
use stateright::Property;

pub(super) const ANSWER_IS_WHOLE: &str = "an answer has each event of its coverage once";
pub(super) const ANSWER_IS_FRESH: &str = "an answer has all that was acknowledged before";
pub(super) const ARCHIVE_IS_WHOLE: &str = "the archive is contiguous, and its files exist";
pub(super) const BATCH_VIEW_IS_WHOLE: &str = "the batch view has each event below its horizon once";
pub(super) const NOTHING_IS_LOST: &str = "each acknowledged event is in the log or the archive";
pub(super) const ONE_PUT_WINS: &str = "of two puts after the same version one succeeds";

pub(super) const BOTH_LAYERS: &str = "an answer comes from batch and speed";
pub(super) const A_PUT_LOSES: &str = "an owner loses its put";
pub(super) const A_RUN_LOSES: &str = "a batch run loses its put";
pub(super) const CRASH_BEFORE_RETIRE: &str =
    "an owner crashes between publish and retire, and an answer follows";
pub(super) const TOLD_DROPPED: &str = "a query is told that states were dropped, asks again, and is answered";
pub(super) const REFUSED: &str =
    "a zombie's segments lie across the horizon, and no answer is given from them";

pub(super) fn all() -> Vec<Property<HandOff>> {
    vec![
        Property::always(ANSWER_IS_WHOLE, |_, world: &World| world.queries.iter().all(is_whole)),
        Property::always(ANSWER_IS_FRESH, |_, world: &World| world.queries.iter().all(is_fresh)),
        Property::always(ARCHIVE_IS_WHOLE, |_, world: &World| archive_is_whole(world)),
        Property::always(BATCH_VIEW_IS_WHOLE, |_, world: &World| {
            let view = world.batch_views.body;
            has_each_once(&view.counts, view.horizon)
        }),
        Property::always(NOTHING_IS_LOST, |_, world: &World| {
            (0..world.log.end).all(|offset| is_kept(world, offset))
        }),
        Property::always(ONE_PUT_WINS, |_, world: &World| {
            !world.archive.put_twice && !world.batch_views.put_twice
        }),
        Property::sometimes(BOTH_LAYERS, |_, world: &World| {
            answered(world, |horizon, end, _| 0 < horizon && horizon < end)
        }),
        Property::sometimes(CRASH_BEFORE_RETIRE, |_, world: &World| {
            answered(world, |_, _, so_far| so_far.met == Met::Crash)
        }),
        Property::sometimes(TOLD_DROPPED, |_, world: &World| {
            answered(world, |_, _, so_far| so_far.met == Met::Dropped)
        }),
        Property::sometimes(REFUSED, |_, world: &World| world.queries.contains(&Query::Refused)),
        Property::sometimes(A_PUT_LOSES, |_, world: &World| {
            world.owners.iter().any(|owner| owner.archiving == Archiving::Lost)
        }),
        Property::sometimes(A_RUN_LOSES, |_, world: &World| world.runs.contains(&Run::Lost)),
    ]
}

/// Whether a state has each event below `end` once, and no other.
fn has_each_once(counts: &Counts, end: u8) -> bool {
    let mut expected = [0; MAX_EVENTS];
    Range { start: 0, end }.fold_into(&mut expected);
    *counts == expected
}

fn is_whole(query: &Query) -> bool {
    !matches!(query, Query::Answered { end, counts, .. } if !has_each_once(counts, *end))
}

fn is_fresh(query: &Query) -> bool {
    !matches!(query, Query::Answered { end, so_far, .. } if *end < so_far.acknowledged)
}

fn archive_is_whole(world: &World) -> bool {
    let mut end = 0;
    world.archive.body.iter().all(|segment| {
        let meets = segment.start == end && segment.start < segment.end;
        end = segment.end;
        meets && world.files.contains(segment)
    })
}

fn is_kept(world: &World, offset: u8) -> bool {
    let archived = |segment: &Range| segment.contains(offset) && world.files.contains(segment);
    world.log.contains(offset) || world.archive.body.iter().any(archived)
}

fn answered(world: &World, is: impl Fn(u8, u8, &SoFar) -> bool) -> bool {
    world.queries.iter().any(
        |query| matches!(query, Query::Answered { horizon, end, so_far, .. } if is(*horizon, *end, so_far)),
    )
}
