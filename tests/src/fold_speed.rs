//! What exactness and windows cost, as ratios within one run. By hand, on an optimized build:
//!
//! ```text
//! cargo test --release --workspace --tests fold_speed -- --ignored --nocapture
//! ```

use crate::windows::{query, states};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::error::Result;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature};
use std::sync::Arc;
use std::time::{Duration, Instant};
use twofold_common::{Catalog, Folder, Functions, Merger, Merging, Project, State};

const KEYS: u64 = 1_000;
const PER_SECOND: u64 = 20_000;
const EPOCH: usize = 32_768;

/// The engine's own sum, under another name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct EngineSum(Arc<AggregateUDF>);

impl AggregateUDFImpl for EngineSum {
    fn name(&self) -> &str {
        "engine_sum"
    }
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(types)
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }
    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.0.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.0.create_groups_accumulator(args)
    }
}

async fn catalog() -> (tempfile::TempDir, Catalog) {
    let sql = "CREATE STREAM events (ts TIMESTAMP NOT NULL, k TEXT, n BIGINT, x DOUBLE);
        CREATE MATERIALIZED VIEW exact AS SELECT k, date_bin(INTERVAL '10 seconds', ts) AS w, count(*) AS c,
          sum(x) AS s, max(n) AS hi FROM events GROUP BY 1, 2;
        CREATE MATERIALIZED VIEW plain AS SELECT k, date_bin(INTERVAL '10 seconds', ts) AS w, count(*) AS c,
          engine_sum(x) AS s, max(n) AS hi FROM events GROUP BY 1, 2;
        CREATE MATERIALIZED VIEW tumbling AS SELECT k, tumble(ts, INTERVAL '10 minutes') AS w, count(*) AS c,
          sum(x) AS s FROM events GROUP BY 1, 2;
        CREATE MATERIALIZED VIEW hopping AS
          SELECT k, hop(ts, INTERVAL '1 second', INTERVAL '10 minutes') AS w, count(*) AS c, sum(x) AS s
          FROM events GROUP BY 1, 2;";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("a.sql"), sql).unwrap();
    let mut functions = Functions::new();
    functions.aggregate(AggregateUDF::from(EngineSum(sum_udaf())), 1, Merging::AnyOrder).unwrap();
    let project = Project::load_with(dir.path(), &functions).unwrap();
    (dir, Catalog::with_functions(&project, &functions).await.unwrap())
}

/// Events of [`KEYS`] keys, [`PER_SECOND`] of them in each second from 1970 on, in epochs.
fn epochs(events: u64) -> Vec<RecordBatch> {
    let mut seed = 7u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let (mut ts, mut k, mut n, mut x) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for i in 0..events {
        ts.push((i * (1_000_000_000 / PER_SECOND)) as i64);
        k.push(format!("key {}", next() % KEYS));
        n.push((next() % 1_000_000) as i64);
        x.push((next() % 10_000_000) as f64 / 100.0);
    }
    let schema = Schema::new(vec![
        arrow::datatypes::Field::new(
            "ts",
            DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None),
            false,
        ),
        arrow::datatypes::Field::new("k", DataType::Utf8, true),
        arrow::datatypes::Field::new("n", DataType::Int64, true),
        arrow::datatypes::Field::new("x", DataType::Float64, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(ts)),
        Arc::new(StringArray::from(k)),
        Arc::new(Int64Array::from(n)),
        Arc::new(Float64Array::from(x)),
    ];
    let all = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let rows = all.num_rows();
    (0..rows).step_by(EPOCH).map(|at| all.slice(at, EPOCH.min(rows - at))).collect()
}

/// How long the fold of all epochs takes, and the fold with the merge of their states.
async fn fold(catalog: &Catalog, view: &str, epochs: &[RecordBatch]) -> (Duration, Duration) {
    let cut = &catalog.view(view).unwrap().cuts()[0];
    let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
    let mut folder = Folder::try_new(catalog.session(), cut, schema).await.unwrap();
    let mut merger = Merger::try_new(catalog.session(), cut).await.unwrap();
    let started = Instant::now();
    let mut states: Vec<State> = Vec::new();
    for epoch in epochs {
        states.push(folder.fold("events", std::slice::from_ref(epoch)).await.unwrap());
    }
    let folded = started.elapsed();
    merger.merge(&states).await.unwrap();
    (folded, started.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
#[ignore = "a measurement: run it by hand on an optimized build"]
async fn fold_speed_as_ratios() {
    let (_dir, catalog) = catalog().await;
    let epochs = epochs(2_000_000);
    let mut times = std::collections::BTreeMap::<&str, (Vec<Duration>, Vec<Duration>)>::new();
    for _ in 0..5 {
        for view in ["exact", "plain", "tumbling", "hopping"] {
            let (folded, merged) = fold(&catalog, view, &epochs).await;
            let entry = times.entry(view).or_default();
            entry.0.push(folded);
            entry.1.push(merged);
        }
    }
    for (view, (folded, merged)) in &times {
        println!("{view}: fold {:?}, fold and merge {:?}", median(folded.clone()), median(merged.clone()));
    }
    let ratio = |a: &str, b: &str| {
        let of = |view: &str| (median(times[view].0.clone()), median(times[view].1.clone()));
        let ((a, am), (b, bm)) = (of(a), of(b));
        (a.as_secs_f64() / b.as_secs_f64(), am.as_secs_f64() / bm.as_secs_f64())
    };
    println!("exact sum to the engine's sum: {:?} (fold, fold and merge)", ratio("exact", "plain"));
    println!("hop 10 min / 1 s to tumble 10 min: {:?} (fold, fold and merge)", ratio("hopping", "tumbling"));
}

/// 20 minutes of [`KEYS`] keys sliding by the second: one window of the newest.
#[tokio::test]
#[ignore = "a measurement: run it by hand on an optimized build"]
async fn fold_speed_of_the_newest_window() {
    let (_dir, catalog) = catalog().await;
    let minutes = 20;
    let seconds = minutes * 60;
    let epochs = epochs(seconds * PER_SECOND);
    let view = catalog.view("hopping").unwrap();
    let mut merger = Merger::try_new(catalog.session(), &view.cuts()[0]).await.unwrap();
    let folded = states(&catalog, view, "events", &epochs).await;
    let merged = vec![vec![merger.merge(&folded[0]).await.unwrap()]];
    println!("{} panes", merged[0][0].rows());
    let end = format!("1970-01-01 00:{minutes}:00");
    let sql = format!("SELECT k, c, s FROM hopping WHERE w['end'] = TIMESTAMP '{end}'");
    let mut times = Vec::new();
    for _ in 0..11 {
        let started = Instant::now();
        let (rows, _) = query(&catalog, &sql, &merged).await;
        times.push(started.elapsed());
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), KEYS as usize);
    }
    println!("the newest window of {KEYS} keys, planning included: {:?}", median(times));
}
