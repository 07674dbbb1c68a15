//! `twofold audit`: folds segments again from raw, and compares with what the speed layer had; the exit code is 1 if
//! states differ. With `--explain` it lists the keys in which they do, with what either layer has of them.
//!
//! It reads what is stored, needs no running layer, and holds no lock; only to explain a difference of which the speed
//! layer's state was not kept, that is asked, or its store opened.

use crate::alert::{Alert, Differences, Patience};
use crate::args::AuditArgs;
use crate::clock;
use crate::commands::explain::explain;
use crate::node::{HeldStates, Site, workers};
use crate::outcome::Outcome;
use crate::progress::{self, Unit};
use crate::text::{columns, count, print};
use anyhow::{Result, bail};
use std::fmt::Write;
use std::path::Path;
use twofold_batch::{AuditOptions, AuditReport, Progress};
use twofold_common::{AuditRun, AuditSummary, Functions};

/// How many segments of each view a sample has.
const SAMPLE: usize = 16;

pub(crate) async fn run(
    dir: &Path,
    functions: &Functions,
    args: &AuditArgs,
    command: &str,
) -> Result<Outcome> {
    let site = Site::load(dir, functions).await?;
    let Audited { text, outcome, alert, failed } = audit(&site, args, command).await?;
    print(text)?;
    if let Some(alert) = alert {
        alert.deliver(Patience::default()).await;
    }
    match failed {
        Some(reason) => bail!("{reason}; the other views are done"),
        None => Ok(outcome),
    }
}

/// What came of an audit.
#[derive(Debug)]
pub(crate) struct Audited {
    /// What is to be printed.
    pub(crate) text: String,
    pub(crate) outcome: Outcome,
    /// Who is to be told.
    pub(crate) alert: Option<Alert>,
    /// Why a view could not be compared.
    pub(crate) failed: Option<String>,
}

/// Compares, and explains if that is wanted.
pub(crate) async fn audit(site: &Site, args: &AuditArgs, command: &str) -> Result<Audited> {
    if let Some(view) = &args.view {
        site.catalog.view(view)?;
    }
    let stores = site.stores().await?;
    let held = HeldStates::of(site, &stores, command);
    let seed = args.seed.unwrap_or_else(|| clock::nanos().unsigned_abs() / 1_000);
    let sample = (!args.all).then_some(args.sample.unwrap_or(SAMPLE));
    let options = AuditOptions { view: args.view.clone(), sample, seed, workers: workers() };
    let bar = progress::bar(Some(0), Unit::Segments, "folding");
    let show = |progress: Progress| {
        bar.set_message(progress.view);
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    };
    let batch = site.batch(&stores);
    let reports = batch.audit(Some(&held), &options, &show).await;
    bar.finish_and_clear();
    let reports = reports?;

    let mut text = report(&reports);
    if reports.iter().any(|r| r.failed.is_none() && r.segments < r.of - r.without) {
        let _ = writeln!(text, "a sample: --all takes all segments, --seed {seed} the same ones again");
    }
    let differs = reports.iter().any(|report| !report.differences.is_empty());
    if args.explain {
        for report in &reports {
            let view = site.catalog.view(&report.view)?;
            text += &explain(&batch, &site.catalog, view, &held).await?;
        }
    } else if differs {
        let _ = writeln!(text, "`twofold audit --explain` lists the keys that differ");
    }
    let failed = reports.iter().find_map(|report| report.failed.clone());
    let differences: Vec<Differences> = reports
        .into_iter()
        .map(|r| Differences { view: r.view, fingerprint: r.fingerprint, found: r.differences })
        .collect();
    let alert = Alert::about(site, AuditRun::Audit, clock::nanos(), &differences);
    let outcome = if differs { Outcome::Different } else { Outcome::Done };
    Ok(Audited { text, outcome, alert, failed })
}

fn report(reports: &[AuditReport]) -> String {
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|r| {
            let folded = format!("{} of {}", count(r.segments as u64), count(r.of as u64));
            let without = match r.without {
                0 => "-".to_string(),
                n => count(n as u64),
            };
            let audit = if r.failed.is_some() { "failed".to_string() } else { compared(&r.audit) };
            vec![r.view.clone(), folded, count(r.rows), without, audit]
        })
        .collect();
    let mut text = columns(&["view", ">segments", ">events", ">not comparable", "audit"], &rows);
    for report in reports {
        text += &unequal(&report.view, &report.audit);
        if let Some(reason) = &report.unkept {
            let _ = writeln!(text, "{}: what was found could not be kept: {reason}", report.view);
        }
    }
    text
}

/// What was compared, counted.
pub(crate) fn compared(audit: &AuditSummary) -> String {
    let counts =
        [(audit.equal, "equal"), (audit.unaudited, "unaudited"), (audit.unequal.len() as u64, "UNEQUAL")];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n)));
    let counts: Vec<String> = counts.collect();
    if counts.is_empty() { "-".into() } else { counts.join(", ") }
}

/// One line for each segment whose states differ.
pub(crate) fn unequal(view: &str, audit: &AuditSummary) -> String {
    let mut text = String::new();
    for bad in &audit.unequal {
        let _ = writeln!(
            text,
            "{view}: stream {}, partition {}, offsets {}, cut {}: the speed layer's state is {}, the batch's {}; the \
             batch view counts",
            bad.stream,
            bad.partition,
            bad.range,
            bad.cut,
            bad.speed.short(),
            bad.batch.short()
        );
    }
    text
}
