//! Versions in the engine: whether the project is built, and letting go of the one before it.

use super::held::Held;
use super::{Engine, PoisonError};
use std::collections::BTreeSet;
use tokio::sync::watch;
use twofold_common::{Digest, Progress, Versions, View};

impl Engine {
    /// The project, and the one before it if that is still folded.
    pub fn versions(&self) -> Versions {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let gone = self.held.write().unwrap_or_else(PoisonError::into_inner).let_go_of_previous();
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
