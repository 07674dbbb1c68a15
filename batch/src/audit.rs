//! The audit: folds segments again from their archived files, and compares with what the speed layer had.
//!
//! It reads what is stored, publishes nothing and changes no answer; what it finds is kept. Segments of which the speed
//! layer left no digest cannot be compared, and are counted.

use crate::findings::Findings;
use crate::run::{Batch, Progress};
use crate::segments::fold_all;
use crate::units::{Job, one_by_one};
use std::collections::BTreeMap;
use std::sync::Arc;
use twofold_common::{
    AuditRun, AuditSummary, Audited, Digest, Error, Finding, Kind, Result, SegmentState, SpeedStates, State,
    View, state_key,
};

/// What to audit.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// Only this view.
    pub view: Option<String>,
    /// How many segments of each view; `None`: all.
    pub sample: Option<usize>,
    /// Which ones a sample has: with the same number the same.
    pub seed: u64,
    /// How many segments to fold at once.
    pub workers: usize,
}

/// What the audit of one view found.
#[derive(Debug, Clone)]
pub struct AuditReport {
    /// The view.
    pub view: String,
    /// Its fingerprint.
    pub fingerprint: Digest,
    /// Segments folded again.
    pub segments: usize,
    /// Segments in the archive of the view's streams.
    pub of: usize,
    /// Segments that cannot be compared, since the speed layer left no digest.
    pub without: usize,
    /// Events folded.
    pub rows: u64,
    /// The comparison, counted by cut.
    pub audit: AuditSummary,
    /// The differences.
    pub differences: Vec<Finding>,
    /// Why what was found could not be kept, if so.
    pub unkept: Option<String>,
    /// Why it was not compared, if the view's query fails on an event.
    pub failed: Option<String>,
}

impl Batch {
    /// Folds segments again and compares. A view whose query fails on an event harms no other.
    ///
    /// # Errors
    /// `NotFound` for an unknown view; `Corrupt` if a segment is damaged.
    pub async fn audit(
        &self,
        speed: Option<&dyn SpeedStates>,
        options: &AuditOptions,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<AuditReport>> {
        let mut reports = Vec::new();
        for view in self.views(options.view.as_deref())? {
            let mut report = AuditReport {
                view: view.name().to_string(),
                fingerprint: view.fingerprint(),
                segments: 0,
                of: 0,
                without: 0,
                rows: 0,
                audit: AuditSummary::default(),
                differences: Vec::new(),
                unkept: None,
                failed: None,
            };
            match self.audit_view(&view, speed, options, progress, &mut report).await {
                Err(e) if e.kind() == Kind::Invalid => report.failed = Some(e.to_string()),
                done => done?,
            }
            reports.push(report);
        }
        Ok(reports)
    }

    async fn audit_view(
        &self,
        view: &Arc<View>,
        speed: Option<&dyn SpeedStates>,
        options: &AuditOptions,
        progress: &(dyn Fn(Progress) + Sync),
        report: &mut AuditReport,
    ) -> Result<()> {
        let (_, jobs) = self.jobs(view).await?;
        report.of = jobs.len();
        let jobs: Vec<Job> = jobs.into_iter().filter(|job| is_told(view, job)).collect();
        report.without = report.of - jobs.len();
        let jobs = sample(jobs, options);
        let total = jobs.len();
        let mut findings = self.findings(view, speed, AuditRun::Audit);
        let mut folded = fold_all(self.places(), view, one_by_one(jobs), options.workers, None);
        while let Some(unit) = folded.recv().await {
            for segment in &unit?.segments {
                findings.compare(segment, &mut report.audit).await;
                report.segments += 1;
                report.rows += segment.job.segment.rows;
            }
            let (view, done, rows) = (report.view.clone(), report.segments, report.rows);
            progress(Progress { view, done, total, rows });
        }
        if report.segments < total {
            return Err(Error::Internal(format!("{} of {total} segments were folded", report.segments)));
        }
        report.unkept = findings.record().await;
        report.differences = findings.differences();
        Ok(())
    }

    /// Both states of a difference, the one that was found and the one that counts; `None` for one that nobody has.
    ///
    /// # Errors
    /// `Corrupt` or `NotFound` if a state that was kept is damaged or gone.
    pub async fn states_of(
        &self,
        view: &View,
        difference: &Finding,
        speed: Option<&dyn SpeedStates>,
    ) -> Result<(Option<State>, Option<State>)> {
        let Some(cut) = view.cuts().get(difference.cut) else { return Ok((None, None)) };
        let audits = self.batch_views.audits();
        let (mut found, mut batch) = (None, None);
        if let Some(file) = &difference.kept.found {
            found = Some(audits.kept(file, cut).await?);
        }
        if let Some(file) = &difference.kept.batch {
            batch = Some(audits.kept(file, cut).await?);
        }
        if let (None, Some(speed), Audited::Segment { stream, partition, range }) =
            (&found, speed, &difference.audited)
        {
            let of = SegmentState {
                fingerprint: view.fingerprint(),
                cut: difference.cut,
                stream: stream.clone(),
                partition: *partition,
                range: *range,
            };
            let held = speed.state_of(&of).await?;
            found = held.filter(|state| state.digest().is_ok_and(|digest| Some(digest) == difference.found));
        }
        Ok((found, batch))
    }

    pub(crate) fn findings<'a>(
        &self,
        view: &'a View,
        speed: Option<&'a dyn SpeedStates>,
        run: AuditRun,
    ) -> Findings<'a> {
        Findings { view, audits: self.batch_views.audits(), speed, run, at: (self.clock)(), all: Vec::new() }
    }
}

/// Whether the speed layer left a digest of its state.
fn is_told(view: &View, job: &Job) -> bool {
    (0..view.cuts().len()).any(|cut| job.segment.states.contains_key(&state_key(view.fingerprint(), cut)))
}

/// As many of the jobs as are wanted, each as likely as any other.
fn sample(jobs: Vec<Job>, options: &AuditOptions) -> Vec<Job> {
    let Some(wanted) = options.sample else { return jobs };
    let seed = options.seed.to_le_bytes();
    let lot = |job: &Job| Digest::of_parts([&seed[..], job.segment.path.as_bytes()]);
    let drawn: BTreeMap<Digest, Job> = jobs.into_iter().map(|job| (lot(&job), job)).collect();
    drawn.into_values().take(wanted).collect()
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
