//! The speed layer: from the ndjson of requests to states that are committed, log and store on disk, in one process.

use crate::events::ndjson;
use crate::measure::{Cost, start};
use crate::project::{SLIDING, STREAM, TUMBLING, TUMBLING_10M, USERS, catalog, engine, many};
use crate::report::Report;
use anyhow::{Result, ensure};
use bytes::Bytes;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use twofold_common::{IngestRequest, SpeedLayer};

/// Events in one request.
const REQUEST: u64 = 10_000;
/// Requests that are under way at once.
const AT_ONCE: usize = 4;

pub(crate) async fn measure(report: &mut Report, events: u64, only: Option<&str>) -> Result<()> {
    report.part("speed", "ndjson to durable log and committed state, requests of 10,000 events, 4 at once");
    let bodies: Vec<Bytes> = (0..events)
        .step_by(REQUEST as usize)
        .map(|at| ndjson(at, (at + REQUEST).min(events), 1_000_000).into())
        .collect();
    let one = |view: (&str, &str)| vec![(view.0.to_string(), view.1.to_string())];
    let projects = [
        ("no view", Vec::new()),
        ("campaigns by 10 s", one(TUMBLING)),
        ("campaigns by 10 min", one(TUMBLING_10M)),
        ("campaigns by 10 min, each second", one(SLIDING)),
        ("1 M users, count and distinct", one(USERS)),
        ("1 of 20 views", many(1)),
        ("5 of 20 views", many(5)),
        ("20 views", many(20)),
    ];
    let projects: Vec<_> =
        projects.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    let mut costs: Vec<Vec<Cost>> = projects.iter().map(|_| Vec::new()).collect();
    for _ in 0..report.runs() {
        for ((_, views), costs) in projects.iter().zip(&mut costs) {
            costs.push(run(views, &bodies, events).await?);
        }
    }
    let mut rates = Vec::new();
    for ((name, _), costs) in projects.iter().zip(&costs) {
        rates.push(report.figure(name, events as f64, "events", costs).median);
    }
    if only.is_some() {
        return Ok(());
    }
    report.derived("time of sliding against tumbling", rates[2] / rates[3], Some("at most 1.2"));
    report.derived("time of 20 views against 1", rates[5] / rates[7], Some("at most 4"));
    Ok(())
}

async fn run(views: &[(String, String)], bodies: &[Bytes], events: u64) -> Result<Cost> {
    let dir = tempfile::tempdir()?;
    let catalog = catalog(dir.path(), views).await?;
    let engine = engine(dir.path(), &catalog).await?;
    engine.fold_on(Handle::current());
    let (stop, stopped) = watch::channel(false);
    let folding = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.run(stopped).await })
    };
    let started = start();
    let mut requests = tokio::task::JoinSet::new();
    for body in bodies {
        if requests.len() == AT_ONCE
            && let Some(done) = requests.join_next().await
        {
            done??;
        }
        let (engine, request) =
            (engine.clone(), IngestRequest::new(STREAM, "application/x-ndjson", body.clone()));
        requests.spawn(async move { engine.ingest(request).await.map(drop) });
    }
    while let Some(done) = requests.join_next().await {
        done??;
    }
    loop {
        let status = engine.status().await?;
        let folded: u64 = status.partitions.iter().filter(|p| p.stream == STREAM).map(|p| p.folded).sum();
        if folded == events {
            break;
        }
        ensure!(status.error.is_none(), "the engine: {:?}", status.error);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It ends when all states are durable.
    stop.send_replace(true);
    folding.await?;
    Ok(started.cost())
}
