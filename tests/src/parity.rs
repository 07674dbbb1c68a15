//! Parity, the flagship: the whole platform on random events, taken through random steps; after each, every answer
//! equals a plain query over the events that it covers, bit for bit.

use crate::events::{Event, events, own_rows};
use crate::oracle::{answer, assert_same, plain_with};
use crate::views::catalog;
use arrow::array::RecordBatch;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use twofold_batch::{Archiver, Batch, Options, Outcome};
use twofold_common::stream::{at_or_above, below};
use twofold_common::{
    Answer, Append, Archive, BatchViews, Catalog, Coverage, Digest, IngestReceipt, IngestRequest, Log,
    NewSegment, Offset, Partition, PartitionRange, Project, SealedSegments, SegmentState, SnapshotRequest,
    SpeedLayer, SpeedStates, SpeedStatus, Store, Versions, state_key,
};
use twofold_serving::Serving;
use twofold_speed::{Engine, EngineConfig, MemoryLog, with_rejected};

/// One step of the platform.
#[derive(Debug, Clone)]
pub enum Step {
    Ingest(&'static str, Vec<Event>),
    Epochs,
    Seal,
    Archive,
    Batch { full: bool },
    Retire,
    Restart,
    LoseStates,
}

fn step() -> impl Strategy<Value = Step> {
    let stream = prop_oneof![3 => Just("clicks"), 1 => Just("orders")];
    prop_oneof![
        5 => (stream, events(12)).prop_map(|(stream, events)| Step::Ingest(stream, events)),
        3 => Just(Step::Epochs),
        2 => Just(Step::Seal),
        2 => Just(Step::Archive),
        2 => any::<bool>().prop_map(|full| Step::Batch { full }),
        2 => Just(Step::Retire),
        1 => Just(Step::Restart),
        1 => Just(Step::LoseStates),
    ]
}

/// The platform in one process, on memory: log and store outlive the engine.
pub struct Platform {
    dir: TempDir,
    pub project: Project,
    pub catalog: Arc<Catalog>,
    /// The project before this one, while that is being built.
    pub before: Option<(Project, Arc<Catalog>)>,
    pub log: Arc<MemoryLog>,
    pub store: Store,
    sizes: Sizes,
    /// Gives a plain session the functions of the project's views.
    register: fn(&SessionContext),
    live: Option<(Arc<Engine>, Serving)>,
    /// Every event that was ever appended, by stream and partition, in offset order.
    pub all: BTreeMap<(String, Partition), Vec<RecordBatch>>,
}

/// How much an epoch takes at most, and when a segment is full.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub epoch_rows: usize,
    pub segment_rows: u64,
}

impl Platform {
    pub async fn new(views: &[&str], segment_rows: u64) -> Self {
        Self::of(catalog(views).await, Sizes { epoch_rows: 5, segment_rows }).await
    }

    /// A platform for a project; `register` gives a plain session the functions that its views use.
    pub async fn over(
        parts: (TempDir, Project, Arc<Catalog>),
        segment_rows: u64,
        register: fn(&SessionContext),
    ) -> Self {
        Self { register, ..Self::of(parts, Sizes { epoch_rows: 5, segment_rows }).await }
    }

    /// The platform of any project, in the directory that holds its states.
    pub async fn of((dir, project, catalog): (TempDir, Project, Arc<Catalog>), sizes: Sizes) -> Self {
        // Offsets with gaps, inside and between appends.
        let log =
            MemoryLog::with_gaps(&with_rejected(project.streams.values()), |n| u64::from(n % 7 == 3) * 2);
        let (log, store) = (Arc::new(log), Store::memory());
        let live = Some(open(&dir, Versions::new(catalog.clone(), None), &log, &store, sizes).await);
        let (before, all) = (None, BTreeMap::new());
        Self { dir, project, catalog, before, log, store, sizes, register: |_| (), live, all }
    }

    /// The same log, archive and states under a project with other views.
    pub async fn change(&mut self, views: &[&str]) {
        self.live = None;
        let (_dir, project, catalog) = catalog(views).await;
        (self.project, self.catalog, self.before) = (project, catalog, None);
        self.restart(false).await;
    }

    /// The same under another project, with the one of today beside it.
    pub async fn change_beside(&mut self, project: Project, catalog: Arc<Catalog>) {
        let before = std::mem::replace(&mut self.project, project);
        self.before = Some((before, std::mem::replace(&mut self.catalog, catalog)));
        self.restart(false).await;
    }

    /// Takes another project with the same streams over while all goes on.
    pub async fn adopt(&mut self, project: Project, catalog: Arc<Catalog>) {
        self.engine().adopt(catalog.clone()).await.unwrap();
        self.serving().adopt(self.engine().versions());
        let before = std::mem::replace(&mut self.project, project);
        self.before = Some((before, std::mem::replace(&mut self.catalog, catalog)));
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.live.as_ref().unwrap().0
    }

    pub fn serving(&self) -> &Serving {
        &self.live.as_ref().unwrap().1
    }

    pub async fn take(&mut self, step: &Step) {
        match step {
            Step::Ingest(stream, events) => self.ingest(stream, events).await,
            Step::Epochs => self.engine().catch_up().await.unwrap(),
            Step::Seal => self.engine().seal_all().await.unwrap(),
            Step::Archive => drop(self.archiver().run_once().await.unwrap()),
            Step::Batch { full } => drop(self.batch(*full).await),
            Step::Retire => self.engine().retire_covered().await.unwrap(),
            Step::Restart => self.restart(false).await,
            Step::LoseStates => self.restart(true).await,
        }
    }

    async fn ingest(&mut self, stream: &str, events: &[Event]) {
        let def = self.catalog.stream(stream).unwrap().clone();
        for partition in def.partitions() {
            let mine: Vec<&Event> = events.iter().filter(|e| e.partition == partition.0).collect();
            if mine.is_empty() {
                continue;
            }
            self.append(stream, partition, own_rows(&def, &mine)).await;
        }
    }

    /// Appends rows of a stream's own columns to one partition.
    pub async fn append(&mut self, stream: &str, partition: Partition, rows: RecordBatch) {
        let append = Append { stream: stream.into(), partition, rows };
        let range = self.log.append(vec![append], 7).await.unwrap()[0];
        let chunk = self.log.read(stream, partition, range.start, usize::MAX).await.unwrap();
        self.all.entry((stream.into(), partition)).or_default().extend(chunk.batches);
    }

    /// Takes a body of NDJSON in as producers' events are taken in: decoded, and spread over the partitions.
    pub async fn ingest_ndjson(&mut self, stream: &str, body: String) {
        let request = IngestRequest::new(stream, "application/x-ndjson", body);
        let receipt = self.engine().ingest(request).await.unwrap();
        assert_eq!(receipt.rejected, 0, "{:?}", receipt.reasons);
        for PartitionRange { partition, range } in receipt.offsets {
            let chunk = self.log.read(stream, partition, range.start, usize::MAX).await.unwrap();
            self.all.entry((stream.into(), partition)).or_default().extend(chunk.batches);
        }
    }

    pub fn archiver(&self) -> Archiver {
        let archive = Archive::new(self.store.clone());
        Archiver::new(self.catalog.clone(), self.log.clone(), archive, self.engine().clone())
    }

    pub fn batch_of(&self) -> Batch {
        Batch {
            catalog: self.catalog.clone(),
            archive: Archive::new(self.store.clone()),
            batch_views: BatchViews::new(self.store.clone()),
            clock: Arc::new(|| 9),
        }
    }

    /// Runs batch, and gives how many segments it found equal to the speed layer's, and how many it could not compare.
    pub async fn batch(&self, full: bool) -> (u64, u64) {
        let batch = self.batch_of();
        let options = Options { full, view: None, workers: 2 };
        let (mut equal, mut unaudited) = (0, 0);
        for report in batch.run(&options, &|_| {}).await.unwrap() {
            assert!(report.agrees(), "batch and speed, or full and incremental, differ: {report:?}");
            assert_ne!(report.outcome, Outcome::Lost);
            equal += report.audit.equal;
            unaudited += report.audit.unaudited;
        }
        (equal, unaudited)
    }

    async fn restart(&mut self, lose_states: bool) {
        // The old engine must let go of its file before the new one opens it.
        self.live = None;
        if lose_states {
            std::fs::remove_file(self.dir.path().join("state.redb")).unwrap();
        }
        let before = self.before.as_ref().map(|(_, catalog)| catalog.clone());
        let versions = Versions::new(self.catalog.clone(), before);
        let opened = open(&self.dir, versions, &self.log, &self.store, self.sizes).await;
        self.live = Some(opened);
    }

    /// Every view's answer equals a plain query over what it covers.
    pub async fn check(&self, views: &[&str]) {
        for view in views {
            let sql = format!("SELECT * FROM {view}");
            let rows = match self.serving().query(&sql).await {
                Ok(rows) => rows,
                Err(e) if e.to_string().contains("being built") => continue,
                Err(e) => panic!("{view}: {e}"),
            };
            let oracle = self.oracle(&rows.coverage).await;
            assert_same(view, &rows.batches, &answer(&oracle, &sql).await);
        }
    }

    /// The answers to [`OPEN`], in their order.
    async fn open_answers(&self) -> Vec<Vec<RecordBatch>> {
        let mut answers = Vec::new();
        for sql in OPEN {
            answers.push(self.serving().query(sql).await.unwrap().batches);
        }
        answers
    }

    /// A plain session over the events that an answer covers.
    pub async fn oracle(&self, coverage: &[Coverage]) -> SessionContext {
        self.oracle_of(&self.project, coverage).await
    }

    /// The same for another project over these events.
    pub async fn oracle_of(&self, project: &Project, coverage: &[Coverage]) -> SessionContext {
        plain_with(project, &self.covered_of(project, coverage), self.register).await
    }

    /// The events that an answer covers, by stream, in (partition, offset) order.
    pub fn covered(&self, coverage: &[Coverage]) -> Vec<(&str, Vec<RecordBatch>)> {
        self.covered_of(&self.project, coverage)
    }

    fn covered_of<'a>(
        &self,
        project: &'a Project,
        coverage: &[Coverage],
    ) -> Vec<(&'a str, Vec<RecordBatch>)> {
        let mut covered = Vec::new();
        for name in project.streams.keys() {
            let mut batches = Vec::new();
            for ((_, partition), all) in self.all.iter().filter(|((stream, _), _)| stream == name) {
                let parts = coverage.iter().filter(|c| c.stream == *name && c.partition == *partition);
                if let Some(part) = parts.map(|c| (c.batch, c.speed)).next() {
                    assert_eq!(part.0.start, Offset(0));
                    assert_eq!(part.0.end, part.1.start);
                    for batch in all {
                        let batch = at_or_above(&below(batch, part.1.end).unwrap(), part.0.start).unwrap();
                        batches.push(batch);
                    }
                }
            }
            covered.push((name.as_str(), batches));
        }
        covered
    }

    /// The end of the log in each partition of a stream.
    pub async fn ends(&self, stream: &str) -> Vec<Offset> {
        let mut ends = Vec::new();
        for partition in self.catalog.stream(stream).unwrap().partitions() {
            ends.push(self.log.bounds(stream, partition).await.unwrap().end);
        }
        ends
    }
}

/// The two layers that run all the time, over what is there; the states are in `dir`.
pub async fn open(
    dir: &TempDir,
    versions: Versions,
    log: &Arc<MemoryLog>,
    store: &Store,
    sizes: Sizes,
) -> (Arc<Engine>, Serving) {
    let config = EngineConfig {
        state_path: dir.path().join("state.redb"),
        epoch_rows: sizes.epoch_rows,
        epoch_interval: Duration::ZERO,
        segment_rows: sizes.segment_rows,
        segment_age: Duration::MAX,
        retire_grace: Duration::ZERO,
    };
    let log: Arc<dyn Log> = log.clone();
    let (archive, views) = (Archive::new(store.clone()), BatchViews::new(store.clone()));
    for stream in versions.current().streams().values() {
        archive.declare(stream).await.unwrap();
    }
    let clock = Arc::new(|| 8);
    let engine = Engine::open_versions(config, versions.clone(), log, archive.clone(), views.clone(), clock);
    let engine = engine.await.unwrap();
    let serving = Serving::with_versions(versions, archive, views, engine.clone());
    (engine, serving)
}

pub const CHECKED: &[&str] = &[
    "counts",
    "means",
    "whole",
    "named",
    "distinct_counts",
    "both",
    "compared",
    "kept",
    "joined",
    "over_view",
    "floats",
    "hops",
    "sessions",
];

/// Queries whose answers SQL leaves open, because they depend on the order of rows. Here they do not depend on the cut.
const OPEN: &[&str] = &[
    "SELECT sum(s * 0.1) AS a, avg(c / 3.0) AS b FROM counts",
    "SELECT array_agg(k) AS keys, first_value(s) AS first FROM counts",
    "SELECT * FROM counts ORDER BY c LIMIT 1",
    "SELECT k, row_number() OVER (ORDER BY c) AS r FROM counts",
    "SELECT * FROM kept LIMIT 3",
    "SELECT sum(x) AS s, array_agg(n) AS n FROM clicks",
];

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Random steps; whatever happened, each answer is that of its coverage.
#[test]
fn law_any_cut_of_random_histories() {
    let cases = std::env::var("TWOFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let config = ProptestConfig { cases, ..ProptestConfig::default() };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..25), segment_rows in 1u64..12)| {
        runtime().block_on(async {
            let mut platform = Platform::new(CHECKED, segment_rows).await;
            for step in &steps {
                platform.take(step).await;
                platform.check(CHECKED).await;
            }
            // At last everything is in the answer, whatever the way.
            for step in [Step::Epochs, Step::Seal, Step::Archive, Step::Batch { full: true }, Step::Retire] {
                platform.take(&step).await;
            }
            platform.check(CHECKED).await;
            let rows = platform.serving().query("SELECT * FROM counts").await.unwrap();
            let covered: Vec<Offset> = rows.coverage.iter().map(|c| c.speed.end).collect();
            assert_eq!(covered, platform.ends("clicks").await, "everything is covered");
        });
    });
}

/// The same events, with the horizon at every segment boundary there is.
#[test]
fn law_any_cut_at_every_offset() {
    runtime().block_on(async {
        let mut platform = Platform::new(CHECKED, 1).await;
        for second in 0..10 {
            for stream in ["clicks", "orders"] {
                let x = Some(0.1 * second as f64);
                let event = |partition, k, n| Event { second, k, n, x, ok: None, partition, gap: 0 };
                let ks = ["a", "b", "c", "é", ""].map(Some);
                let (i, j) = (second as usize % 5, second as usize * 2 % 5);
                let events = [event(0, ks[j], Some(second)), event(1, ks[i], Some(-second))];
                platform.take(&Step::Ingest(stream, events.to_vec())).await;
            }
            platform.take(&Step::Epochs).await;
            platform.check(CHECKED).await;
            let open = platform.open_answers().await;
            for step in [Step::Seal, Step::Archive, Step::Batch { full: second % 3 == 0 }, Step::Retire] {
                platform.take(&step).await;
                platform.check(CHECKED).await;
                for (sql, (was, is)) in OPEN.iter().zip(open.iter().zip(platform.open_answers().await)) {
                    assert_same(&format!("{sql} after {step:?}"), &is, was);
                }
            }
        }
    });
}

/// A speed layer whose answers are meddled with.
#[derive(Debug)]
struct Meddler {
    engine: Arc<Engine>,
    how: std::sync::atomic::AtomicUsize,
}

const MEDDLINGS: usize = 5;

#[async_trait::async_trait]
impl SpeedLayer for Meddler {
    async fn snapshot(&self, request: &SnapshotRequest) -> twofold_common::Result<Answer> {
        let mut answer = self.engine.snapshot(request).await?;
        if let Answer::Snapshot(snapshot) = &mut answer {
            let clicks = &mut snapshot.views[0].pieces.get_mut("clicks").unwrap();
            let pieces = clicks.get_mut(&Partition(1)).unwrap();
            match self.how.load(std::sync::atomic::Ordering::SeqCst) {
                // As if a segment had been lost, given twice, not followed to the end…
                1 => drop(pieces.remove(0)),
                2 => pieces.insert(1, pieces[0]),
                3 => drop(pieces.pop()),
                // … or a partition forgotten, or segments put in another order.
                4 => drop(clicks.remove(&Partition(1))),
                5 => pieces.swap(0, 1),
                _ => {}
            }
        }
        Ok(answer)
    }

    async fn ingest(&self, request: IngestRequest) -> twofold_common::Result<IngestReceipt> {
        self.engine.ingest(request).await
    }

    async fn seal(&self) -> twofold_common::Result<()> {
        self.engine.seal().await
    }

    async fn gc(&self, dry_run: bool) -> twofold_common::Result<Vec<twofold_common::Digest>> {
        self.engine.gc(dry_run).await
    }

    async fn status(&self) -> twofold_common::Result<SpeedStatus> {
        self.engine.status().await
    }
}

/// An answer with a hole or an overlap is not given, whatever the speed layer says.
#[test]
fn law_coverage_of_answers() {
    runtime().block_on(async {
        let mut platform = Platform::new(&["counts", "whole"], 3).await;
        let event = |i: i64| Event {
            second: i,
            k: Some("a"),
            n: Some(i),
            x: None,
            ok: None,
            partition: (i % 2) as u32,
            gap: 0,
        };
        platform.take(&Step::Ingest("clicks", (0..20).map(event).collect())).await;
        platform.take(&Step::Epochs).await;
        let (archive, views) =
            (Archive::new(platform.store.clone()), BatchViews::new(platform.store.clone()));
        let meddler = Arc::new(Meddler { engine: platform.engine().clone(), how: 0.into() });
        let serving = Serving::new(platform.catalog.clone(), archive, views, meddler.clone());
        // Two relations in one query, so that their ends must agree.
        let sql = "SELECT c.k, c.c, w.c FROM counts c, whole w";
        assert_eq!(serving.query(sql).await.unwrap().num_rows(), 1);
        for how in 1..=MEDDLINGS {
            meddler.how.store(how, std::sync::atomic::Ordering::SeqCst);
            let answer = serving.query(sql).await;
            let error = answer.err().unwrap_or_else(|| panic!("meddling {how} was not noticed"));
            assert!(error.to_string().contains("clicks"), "{error}");
        }
    });
}

/// A difference that a run finds is still told after the next one, until a full run looks again.
#[test]
fn a_difference_between_the_layers_is_found_and_kept() {
    runtime().block_on(async {
        let mut platform = Platform::new(&["counts"], 100).await;
        let event =
            |i: i64| Event { second: i, k: Some("a"), n: Some(i), x: None, ok: None, partition: 0, gap: 0 };
        let views = BatchViews::new(platform.store.clone());
        let fingerprint = platform.catalog.view("counts").unwrap().fingerprint();
        let mut found = Vec::new();
        for round in 0..2 {
            platform.take(&Step::Ingest("clicks", (0..5).map(event).collect())).await;
            platform.take(&Step::Epochs).await;
            platform.take(&Step::Seal).await;
            if round == 0 {
                // As if the speed layer had folded something else: its segment, with another digest.
                let mut sealed =
                    SealedSegments::sealed(&**platform.engine(), "clicks", Partition(0), Offset(0));
                let one = sealed.remove(0);
                let archive = Archive::new(platform.store.clone());
                let chunk = platform.log.read("clicks", Partition(0), Offset(0), usize::MAX).await.unwrap();
                let new = NewSegment {
                    partition: Partition(0),
                    range: one.range,
                    schema: platform.catalog.stream("clicks").unwrap().event_schema(),
                    batches: chunk.batches,
                    watermark: one.watermark,
                    states: one.states.into_keys().map(|key| (key, Digest::of(b"another state"))).collect(),
                };
                let segment = archive.write_segment("clicks", new).await.unwrap();
                let version = archive.manifest("clicks").await.unwrap().unwrap().version;
                archive.append("clicks", version, vec![(Partition(0), segment)]).await.unwrap();
            } else {
                platform.take(&Step::Archive).await;
            }
            let batch = platform.batch_of();
            let options = Options { full: false, view: None, workers: 1 };
            let reports = batch.run(&options, &|_| {}).await.unwrap();
            found.push(reports[0].agrees());
        }
        assert_eq!(found, [false, true], "the first run finds it, the second folds only what is new");
        let manifest = views.latest("counts", &fingerprint.to_string()).await.unwrap().unwrap().body;
        assert_eq!((manifest.audit.unequal.len(), manifest.audit.equal), (1, 1));
        platform.check(&["counts"]).await;
        let sql = "SELECT start_offset, equal, explainable, run FROM twofold_audit ORDER BY start_offset";
        let told = platform.serving().query(sql).await.unwrap();
        assert!(told.coverage.is_empty(), "it is read from what is stored");
        let told = arrow::util::pretty::pretty_format_batches(&told.batches).unwrap().to_string();
        let lines: Vec<String> = told.lines().skip(3).map(|line| line.replace(' ', "")).collect();
        assert!(lines[0].starts_with("|0|false|false|incremental|"), "{told}");
        assert!(lines[1].ends_with("|true|false|incremental|"), "{told}");
    });
}

/// The state of a segment is the same bytes in both layers, however it was cut into epochs.
#[test]
fn law_identity_of_segment_states_in_both_layers() {
    runtime().block_on(async {
        let mut platform = Platform::new(CHECKED, 9).await;
        for second in 0..12 {
            let event = |partition| Event {
                second,
                k: Some("b"),
                n: Some(second),
                x: Some(0.1),
                ok: None,
                partition,
                gap: 0,
            };
            let events: Vec<Event> = (0..second % 4 + 1).map(|i| event((i % 2) as u32)).collect();
            platform.take(&Step::Ingest("clicks", events)).await;
            platform.take(&Step::Epochs).await;
        }
        for step in [Step::Seal, Step::Archive] {
            platform.take(&step).await;
        }
        // What is told of a segment is what is held of it, until it is let go of.
        let states = |platform: &Platform| {
            let engine: Arc<dyn SpeedLayer> = platform.engine().clone();
            let archive = Archive::new(platform.store.clone());
            let views: Vec<_> = platform
                .catalog
                .views()
                .values()
                .map(|view| (view.fingerprint(), view.cuts().len()))
                .collect();
            async move {
                let (mut held, mut gone) = (0, 0);
                let manifest = archive.manifest("clicks").await.unwrap().unwrap().body;
                for (partition, segment) in
                    manifest.segments.iter().flat_map(|(p, all)| all.iter().map(move |s| (*p, s)))
                {
                    for (fingerprint, cut) in
                        views.iter().flat_map(|(f, cuts)| (0..*cuts).map(move |cut| (*f, cut)))
                    {
                        let Some(told) = segment.states.get(&state_key(fingerprint, cut)) else { continue };
                        let of = SegmentState {
                            fingerprint,
                            cut,
                            stream: "clicks".into(),
                            partition,
                            range: segment.range,
                        };
                        match engine.state_of(&of).await.unwrap() {
                            Some(state) => held += usize::from(state.digest().unwrap() == *told),
                            None => gone += 1,
                        }
                    }
                }
                (held, gone)
            }
        };
        let (held, gone) = states(&platform).await;
        assert!(held >= 20 && gone == 0, "{held} held, {gone} gone");
        let (equal, unaudited) = platform.batch(false).await;
        platform.take(&Step::Retire).await;
        assert_eq!(states(&platform).await, (0, held));
        assert!(equal >= 20 && unaudited == 0, "{equal} equal, {unaudited} not compared");
    });
}
