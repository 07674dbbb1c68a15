//! Folding the same events into several views, on several processors.
//!
//! Which of them folds which view is left to chance; what comes of it is not.

use super::Engine;
use super::ahead::WORTH_A_THREAD;
use super::epoch::rows;
use super::runner::{Fold, States};
use super::store::UnitId;
use arrow::array::RecordBatch;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use twofold_common::{Error, Result};

/// Folds that are to be done, and which is the next that nobody has begun.
#[derive(Debug)]
struct Shared {
    folds: Vec<Fold>,
    events: Vec<RecordBatch>,
    next: AtomicUsize,
}

/// By number, what has come of the folds that one thread has done.
type Done = Vec<(usize, Result<States>)>;

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

/// Folds of the same events that have begun.
#[derive(Debug)]
pub(super) struct Folding {
    shared: Arc<Shared>,
    helpers: JoinSet<Done>,
}

impl Folding {
    /// What comes of each fold, in their order.
    pub(super) async fn finish(mut self) -> Result<Vec<(UnitId, Result<States>)>> {
        let mut done = self.shared.work().await;
        while let Some(helped) = self.helpers.join_next().await {
            done.extend(helped.map_err(|e| Error::Internal(format!("a thread that folds: {e}")))?);
        }
        done.sort_by_key(|(number, _)| *number);
        let folds = self.shared.folds.iter().map(|fold| fold.id.clone());
        Ok(folds.zip(done).map(|(id, (_, states))| (id, states)).collect())
    }
}

impl Engine {
    /// Lets threads there help from now on.
    pub fn fold_on(&self, handle: Handle) {
        // The first one stays.
        let _ = self.fold_on.set(handle);
    }

    pub(super) fn has_helpers(&self) -> bool {
        self.fold_on.get().is_some()
    }

    /// Begins to fold, with helpers if it is worth their while; the caller goes on at once by finishing.
    pub(super) fn begin(&self, folds: Vec<Fold>, events: Vec<RecordBatch>) -> Folding {
        let helpers = if rows(&events) < WORTH_A_THREAD { 0 } else { threads(&folds).saturating_sub(1) };
        self.begin_with(helpers, folds, events)
    }

    /// The same for a caller that has other things to do before.
    pub(super) fn begin_elsewhere(&self, folds: Vec<Fold>, events: Vec<RecordBatch>) -> Folding {
        self.begin_with(threads(&folds), folds, events)
    }

    fn begin_with(&self, helpers: usize, folds: Vec<Fold>, events: Vec<RecordBatch>) -> Folding {
        let shared = Arc::new(Shared { folds, events, next: AtomicUsize::new(0) });
        let mut tasks = JoinSet::new();
        if let Some(handle) = self.fold_on.get() {
            for _ in 0..helpers {
                let shared = Arc::clone(&shared);
                tasks.spawn_on(async move { shared.work().await }, handle);
            }
        }
        Folding { shared, helpers: tasks }
    }
}

/// How many threads these folds keep busy.
fn threads(folds: &[Fold]) -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get).min(folds.len())
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
