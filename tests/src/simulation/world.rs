//! What there is: the platform over a faulty store and log, and the ledger of what producers sent.

use super::actors::{Op, Request};
use super::gate::{Gate, Parked};
use super::log::FaultyLog;
use super::store::FaultyStore;
use crate::views::catalog;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use twofold_batch::{Archiver, Batch};
use twofold_common::{Archive, BatchViews, Catalog, Log, Project, Store, Versions};
use twofold_nexmark::Rng;
use twofold_serving::Serving;
use twofold_speed::{Clock, Engine, EngineConfig, MemoryLog, with_rejected};

/// A view for each kind of state: groups, two streams, one row for each event, and intervals.
pub const VIEWS: &[&str] = &["counts", "both", "kept", "sessions"];

/// The project that is simulated: the same for all seeds.
pub struct Site {
    pub project: Project,
    pub catalog: Arc<Catalog>,
    _dir: TempDir,
}

impl Site {
    pub async fn new() -> Arc<Self> {
        let (dir, project, catalog) = catalog(VIEWS).await;
        Arc::new(Self { project, catalog, _dir: dir })
    }
}

/// What is known of a request with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Acknowledged,
    /// It failed, or nobody lived to hear the answer: it may have been taken in, once.
    Unknown,
}

/// The process that ingests, folds, archives and answers.
#[derive(Clone)]
pub struct Node {
    pub engine: Arc<Engine>,
    pub serving: Arc<Serving>,
}

/// Everything.
pub struct World {
    pub site: Arc<Site>,
    pub rng: Rng,
    pub gate: Arc<Gate>,
    pub waiting: mpsc::UnboundedReceiver<Parked>,
    pub log: Arc<FaultyLog>,
    pub store: Store,
    pub node: Option<Node>,
    pub ops: Vec<Op>,
    /// Each event that was sent, by its number `n`: into which stream, and what became of it.
    pub ledger: BTreeMap<i64, (&'static str, Fate)>,
    /// What was sent, and not acknowledged.
    pub again: Vec<Request>,
    pub trace: Vec<String>,
    pub tally: Tally,
    pub sizes: Sizes,
    dir: TempDir,
}

/// How much an epoch takes at most, and when a segment is full.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub epoch_rows: usize,
    pub segment_rows: u64,
}

/// What came to pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub picks: u64,
    pub answers: u64,
    pub refused: u64,
    pub kills: u64,
    pub published: u64,
    pub lost: u64,
    pub archived: u64,
    pub collected: u64,
    pub acknowledged: u64,
    pub unknown: u64,
}

impl Tally {
    /// The sum of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            picks: self.picks + other.picks,
            answers: self.answers + other.answers,
            refused: self.refused + other.refused,
            kills: self.kills + other.kills,
            published: self.published + other.published,
            lost: self.lost + other.lost,
            archived: self.archived + other.archived,
            collected: self.collected + other.collected,
            acknowledged: self.acknowledged + other.acknowledged,
            unknown: self.unknown + other.unknown,
        }
    }
}

impl World {
    pub fn new(site: &Arc<Site>, seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0, 0);
        let (gate, waiting) = Gate::new(Rng::new(seed, 1, 0));
        let gate = Arc::new(gate);
        // Offsets with gaps, inside and between appends.
        let streams = with_rejected(site.project.streams.values());
        let inner = MemoryLog::with_gaps(&streams, |n| u64::from(n % 7 == 3) * 2);
        let log = Arc::new(FaultyLog::new(inner, Arc::clone(&gate)));
        let store = Store::over(Arc::new(FaultyStore::new(Arc::clone(&gate))), "a faulty store");
        let sizes = Sizes { epoch_rows: 1 + rng.below(8) as usize, segment_rows: 1 + rng.below(12) };
        Self {
            site: Arc::clone(site),
            rng,
            gate,
            waiting,
            log,
            store,
            node: None,
            ops: Vec::new(),
            ledger: BTreeMap::new(),
            again: Vec::new(),
            trace: Vec::new(),
            tally: Tally::default(),
            sizes,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn state_path(&self) -> PathBuf {
        self.dir.path().join("state.redb")
    }

    pub fn clock(&self) -> Clock {
        let gate = Arc::clone(&self.gate);
        Arc::new(move || gate.now())
    }

    /// Opens a node: declares the streams, and loads or builds the states.
    pub fn opening(&self) -> impl Future<Output = twofold_common::Result<Node>> + use<> {
        let config = EngineConfig {
            state_path: self.state_path(),
            epoch_rows: self.sizes.epoch_rows,
            epoch_interval: Duration::ZERO,
            segment_rows: self.sizes.segment_rows,
            segment_age: Duration::from_secs(200),
            retire_grace: Duration::ZERO,
        };
        let (archive, views) = (self.archive(), BatchViews::new(self.store.clone()));
        let versions = Versions::new(self.site.catalog.clone(), None);
        let (log, clock): (Arc<dyn Log>, _) = (self.log.clone(), self.clock());
        async move {
            for stream in versions.current().streams().values() {
                archive.declare(stream).await?;
            }
            let of = (archive.clone(), views.clone());
            let engine = Engine::open_versions(config, versions.clone(), log, of.0, of.1, clock).await?;
            let serving = Arc::new(Serving::with_versions(versions, archive, views, engine.clone()));
            Ok(Node { engine, serving })
        }
    }

    pub fn archive(&self) -> Archive {
        Archive::new(self.store.clone())
    }

    pub fn archiver(&self, node: &Node) -> Archiver {
        let log: Arc<dyn Log> = self.log.clone();
        Archiver::new(self.site.catalog.clone(), log, self.archive(), node.engine.clone())
    }

    pub fn batch(&self) -> Batch {
        Batch {
            catalog: self.site.catalog.clone(),
            archive: self.archive(),
            batch_views: BatchViews::new(self.store.clone()),
            clock: self.clock(),
        }
    }

    /// How many objects were left half-written, without or with an error.
    pub fn torn(&self) -> u64 {
        self.gate.injected().iter().filter(|((_, f), _)| *f == super::gate::Fault::Torn).map(|(_, n)| n).sum()
    }
}
