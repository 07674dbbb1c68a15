//! How much memory the operators of a project's plans may take together: queries, folds, merges and batch runs.
//!
//! What grows with the data (the groups of an aggregate, the rows of a sort, the build side of a join) is counted, and
//! aggregates and sorts that would exceed the bound go to files of the system's temporary directory instead. What can
//! do neither fails as `Unavailable`. Not counted: states that are held or cached, batches on their way between
//! operators, files while they are decoded.

use crate::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// The bound where the machine does not tell what it has.
const UNKNOWN: u64 = 4 << 30;
/// How many of those that took most an error names.
const NAMED: NonZeroUsize = NonZeroUsize::new(3).unwrap();

/// Half of the memory of this machine, or of the group of processes that this one is in, in bytes.
pub(crate) fn half_of_machine() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].map(limit_in);
    group.into_iter().chain([machine]).flatten().min().map_or(UNKNOWN, |bytes| bytes / 2)
}

/// What the engine runs in, with this bound in bytes.
pub(crate) fn runtime(limit: u64) -> Result<Arc<RuntimeEnv>> {
    let pool = FairSpillPool::new(usize::try_from(limit).unwrap_or(usize::MAX));
    let pool = Arc::new(TrackConsumersPool::new(pool, NAMED));
    Ok(Arc::new(RuntimeEnvBuilder::new().with_memory_pool(pool).build()?))
}

/// A number of bytes, as `512 MiB` or `4 GB`.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok().filter(|number| *number > 0)?;
    let unit = match text[digits..].trim_start() {
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn limit_in(path: impl AsRef<Path>) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::session_over;
    use crate::error::{Error, Kind};
    use crate::functions::Functions;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::{ExecutionPlan, collect};
    use datafusion::prelude::SessionContext;

    const KEYS: i64 = 200_000;

    fn session(limit: u64) -> SessionContext {
        let session = session_over(&Functions::default(), runtime(limit).unwrap());
        let batch = |at: i64| {
            let k: ArrayRef = Arc::new(Int64Array::from_iter_values((at..at + 8_000).map(|i| i * 7 % KEYS)));
            let x: ArrayRef =
                Arc::new(Float64Array::from_iter_values((at..at + 8_000).map(|i| i as f64 * 0.1)));
            RecordBatch::try_from_iter([("k", k), ("x", x)]).unwrap()
        };
        let batches: Vec<RecordBatch> = (0..2 * KEYS).step_by(8_000).map(batch).collect();
        let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
        session.register_table("t", Arc::new(table)).unwrap();
        session
    }

    /// The rows, and how often an operator went to disk.
    async fn run(session: &SessionContext, sql: &str) -> Result<(Vec<RecordBatch>, usize)> {
        let plan = session.sql(sql).await?.create_physical_plan().await?;
        let rows = collect(Arc::clone(&plan), session.task_ctx()).await?;
        let mut spills = 0;
        let mut left: Vec<Arc<dyn ExecutionPlan>> = vec![plan];
        while let Some(plan) = left.pop() {
            spills += plan.metrics().and_then(|metrics| metrics.spill_count()).unwrap_or(0);
            left.extend(plan.children().into_iter().cloned());
        }
        Ok((rows, spills))
    }

    #[tokio::test]
    async fn an_aggregate_that_exceeds_the_bound_goes_to_disk_and_is_the_same() {
        let sql = "SELECT sum(c) AS c, min(s) AS least, max(s) AS most FROM \
                   (SELECT k, count(*) AS c, sum(x) AS s FROM t GROUP BY k)";
        let (expected, none) = run(&session(1 << 40), sql).await.unwrap();
        let (found, spills) = run(&session(8 << 20), sql).await.unwrap();
        assert_eq!((&found, none), (&expected, 0));
        assert!(spills > 0, "nothing went to disk");
    }

    #[tokio::test]
    async fn what_cannot_go_to_disk_says_which_setting_to_raise() {
        let sql = "SELECT k, array_agg(x) AS xs FROM t GROUP BY k";
        let sql = format!("SELECT a.k FROM ({sql}) a JOIN ({sql}) b ON a.k = b.k AND a.xs = b.xs");
        let e = run(&session(1 << 20), &sql).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Unavailable, "{e}");
        assert!(Error::to_string(&e).contains("[memory]"), "{e}");
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse("512 MiB"), Some(512 << 20));
        assert_eq!(parse("4GB"), Some(4_000_000_000));
        for wrong in ["", "4", "GB", "0 GB", "-1 GB", "4 gigs", "99999999999999999999 TB", "99999999 TB"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24576 kB\n"), Some(24576 * 1024));
        assert!(half_of_machine() > 1 << 20);
    }
}
