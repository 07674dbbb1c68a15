//! Folding: states from events that are decoded already, beside the engine's own aggregation of the same batches by the
//! view's query. Both have their plans before the clock starts.

use crate::events::ndjson;
use crate::measure::{Cost, start};
use crate::project::{
    SLIDING, STREAM, TUMBLING, TUMBLING_10M, USERS, catalog, folder, plain, stream, with_campaigns,
};
use crate::report::Report;
use anyhow::Result;
use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use std::path::Path;
use std::sync::Arc;
use twofold_common::Folder;
use twofold_speed::Decoder;

/// Events in one epoch.
const EPOCHS: [usize; 2] = [8_192, 65_536];

pub(crate) async fn measure(report: &mut Report, events: u64) -> Result<()> {
    report.part("fold", "decoded events to states, epoch by epoch, on one core");
    let dir = tempfile::tempdir()?;
    let catalog = catalog(dir.path(), &[TUMBLING, USERS, TUMBLING_10M, SLIDING]).await?;
    let decoder = Decoder::new(stream(&catalog)?)?;
    let all = decoder.decode_ndjson(ndjson(0, events, 1_000_000).as_bytes())?.rows;
    for rows in EPOCHS {
        let epochs: Vec<RecordBatch> = (0..all.num_rows())
            .step_by(rows)
            .map(|at| all.slice(at, rows.min(all.num_rows() - at)))
            .collect();
        for of in [TUMBLING, USERS] {
            let plans = engine(dir.path(), &plain(of.1), &epochs).await?;
            let mut folder = folder(&catalog, of).await?;
            let (mut ours, mut theirs): (Vec<Cost>, Vec<Cost>) = Default::default();
            for run in 0..=report.runs() {
                let started = start();
                for (context, plan) in &plans {
                    // As ours are: a join keeps what it has read in an earlier run.
                    let plan = reset_plan_states(Arc::clone(plan))?;
                    collect(plan, context.task_ctx()).await?;
                }
                let their = started.cost();
                let our = fold(&mut folder, &epochs).await?;
                if run > 0 {
                    theirs.push(their);
                    ours.push(our);
                }
            }
            let name = format!("{}, epochs of {rows}", of.0);
            let a = report.figure(&format!("{name}: fold"), events as f64, "events", &ours).median;
            let b = report
                .figure(&format!("{name}: the engine's query"), events as f64, "events", &theirs)
                .median;
            report.derived(&format!("{name}: time against the engine's"), b / a, Some("at most 1.1"));
        }
        let (mut tumbling, mut sliding) =
            (folder(&catalog, TUMBLING_10M).await?, folder(&catalog, SLIDING).await?);
        let (mut once, mut often): (Vec<Cost>, Vec<Cost>) = Default::default();
        for run in 0..=report.runs() {
            let (a, b) = (fold(&mut tumbling, &epochs).await?, fold(&mut sliding, &epochs).await?);
            if run > 0 {
                once.push(a);
                often.push(b);
            }
        }
        let a = report
            .figure(&format!("tumbling 10 min, epochs of {rows}"), events as f64, "events", &once)
            .median;
        let b = report
            .figure(&format!("10 min by 1 s, epochs of {rows}"), events as f64, "events", &often)
            .median;
        report.derived("time of sliding against tumbling", a / b, Some("at most 1.2"));
    }
    Ok(())
}

async fn fold(folder: &mut Folder, epochs: &[RecordBatch]) -> Result<Cost> {
    let started = start();
    for epoch in epochs {
        folder.fold(STREAM, std::slice::from_ref(epoch)).await?;
    }
    Ok(started.cost())
}

/// For each epoch a plan of the query over it.
async fn engine(
    dir: &Path,
    query: &str,
    epochs: &[RecordBatch],
) -> Result<Vec<(SessionContext, Arc<dyn ExecutionPlan>)>> {
    let mut plans = Vec::new();
    for epoch in epochs {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        with_campaigns(&context, dir).await?;
        let events = MemTable::try_new(epoch.schema(), vec![vec![epoch.clone()]])?;
        context.register_table(STREAM, Arc::new(events))?;
        let plan = context.sql(query).await?.create_physical_plan().await?;
        plans.push((context, plan));
    }
    Ok(plans)
}
