//! A view that is watched: computed again and again, as long as somebody does.

use super::content::Content;
use super::steps::Steps;
use super::{Key, event};
use crate::query::Serving;
use bytes::Bytes;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use twofold_common::{Error, Kind, Result};

/// A view that somebody watches.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(super) key: Key,
    pub(super) now: watch::Sender<Now>,
}

/// What is known of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Now {
    pub(super) latest: Option<Arc<Latest>>,
    /// Why there is nothing newer, and whether there never will be.
    pub(super) failure: Option<(Arc<Error>, bool)>,
}

/// The rows, and how they came to be.
pub(crate) struct Latest {
    pub(super) generation: u64,
    content: Content,
    steps: Steps,
    as_rows: OnceLock<Bytes>,
    as_step: OnceLock<Bytes>,
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Latest {
    /// The next generation, if `content` is another one.
    fn after(before: Option<&Arc<Latest>>, content: Content) -> Result<Option<Self>> {
        let latest = |generation, steps, content| {
            Some(Self { generation, content, steps, as_rows: OnceLock::new(), as_step: OnceLock::new() })
        };
        let Some(before) = before else { return Ok(latest(1, Steps::default(), content)) };
        let generation = before.generation + 1;
        if !before.content.is_like(&content) {
            return Ok(latest(generation, Steps::default(), content));
        }
        let step = before.content.difference(&content)?;
        if step.lines() == 0 && before.content.rows.coverage == content.rows.coverage {
            return Ok(None);
        }
        Ok(latest(generation, before.steps.and(step, content.rows.num_rows()), content))
    }

    /// The event for somebody who has `seen` a generation, or none yet.
    pub(super) fn event(&self, seen: Option<u64>) -> Result<Bytes> {
        let behind = seen.and_then(|seen| self.generation.checked_sub(seen));
        if behind == Some(1)
            && let Some(bytes) = self.as_step.get()
        {
            return Ok(bytes.clone());
        }
        match behind.and_then(|behind| Some((behind, self.steps.last(behind, self.content.has_key())?))) {
            Some((behind, step)) => {
                let bytes = event::changes(self.generation, &step, &self.content)?;
                Ok(if behind == 1 { self.as_step.get_or_init(|| bytes).clone() } else { bytes })
            }
            None => match self.as_rows.get() {
                Some(bytes) => Ok(bytes.clone()),
                None => {
                    let bytes = event::rows(self.generation, &self.content)?;
                    Ok(self.as_rows.get_or_init(|| bytes).clone())
                }
            },
        }
    }
}

/// Computes it whenever the speed layer has moved on, until nobody watches.
pub(super) async fn run(serving: Arc<Serving>, watched: Arc<Watched>, mut movement: watch::Receiver<u64>) {
    let pace = serving.changes.pace;
    loop {
        movement.borrow_and_update();
        let started = Instant::now();
        let computed = compute(&serving, &watched).await;
        let pause = match &computed {
            Ok(_) => pace.least_pause.max(started.elapsed()),
            Err(_) => pace.again,
        };
        let again = match computed {
            Ok(ticks) => ticks.then_some(pace.tick),
            Err(e) => {
                let is_final = matches!(e.kind(), Kind::Invalid | Kind::NotFound);
                fail(&watched, e, is_final);
                if is_final {
                    serving.changes.lock().retain(|_, known| !Arc::ptr_eq(known, &watched));
                    return;
                }
                Some(Duration::ZERO)
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = watched.now.closed() => {}
        }
        tokio::select! {
            _ = movement.changed() => {}
            () = after(again) => {}
            () = watched.now.closed() => {}
        }
        let mut all = serving.changes.lock();
        // Under the lock, so that nobody comes to one that is being left.
        if watched.now.receiver_count() == 0 {
            all.remove(&watched.key);
            return;
        }
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

/// Computes it once, and shows what is new; whether that depends on the time, too.
async fn compute(serving: &Serving, watched: &Watched) -> Result<bool> {
    let turn = serving.changes.turns.acquire().await;
    let _turn = turn.map_err(|e| Error::Internal(format!("the turns of what is watched: {e}")))?;
    let (view, filters) = &watched.key;
    let (rows, key, ticks) = serving.view_to_watch(view, filters).await?;
    let content = Content::of(view, rows, key)?;
    let before = watched.now.borrow().latest.clone();
    let latest = Latest::after(before.as_ref(), content)?;
    if let Some(latest) = latest {
        let now = Now { latest: Some(Arc::new(latest)), failure: None };
        watched.now.send_replace(now);
    } else if watched.now.borrow().failure.is_some() {
        watched.now.send_modify(|now| now.failure = None);
    }
    Ok(ticks)
}

/// Says why there is nothing newer, once for as long as it is the same.
fn fail(watched: &Watched, error: Error, is_final: bool) {
    watched.now.send_if_modified(|now| {
        let known = now.failure.as_ref().is_some_and(|(known, _)| known.to_string() == error.to_string());
        if !known || is_final {
            now.failure = Some((Arc::new(error), is_final));
        }
        !known || is_final
    });
}
