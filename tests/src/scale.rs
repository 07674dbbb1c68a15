//! Exact DISTINCT at scale: `cargo test --release -p twofold-tests scale -- --ignored --nocapture --test-threads 1`.
//!
//! A view over 5 million events in a million groups, counting distinct values in each, folded once as the batch layer
//! does (a whole segment) and once as the speed layer does (epochs, merged in tiers). The two states must have one
//! digest, and the process must stay below 2 GiB; times and peaks are printed.

use crate::oracle::finish;
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::compute::sum;
use arrow::datatypes::Int64Type;
use std::sync::Arc;
use std::time::Instant;
use twofold_common::{Catalog, Folder, Merger, Project, State, StreamDef, View};

const SQL: &str = "
CREATE STREAM events (k BIGINT NOT NULL, x BIGINT);
CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c, count(DISTINCT x) AS d FROM events GROUP BY k;
";
const LIMIT_MIB: u64 = 2048;
/// As in the speed layer: runs are merged once this many of about the same size have gathered.
const FAN_IN: usize = 4;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// A line of `/proc/self/status` in MiB: `VmRSS` now, `VmHWM` at its peak.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Lets the peak begin anew, where the system can.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A number that looks random, the same in every run.
fn mixed(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The events `[start, end)`: groups at random, and in each group values that come again now and then.
fn events(stream: &StreamDef, groups: u64, start: u64, end: u64) -> RecordBatch {
    let offsets = || start..end;
    let int = |of: &dyn Fn(u64) -> u64| -> ArrayRef {
        Arc::new(offsets().map(|n| of(n) as i64).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        int(&|n| mixed(n) % groups),
        int(&|n| mixed(n.wrapping_mul(31)) % 1_000_000 / 3),
        Arc::new(Int32Array::from_iter_values(offsets().map(|_| 0))),
        int(&|n| n),
        Arc::new(TimestampNanosecondArray::from_iter_values(offsets().map(|_| 7))),
    ];
    RecordBatch::try_new(stream.event_schema(), columns).unwrap()
}

struct Layer<'a> {
    view: &'a View,
    folders: Vec<Folder>,
    mergers: Vec<Merger>,
}

impl<'a> Layer<'a> {
    async fn plan(catalog: &Catalog, view: &'a View) -> Self {
        let (mut folders, mut mergers) = (Vec::new(), Vec::new());
        for cut in view.cuts() {
            let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
            folders.push(Folder::try_new(catalog.session(), cut, schema).await.unwrap());
            mergers.push(Merger::try_new(catalog.session(), cut).await.unwrap());
        }
        Self { view, folders, mergers }
    }

    async fn fold(&mut self, cut: usize, events: RecordBatch) -> State {
        self.folders[cut].fold("events", &[events]).await.unwrap()
    }

    /// Adds a run, merged with the newest ones that are not much larger, once there are enough of them.
    async fn add(&mut self, cut: usize, runs: &mut Vec<State>, newest: State) {
        let (mut sum, mut take) = (newest.rows(), 0);
        for run in runs.iter().rev() {
            if run.rows() > sum * 2 {
                break;
            }
            sum += run.rows();
            take += 1;
        }
        if take < FAN_IN {
            runs.push(newest);
            return;
        }
        let mut states = runs.split_off(runs.len() - take);
        states.push(newest);
        runs.push(self.mergers[cut].merge(&states).await.unwrap());
    }
}

fn report(what: &str, since: Instant, states: &[State]) {
    let rows: Vec<usize> = states.iter().map(State::rows).collect();
    let held: usize = states.iter().map(|s| s.memory() >> 20).sum();
    println!(
        "{what}: {:.1} s, states of {rows:?} rows in {held} MiB; resident {} MiB, at most {} MiB",
        since.elapsed().as_secs_f64(),
        memory("VmRSS"),
        memory("VmHWM"),
    );
    assert!(memory("VmHWM") < LIMIT_MIB, "{what} took {} MiB", memory("VmHWM"));
}

/// Needs minutes without optimization.
#[tokio::test]
#[ignore = "takes minutes: see the module"]
async fn scale_distinct_in_a_million_groups() {
    let total = number("TWOFOLD_SCALE_EVENTS", 5_000_000);
    let groups = number("TWOFOLD_SCALE_GROUPS", 1_000_000);
    let epoch = number("TWOFOLD_SCALE_EPOCH", 32_768);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("v.sql"), SQL).unwrap();
    let catalog = Catalog::new(&Project::load(dir.path()).unwrap()).await.unwrap();
    let (stream, view) = (catalog.stream("events").unwrap(), catalog.view("v").unwrap());
    let mut layer = Layer::plan(&catalog, view).await;

    forget_peak();
    let since = Instant::now();
    let mut batch = Vec::new();
    {
        let whole = events(stream, groups, 0, total);
        report("the events themselves", since, &[]);
        for cut in 0..layer.view.cuts().len() {
            let since = Instant::now();
            batch.push(layer.fold(cut, whole.clone()).await);
            report(&format!("batch, cut {cut}"), since, &batch);
        }
    }
    let expected: Vec<_> = batch.iter().map(|state| state.digest().unwrap()).collect();
    report("digests", since, &batch);
    drop(batch);

    forget_peak();
    let mut merged = Vec::new();
    for (cut, expected) in expected.iter().enumerate() {
        let since = Instant::now();
        let mut runs = Vec::new();
        let mut start = 0;
        while start < total {
            let end = (start + epoch).min(total);
            let state = layer.fold(cut, events(stream, groups, start, end)).await;
            layer.add(cut, &mut runs, state).await;
            start = end;
        }
        report(&format!("speed by epochs of {epoch}, cut {cut}"), since, &runs);
        let since = Instant::now();
        let whole = layer.mergers[cut].merge(&runs).await.unwrap();
        drop(runs);
        report("merged into one", since, std::slice::from_ref(&whole));
        assert_eq!(whole.digest().unwrap(), *expected, "batch and speed differ in cut {cut}");
        merged.push(vec![whole]);
    }

    forget_peak();
    let since = Instant::now();
    let rows = finish(&catalog, view, &merged).await;
    report("the answer, all rows of it", since, &[]);
    let counted = |column: usize| -> i64 {
        rows.iter().map(|b| sum(b.column(column).as_primitive::<Int64Type>()).unwrap_or(0)).sum()
    };
    let states: Vec<usize> = merged.iter().map(|states| states[0].rows()).collect();
    assert_eq!([counted(1), counted(2)], [total as i64, *states.iter().max().unwrap() as i64]);
}
