//! Watermarks of answers, final windows and late events: whatever the way there, they are what a plain loop over the
//! covered events gives.

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{Int32Type, Int64Type};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use twofold_batch::{Archiver, Batch, Options};
use twofold_common::{
    Append, Archive, BatchViews, Catalog, Coverage, Log, Partition, Project, SpeedLayer, Store, session,
};
use twofold_serving::{Rows, Serving};
use twofold_speed::{Engine, EngineConfig, MemoryLog, with_rejected};

const SECOND: i64 = 1_000_000_000;
/// How far the watermark of `clicks` stays behind.
const DELAY: i64 = 5;

const SQL: &str = "
CREATE STREAM clicks (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
  WITH (partitions = 2, idle_timeout = '1 minute');
CREATE STREAM orders (ts TIMESTAMP, n BIGINT);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS c FROM clicks;
CREATE MATERIALIZED VIEW tens AS
  SELECT named_struct('start', date_bin(INTERVAL '10 seconds', ts),
                      'end', date_bin(INTERVAL '10 seconds', ts) + INTERVAL '10 seconds') AS w, count(*) AS c
  FROM clicks WHERE ts IS NOT NULL GROUP BY 1;
CREATE MATERIALIZED VIEW both_streams AS
  SELECT count(*) AS c FROM (SELECT n FROM clicks UNION ALL SELECT n FROM orders);
CREATE VIEW final_tens AS SELECT w, c FROM tens WHERE is_final(w);
";
/// The views over `clicks`: none of them groups by a window function, so the event time decides what is late.
const VIEWS: [&str; 3] = ["both_streams", "tens", "totals"];

type Events = Vec<(u32, Option<i64>)>;

#[derive(Debug, Clone)]
enum Step {
    Ingest(Events),
    Epochs,
    Seal,
    Archive,
    Batch { full: bool },
    Retire,
    Restart { epoch_rows: usize },
    LoseStates { epoch_rows: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let second = prop_oneof![1 => Just(None), 12 => (0i64..90).prop_map(Some)];
    let events = proptest::collection::vec((0u32..2, second), 0..9);
    prop_oneof![
        6 => events.prop_map(Step::Ingest),
        4 => Just(Step::Epochs),
        2 => Just(Step::Seal),
        2 => Just(Step::Archive),
        2 => any::<bool>().prop_map(|full| Step::Batch { full }),
        2 => Just(Step::Retire),
        1 => (1usize..9).prop_map(|epoch_rows| Step::Restart { epoch_rows }),
        2 => (1usize..9).prop_map(|epoch_rows| Step::LoseStates { epoch_rows }),
    ]
}

struct World {
    dir: TempDir,
    catalog: Arc<Catalog>,
    log: Arc<MemoryLog>,
    store: Store,
    clock: Arc<AtomicI64>,
    segment_rows: u64,
    live: Option<(Arc<Engine>, Serving)>,
    /// Offset and second of every event of `clicks`, by partition.
    all: BTreeMap<Partition, Vec<(u64, Option<i64>)>>,
}

async fn catalog_of(sql: &str) -> twofold_common::Result<(TempDir, Project, Catalog)> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("views.sql"), sql).unwrap();
    let project = Project::load(dir.path())?;
    let catalog = Catalog::new(&project).await?;
    Ok((dir, project, catalog))
}

impl World {
    async fn new(epoch_rows: usize, segment_rows: u64) -> Self {
        Self::of(SQL, epoch_rows, segment_rows).await
    }

    async fn of(sql: &str, epoch_rows: usize, segment_rows: u64) -> Self {
        let (dir, project, catalog) = catalog_of(sql).await.unwrap();
        let log =
            MemoryLog::with_gaps(&with_rejected(project.streams.values()), |n| u64::from(n % 5 == 2) * 3);
        let mut world = Self {
            dir,
            catalog: Arc::new(catalog),
            log: Arc::new(log),
            store: Store::memory(),
            clock: Arc::new(AtomicI64::new(0)),
            segment_rows,
            live: None,
            all: BTreeMap::new(),
        };
        world.open(epoch_rows).await;
        world
    }

    async fn open(&mut self, epoch_rows: usize) {
        let config = EngineConfig {
            state_path: self.dir.path().join("state.redb"),
            epoch_rows,
            epoch_interval: Duration::ZERO,
            segment_rows: self.segment_rows,
            segment_age: Duration::MAX,
            retire_grace: Duration::ZERO,
        };
        let (archive, views) = (Archive::new(self.store.clone()), BatchViews::new(self.store.clone()));
        for stream in self.catalog.streams().values() {
            archive.declare(stream).await.unwrap();
        }
        let clock = Arc::clone(&self.clock);
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        let (catalog, log) = (Arc::clone(&self.catalog), self.log.clone() as Arc<dyn Log>);
        let engine = Engine::open(config, catalog, log, archive.clone(), views.clone(), clock).await.unwrap();
        let serving = Serving::new(Arc::clone(&self.catalog), archive, views, engine.clone());
        self.live = Some((engine, serving));
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.live.as_ref().unwrap().0
    }

    async fn query(&self, sql: &str) -> twofold_common::Result<Rows> {
        self.live.as_ref().unwrap().1.query(sql).await
    }

    async fn take(&mut self, step: &Step) {
        let archive = Archive::new(self.store.clone());
        match step {
            Step::Ingest(events) => self.ingest(events).await,
            Step::Epochs => self.engine().catch_up().await.unwrap(),
            Step::Seal => self.engine().seal_all().await.unwrap(),
            Step::Archive => {
                let sealed = self.engine().clone();
                let archiver = Archiver::new(self.catalog.clone(), self.log.clone(), archive, sealed);
                archiver.run_once().await.unwrap();
            }
            Step::Batch { full } => {
                let batch_views = BatchViews::new(self.store.clone());
                let clock = Arc::new(|| 9);
                let batch = Batch { catalog: self.catalog.clone(), archive, batch_views, clock };
                let options = Options { full: *full, view: None, workers: 1 };
                batch.run(&options, &|_| {}).await.unwrap();
            }
            Step::Retire => self.engine().retire_covered().await.unwrap(),
            Step::Restart { epoch_rows } => {
                self.live = None;
                self.open(*epoch_rows).await;
            }
            Step::LoseStates { epoch_rows } => {
                self.live = None;
                std::fs::remove_file(self.dir.path().join("state.redb")).unwrap();
                self.open(*epoch_rows).await;
            }
        }
    }

    async fn ingest(&mut self, events: &Events) {
        for partition in [Partition(0), Partition(1)] {
            let mine: Vec<Option<i64>> =
                events.iter().filter(|(p, _)| *p == partition.0).map(|(_, second)| *second).collect();
            if mine.is_empty() {
                continue;
            }
            let times = mine.iter().map(|s| s.map(|s| s * SECOND)).collect::<TimestampNanosecondArray>();
            self.append(partition, times).await;
            let seconds: &mut Vec<_> = self.all.entry(partition).or_default();
            let known = seconds.len();
            let chunk = self.log.read("clicks", partition, twofold_common::Offset(0), usize::MAX).await;
            // What was trimmed was noted before.
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(_) => {
                    let start = self.log.bounds("clicks", partition).await.unwrap().start;
                    self.log.read("clicks", partition, start, usize::MAX).await.unwrap()
                }
            };
            let offsets = chunk.batches.iter().flat_map(|b| {
                let column = b.column_by_name("_offset").unwrap();
                column.as_primitive::<Int64Type>().values().to_vec()
            });
            let offsets: Vec<u64> = offsets.map(|o| o as u64).collect();
            let new = offsets[offsets.len() - mine.len()..].iter().copied().zip(mine);
            seconds.extend(new);
            assert!(seconds.len() > known && seconds.is_sorted_by_key(|(offset, _)| *offset));
        }
    }

    async fn append(&self, partition: Partition, times: TimestampNanosecondArray) {
        let schema = self.catalog.stream("clicks").unwrap().schema.clone();
        let n = Arc::new(Int64Array::from(vec![1; times.len()]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(times), n]).unwrap();
        self.log.append(vec![Append { stream: "clicks".into(), partition, rows }], 7).await.unwrap();
    }

    /// The seconds of the covered events of a partition, in order.
    fn covered(&self, coverage: &[Coverage], partition: Partition) -> Vec<Option<i64>> {
        let part = coverage.iter().find(|c| c.stream == "clicks" && c.partition == partition);
        let end = part.unwrap().speed.end.0;
        let all = self.all.get(&partition).into_iter().flatten();
        all.filter(|(offset, _)| *offset < end).map(|(_, second)| *second).collect()
    }

    /// Watermarks, final windows and late events are those of a plain loop.
    async fn check(&self) {
        let sql = "SELECT w['end'] AS e, is_final(w) AS f, c FROM tens";
        if let Some(rows) = self.built(sql).await {
            let of =
                |p| self.covered(&rows.coverage, Partition(p)).into_iter().flatten().max().map(|s| s - DELAY);
            for part in &rows.coverage {
                assert_eq!(part.watermark, of(part.partition.0).map(|s| s * SECOND), "{part:?}");
            }
            let watermark = of(0).min(of(1)).map(|second| second * SECOND);
            assert_eq!(rows.watermark(), watermark);
            for batch in &rows.batches {
                let ends = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Int64).unwrap();
                let told = batch.column(1).as_boolean().iter();
                for (end, told) in ends.as_primitive::<Int64Type>().iter().zip(told) {
                    assert_eq!(
                        told,
                        Some(watermark.is_some_and(|at| end.unwrap() <= at)),
                        "{end:?} {watermark:?}"
                    );
                }
            }
        }
        let sql = "SELECT l.view, l.stream, l.partition, l.window_end, l.count, l.worst_lateness_ms, t.c \
                   FROM twofold_late_events l CROSS JOIN totals t";
        if let Some(rows) = self.built(sql).await {
            let late = |p| late(&self.covered(&rows.coverage, Partition(p)));
            let mut expected = Vec::new();
            for view in VIEWS {
                for (p, (count, worst)) in [(0, late(0)), (1, late(1))] {
                    if count > 0 {
                        expected.push((view.to_string(), p, count, worst * 1000));
                    }
                }
            }
            let mut told: Vec<_> = rows.batches.iter().flat_map(late_rows).collect();
            told.sort();
            assert_eq!(told, expected);
        }
    }

    /// The answer, unless a view is still being built.
    async fn built(&self, sql: &str) -> Option<Rows> {
        match self.query(sql).await {
            Ok(rows) => Some(rows),
            Err(e) if e.to_string().contains("being built") => None,
            Err(e) => panic!("{sql}: {e}"),
        }
    }
}

/// How many of these events came below the watermark of those before, and by how many seconds at worst.
fn late(seconds: &[Option<i64>]) -> (i64, i64) {
    let (mut watermark, mut count, mut worst) = (None, 0, 0);
    for second in seconds.iter().flatten() {
        if let Some(at) = watermark.filter(|at| second < at) {
            (count, worst) = (count + 1, worst.max(at - second));
        }
        watermark = watermark.max(Some(second - DELAY));
    }
    (count, worst)
}

fn late_rows(batch: &RecordBatch) -> Vec<(String, i32, i64, i64)> {
    let number = |column: usize, row| batch.column(column).as_primitive::<Int64Type>().value(row);
    let row = |row| {
        assert_eq!(batch.column(1).as_string::<i32>().value(row), "clicks");
        assert!(batch.column(3).is_null(row), "none of the views has windows");
        let view = batch.column(0).as_string::<i32>().value(row).to_string();
        (view, batch.column(2).as_primitive::<Int32Type>().value(row), number(4, row), number(5, row))
    };
    (0..batch.num_rows()).map(row).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn law_watermarks_and_late_events_are_functions_of_the_coverage() {
    let cases = std::env::var("TWOFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let config = ProptestConfig { cases, ..ProptestConfig::default() };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..25), segment_rows in 1u64..9,
                        epoch_rows in 1usize..9)| {
        runtime().block_on(async {
            let mut world = World::new(epoch_rows, segment_rows).await;
            for step in &steps {
                world.take(step).await;
                world.check().await;
            }
            // At last nothing is being built, and everything is covered.
            world.take(&Step::Epochs).await;
            world.check().await;
            assert_eq!(world.query("SELECT count(*) FROM twofold_late_events").await.unwrap().num_rows(), 1);
        });
    });
}

fn rising(partition: u32, seconds: std::ops::Range<i64>) -> Events {
    seconds.map(|second| (partition, Some(second))).collect()
}

/// Watermarks are stored with epochs and segments: neither a restart nor a lost file, not even with a trimmed log,
/// sets them back.
#[test]
fn a_watermark_survives_a_restart_and_the_loss_of_the_states() {
    runtime().block_on(async {
        let mut world = World::new(3, 4).await;
        // Out of order: the greatest comes first.
        world.take(&Step::Ingest([rising(0, 60..62), rising(0, 10..20), rising(1, 30..45)].concat())).await;
        world.take(&Step::Epochs).await;
        let watermark = |rows: Rows| rows.watermark().map(|at| at / SECOND);
        for (i, step) in [
            Step::Restart { epoch_rows: 2 },
            Step::LoseStates { epoch_rows: 2 },
            Step::Epochs,
            Step::Seal,
            Step::Archive,
            Step::Batch { full: false },
            Step::Retire,
            Step::Restart { epoch_rows: 5 },
            Step::LoseStates { epoch_rows: 5 },
        ]
        .iter()
        .enumerate()
        {
            world.take(step).await;
            world.check().await;
            if i != 1 {
                assert_eq!(
                    watermark(world.query("SELECT c FROM totals").await.unwrap()),
                    Some(39),
                    "{step:?}"
                );
            }
        }
        assert!(world.log.bounds("clicks", Partition(0)).await.unwrap().start.0 > 0, "the log was trimmed");
        world.take(&Step::Epochs).await;
        world.check().await;
        let late = world.query("SELECT sum(count) FROM twofold_late_events").await.unwrap();
        // The ten of partition 0, in each of the three views, though their states come from batch.
        assert_eq!(late.batches[0].column(0).as_primitive::<Int64Type>().value(0), 30);
    });
}

/// An event is late for a window that had ended: of those that overlap, the one that ends first counts; of sessions,
/// that of the event alone.
#[test]
fn late_events_are_counted_by_the_windows_of_the_view() {
    const WINDOWED: &str = "
        CREATE STREAM clicks (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
          WITH (partitions = 2);
        CREATE MATERIALIZED VIEW hops AS
          SELECT hop(ts, INTERVAL '5 seconds', INTERVAL '10 seconds') AS w, count(*) AS c FROM clicks GROUP BY 1;
        CREATE MATERIALIZED VIEW sessions AS
          SELECT n, session(ts, INTERVAL '4 seconds') AS w, count(*) AS c FROM clicks GROUP BY 1, 2;
        CREATE MATERIALIZED VIEW tens AS SELECT window_start, count(*) AS c
          FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE n > 0 GROUP BY window_start;
    ";
    runtime().block_on(async {
        for epoch_rows in [1, 2, 100] {
            let mut world = World::of(WINDOWED, epoch_rows, 100).await;
            // At 20 the watermark is 15: of what follows, some is late.
            let seconds = [0, 20, 3, 12, 21, 3].map(|second| (0, Some(second)));
            world.take(&Step::Ingest(seconds.to_vec())).await;
            world.take(&Step::Epochs).await;
            let sql = "SELECT l.view, window_start, count, worst_lateness_ms FROM twofold_late_events l ORDER BY 1, 2";
            let rows = world.query(sql).await.unwrap();
            let mut told = Vec::new();
            for batch in &rows.batches {
                let number = |column: usize, row| batch.column(column).as_primitive::<Int64Type>().value(row);
                for row in 0..batch.num_rows() {
                    let view = batch.column(0).as_string::<i32>().value(row);
                    let start = batch.column(1).as_primitive::<arrow::datatypes::TimestampNanosecondType>().value(row);
                    told.push((view.to_string(), start / SECOND, number(2, row), number(3, row)));
                }
            }
            let expected = [
                // 3 is in [-5, 5) and [0, 10), 12 in [5, 15) and [10, 20); the last comes at watermark 16.
                ("hops", -5, 2, 11_000),
                ("hops", 5, 1, 0),
                ("sessions", 3, 2, 9_000),
                ("tens", 0, 2, 6_000),
            ];
            let expected = expected.map(|(view, start, count, worst)| (view.to_string(), start, count, worst));
            assert_eq!(told, expected, "{epoch_rows} events an epoch");
        }
    });
}

#[test]
fn an_idle_partition_does_not_hold_back_what_is_final() {
    runtime().block_on(async {
        let mut world = World::new(5, 100).await;
        let ends = async |world: &World| {
            let rows = world.query("SELECT max(w['end']) FROM final_tens").await.unwrap();
            let end =
                arrow::compute::cast(rows.batches[0].column(0), &arrow::datatypes::DataType::Int64).unwrap();
            let end = end.as_primitive::<Int64Type>();
            (rows.watermark().map(|at| at / SECOND), end.is_valid(0).then(|| end.value(0) / SECOND))
        };
        world.take(&Step::Ingest(rising(0, 0..40))).await;
        world.take(&Step::Epochs).await;
        assert_eq!(ends(&world).await, (None, None), "no event has come into partition 1");
        world.clock.store(59 * SECOND, Ordering::SeqCst);
        world.take(&Step::Ingest(rising(0, 40..41))).await;
        world.take(&Step::Epochs).await;
        assert_eq!(ends(&world).await, (None, None), "it is not idle yet");
        world.clock.store(60 * SECOND, Ordering::SeqCst);
        assert_eq!(ends(&world).await, (Some(35), Some(30)), "it is idle");
        let status = world.engine().status().await.unwrap();
        let idle: Vec<bool> =
            status.partitions.iter().filter(|p| p.stream == "clicks").map(|p| p.idle).collect();
        assert_eq!(idle, [false, true]);
        world.take(&Step::Ingest(rising(1, 10..12))).await;
        world.take(&Step::Epochs).await;
        assert_eq!(ends(&world).await, (Some(6), None), "it has woken up, and holds back");
        world.clock.store(500 * SECOND, Ordering::SeqCst);
        assert_eq!(ends(&world).await, (Some(35), Some(30)), "all are idle: the greatest counts");
        world.take(&Step::Restart { epoch_rows: 5 }).await;
        assert_eq!(ends(&world).await, (Some(6), None), "who starts again waits again");
    });
}

#[test]
fn nothing_is_final_where_a_stream_has_no_watermark() {
    runtime().block_on(async {
        let mut world = World::new(5, 100).await;
        world.take(&Step::Ingest([rising(0, 0..40), rising(1, 0..40)].concat())).await;
        world.take(&Step::Epochs).await;
        let long_ago = "is_final(TIMESTAMP '1960-01-01 00:00:00') AS f";
        for (sql, expected) in [
            (format!("SELECT {long_ago} FROM totals"), true),
            (format!("SELECT {long_ago} FROM both_streams"), false),
            (format!("SELECT {long_ago} FROM totals, both_streams"), false),
            (format!("SELECT {long_ago}"), false),
        ] {
            let rows = world.query(&sql).await.unwrap();
            assert_eq!(rows.batches[0].column(0).as_boolean().value(0), expected, "{sql}");
        }
    });
}

/// What no expression can compute is one event without a watermark, not the end of the speed layer.
#[test]
fn an_event_on_which_the_watermark_fails_harms_no_other() {
    runtime().block_on(async {
        let mut world = World::new(5, 100).await;
        for partition in [Partition(0), Partition(1)] {
            let times = TimestampNanosecondArray::from(vec![i64::MIN, 30 * SECOND, i64::MIN + 1]);
            world.append(partition, times).await;
        }
        world.take(&Step::Epochs).await;
        let rows = world.query("SELECT c FROM totals").await.unwrap();
        assert_eq!(rows.watermark(), Some(25 * SECOND));
        let late = world.query("SELECT max(worst_lateness_ms) FROM twofold_late_events").await.unwrap();
        assert_eq!(late.batches[0].column(0).as_primitive::<Int64Type>().value(0), i64::MAX / 1_000_000);
    });
}

#[test]
fn what_depends_on_the_moment_cannot_be_maintained() {
    runtime().block_on(async {
        let stream = "CREATE STREAM s (ts TIMESTAMP, WATERMARK FOR ts AS ts);";
        for (view, reason) in [
            ("SELECT ts FROM s WHERE is_final(ts)", "view v calls is_final"),
            ("SELECT ts FROM s, twofold_late_events", "view v reads twofold_late_events"),
            ("SELECT ts, c FROM s, w", "view v reads twofold_late_events"),
        ] {
            let sql = format!(
                "{stream} CREATE VIEW w AS SELECT count AS c FROM twofold_late_events;
                 CREATE MATERIALIZED VIEW v AS {view}"
            );
            let error = catalog_of(&sql).await.map(drop).unwrap_err().to_string();
            assert!(error.contains(reason), "{view}: {error}");
            let query = format!("{stream} CREATE VIEW w AS SELECT count AS c FROM twofold_late_events; CREATE VIEW v AS {view}");
            catalog_of(&query).await.map(drop).unwrap();
        }
        // Outside of an answer it stands for nothing.
        let alone = session().sql("SELECT is_final(TIMESTAMP '2013-01-01')").await.unwrap().collect().await;
        assert!(alone.unwrap_err().to_string().contains("is_final is about an answer"));
    });
}
