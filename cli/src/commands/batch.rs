//! `twofold batch`: folds what is new in the archive, publishes, and compares with the speed layer.
//!
//! What was acknowledged before it began is covered: a running speed layer is asked to seal and archive first; without
//! one, this process does so itself. A difference between the layers, or between a full and an incremental run, is
//! told, and the exit code is 1.

use crate::alert::{Alert, Differences, Patience};
use crate::args::BatchArgs;
use crate::clock::{self, Stopwatch};
use crate::commands::audit::{compared, unequal};
use crate::node::{DataLock, FoundSpeed, HeldStates, Site, SpeedNode, Stores, workers};
use crate::outcome::Outcome;
use crate::progress::{self, Unit, while_building};
use crate::text::{columns, count, counted, duration, print};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use twofold_batch::{Options, Outcome as End, Progress, ViewReport};
use twofold_common::{AuditRun, Functions, SpeedLayer};

/// How long to wait for another process that holds the data directory, such as another batch run.
const HELD_FOR: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) async fn run(
    dir: &Path,
    functions: &Functions,
    args: &BatchArgs,
    command: &str,
) -> Result<Outcome> {
    let watch = Stopwatch::start();
    let site = Site::load(dir, functions).await?;
    let reports = batch(&site, args, command).await?;
    print(report(&reports))?;
    let done = counted(reports.len() as u64, "view");
    print(format!("{done} in {}\n", duration(watch.elapsed())))?;
    if let Some(alert) = alert(&site, args, &reports) {
        alert.deliver(Patience::default()).await;
    }
    for report in &reports {
        if let End::Failed(reason) = &report.outcome {
            bail!("{reason}; the other views are done");
        }
    }
    Ok(if reports.iter().all(ViewReport::agrees) { Outcome::Done } else { Outcome::Different })
}

/// Who is to be told of what was found.
pub(crate) fn alert(site: &Site, args: &BatchArgs, reports: &[ViewReport]) -> Option<Alert> {
    let run = if args.full { AuditRun::Full } else { AuditRun::Incremental };
    let differences: Vec<_> = reports.iter().cloned().map(Differences::from).collect();
    Alert::about(site, run, clock::nanos(), &differences)
}

/// Seals, archives, folds and publishes.
pub(crate) async fn batch(site: &Site, args: &BatchArgs, command: &str) -> Result<Vec<ViewReport>> {
    if let Some(view) = &args.view {
        site.catalog.view(view)?;
    }
    let stores = site.stores().await?;
    seal(site, &stores, command).await?;
    let options = Options { full: args.full, view: args.view.clone(), workers: workers() };
    let bar = progress::bar(Some(0), Unit::Segments, "folding");
    let show = |progress: Progress| {
        bar.set_message(progress.view);
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    };
    let held = HeldStates::of(site, &stores, command);
    let reports = site.batch(&stores).run_beside(Some(&held), &options, &show).await;
    bar.finish_and_clear();
    Ok(reports?)
}

async fn seal(site: &Site, stores: &Stores, command: &str) -> Result<()> {
    let (speed, watch) = (FoundSpeed::of(site), Stopwatch::start());
    loop {
        if speed.is_running().await {
            return speed.seal().await.with_context(|| format!("sealing at {}", speed.url()));
        }
        if let Some(url) = &site.project.config.speed.url {
            eprintln!(
                "note: the speed layer at {url} does not answer: the batch covers what is archived by now"
            );
            return Ok(());
        }
        match SpeedNode::open(site, stores, command).await {
            Ok(node) => {
                while_building(node.layer(), node.catch_up()).await?;
                return node.seal().await;
            }
            // Another batch run that seals, or a server that is about to answer.
            Err(_) if DataLock::check(site.data_dir()).is_err() && watch.elapsed() < HELD_FOR => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(e) => return Err(e),
        }
    }
}

fn report(reports: &[ViewReport]) -> String {
    let rows: Vec<Vec<String>> = reports.iter().map(line).collect();
    let heads = ["view", "result", ">segments", ">events", ">state rows", ">covers", "audit"];
    let mut text = columns(&heads, &rows);
    for report in reports {
        text += &unequal(&report.view, &report.audit);
        if report.equals_incremental == Some(false) {
            let _ = writeln!(
                text,
                "{}: the full run gave another state than the incremental ones before",
                report.view
            );
        }
        if report.resumed > 0 {
            let segments = counted(report.resumed as u64, "segment");
            let _ =
                writeln!(text, "{}: {segments} had been folded by a run that was broken off", report.view);
        }
        if let Some(reason) = &report.unkept {
            let _ = writeln!(text, "{}: what the audit found could not be kept: {reason}", report.view);
        }
    }
    if reports.iter().any(|report| !report.differences.is_empty()) {
        let _ = writeln!(text, "`twofold audit --explain` lists the keys that differ");
    }
    text
}

fn line(report: &ViewReport) -> Vec<String> {
    let result = match report.outcome {
        End::Published(version) => format!("version {version}"),
        End::UpToDate => "up to date".into(),
        End::Lost => "another run was first".into(),
        End::Failed(_) => "failed".into(),
    };
    let covered: u64 = report.horizon.values().flat_map(|offsets| offsets.values()).map(|end| end.0).sum();
    let mut compared = compared(&report.audit);
    let full = match report.equals_incremental {
        Some(true) => Some("full = incremental"),
        Some(false) => Some("full DIFFERS from incremental"),
        None => None,
    };
    if let Some(full) = full {
        compared = if compared == "-" { full.into() } else { format!("{compared}, {full}") };
    }
    vec![
        report.view.clone(),
        result,
        count(report.segments as u64),
        count(report.rows),
        count(report.state_rows),
        count(covered),
        compared,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use twofold_common::{AuditMismatch, AuditSummary, Digest, Offset, OffsetRange, Partition};

    fn view(name: &str, outcome: End) -> ViewReport {
        ViewReport {
            view: name.into(),
            fingerprint: Digest::of(b"f"),
            outcome,
            started: 0,
            segments: 3,
            resumed: 0,
            rows: 1_234,
            state_rows: 16,
            horizon: BTreeMap::from([(
                "s".into(),
                BTreeMap::from([(Partition(0), Offset(1_000)), (Partition(1), Offset(234))]),
            )]),
            audit: AuditSummary { equal: 2, unaudited: 1, unequal: vec![] },
            equals_incremental: Some(true),
            differences: vec![],
            unkept: None,
        }
    }

    #[test]
    fn a_report_has_a_line_for_each_view_and_one_for_each_difference() {
        let quiet = ViewReport {
            audit: AuditSummary { equal: 0, unaudited: 0, unequal: vec![] },
            equals_incremental: None,
            ..view("quiet", End::UpToDate)
        };
        let range = OffsetRange::new(Offset(0), Offset(5));
        let (speed, batch) = (Digest::of(b"a"), Digest::of(b"b"));
        let bad = AuditMismatch { stream: "s".into(), partition: Partition(0), range, cut: 0, speed, batch };
        let odd = ViewReport {
            audit: AuditSummary { equal: 0, unaudited: 0, unequal: vec![bad] },
            equals_incremental: Some(false),
            ..view("odd", End::Lost)
        };
        insta::assert_snapshot!(report(&[view("good", End::Published(7)), quiet, odd]), @r#"
        view   result                 segments  events  state rows  covers  audit
        good   version 7                     3   1,234          16   1,234  2 equal, 1 unaudited, full = incremental
        quiet  up to date                    3   1,234          16   1,234  -
        odd    another run was first         3   1,234          16   1,234  1 UNEQUAL, full DIFFERS from incremental
        odd: stream s, partition 0, offsets [0, 5), cut 0: the speed layer's state is 17762fddd969a453, the batch's 10e5cf3d3c8a4f9f; the batch view counts
        odd: the full run gave another state than the incremental ones before
        "#);
    }
}
