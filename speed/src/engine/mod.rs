//! The speed layer's engine: epochs, segments, states, and what lets go of them.
//!
//! One loop does, again and again: an *epoch* (fold what is in the log, commit states and offsets together, [behind
//! what is seen](commit)), *seal* what is full, *build* views that lag behind, *retire* what batch views cover. Only the
//! loop changes anything; queries read what is in memory.
//!
//! ```text
//! view's states   = fold of the events in [from, to)
//! ```
//!
//! It does not wait for the archive: sealed segments are there for the archiver to take. After a crash, what was
//! committed is loaded, and the rest of the log is folded again.

mod build;
mod commit;
mod compaction;
mod count;
mod epoch;
mod event_expr;
mod folding;
mod freshness;
mod held;
mod horizons;
mod late;
mod late_store;
mod layer;
mod merging;
mod place;
mod retire;
mod runner;
mod seal;
mod store;
mod versions;
mod watermark;

use crate::ingest::{Clock, Ingest};
use commit::Behind;
use compaction::Compaction;
use held::{Held, Place};
use horizons::Horizons;
use late::Windows;
use merging::Merging;
use runner::Runner;
use seal::Sealing;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use store::{Contents, StateStore, Write};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use twofold_common::{
    Archive, BatchViews, Catalog, Digest, Error, Log, Offset, Partition, Result, SealedSegment,
    SealedSegments, Versions, View,
};
use watermark::StreamTime;

/// How often horizons are looked up and segments checked for their age; more often if the grace is shorter.
const MAINTENANCE: Duration = Duration::from_millis(500);
/// The least time between the starts of two epochs while somebody waits for them.
const AWAITED_INTERVAL: Duration = Duration::from_millis(1);
/// How long the loop waits after an error before it tries again.
const BACKOFF: Duration = Duration::from_millis(500);

/// Where the engine keeps its states, and its bounds.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The file of the state store.
    pub state_path: PathBuf,
    /// How many events of one partition an epoch takes at most.
    pub epoch_rows: usize,
    /// The least time between the starts of two epochs.
    pub epoch_interval: Duration,
    /// A segment is sealed when it has this many events…
    pub segment_rows: u64,
    /// …or when its first event was taken in this long ago.
    pub segment_age: Duration,
    /// How long states below the horizon of a new batch view are kept.
    pub retire_grace: Duration,
}

/// The speed layer of one project.
pub struct Engine {
    config: EngineConfig,
    /// The project as it is, whose streams are taken in.
    catalog: Arc<Catalog>,
    /// With the project before it, while that answers.
    versions: Mutex<Versions>,
    /// Whether all views of the project are built.
    built: watch::Sender<bool>,
    log: Arc<dyn Log>,
    archive: Archive,
    batch_views: BatchViews,
    clock: Clock,
    ingest: Ingest,
    store: Arc<StateStore>,
    behind: tokio::sync::Mutex<Behind>,
    /// Whether the store must be opened again, because a commit failed.
    is_broken: AtomicBool,
    held: RwLock<Held>,
    worker: tokio::sync::Mutex<Worker>,
    progress: watch::Sender<u64>,
    sealing: watch::Sender<u64>,
    seal_wanted: AtomicBool,
    wake: Arc<Notify>,
    /// That somebody waits for what is in the log.
    awaited: Notify,
    running: AtomicBool,
    /// Where runs are merged, if not where the loop runs.
    merge_on: OnceLock<Handle>,
    /// Where threads help to fold.
    fold_on: OnceLock<Handle>,
    error: Mutex<Option<String>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What only the loop has.
struct Worker {
    runners: BTreeMap<Digest, Runner>,
    /// The event times of the streams that declare a watermark.
    times: BTreeMap<String, StreamTime>,
    /// The windows of each view over each of those.
    windows: BTreeMap<(Digest, String), Windows>,
    next_number: u64,
    /// Horizons of batch views, by the view's fingerprint.
    horizons: BTreeMap<Digest, Horizons>,
    maintained: Option<Instant>,
    merging: Merging,
    sealing: Sealing,
    compaction: Compaction,
}

impl Worker {
    async fn plan(versions: &Versions, next_number: u64) -> Result<Self> {
        let catalog = versions.current();
        let (mut runners, mut times, mut windows) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for stream in catalog.streams().values() {
            if let Some(time) = StreamTime::plan(catalog.session(), stream)? {
                times.insert(stream.name.clone(), time);
            }
        }
        for (view, planned_in) in versions.folded() {
            let fingerprint = view.fingerprint();
            runners.insert(fingerprint, Runner::plan(&planned_in, &view).await?);
            for name in view.streams().into_iter().filter(|name| times.contains_key(name)) {
                let stream = catalog.stream(&name)?;
                let planned = Windows::plan(planned_in.session(), stream, view.windows())?;
                windows.insert((fingerprint, name), planned);
            }
        }
        let horizons = BTreeMap::new();
        Ok(Self {
            runners,
            times,
            windows,
            next_number,
            horizons,
            maintained: None,
            merging: Merging::default(),
            sealing: Sealing::default(),
            compaction: Compaction::default(),
        })
    }
}

impl Engine {
    /// Opens the state store and loads what it holds.
    ///
    /// # Errors
    /// `Conflict` if another process has the store open; `Corrupt` if it is damaged, or is not of this log and
    /// archive; `Invalid` if a view cannot be planned.
    pub async fn open(
        config: EngineConfig,
        catalog: Arc<Catalog>,
        log: Arc<dyn Log>,
        archive: Archive,
        batch_views: BatchViews,
        clock: Clock,
    ) -> Result<Arc<Self>> {
        Self::open_versions(config, Versions::new(catalog, None), log, archive, batch_views, clock).await
    }

    /// The same, where the project before this one is folded on until this one is built and
    /// [`let_go_of_previous`](Self::let_go_of_previous) says so.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn open_versions(
        config: EngineConfig,
        versions: Versions,
        log: Arc<dyn Log>,
        archive: Archive,
        batch_views: BatchViews,
        clock: Clock,
    ) -> Result<Arc<Self>> {
        let store = StateStore::open(&config.state_path)?;
        Self::open_over(config, store, versions, log, archive, batch_views, clock).await
    }

    /// The same over a state store that is open, and what it holds.
    async fn open_over(
        config: EngineConfig,
        (store, contents): (StateStore, Contents),
        versions: Versions,
        log: Arc<dyn Log>,
        archive: Archive,
        batch_views: BatchViews,
        clock: Clock,
    ) -> Result<Arc<Self>> {
        let catalog = Arc::clone(versions.current());
        let next_number = contents.next_number();
        let held = Held::of(&versions, contents);

        let declared = catalog.streams().iter().filter(|(name, _)| is_declared(&catalog, name));
        let declared = declared.map(|(name, def)| (name.clone(), def.clone())).collect();
        let ingest = Ingest::new(Arc::clone(&log), &declared, Arc::clone(&clock))?;

        let worker = Worker::plan(&versions, next_number).await?;
        let engine = Arc::new(Self {
            config,
            catalog,
            versions: Mutex::new(versions),
            built: watch::Sender::new(false),
            log,
            archive,
            batch_views,
            clock,
            ingest,
            store: Arc::new(store),
            behind: Default::default(),
            is_broken: AtomicBool::new(false),
            held: RwLock::new(held),
            worker: tokio::sync::Mutex::new(worker),
            progress: watch::Sender::new(0),
            sealing: watch::Sender::new(0),
            seal_wanted: AtomicBool::new(false),
            wake: Arc::default(),
            awaited: Notify::new(),
            running: AtomicBool::new(false),
            merge_on: OnceLock::new(),
            fold_on: OnceLock::new(),
            error: Mutex::new(None),
        });
        engine.place().await?;
        engine.place_new_views().await?;
        engine.look_whether_built();
        Ok(engine)
    }

    /// Folds until told to stop; then what was begun is finished. Errors are kept for
    /// [`status`](twofold_common::SpeedLayer::status), and tried again.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        self.running.store(true, Ordering::SeqCst);
        let mut appended = self.log.appended();
        while !*stop.borrow() {
            let started = Instant::now();
            appended.borrow_and_update();
            let wait = match self.turn().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => MAINTENANCE,
                Err(e) => {
                    tracing::error!(error = %e, "the speed layer cannot go on; it tries again");
                    self.set_error(Some(e.to_string()));
                    BACKOFF
                }
            };
            if wait == Duration::ZERO {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                _ = stop.changed() => {}
                _ = appended.changed() => self.wait_for_more(started).await,
                () = self.wake.notified() => {}
                () = sleep(wait) => {}
            }
        }
        self.running.store(false, Ordering::SeqCst);
        if let Err(e) = self.flush().await {
            tracing::error!(error = %e, "the last states are not stored; they are folded again after the next start");
        }
    }

    /// Waits until an epoch that began then is long enough ago: not as long if somebody waits for it.
    async fn wait_for_more(&self, started: Instant) {
        let interval = self.config.epoch_interval;
        sleep_until(started + interval.min(AWAITED_INTERVAL)).await;
        tokio::select! {
            () = sleep_until(started + interval) => {}
            () = self.awaited.notified() => {}
        }
    }

    /// Folds all that is in the log, builds all views, seals what is full, and returns.
    pub async fn catch_up(&self) -> Result<()> {
        while self.turn().await? {}
        self.seal_all_closed(&mut *self.worker.lock().await).await?;
        while self.turn().await? {}
        self.flush().await
    }

    /// Seals all open segments that have events, whatever their size and age.
    pub async fn seal_all(&self) -> Result<()> {
        let mut worker = self.worker.lock().await;
        self.seal(&mut worker, true).await?;
        self.seal_all_closed(&mut worker).await
    }

    /// Looks up the newest batch views, and lets go of what they cover. The loop does this by itself.
    pub async fn retire_covered(&self) -> Result<()> {
        let mut worker = self.worker.lock().await;
        self.retire(&mut worker).await
    }

    /// What `gc` would drop: fingerprints of views that the project does not have, whose states are still stored.
    pub fn removed_views(&self) -> Vec<Digest> {
        self.read().removed.keys().copied().collect()
    }

    /// Drops the states of views that the project does not have.
    pub async fn drop_removed_views(&self) -> Result<Vec<Digest>> {
        let _worker = self.worker.lock().await;
        let removed = self.removed_views();
        self.commit(removed.iter().map(|&fingerprint| Write::DropView { fingerprint }).collect()).await?;
        Ok(removed)
    }

    /// One round of the loop: whether there may be more to do at once.
    ///
    /// # Errors
    /// Those of log, archive and state store.
    pub async fn turn(&self) -> Result<bool> {
        let mut worker = self.worker.lock().await;
        self.look_behind().await?;
        if self.is_broken.load(Ordering::SeqCst) {
            self.recover(&mut worker).await?;
        }
        let forced = self.seal_wanted.swap(false, Ordering::SeqCst);
        // Whoever has it catch up once reads no runs.
        if worker.maintained.is_none() && self.running.load(Ordering::SeqCst) {
            let loaded = self.read().units();
            self.merge_gathered(&mut worker, loaded);
        }
        let mut more = self.epoch(&mut worker).await?;
        if forced {
            self.fold_to_the_end(&mut worker).await?;
        }
        self.seal(&mut worker, forced).await?;
        if worker.maintained.is_none_or(|at| at.elapsed() >= MAINTENANCE.min(self.config.retire_grace)) {
            self.retire(&mut worker).await?;
            worker.maintained = Some(Instant::now());
        }
        more |= self.build(&mut worker).await?;
        self.look_whether_built();
        more |= self.count_late(&worker).await?;
        more |= !worker.compaction.is_done();
        self.set_error(None);
        Ok(more)
    }

    /// Folds what is in the log by now, and seals what gets full by it. What comes meanwhile must not keep it from its
    /// end, and a full segment takes in only one event an epoch.
    async fn fold_to_the_end(&self, worker: &mut Worker) -> Result<()> {
        let places: Vec<Place> = self.read().partitions.keys().cloned().collect();
        let mut ends = Vec::new();
        for (stream, partition) in places {
            let end = self.log.bounds(&stream, partition).await?.end;
            ends.push(((stream, partition), end));
        }
        while ends.iter().any(|(place, end)| self.read().folded(place) < *end) {
            self.seal(worker, false).await?;
            if !self.epoch(worker).await? {
                break;
            }
        }
        Ok(())
    }

    /// After a commit that failed: opens the store again, and goes on from what it holds. Whether what was being
    /// committed is there is known only then; folding it again without looking might count it twice.
    async fn recover(&self, worker: &mut Worker) -> Result<()> {
        self.forget_behind().await;
        let store = Arc::clone(&self.store);
        let contents = tokio::task::spawn_blocking(move || store.reopen()).await;
        let contents = contents.map_err(|e| Error::Internal(format!("the state store's thread: {e}")))??;
        worker.merging.clear();
        worker.sealing.clear();
        worker.compaction.clear();
        worker.maintained = None;
        worker.next_number = worker.next_number.max(contents.next_number());
        let epochs = self.read().epochs;
        let held = Held { epochs, ..Held::of(&self.versions(), contents) };
        *self.write() = held;
        self.is_broken.store(false, Ordering::SeqCst);
        self.place().await?;
        self.place_new_views().await?;
        tracing::info!("the states were read again after an error; the speed layer goes on");
        Ok(())
    }

    /// All views that are folded.
    fn views(&self) -> Vec<Arc<View>> {
        self.read().views.values().map(|held| Arc::clone(&held.view)).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

impl SealedSegments for Engine {
    fn sealed(&self, stream: &str, partition: Partition, from: Offset) -> Vec<SealedSegment> {
        self.read().sealed(&(stream.to_string(), partition), from)
    }

    fn sealing(&self) -> watch::Receiver<u64> {
        self.sealing.subscribe()
    }
}

/// Whether a stream was declared, and is not the stream of another's rejected events.
fn is_declared(catalog: &Catalog, name: &str) -> bool {
    !catalog.streams().values().any(|s| s.rejected().name == name)
}

#[cfg(test)]
mod store_tests;
