//! Settling: when all views of a project are built, it is recorded, and the project before it is let go of.
//!
//! A crash between the two steps changes no answer: the next start finds the project recorded, or records it again.

use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use crate::clock;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use twofold_common::Projects;
use twofold_speed::Engine;

/// How long to wait after an error before it is tried again.
const BACKOFF: Duration = Duration::from_secs(5);

/// What settles the project of a speed layer, whichever it is now.
#[derive(Debug, Clone)]
pub(crate) struct Settling {
    site: watch::Sender<Site>,
    projects: Projects,
    engine: Arc<Engine>,
}

impl Settling {
    pub(crate) fn new(site: &Site, stores: &Stores, engine: &Arc<Engine>) -> Self {
        let site = watch::Sender::new(site.clone());
        Self { site, projects: stores.projects.clone(), engine: Arc::clone(engine) }
    }

    /// The project, as it is now.
    pub(crate) fn site(&self) -> &watch::Sender<Site> {
        &self.site
    }

    /// Settles the project at once, if it is built.
    pub(crate) async fn if_built(&self) -> Result<()> {
        if *self.engine.built().borrow() {
            let site = self.site.borrow().clone();
            self.settle(&site).await?;
            self.engine.let_go_of_previous().await;
        }
        Ok(())
    }

    /// Settles each project once it is built; what went before it is folded on for other processes until the grace is
    /// over.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<()> {
        let mut sites = self.site.subscribe();
        let work = async {
            loop {
                let site = sites.borrow_and_update().clone();
                tokio::select! {
                    () = self.when_built(&site) => if sites.changed().await.is_err() { return },
                    changed = sites.changed() => if changed.is_err() { return },
                }
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = work => {}
        }
        Ok(())
    }

    async fn when_built(&self, site: &Site) {
        if self.engine.built().wait_for(|built| *built).await.is_err() {
            return;
        }
        while let Err(e) = self.settle(site).await {
            tracing::error!(error = %e, "the project is built, but this cannot be recorded; it is tried again");
            sleep(BACKOFF).await;
        }
        sleep(site.project.config.speed.retire_grace).await;
        if self.engine.let_go_of_previous().await {
            tracing::info!("the project before this one was let go of");
        }
    }

    async fn settle(&self, site: &Site) -> Result<()> {
        let (definition, catalog) = (&site.project.definition, &site.catalog);
        if self.projects.settle(definition, catalog, clock::nanos()).await? {
            tracing::info!(
                views = catalog.views().len(),
                "the project is settled: all of its views are built"
            );
        }
        Ok(())
    }
}
