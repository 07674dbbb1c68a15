//! Tells other processes how far the run of a view is.
//!
//! It writes at most once a second, and nothing for a run of a single unit, which is over at once. A run does not fail
//! because this cannot be written.

use crate::run::Batch;
use twofold_common::{AuditRun, BatchProgress, BatchViews, Result, View};

/// The least time between two writes, in nanoseconds.
const PAUSE: i64 = 1_000_000_000;

/// What is told of one run.
pub(crate) struct Teller<'a> {
    batch: &'a Batch,
    view: &'a View,
    progress: BatchProgress,
    /// When it was told last; `None` before.
    told: Option<i64>,
    /// Whether there is more than one unit to fold.
    worth_it: bool,
}

impl<'a> Teller<'a> {
    pub(crate) fn new(batch: &'a Batch, view: &'a View, run: AuditRun, total: usize, units: usize) -> Self {
        let (now, mode) = ((batch.clock)(), run.name().to_string());
        let progress = BatchProgress { mode, started: now, at: now, done: 0, total: total as u64, events: 0 };
        Self { batch, view, progress, told: None, worth_it: units > 1 }
    }

    /// Tells how many segments and events are folded, if it is time.
    pub(crate) async fn tell(&mut self, segments: usize, events: u64) {
        let now = (self.batch.clock)();
        if !self.worth_it || self.told.is_some_and(|told| now.saturating_sub(told) < PAUSE) {
            return;
        }
        self.told = Some(now);
        self.progress = BatchProgress { at: now, done: segments as u64, events, ..self.progress.clone() };
        let (views, fingerprint) = self.place();
        self.said(views.tell_progress(self.view.name(), &fingerprint, &self.progress).await);
    }

    /// Takes back what was told, by this run or by one that was killed before it.
    pub(crate) async fn end(self) {
        let (views, fingerprint) = self.place();
        self.said(views.end_progress(self.view.name(), &fingerprint).await);
    }

    fn place(&self) -> (&'a BatchViews, String) {
        (&self.batch.batch_views, self.view.fingerprint().to_string())
    }

    fn said(&self, result: Result<()>) {
        if let Err(e) = result {
            tracing::debug!(view = self.view.name(), error = %e, "how far the run is cannot be told");
        }
    }
}
