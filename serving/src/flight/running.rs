//! What runs under which ticket, so that it can be stopped from another connection.
//!
//! A ticket that was stopped gives nothing any more: not if it was not used yet, and not if it is used again.

use super::status::invalid;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tonic::Status;

/// How many stopped tickets are remembered.
const REMEMBERED: usize = 4096;
/// How long the name of a run is.
const NAME_BYTES: usize = 16;

/// All runs.
#[derive(Debug, Default)]
pub(super) struct Runs(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// What runs, and how often at once.
    running: HashMap<Bytes, (usize, watch::Sender<bool>)>,
    stopped: VecDeque<Bytes>,
}

/// One run, until it is dropped.
#[derive(Debug)]
pub(super) struct Run {
    name: Bytes,
    stop: watch::Receiver<bool>,
    all: Arc<Mutex<Known>>,
}

impl Runs {
    /// Begins a run.
    ///
    /// # Errors
    /// `CANCELLED` if it was stopped before.
    #[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
    pub(super) fn begin(&self, name: &Bytes) -> Result<Run, Status> {
        if name.len() != NAME_BYTES {
            return Err(invalid("the ticket is not one that GetFlightInfo gave: ask it for another"));
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stopped.contains(name) {
            return Err(stopped());
        }
        let (count, sender) =
            known.running.entry(name.clone()).or_insert_with(|| (0, watch::channel(false).0));
        *count += 1;
        Ok(Run { name: name.clone(), stop: sender.subscribe(), all: Arc::clone(&self.0) })
    }

    /// Stops all that runs under this name, now and later.
    pub(super) fn stop(&self, name: &Bytes) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = known.running.get(name) {
            sender.send_replace(true);
        }
        if name.len() == NAME_BYTES && !known.stopped.contains(name) {
            known.stopped.push_back(name.clone());
            if known.stopped.len() > REMEMBERED {
                known.stopped.pop_front();
            }
        }
    }

    /// How many run.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().running.len()
    }
}

impl Run {
    /// Waits until it is stopped.
    pub(super) async fn until_stopped(&self) {
        // The sender lives as long as this.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut known = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = known.running.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                known.running.remove(&self.name);
            }
        }
    }
}

pub(super) fn stopped() -> Status {
    Status::cancelled("the query was cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::prepared::unguessable;
    use futures::FutureExt;
    use tonic::Code;

    #[tokio::test]
    async fn a_run_is_stopped_by_its_name_and_cannot_begin_again() {
        let (runs, one, other) = (Runs::default(), unguessable(), unguessable());
        let (first, again, beside) =
            (runs.begin(&one).unwrap(), runs.begin(&one).unwrap(), runs.begin(&other).unwrap());
        assert!(first.until_stopped().now_or_never().is_none());
        runs.stop(&one);
        first.until_stopped().await;
        again.until_stopped().await;
        assert!(beside.until_stopped().now_or_never().is_none());
        drop((first, again, beside));
        assert_eq!(runs.len(), 0);
        assert_eq!(runs.begin(&one).unwrap_err().code(), Code::Cancelled);
        assert!(runs.begin(&other).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let runs = Runs::default();
        for _ in 0..REMEMBERED + 5 {
            runs.stop(&unguessable());
        }
        runs.stop(&Bytes::from_static(b"no name"));
        assert_eq!(runs.0.lock().unwrap().stopped.len(), REMEMBERED);
    }
}
