//! Batch runs by the clock, inside `twofold up`.

use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use crate::alert::{Alert, Differences, Patience};
use crate::clock;
use anyhow::Result;
use std::sync::Arc;
use tokio::sync::watch;
use twofold_batch::Options;
use twofold_common::{AuditRun, SpeedLayer};

/// Runs incremental batches by the project's schedule until the switch is flipped. A run that fails is logged, and the
/// next one comes in its time; one that is interrupted leaves nothing visible.
pub(crate) async fn run(
    site: watch::Receiver<Site>,
    stores: Stores,
    speed: Arc<dyn SpeedLayer>,
    shutdown: Shutdown,
) -> Result<()> {
    let schedule = site.borrow().project.config.batch.schedule;
    let started = clock::now();
    while let Some(next) = schedule.next_after(clock::now(), started) {
        let wait = next.duration_since(clock::now()).unwrap_or_default();
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        let now = site.borrow().clone();
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            result = once(&now, &stores, &speed) => match result {
                Ok(()) => {}
                Err(e) => tracing::error!(error = %e, "the scheduled batch failed"),
            },
        }
    }
    Ok(())
}

async fn once(site: &Site, stores: &Stores, speed: &Arc<dyn SpeedLayer>) -> Result<()> {
    let watch = clock::Stopwatch::start();
    speed.seal().await?;
    let options = Options { full: false, view: None, workers: workers() };
    let reports = site.batch(stores).run_beside(Some(speed), &options, &|_| {}).await?;
    for report in &reports {
        let (view, segments, events) = (&report.view, report.segments, report.rows);
        tracing::info!(
            view,
            segments,
            events,
            unequal = report.differences.len(),
            "batch view is up to date"
        );
    }
    let differences = reports.into_iter().map(Differences::from).collect::<Vec<_>>();
    if let Some(alert) = Alert::about(site, AuditRun::Incremental, clock::nanos(), &differences) {
        // The next run does not wait for whoever is told.
        tokio::spawn(alert.deliver(Patience::default()));
    }
    tracing::info!(elapsed_ms = watch.elapsed().as_millis() as u64, "scheduled batch done");
    Ok(())
}

/// How many segments a batch folds at once.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
