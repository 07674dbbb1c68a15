//! The laws of the algebra, on every kind of view, each against one plain DataFusion query over all events.

use crate::events::{cut, events, partitions};
use crate::oracle::{answer, assert_same, finish, plain};
use crate::views::{VIEWS, catalog};
use arrow::array::RecordBatch;
use proptest::prelude::*;
use std::sync::Arc;
use tempfile::TempDir;
use twofold_common::{Catalog, CutKind, Error, Folder, Merger, Project, State, Values, View};

struct World {
    _dir: TempDir,
    project: Project,
    catalog: Arc<Catalog>,
    runtime: tokio::runtime::Runtime,
}

fn world() -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (dir, project, catalog) = runtime.block_on(catalog(&[]));
    World { _dir: dir, project, catalog, runtime }
}

/// A view's plans, made once and run for every case.
pub struct Plans {
    folders: Vec<Folder>,
    mergers: Vec<Merger>,
    values: Vec<Values>,
}

pub async fn plans(catalog: &Catalog, view: &View) -> Plans {
    let (mut folders, mut mergers, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for cut in view.cuts() {
        let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
        folders.push(Folder::try_new(catalog.session(), cut, schema).await.unwrap());
        mergers.push(Merger::try_new(catalog.session(), cut).await.unwrap());
        values.push(Values::try_new(catalog.session(), cut).await.unwrap());
    }
    Plans { folders, mergers, values }
}

impl Plans {
    /// For each cut, the states of pieces of the streams.
    pub async fn fold(&mut self, view: &View, pieces: &[(&str, RecordBatch)]) -> Vec<Vec<State>> {
        let mut states = vec![Vec::new(); self.folders.len()];
        for (stream, piece) in pieces {
            for (i, cut) in view.cuts().iter().enumerate() {
                if cut.streams().iter().any(|s| s == stream) {
                    states[i].push(self.folders[i].fold(stream, std::slice::from_ref(piece)).await.unwrap());
                }
            }
        }
        states
    }

    /// The same, of pieces that are made while they are folded, a few events at a time.
    pub async fn fold_each(&mut self, view: &View, pieces: &[(&str, RecordBatch)]) -> Vec<Vec<State>> {
        let mut states = vec![Vec::new(); self.folders.len()];
        for (stream, piece) in pieces {
            for (i, _) in
                view.cuts().iter().enumerate().filter(|(_, c)| c.streams().contains(&stream.to_string()))
            {
                let batches = crate::events::cut(piece, &[0.2, 0.7]).into_iter().map(Ok);
                states[i].push(self.folders[i].fold_each(stream, batches).await.unwrap());
            }
        }
        states
    }

    /// The values of the first key of each state have its columns and its key; those of some may fit no type.
    pub async fn check_values(&mut self, states: &[State], fallible: bool) {
        for (values, state) in self.values.iter_mut().zip(states).filter(|(_, state)| state.rows() > 0) {
            let row = match values.of(state, 0).await {
                Ok(row) => row,
                Err(_) if fallible => continue,
                Err(e) => panic!("{e}"),
            };
            let key = state.batch().slice(0, 1).columns()[..state.keys()].to_vec();
            assert_eq!(
                (row.num_columns(), &row.columns()[..state.keys()]),
                (state.batch().num_columns(), &key[..])
            );
        }
    }

    pub async fn merge(&mut self, states: &[Vec<State>]) -> Vec<State> {
        let mut merged = Vec::new();
        for (merger, states) in self.mergers.iter_mut().zip(states) {
            merged.push(merger.merge(states).await.unwrap());
        }
        merged
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("TWOFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    ProptestConfig { cases, ..ProptestConfig::default() }
}

fn shuffled<T: Clone>(items: &[T], keys: &[u32]) -> Vec<T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|i| keys.get(i % keys.len().max(1)).map_or(*i as u32, |k| k.rotate_left(*i as u32)));
    order.into_iter().map(|i| items[i].clone()).collect()
}

/// Folds random events cut into random pieces, merges in a random bracketing and order, and finishes.
#[test]
fn law_any_bracketing_and_identity() {
    let world = world();
    let (catalog, runtime) = (&world.catalog, &world.runtime);
    let mut all: Vec<(Arc<View>, Plans)> = runtime.block_on(async {
        let mut all = Vec::new();
        for view in catalog.views().values() {
            all.push((view.clone(), plans(catalog, view).await));
        }
        all
    });
    let all = tokio::sync::Mutex::new(&mut all);
    let cuts = || proptest::collection::vec(0.0f64..1.0, 0..6);
    proptest!(config(), |(clicks in events(50), orders in events(20), fine in cuts(), coarse in cuts(),
                         order in proptest::collection::vec(any::<u32>(), 1..8), first in 0.0f64..1.0)| {
        let streams = [("clicks", clicks), ("orders", orders)];
        let streams = streams.map(|(name, events)| (name, partitions(&catalog.streams()[name], &events)));
        let pieces = |at: &[f64]| -> Vec<(&str, RecordBatch)> {
            let of = |(name, batches): &(&'static str, Vec<RecordBatch>)| {
                batches.iter().flat_map(|b| cut(b, at)).map(|piece| (*name, piece)).collect::<Vec<_>>()
            };
            streams.iter().flat_map(of).collect()
        };
        runtime.block_on(async {
            let oracle = plain(&world.project, &streams.clone().map(|(name, b)| (name, b))).await;
            for (view, plans) in all.lock().await.iter_mut() {
                let name = view.name();
                // Fine pieces in any order, merged in two halves and then together.
                let states = plans.fold(view, &shuffled(&pieces(&fine), &order)).await;
                let halves: Vec<(Vec<State>, Vec<State>)> = states.iter().map(|states| {
                    let (a, b) = states.split_at((first * states.len() as f64) as usize);
                    (a.to_vec(), b.to_vec())
                }).collect();
                let left = plans.merge(&halves.iter().map(|h| h.0.clone()).collect::<Vec<_>>()).await;
                let right = plans.merge(&halves.iter().map(|h| h.1.clone()).collect::<Vec<_>>()).await;
                let both: Vec<Vec<State>> = right.into_iter().zip(left).map(|(r, l)| vec![r, l]).collect();
                let merged = plans.merge(&both).await;
                // Coarse pieces in order, merged at once.
                let states = plans.fold_each(view, &pieces(&coarse)).await;
                let at_once = plans.merge(&states).await;
                for (cut, (a, b)) in merged.iter().zip(&at_once).enumerate() {
                    assert_eq!(a.digest().unwrap(), b.digest().unwrap(), "state of cut {cut} of {name}");
                    let bytes = a.to_bytes().unwrap();
                    let read = State::from_bytes(&bytes, "a state").unwrap();
                    assert_eq!(read.digest().unwrap(), a.digest().unwrap(), "stored state of {name}");
                }
                let expected = answer(&oracle, &format!("SELECT * FROM {name}")).await;
                let merged: Vec<Vec<State>> = merged.into_iter().map(|s| vec![s]).collect();
                assert_same(name, &finish(catalog, view, &merged).await, &expected);
                // Finish merges by itself: states need not be merged before.
                assert_same(name, &finish(catalog, view, &states).await, &expected);
            }
        });
    });
}

/// Which views keep a row for each event is part of what they cost: it must not change unnoticed.
#[test]
fn append_only_cuts_are_those_that_need_to_be() {
    let world = world();
    for (name, query, append) in VIEWS {
        let view = world.catalog.view(name).unwrap();
        let found = view.cuts().iter().any(|cut| matches!(cut.kind(), CutKind::Append));
        assert_eq!(found, *append, "{name}: {query}\n{}", view.finish_plan().display_indent());
    }
}

/// A plan that runs again must not give what it gave before.
#[test]
fn two_epochs_through_one_plan_give_two_states() {
    let world = world();
    let clicks = &world.catalog.streams()["clicks"];
    world.runtime.block_on(async {
        for name in ["named", "table_first", "left_named", "known", "unknown"] {
            let view = world.catalog.view(name).unwrap();
            let mut plans = plans(&world.catalog, view).await;
            let event = |k, n| crate::events::Event {
                second: 1,
                k: Some(k),
                n: Some(n),
                x: None,
                ok: None,
                partition: 0,
                gap: 0,
            };
            let epochs = [vec![event("a", 5), event("c", 1)], vec![event("b", 7), event("d", 9)]];
            let mut digests = Vec::new();
            for epoch in &epochs {
                let piece = [("clicks", partitions(clicks, epoch)[0].clone())];
                digests.push(plans.fold(view, &piece).await[0][0].digest().unwrap());
            }
            assert_ne!(digests[0], digests[1], "{name}");
        }
    });
}

/// Events that cannot be read to their end are no state, and leave nothing for the next run to find.
#[test]
fn events_that_end_in_an_error_are_no_state() {
    let world = world();
    let clicks = &world.catalog.streams()["clicks"];
    let event = |n| crate::events::Event {
        second: 1,
        k: Some("a"),
        n: Some(n),
        x: None,
        ok: None,
        partition: 0,
        gap: 0,
    };
    let piece = |n| partitions(clicks, &[event(n)])[0].clone();
    world.runtime.block_on(async {
        for view in world.catalog.views().values() {
            let mut plans = plans(&world.catalog, view).await;
            for (i, _) in
                view.cuts().iter().enumerate().filter(|(_, c)| c.streams().contains(&"clicks".into()))
            {
                let folder = &mut plans.folders[i];
                let expected = folder.fold("clicks", &[piece(3)]).await.unwrap().digest().unwrap();
                let damaged = Error::corrupt("a segment", "damaged");
                let events = vec![Ok(piece(1)), Err(damaged), Ok(piece(2))];
                let e = folder.fold_each("clicks", events.into_iter()).await.unwrap_err();
                assert!(
                    matches!(&e, Error::Corrupt { path, .. } if path == "a segment"),
                    "{}: {e:?}",
                    view.name()
                );
                let after = folder.fold_each("clicks", [Ok(piece(3))].into_iter()).await.unwrap();
                assert_eq!(after.digest().unwrap(), expected, "{}", view.name());
            }
        }
    });
}

/// The mean of integers whose sum no double holds is still the rounded sum, divided once, in any order.
#[test]
fn law_identity_of_the_mean_of_large_integers() {
    let world = world();
    let clicks = &world.catalog.streams()["clicks"];
    let view = world.catalog.view("means").unwrap();
    let large = [(1i64 << 53) + 1, 1, -3, i64::MAX, i64::MAX, 1, i64::MIN, 1 << 53, 1, 5];
    let exact = large.iter().map(|&n| i128::from(n)).sum::<i128>() as f64 / large.len() as f64;
    world.runtime.block_on(async {
        let mut plans = plans(&world.catalog, view).await;
        for turn in 0..large.len() {
            let mut numbers = large.to_vec();
            numbers.rotate_left(turn);
            let event = |n: &i64| crate::events::Event {
                second: 1,
                k: Some("a"),
                n: Some(*n),
                x: None,
                ok: None,
                partition: 0,
                gap: 0,
            };
            let events: Vec<_> = numbers.iter().map(event).collect();
            let pieces = cut(&partitions(clicks, &events)[0], &[0.3, 0.7]);
            let pieces: Vec<_> = pieces.into_iter().map(|piece| ("clicks", piece)).collect();
            let states = plans.fold(view, &pieces).await;
            let rows = finish(&world.catalog, view, &states).await;
            let mean = rows[0].column_by_name("mean").unwrap();
            let mean = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(mean).value(0);
            assert_eq!(mean.to_bits(), exact.to_bits(), "{mean} is not {exact}");
        }
    });
}

/// The extremes of floats are those of the total order, whatever the order of the events.
#[test]
fn law_identity_of_float_extremes() {
    let world = world();
    let clicks = &world.catalog.streams()["clicks"];
    let numbers = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, 1.5, f64::NEG_INFINITY, f64::MIN_POSITIVE];
    world.runtime.block_on(async {
        for name in ["float_extremes", "float_extremes_whole"] {
            let view = world.catalog.view(name).unwrap();
            let mut plans = plans(&world.catalog, view).await;
            for kept in 1u32..1 << numbers.len() {
                let kept = (0..numbers.len()).filter(|i| kept >> i & 1 == 1).map(|i| numbers[i]);
                let kept: Vec<f64> = kept.collect();
                let least = kept.iter().copied().min_by(f64::total_cmp).unwrap();
                let greatest = kept.iter().copied().max_by(f64::total_cmp).unwrap();
                for turn in [0, kept.len() / 2] {
                    let mut order = kept.clone();
                    order.rotate_left(turn);
                    let event = |x: &f64| crate::events::Event {
                        second: 1,
                        k: Some("a"),
                        n: None,
                        x: Some(*x),
                        ok: Some(true),
                        partition: 0,
                        gap: 0,
                    };
                    let events: Vec<_> = order.iter().map(event).collect();
                    let pieces = cut(&partitions(clicks, &events)[0], &[0.4]);
                    let pieces: Vec<_> = pieces.into_iter().map(|piece| ("clicks", piece)).collect();
                    let rows = finish(&world.catalog, view, &plans.fold(view, &pieces).await).await;
                    for (column, expected) in [("lo", least), ("hi", greatest)] {
                        let found = rows[0].column_by_name(column).unwrap();
                        let found =
                            arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(found);
                        assert_eq!(found.value(0).to_bits(), expected.to_bits(), "{column} of {order:?}");
                    }
                }
            }
        }
    });
}

/// A coverage is made of ranges that follow one another from the horizon on, or not at all.
#[test]
fn law_coverage_of_ranges() {
    use twofold_common::{Coverage, Offset, OffsetRange, Partition};
    let range = (0u64..30, 0u64..8).prop_map(|(start, length)| (start, start + length));
    // Mostly ranges that fit, then one of them moved.
    let fitting = (0u64..10, proptest::collection::vec(0u64..6, 0..6)).prop_map(|(horizon, lengths)| {
        let mut end = horizon;
        let ranges = lengths.iter().map(|length| {
            end += length;
            (end - length, end)
        });
        (horizon, ranges.collect::<Vec<_>>())
    });
    let arbitrary = (0u64..10, proptest::collection::vec(range, 0..4));
    let moved = (fitting.clone(), any::<prop::sample::Index>(), 1u64..3).prop_map(
        |((horizon, mut ranges), at, by)| {
            if !ranges.is_empty() {
                let at = at.index(ranges.len());
                ranges[at].0 += by;
                ranges[at].1 += by;
            }
            (horizon, ranges)
        },
    );
    let config = ProptestConfig { cases: 512, ..ProptestConfig::default() };
    proptest!(config, |((horizon, ranges) in prop_oneof![fitting, arbitrary, moved])| {
        let given: Vec<_> = ranges.iter().map(|&(a, b)| OffsetRange::new(Offset(a), Offset(b))).collect();
        let coverage = Coverage::assemble("v", "s", Partition(0), Offset(horizon), &given);
        // By counting: every offset from 0 on once, in order, none left out.
        let mut offsets: Vec<u64> = (0..horizon).collect();
        offsets.extend(ranges.iter().flat_map(|&(a, b)| a..b));
        let whole = offsets.iter().copied().eq(0..offsets.len() as u64);
        match coverage {
            Ok(coverage) => {
                prop_assert!(whole, "{coverage:?} was given for {horizon} and {ranges:?}");
                prop_assert_eq!(coverage.speed.end, Offset(offsets.len() as u64));
            }
            // An empty range in the wrong place covers nothing, and is refused all the same.
            Err(_) => prop_assert!(!whole || ranges.iter().any(|(a, b)| a == b), "{horizon} and {ranges:?}"),
        }
    });
}
