//! Folding ahead: what the next epoch will take is folded by other threads while this one is committed.
//!
//! What a fold comes to depends on its events alone. If the next epoch turns out to be another one, for a segment that
//! was closed or a view that has caught up, what was folded for it is dropped, and nothing else is different.

use super::Engine;
use super::folding::Folding;
use super::held::Place;
use super::{Worker, epoch::rows, store::UnitId};
use std::collections::BTreeMap;
use twofold_common::{Digest, LogChunk, Offset, Result};

/// Fewer events are folded sooner than another thread is woken for them.
pub(super) const WORTH_A_THREAD: u64 = 2048;

/// What an epoch takes of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    /// Where the segment begins that takes it in.
    pub(super) start: Offset,
    /// The first event.
    pub(super) from: Offset,
    /// So many events at most.
    pub(super) most: usize,
    /// The views that it is folded into.
    pub(super) views: Vec<Digest>,
}

/// What is folded before its epoch.
#[derive(Debug, Default)]
pub(super) struct Ahead(BTreeMap<Place, (Share, LogChunk, Folding)>);

impl Ahead {
    /// The events of this share and their folds, if they were begun.
    fn take(&mut self, place: &Place, share: &Share) -> Option<(LogChunk, Folding)> {
        let (begun, chunk, folding) = self.0.remove(place)?;
        (begun == *share).then_some((chunk, folding))
    }
}

impl Engine {
    /// The events of a share, and their folds; `None` if there are no events.
    pub(super) async fn begun(
        &self,
        worker: &mut Worker,
        place: &Place,
        share: &Share,
    ) -> Result<Option<(LogChunk, Folding)>> {
        if let Some(begun) = worker.ahead.take(place, share) {
            return Ok(Some(begun));
        }
        let chunk = self.log.read(&place.0, place.1, share.from, share.most).await?;
        if chunk.range.is_empty() {
            return Ok(None);
        }
        let folds = worker.folds(place, share);
        Ok(Some((chunk.clone(), self.begin(folds, chunk.batches))))
    }

    /// Lets other threads fold these shares already, if there are such threads and it is worth their while.
    pub(super) async fn fold_ahead(&self, worker: &mut Worker, shares: Vec<(Place, Share)>) -> Result<()> {
        worker.ahead.0.clear();
        if !self.has_helpers() {
            return Ok(());
        }
        for (place, share) in shares {
            let chunk = self.log.read(&place.0, place.1, share.from, share.most).await?;
            if rows(&chunk.batches) < WORTH_A_THREAD {
                continue;
            }
            let folds = worker.folds(&place, &share);
            let folding = self.begin_elsewhere(folds, chunk.batches.clone());
            worker.ahead.0.insert(place, (share, chunk, folding));
        }
        Ok(())
    }
}

impl Worker {
    /// What folds a share into its views.
    pub(super) fn folds(&self, place: &Place, share: &Share) -> Vec<super::runner::Fold> {
        let fold = |fingerprint: &Digest| {
            let (stream, partition) = place.clone();
            let id = UnitId { fingerprint: *fingerprint, stream, partition, start: share.start };
            self.runners.get(fingerprint).map(|runner| runner.fold(id))
        };
        share.views.iter().filter_map(fold).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::Engine;
    use crate::engine::store_tests::{World, count};
    use crate::faults::How;
    use std::sync::Arc;
    use tokio::runtime::Handle;
    use twofold_common::{Offset, Partition, SealedSegment, SealedSegments};

    /// Whether the next events are folded already, and how many.
    async fn folded_ahead(engine: &Engine) -> Option<(Offset, u64)> {
        let worker = engine.worker.lock().await;
        let begun = worker.ahead.0.get(&("s".to_string(), Partition(0)));
        begun.map(|(share, chunk, _)| (share.from, super::rows(&chunk.batches)))
    }

    const VIEWS: &str = "SELECT count(*) AS c FROM s; CREATE MATERIALIZED VIEW w AS SELECT n % 7 AS k, sum(n) AS t FROM s \
                         GROUP BY 1; CREATE MATERIALIZED VIEW late AS SELECT max(7 / (n - 9000)) AS m FROM s";

    /// Segments that end where the room does, at an epoch's end, and where somebody asks; one fold that fails, ahead.
    async fn history(engine: &Arc<Engine>, world: &World) -> (Vec<SealedSegment>, Vec<String>, i64, usize) {
        let mut ahead = 0;
        for (events, turns) in [(13_000, 2), (20_000, 3), (100, 1), (17_000, 4)] {
            world.append(events).await;
            for _ in 0..turns {
                engine.turn().await.unwrap();
                ahead += usize::from(folded_ahead(engine).await.is_some());
            }
            engine.seal_all().await.unwrap();
        }
        engine.catch_up().await.unwrap();
        let failed = engine.read().views.values().filter_map(|view| view.failed.clone()).collect();
        (engine.sealed("s", Partition(0), Offset(0)), failed, count(engine).await, ahead)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn law_what_is_folded_ahead_is_what_the_epoch_would_have_folded() {
        let world = World::of(VIEWS).await;
        let (sealed, failed, counted, ahead) = history(&world.open_with(4000, 11_000).await, &world).await;
        assert_eq!((sealed.len(), failed.len(), counted, ahead), (6, 1, 50_100, 0), "{failed:?}");
        for _ in 0..3 {
            let world = World::of(VIEWS).await;
            let engine = world.open_with(4000, 11_000).await;
            engine.fold_on(Handle::current());
            let helped = history(&engine, &world).await;
            assert_eq!((&helped.0, &helped.1, helped.2), (&sealed, &failed, counted));
            assert!(helped.3 > 3, "{} times", helped.3);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_comes_next_is_folded_while_an_epoch_is_committed() {
        let world = World::of("SELECT count(*) AS c FROM s").await;
        let engine = world.open_with(4000, 10_000).await;
        engine.fold_on(Handle::current());
        world.append(15_000).await;
        let mut begun = Vec::new();
        for _ in 0..5 {
            engine.turn().await.unwrap();
            begun.push(folded_ahead(&engine).await);
        }
        // Of 2,000 events until the segment is full, none are worth a thread.
        let all = [Some((Offset(4000), 4000)), None, Some((Offset(10_000), 4000)), None, None];
        assert_eq!(begun, all);
        assert_eq!(count(&engine).await, 15_000);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_that_fails_counts_nothing_twice_that_was_folded_ahead() {
        let mut failed = 0;
        for how in [How::Before, How::After] {
            for nth in 0.. {
                let world = World::of("SELECT count(*) AS c FROM s").await;
                let engine = world.open_with(3000, 100_000).await;
                engine.fold_on(Handle::current());
                world.append(12_000).await;
                world.faults.fail(nth, how);
                while engine.catch_up().await.is_err() {}
                assert_eq!(count(&engine).await, 12_000, "{how:?} {nth}");
                if world.faults.failed() == 0 {
                    break;
                }
                failed += 1;
            }
        }
        assert!(failed > 20, "{failed} operations failed");
    }
}
