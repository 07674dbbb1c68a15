//! Folding the same events into several views, on several processors.
//!
//! Which of them folds which view is left to chance; what comes of it is not.

use super::Engine;
use super::runner::Fold;
use super::store::Write;
use arrow::array::RecordBatch;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use twofold_common::{Error, Result};

/// Fewer events are folded sooner than another thread is woken for them.
const SHARED_ROWS: usize = 2048;

/// Folds that are to be done, and by number what has come of those that one thread has done.
struct Shared {
    folds: Vec<Fold>,
    events: Vec<RecordBatch>,
    next: AtomicUsize,
}

type Done = Vec<(usize, Result<Vec<Write>>)>;

impl Shared {
    /// Does what nobody else has begun, until nothing is left.
    async fn work(&self) -> Done {
        let mut done = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(fold) = self.folds.get(number) else { return done };
            done.push((number, fold.run(&self.events).await));
        }
    }
}

impl Engine {
    /// Lets threads there help from now on, where several views are folded.
    pub fn fold_on(&self, handle: Handle) {
        // The first one stays.
        let _ = self.fold_on.set(handle);
    }

    /// What comes of each of `folds`, in their order.
    pub(super) async fn fold_all(
        &self,
        folds: Vec<Fold>,
        events: &[RecordBatch],
    ) -> Result<Vec<(Fold, Result<Vec<Write>>)>> {
        let rows: usize = events.iter().map(RecordBatch::num_rows).sum();
        let helpers = available_parallelism().map_or(1, NonZeroUsize::get).min(folds.len()).saturating_sub(1);
        let shared = Arc::new(Shared { folds, events: events.to_vec(), next: AtomicUsize::new(0) });
        let mut tasks = JoinSet::new();
        if let Some(handle) = self.fold_on.get().filter(|_| rows >= SHARED_ROWS) {
            for _ in 0..helpers {
                let shared = Arc::clone(&shared);
                tasks.spawn_on(async move { shared.work().await }, handle);
            }
        }
        let mut done = shared.work().await;
        while let Some(helped) = tasks.join_next().await {
            done.extend(helped.map_err(|e| Error::Internal(format!("a thread that folds: {e}")))?);
        }
        done.sort_by_key(|(number, _)| *number);
        let folds = Arc::into_inner(shared).map(|shared| shared.folds);
        let folds = folds.ok_or_else(|| Error::Internal("a fold is still under way".into()))?;
        Ok(folds.into_iter().zip(done).map(|(fold, (_, writes))| (fold, writes)).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::store_tests::World;
    use std::collections::BTreeMap;
    use tokio::runtime::Handle;
    use twofold_common::{Answer, SnapshotRequest, SpeedLayer, ViewRequest};

    /// The digests of what is held of each view, and why views are left behind.
    async fn folded(helped: bool) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
        let more: String = (1..9)
            .map(|n| {
                format!(
                    "; CREATE MATERIALIZED VIEW v{n} AS SELECT n % {n} AS k, count(*) AS c FROM s GROUP BY 1"
                )
            })
            .collect();
        let failing = "; CREATE MATERIALIZED VIEW vf AS SELECT max(7 / (n - 6000)) AS m FROM s";
        let world = World::of(&format!("SELECT count(*) AS c FROM s{more}{failing}")).await;
        let engine = world.open_with(4000, 5000).await;
        if helped {
            engine.fold_on(Handle::current());
        }
        world.append(9000).await;
        engine.catch_up().await.unwrap();
        let from = [("s".to_string(), Default::default())].into();
        let views = engine.views().into_iter().map(|view| ViewRequest {
            view: view.name().to_string(),
            fingerprint: view.fingerprint(),
            from: BTreeMap::clone(&from),
        });
        let (mut digests, mut failed) = (BTreeMap::new(), Vec::new());
        for view in views {
            let name = view.view.clone();
            let request = SnapshotRequest { views: vec![view], ..SnapshotRequest::default() };
            match engine.snapshot(&request).await {
                Ok(Answer::Snapshot(snapshot)) => {
                    let states = snapshot.views[0].states.iter();
                    digests
                        .insert(name, states.map(|(_, state)| state.digest().unwrap().to_string()).collect());
                }
                other => failed.push(format!("{name}: {other:?}")),
            }
        }
        (digests, failed)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn law_whoever_folds_it_comes_to_the_same() {
        let alone = folded(false).await;
        assert_eq!((alone.0.len(), alone.1.len()), (9, 1), "{alone:?}");
        assert!(alone.1[0].contains("vf") && alone.1[0].contains("[5000, 9000)"), "{:?}", alone.1);
        for _ in 0..3 {
            assert_eq!(folded(true).await, alone);
        }
    }
}
