//! The switch from a project to the next one, which is made once.
//!
//! It is made when the speed layer says that all views are built, for all queries that are asked from then on. Two
//! servers may do so at two moments, each at its own next query.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use twofold_common::{Catalog, Progress, SpeedLayer, SpeedStatus, Versions, View};

/// The versions of a project, and whether the current one answers.
#[derive(Debug)]
pub(crate) struct Switch {
    versions: Versions,
    made: AtomicBool,
}

impl Switch {
    pub(crate) fn new(versions: Versions) -> Self {
        let made = AtomicBool::new(versions.previous().is_none());
        Self { versions, made }
    }

    /// The previous project, if that answers now.
    pub(crate) async fn previous(&self, speed: &dyn SpeedLayer) -> Option<&Arc<Catalog>> {
        if self.made.load(Ordering::SeqCst) {
            return None;
        }
        let built = speed.status().await.is_ok_and(|status| self.is_built_in(&status));
        if built && !self.made.swap(true, Ordering::SeqCst) {
            tracing::info!("all views of the project are built, and answer from now on");
        }
        if built { None } else { self.versions.previous() }
    }

    /// The same, given what the speed layer says; without it, what is known of it.
    pub(crate) fn previous_in(&self, status: Option<&SpeedStatus>) -> Option<&Arc<Catalog>> {
        let made = self.made.load(Ordering::SeqCst) || status.is_some_and(|status| self.is_built_in(status));
        if made { None } else { self.versions.previous() }
    }

    fn is_built_in(&self, status: &SpeedStatus) -> bool {
        self.versions.is_built(|view| progress(status, view))
    }
}

impl Deref for Switch {
    type Target = Versions;

    fn deref(&self) -> &Versions {
        &self.versions
    }
}

fn progress(status: &SpeedStatus, view: &View) -> Progress {
    let known = status.views.iter().find(|v| v.view == view.name() && v.fingerprint == view.fingerprint());
    match known {
        None => Progress::Building,
        Some(known) if known.failed.is_some() => Progress::Failed,
        Some(known) if known.building.is_some() => Progress::Building,
        Some(_) => Progress::Built,
    }
}
