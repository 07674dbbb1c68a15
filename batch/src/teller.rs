//! Tells other processes how far the run of a view is.
//!
//! It writes once a second, and nothing for a run of a single unit, or of less than a second: that is over at once. A run does not fail
//! because this cannot be written. Who has finished a unit writes, before anybody goes on with it: a worker does one
//! thing at a time.

use crate::run::{Batch, Clock};
use std::sync::{Arc, Mutex, PoisonError};
use twofold_common::{AuditRun, BatchProgress, BatchViews, Result, View};

/// The least time between two writes, in nanoseconds.
const PAUSE: i64 = 1_000_000_000;

/// What is told of one run.
pub(crate) struct Teller {
    batch_views: BatchViews,
    clock: Clock,
    view: Arc<View>,
    /// With the time at which it was told last; at first, that at which the run began.
    progress: Mutex<(BatchProgress, i64)>,
    /// Whether there is more than one unit to fold.
    worth_it: bool,
}

impl Teller {
    pub(crate) fn new(batch: &Batch, view: &Arc<View>, run: AuditRun, total: usize, units: usize) -> Self {
        let (now, mode) = ((batch.clock)(), run.name().to_string());
        let progress = BatchProgress { mode, started: now, at: now, done: 0, total: total as u64, events: 0 };
        Self {
            batch_views: batch.batch_views.clone(),
            clock: Arc::clone(&batch.clock),
            view: Arc::clone(view),
            progress: Mutex::new((progress, now)),
            worth_it: units > 1,
        }
    }

    /// Counts segments and events that are folded besides, and tells how many they are, if it is time.
    pub(crate) async fn tell(&self, segments: usize, events: u64) {
        let Some(progress) = self.due(segments as u64, events) else { return };
        let fingerprint = self.view.fingerprint().to_string();
        self.said(self.batch_views.tell_progress(self.view.name(), &fingerprint, &progress).await);
    }

    fn due(&self, segments: u64, events: u64) -> Option<BatchProgress> {
        let now = (self.clock)();
        let mut known = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let (progress, told) = &mut *known;
        progress.done += segments;
        progress.events += events;
        progress.at = now;
        if !self.worth_it || now.saturating_sub(*told) < PAUSE {
            return None;
        }
        *told = now;
        Some(progress.clone())
    }

    /// Takes back what was told by this run, or, if it has `resumed` one that was killed, by that.
    pub(crate) async fn end(&self, resumed: bool) {
        let told = self.progress.lock().map_or(true, |known| known.1 > known.0.started);
        if !told && !resumed {
            return;
        }
        let fingerprint = self.view.fingerprint().to_string();
        self.said(self.batch_views.end_progress(self.view.name(), &fingerprint).await);
    }

    fn said(&self, result: Result<()>) {
        if let Err(e) = result {
            tracing::debug!(view = self.view.name(), error = %e, "how far the run is cannot be told");
        }
    }
}
