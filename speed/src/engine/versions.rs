//! Versions in the engine: taking a changed project over, whether it is built, and letting go of the one before it.

use super::held::Held;
use super::store::Write;
use super::{Engine, PoisonError, Worker};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use twofold_common::{Catalog, Digest, Error, Progress, Result, Versions, View};

impl Engine {
    /// The project, and the one before it if that is still folded.
    pub fn versions(&self) -> Versions {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a changed project over while all goes on: from now on it is built, and the one of before answers. If that
    /// one was not built yet itself, the one before it goes on answering.
    ///
    /// # Errors
    /// `Invalid` if its streams are others, which takes a restart; those of the state store.
    pub async fn adopt(&self, catalog: Arc<Catalog>) -> Result<()> {
        if catalog.streams() != self.catalog.streams() {
            return Err(Error::Invalid("the streams of the project have changed: restart".into()));
        }
        let mut worker = self.worker.lock().await;
        self.flush().await?;
        let now = self.versions();
        let built = *self.built.borrow();
        let previous = if built { Some(now.current().clone()) } else { now.previous().cloned() };
        let versions = Versions::new(catalog, previous);
        let planned = Worker::plan(&versions, worker.next_number).await?;
        let new: Vec<Arc<View>> = {
            let held = self.read();
            let views = versions.folded().into_iter().map(|(view, _)| view);
            views.filter(|view| !held.views.contains_key(&view.fingerprint())).collect()
        };
        let mut writes = self.stored(&new).await?;
        let placed: BTreeSet<_> = writes.iter().filter_map(position).collect();
        let starts =
            self.starts(&new, |fingerprint, place| placed.contains(&(*fingerprint, place.clone()))).await?;
        writes.extend(self.store(starts).await?);
        {
            // In one step, so that nobody sees a view without its place.
            let mut held = self.write();
            let timed = |stream: &str| planned.times.contains_key(stream);
            held.take_over(new, answering(&versions), timed);
            held.apply(writes);
            self.built.send_replace(false);
            *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = versions;
        }
        let horizons = std::mem::take(&mut worker.horizons);
        *worker = Worker { horizons, maintained: worker.maintained, ..planned };
        self.look_whether_built();
        self.wake.notify_one();
        Ok(())
    }

    /// What is stored of views that were let go of before.
    async fn stored(&self, views: &[Arc<View>]) -> Result<Vec<Write>> {
        let wanted: BTreeSet<Digest> = {
            let held = self.read();
            views.iter().map(|view| view.fingerprint()).filter(|f| held.removed.contains_key(f)).collect()
        };
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let store = Arc::clone(&self.store);
        let contents = tokio::task::spawn_blocking(move || store.load()).await;
        let contents = contents.map_err(|e| Error::Internal(format!("the state store's thread: {e}")))??;
        let mut writes = contents.into_writes();
        writes.retain(|write| write.fingerprint().is_some_and(|f| wanted.contains(&f)));
        Ok(writes)
    }

    /// Whether all views of the project are built, so that it answers; a signal that changes once.
    pub fn built(&self) -> watch::Receiver<bool> {
        self.built.subscribe()
    }

    /// Lets go of the views of the project before this one, if this one is built: their states stay until `gc`, but
    /// nothing is folded into them. Whether there were any.
    pub async fn let_go_of_previous(&self) -> bool {
        if !*self.built.borrow() {
            return false;
        }
        let mut worker = self.worker.lock().await;
        let gone = self.write().let_go_of_previous();
        for fingerprint in &gone {
            worker.runners.remove(fingerprint);
            worker.horizons.remove(fingerprint);
            worker.windows.retain(|(view, _), _| view != fingerprint);
        }
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        *versions = Versions::new(versions.current().clone(), None);
        !gone.is_empty()
    }

    /// Tells those who wait that the project is built.
    pub(super) fn look_whether_built(&self) {
        if *self.built.borrow() {
            return;
        }
        let held = self.read();
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.is_built(|view| progress(&held, view)) {
            self.built.send_replace(true);
        }
    }
}

/// Where a view stands, if that is what is written.
fn position(write: &Write) -> Option<(Digest, super::held::Place)> {
    match write {
        Write::Position { fingerprint, stream, partition, .. } => {
            Some((*fingerprint, (stream.clone(), *partition)))
        }
        _ => None,
    }
}

fn progress(held: &Held, view: &View) -> Progress {
    match held.views.get(&view.fingerprint()) {
        None => Progress::Building,
        Some(view) if view.failed.is_some() => Progress::Failed,
        Some(view) if held.building(view).is_some() => Progress::Building,
        Some(_) => Progress::Built,
    }
}

/// The fingerprints of the project's views, and of those that answer in their place.
pub(super) fn answering(versions: &Versions) -> Vec<BTreeSet<Digest>> {
    let current = versions.current().views().values().map(|view| view.fingerprint()).collect();
    std::iter::once(current).chain(versions.answering()).collect()
}
