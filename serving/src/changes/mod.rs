//! Watching views: first their rows, then what changes of them.
//!
//! ```text
//! rows, then each step applied in order = the rows of the query at the coverage of the last step
//! ```
//!
//! A view is computed once for all who watch it with the same filters, whenever the speed layer has moved on, and at
//! most every 50 ms or as long as the last time took, so that half of one processor is the most that watching
//! takes; all computations take turns. Nothing is computed while nobody watches. What depends on the time besides is
//! computed every second.
//!
//! A subscriber holds a number: which generation of the rows it was sent last. When it can take more, it is sent what
//! leads from there to the latest, or the rows again if that is not kept any more. So a slow one misses what was in
//! between and never the end, and costs no memory.
//!
//! It does not promise an event for each epoch, nor an order of rows.

mod content;
mod event;
mod steps;
mod subscription;
mod watched;

use crate::query::Serving;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub(crate) use subscription::Subscription;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use twofold_common::{Error, Result};
use watched::{Now, Watched};

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The least time between two computations of one view.
    least_pause: Duration,
    /// The time between two computations of rows that depend on the time.
    tick: Duration,
    /// How long to wait after a computation that failed.
    again: Duration,
    /// The least time between two looks at how far the speed layer is.
    look: Duration,
    /// After how long without an event a heartbeat is sent.
    heartbeat: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let (least_pause, look) = (Duration::from_millis(50), Duration::from_millis(5));
        let (tick, again, heartbeat) =
            (Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(15));
        Self { least_pause, tick, again, look, heartbeat }
    }
}

/// How many views, or filters of views, are watched at once at most.
const MAX_WATCHED: usize = 256;

/// A view and filters, in an order of their own.
type Key = (String, Vec<(String, String)>);

/// What is being watched.
#[derive(Debug)]
pub(crate) struct Changes {
    watched: Mutex<BTreeMap<Key, Arc<Watched>>>,
    /// How far the speed layer is, while something is watched.
    movement: Mutex<Option<watch::Sender<u64>>>,
    turns: Semaphore,
    closed: watch::Sender<bool>,
    pace: Pace,
}

impl Default for Changes {
    fn default() -> Self {
        let (watched, movement) = (Mutex::default(), Mutex::default());
        let (turns, closed) = (Semaphore::new(1), watch::Sender::new(false));
        Self { watched, movement, turns, closed, pace: Pace::default() }
    }
}

impl Changes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribe(&self, watched: &Watched) -> Subscription {
        Subscription::new(watched.now.subscribe(), self.closed.subscribe(), self.pace.heartbeat)
    }

    /// What is watched may be another, though the speed layer has not moved on.
    pub(crate) fn stir(&self) {
        if let Some(movement) = &*self.movement.lock().unwrap_or_else(PoisonError::into_inner) {
            movement.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// How many watch.
    pub(crate) fn subscribers(&self) -> usize {
        self.lock().values().map(|watched| watched.now.receiver_count()).sum()
    }
}

impl Serving {
    /// The rows of a view and what changes of them, filtered as [`query_view`](Self::query_view) does.
    ///
    /// # Errors
    /// `Busy` if too much is watched already. What is wrong with the question, the subscription tells first.
    pub(crate) fn watch(self: &Arc<Self>, view: &str, filters: &[(String, String)]) -> Result<Subscription> {
        let mut filters = filters.to_vec();
        filters.sort();
        let key = (view.to_string(), filters);
        let mut all = self.changes.lock();
        if let Some(watched) = all.get(&key) {
            return Ok(self.changes.subscribe(watched));
        }
        if all.len() >= MAX_WATCHED {
            return Err(Error::Busy(format!(
                "{MAX_WATCHED} views or filters of views are watched at once already: try again later, or watch one \
                 that others do"
            )));
        }
        let watched = Arc::new(Watched { key: key.clone(), now: watch::Sender::new(Now::default()) });
        let subscription = self.changes.subscribe(&watched);
        all.insert(key, Arc::clone(&watched));
        drop(all);
        tokio::spawn(watched::run(Arc::clone(self), watched, self.movement()));
        Ok(subscription)
    }

    /// Ends all subscriptions, now and from now on: the process is about to end.
    pub fn close(&self) {
        self.changes.closed.send_replace(true);
    }

    /// How far the speed layer is.
    fn movement(self: &Arc<Self>) -> watch::Receiver<u64> {
        let mut movement = self.changes.movement.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*movement {
            return sender.subscribe();
        }
        let sender = watch::Sender::new(0);
        let receiver = sender.subscribe();
        *movement = Some(sender.clone());
        tokio::spawn(look(Arc::clone(self), sender));
        receiver
    }
}

/// Looks how far the speed layer is, until nobody wants to know.
async fn look(serving: Arc<Serving>, sender: watch::Sender<u64>) {
    let mut seen = None;
    loop {
        tokio::select! {
            moved = serving.speed.moved(seen) => match moved {
                Ok(moved) => {
                    seen = Some(moved);
                    sender.send_replace(moved);
                    sleep(serving.changes.pace.look).await;
                }
                Err(_) => {
                    // Whoever asks for rows now is told what is wrong.
                    sender.send_modify(|n| *n = n.wrapping_add(1));
                    sleep(serving.changes.pace.again).await;
                }
            },
            () = sender.closed() => {
                let mut movement = serving.changes.movement.lock().unwrap_or_else(PoisonError::into_inner);
                if sender.receiver_count() == 0 {
                    *movement = None;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
