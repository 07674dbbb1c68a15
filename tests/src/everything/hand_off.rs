//! The whole platform on wild events: all in the speed layer, some in each, all in the batch layer; every answer is
//! that of a plain query over what it covers.

use super::laws::{cases, everything, project};
use super::queries::Query;
use super::wild::{Event, events, own_rows};
use crate::oracle::{answer, assert_same, plain};
use crate::parity::{Platform, Sizes, Step, runtime};
use proptest::prelude::*;
use std::collections::BTreeMap;
use twofold_common::{Offset, Partition, Project};

/// What happens between two looks at the answers.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) wild: Vec<Event>,
    pub(super) more: Vec<Event>,
    /// Whether the horizon moves, and whether everything is folded again from raw for it.
    pub(super) batch: Option<bool>,
    pub(super) restart: Option<bool>,
}

pub(super) fn round() -> impl Strategy<Value = Round> {
    let batch = proptest::option::weighted(0.7, any::<bool>());
    let restart = proptest::option::weighted(0.3, any::<bool>());
    (events(14), events(5), batch, restart).prop_map(|(wild, more, batch, restart)| Round {
        wild,
        more,
        batch,
        restart,
    })
}

/// Every construct, every kind of window over every kind of state, and some calls.
fn some(queries: &[Query]) -> Vec<Query> {
    let calls = ["sum_0_whole", "var_0_by_k", "nth_value_by_0_by_k", "count_by_1_whole", "key_f8", "key_st"];
    let windows = ["tumble", "hop", "cumulate", "session", "cube_small", "rollup_ordered", "sets_counted"];
    for call in calls {
        assert!(queries.iter().any(|q| q.name == call), "{call}");
    }
    let wanted = |q: &Query| {
        q.name.starts_with("construct_")
            || calls.contains(&q.name.as_str())
            || windows.iter().any(|window| q.name.starts_with(window))
    };
    queries.iter().filter(|q| wanted(q)).cloned().collect()
}

/// Where all events of an answer are to come from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Speed,
    Batch,
}

async fn check(platform: &Platform, queries: &[Query], from: Option<Origin>) {
    let project = Project { views: Vec::new(), ..platform.project.clone() };
    let mut oracles = BTreeMap::new();
    for query in queries {
        let rows = platform.serving().query(&format!("SELECT * FROM {}", query.name)).await;
        let rows = rows.unwrap_or_else(|e| panic!("{}: {e}", query.name));
        let batch = rows.coverage.iter().any(|c| c.batch.start != c.batch.end);
        let speed = rows.coverage.iter().any(|c| c.speed.start != c.speed.end);
        match from {
            Some(Origin::Speed) => assert!(!batch, "{}", query.name),
            Some(Origin::Batch) => assert!(!speed, "{}", query.name),
            _ => {}
        }
        for covered in &rows.coverage {
            let ends = platform.ends(&covered.stream).await;
            assert_eq!(covered.speed.end, ends[covered.partition.0 as usize], "{}", query.name);
        }
        let key: Vec<(String, Partition, Offset)> =
            rows.coverage.iter().map(|c| (c.stream.clone(), c.partition, c.speed.end)).collect();
        if !oracles.contains_key(&key) {
            let oracle = plain(&project, &platform.covered(&rows.coverage)).await;
            oracles.insert(key.clone(), oracle);
        }
        let expected = answer(&oracles[&key], &query.plain).await;
        assert_same(&format!("{}: {}", query.name, query.view), &rows.batches, &expected);
    }
}

pub(super) async fn ingest(platform: &mut Platform, round: &Round) {
    for (name, events) in [("wild", &round.wild), ("more", &round.more)] {
        let stream = platform.catalog.stream(name).unwrap().clone();
        for partition in stream.partitions() {
            let mine: Vec<&Event> = events.iter().filter(|e| e.partition == partition.0).collect();
            if !mine.is_empty() {
                platform.append(name, partition, own_rows(&stream, &mine)).await;
            }
        }
    }
    platform.take(&Step::Epochs).await;
}

pub(super) async fn hand_off(platform: &mut Platform, full: bool) {
    for step in [Step::Seal, Step::Archive, Step::Batch { full }, Step::Retire] {
        platform.take(&step).await;
    }
}

/// Speed only, then any hand-offs, then batch only.
#[test]
fn law_any_cut_of_everything() {
    let queries = some(&runtime().block_on(everything()).1);
    assert!(queries.len() >= 60, "{}", queries.len());
    let config = ProptestConfig { cases: cases().div_ceil(4), ..ProptestConfig::default() };
    let sizes = (1usize..9, 1u64..9);
    proptest!(config, |(rounds in proptest::collection::vec(round(), 2..5), (epoch_rows, segment_rows) in sizes)| {
        runtime().block_on(async {
            let sizes = Sizes { epoch_rows, segment_rows };
            let mut platform = Platform::of(project(&queries).await, sizes).await;
            let mut handed = false;
            for round in &rounds {
                ingest(&mut platform, round).await;
                check(&platform, &queries, (!handed).then_some(Origin::Speed)).await;
                match round.restart {
                    Some(true) => platform.take(&Step::LoseStates).await,
                    Some(false) => platform.take(&Step::Restart).await,
                    None => {}
                }
                platform.take(&Step::Epochs).await;
                if let Some(full) = round.batch {
                    hand_off(&mut platform, full).await;
                    handed = true;
                }
            }
            check(&platform, &queries, None).await;
            hand_off(&mut platform, true).await;
            check(&platform, &queries, Some(Origin::Batch)).await;
        });
    });
}
