//! The batch run: folds the archive into batch views, publishes them, and audits the speed layer.
//!
//! ```text
//! incremental:  state[0, H') = merge(state[0, H), fold(segments in [H, H')))
//! full:         state[0, H') = merge(fold(every segment in [0, H')))
//! ```
//!
//! Both give the same state, bit for bit; a full run checks that they do. A batch view is published by one
//! conditional put, so a killed run leaves nothing visible, and of two runs at once one wins. What a run has finished is
//! kept in [units](crate::units) until it has published: a run of the same kind over the same batch view takes it.
//!
//! What is found when states are compared is made durable before anything is published.

use crate::accumulator::{Accumulator, Merged};
use crate::findings::Findings;
use crate::segments::{Folded, Places, fold_all};
use crate::teller::Teller;
use crate::units::{Job, units};
use datafusion::execution::memory_pool::MemoryLimit;
use futures::future::try_join_all;
use std::sync::Arc;
use twofold_common::{
    Archive, AuditRun, AuditSummary, BatchManifest, BatchViews, Catalog, Digest, Error, Finding, Horizon,
    Kind, Offset, Result, SpeedStates, Versioned, View,
};

/// The states that have gathered on each side of the horizon may take this part of the memory that plans may take.
const STATES_PART: usize = 8;
/// About how much memory a worker takes with one segment.
const WORKER_BYTES: usize = 512 << 20;

/// Tells the time, in nanoseconds since the epoch, UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What batch runs need.
#[derive(Clone)]
pub struct Batch {
    /// The project's relations.
    pub catalog: Arc<Catalog>,
    /// Where segments are read.
    pub archive: Archive,
    /// Where batch views are published.
    pub batch_views: BatchViews,
    /// The time that a batch view is said to be created at.
    pub clock: Clock,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Fold every segment again, and compare with the incremental result.
    pub full: bool,
    /// Only this view.
    pub view: Option<String>,
    /// How many segments to fold at once.
    pub workers: usize,
}

/// How far the run of one view is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The view.
    pub view: String,
    /// Segments folded.
    pub done: usize,
    /// Segments to fold.
    pub total: usize,
    /// Events folded.
    pub rows: u64,
}

/// How the run of one view ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A batch view was published, as this version.
    Published(u64),
    /// The last batch view covers the whole archive.
    UpToDate,
    /// Another run published first.
    Lost,
    /// The view's query fails on an event, for this reason. The last batch view stays.
    Failed(String),
}

/// What the run of one view did.
#[derive(Debug, Clone)]
pub struct ViewReport {
    /// The view.
    pub view: String,
    /// Its fingerprint.
    pub fingerprint: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began, in nanoseconds since the epoch, UTC.
    pub started: i64,
    /// Segments folded.
    pub segments: usize,
    /// How many of them an earlier run that was broken off had folded.
    pub resumed: usize,
    /// Events folded.
    pub rows: u64,
    /// Rows of the state, all cuts together.
    pub state_rows: u64,
    /// What the batch view covers.
    pub horizon: Horizon,
    /// The comparison with the speed layer, of the segments folded here.
    pub audit: AuditSummary,
    /// Of a full run: whether it gave the state that the last batch view has at its horizon. `None` if there was
    /// none to compare with.
    pub equals_incremental: Option<bool>,
    /// The differences that were found, with the states that were kept of them.
    pub differences: Vec<Finding>,
    /// Why what was found could not be kept, if so.
    pub unkept: Option<String>,
}

impl ViewReport {
    /// Whether batch and speed, and full and incremental, agree as far as they were compared.
    pub fn agrees(&self) -> bool {
        self.audit.unequal.is_empty() && self.equals_incremental != Some(false)
    }
}

impl Batch {
    /// Runs all maintained views of the project, or one.
    ///
    /// A view whose query fails on an event is reported as [`Outcome::Failed`], and harms no other.
    ///
    /// # Errors
    /// `NotFound` for an unknown view; `Corrupt` if a segment or state is damaged.
    pub async fn run(
        &self,
        options: &Options,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<ViewReport>> {
        self.run_beside(None, options, progress).await
    }

    /// The same, where `speed` may still have the speed layer's states, to be kept if they differ.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn run_beside(
        &self,
        speed: Option<&dyn SpeedStates>,
        options: &Options,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<ViewReport>> {
        let mut reports = Vec::new();
        for view in &self.views(options.view.as_deref())? {
            let mut report = ViewReport {
                view: view.name().to_string(),
                fingerprint: view.fingerprint(),
                outcome: Outcome::UpToDate,
                started: (self.clock)(),
                segments: 0,
                resumed: 0,
                rows: 0,
                state_rows: 0,
                horizon: Horizon::new(),
                audit: AuditSummary::default(),
                equals_incremental: None,
                differences: Vec::new(),
                unkept: None,
            };
            match self.run_view(view, speed, options, progress, &mut report).await {
                Err(e) if e.kind() == Kind::Invalid => {
                    tracing::warn!(view = view.name(), error = %e, "a view's query fails on events");
                    report.outcome = Outcome::Failed(e.to_string());
                }
                done => done?,
            }
            reports.push(report);
        }
        Ok(reports)
    }

    #[tracing::instrument(level = "info", skip_all, fields(view = view.name()))]
    async fn run_view(
        &self,
        view: &Arc<View>,
        speed: Option<&dyn SpeedStates>,
        options: &Options,
        progress: &(dyn Fn(Progress) + Sync),
        report: &mut ViewReport,
    ) -> Result<()> {
        let fingerprint = view.fingerprint();
        let last = self.batch_views.latest(view.name(), &fingerprint.to_string()).await?;
        let full = options.full || self.is_damaged(view, last.as_ref()).await?;
        let (horizon, jobs) = self.jobs(view).await?;
        let before = last.as_ref().map(|m| m.body.horizon.clone()).unwrap_or_default();
        let is_new = |job: &Job| job.segment.range.start >= offset_of(&before, job);
        let (new, old): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(is_new);

        report.horizon = horizon;
        if let Some(last) = &last
            && new.is_empty()
            && !full
        {
            report.state_rows = last.body.cuts.iter().flatten().map(|file| file.rows).sum();
            return Ok(());
        }

        let run = if full { AuditRun::Full } else { AuditRun::Incremental };
        let mut findings = self.findings(view, speed, run);
        // What another kind of run has finished, or one over another batch view, is not taken.
        let name = format!("{} {}", run.name(), last.as_ref().map_or(0, |m| m.version));
        let mut work = if full { units(view, &name, old) } else { Vec::new() };
        work.extend(units(view, &name, new));
        if let [only] = &mut work[..] {
            only.keep = None;
        }
        let total = work.iter().map(|unit| unit.jobs.len()).sum();
        let teller = Arc::new(Teller::new(self, view, run, total, work.len()));
        let memory = self.memory();
        let mut below = Accumulator::within(memory / STATES_PART, &self.catalog, view).await?;
        let mut above = Accumulator::within(memory / STATES_PART, &self.catalog, view).await?;
        let mut kept = Vec::new();
        let workers = options.workers.min(memory / WORKER_BYTES).max(1);
        let mut folded = fold_all(self.places(), view, work, workers, Some(&teller));
        while let Some(unit) = folded.recv().await {
            let Folded { segments, states, resumed, kept: unit } = unit?;
            kept.extend(unit);
            let side = if segments.first().is_some_and(|s| is_new(&s.job)) { &mut above } else { &mut below };
            for (cut, state) in states {
                side.add(cut, state).await?;
            }
            for segment in &segments {
                findings.compare(segment, &mut report.audit).await;
                report.segments += 1;
                report.resumed += usize::from(resumed);
                report.rows += segment.job.segment.rows;
            }
            let (view, done, rows) = (report.view.clone(), report.segments, report.rows);
            progress(Progress { view, done, total, rows });
        }
        if report.segments < total {
            return Err(Error::Internal(format!("{} of {total} segments were folded", report.segments)));
        }

        match &last {
            Some(last) if full => {
                let states = below.finish().await?;
                self.compare_full(view, last, &states, &mut findings, report).await?;
                for (cut, state) in states.into_iter().enumerate() {
                    above.add_merged(cut, state).await?;
                }
            }
            Some(last) => {
                for (cut, files) in last.body.cuts.iter().enumerate() {
                    for file in files {
                        above.add(cut, self.state(view, cut, std::slice::from_ref(file)).await?).await?;
                    }
                }
            }
            None => {}
        }
        let states = above.finish().await?;
        report.state_rows = states.iter().map(|state| state.rows() as u64).sum();
        report.unkept = findings.record().await;
        report.differences = findings.differences();
        report.outcome = self.publish(view, last.as_ref(), &states, report, full).await?;
        self.drop_units(view, kept).await;
        teller.end(report.resumed > 0).await;
        Ok(())
    }

    /// How many bytes the plans of the project may take.
    fn memory(&self) -> usize {
        match self.catalog.session().runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        }
    }

    /// Compares what a full run made of all below the horizon with the batch view.
    async fn compare_full(
        &self,
        view: &View,
        last: &Versioned<BatchManifest>,
        states: &[Merged],
        findings: &mut Findings<'_>,
        report: &mut ViewReport,
    ) -> Result<()> {
        let digests = try_join_all(states.iter().map(Merged::digest)).await?;
        let differing = findings.compare_full(&last.body.state_digests, &digests);
        report.equals_incremental = Some(differing.is_empty());
        for cut in differing {
            let batch = states[cut].whole().await?;
            match self.state(view, cut, last.body.cuts.get(cut).map_or(&[][..], Vec::as_slice)).await {
                Ok(incremental) => findings.keep_full(cut, &incremental, &batch).await,
                Err(e) => tracing::warn!(error = %e, "the batch view that differs cannot be read"),
            }
        }
        Ok(())
    }

    /// Removes units that are published, or of no use since another run was first. Those that stay are garbage.
    async fn drop_units(&self, view: &View, ids: Vec<Digest>) {
        let fingerprint = view.fingerprint().to_string();
        for id in ids {
            if let Err(e) = self.batch_views.drop_unit(view.name(), &fingerprint, id).await {
                tracing::debug!(view = view.name(), error = %e, "a unit stays behind until gc");
            }
        }
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            catalog: Arc::clone(&self.catalog),
            archive: self.archive.clone(),
            batch_views: self.batch_views.clone(),
        }
    }

    /// The maintained views, or one.
    pub(crate) fn views(&self, only: Option<&str>) -> Result<Vec<Arc<View>>> {
        match only {
            Some(name) => Ok(vec![Arc::clone(self.catalog.view(name)?)]),
            None => Ok(self.catalog.views().values().cloned().collect()),
        }
    }

    /// Where the archive of the view's streams ends, and their segments by stream, partition and offset.
    pub(crate) async fn jobs(&self, view: &View) -> Result<(Horizon, Vec<Job>)> {
        let (mut horizon, mut jobs) = (Horizon::new(), Vec::new());
        for stream in view.streams() {
            let manifest = self.archive.manifest(&stream).await?;
            let offsets = horizon.entry(stream.clone()).or_default();
            for partition in self.catalog.stream(&stream)?.partitions() {
                let end = manifest.as_ref().map_or(Offset(0), |m| m.body.end(partition));
                offsets.insert(partition, end);
            }
            for (partition, segments) in manifest.into_iter().flat_map(|m| m.body.segments) {
                let job = |segment| Job { stream: stream.clone(), partition, segment };
                jobs.extend(segments.into_iter().map(job));
            }
        }
        Ok((horizon, jobs))
    }
}

fn offset_of(horizon: &Horizon, job: &Job) -> Offset {
    horizon.get(&job.stream).and_then(|p| p.get(&job.partition)).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
