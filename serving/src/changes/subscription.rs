//! One who watches a view.

use super::event;
use super::watched::Now;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use twofold_common::Error;

/// The events of a view for one who watches it.
#[derive(Debug)]
pub(crate) struct Subscription {
    now: watch::Receiver<Now>,
    closed: watch::Receiver<bool>,
    /// After how long without an event a heartbeat is sent.
    heartbeat: Duration,
    /// The generation that was sent last.
    seen: Option<u64>,
    /// The failure that was sent last.
    told: Option<Arc<Error>>,
    ended: bool,
}

impl Subscription {
    pub(super) fn new(
        mut now: watch::Receiver<Now>,
        closed: watch::Receiver<bool>,
        heartbeat: Duration,
    ) -> Self {
        now.mark_changed();
        Self { now, closed, heartbeat, seen: None, told: None, ended: false }
    }

    /// Waits until there are rows, or a reason why there are none.
    ///
    /// # Errors
    /// That reason.
    pub(crate) async fn started(&mut self) -> Result<(), Arc<Error>> {
        let known = self.now.wait_for(|now| now.latest.is_some() || now.failure.is_some()).await;
        let failure = match &known {
            Ok(now) if now.latest.is_some() => None,
            Ok(now) => now.failure.as_ref().map(|(error, _)| Arc::clone(error)),
            Err(_) => {
                Some(Arc::new(Error::Unavailable("the server is about to stop: try again later".into())))
            }
        };
        drop(known);
        self.now.mark_changed();
        failure.map_or(Ok(()), Err)
    }

    /// The next event; none after the last.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended || *self.closed.borrow() {
                return None;
            }
            let now = self.now.borrow_and_update().clone();
            if let Some(event) = self.due(&now) {
                return Some(event);
            }
            tokio::select! {
                changed = timeout(self.heartbeat, self.now.changed()) => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(Bytes::from_static(event::HEARTBEAT)),
                },
                _ = self.closed.changed() => {}
            }
        }
    }

    /// What is to be sent now, if anything is.
    fn due(&mut self, now: &Now) -> Option<Bytes> {
        if let Some(latest) = now.latest.as_ref().filter(|latest| self.seen != Some(latest.generation)) {
            let event = latest.event(self.seen);
            self.seen = Some(latest.generation);
            return Some(event.unwrap_or_else(|e| {
                self.ended = true;
                event::failure(&e)
            }));
        }
        let (error, is_final) = now.failure.as_ref()?;
        if self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, error)) {
            return None;
        }
        self.told = Some(Arc::clone(error));
        self.ended = *is_final;
        Some(event::failure(error))
    }
}
