//! Settling: when all views of a project are built, it is recorded, and the project before it is let go of.
//!
//! A crash between the two steps changes no answer: the next start finds the project recorded, or records it again.

use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use crate::clock;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use twofold_common::{Catalog, Definition, Projects};
use twofold_speed::Engine;

/// How long to wait after an error before it is tried again.
const BACKOFF: Duration = Duration::from_secs(5);

/// A project to be settled.
#[derive(Debug, Clone)]
pub(crate) struct Settling {
    projects: Projects,
    definition: Arc<Definition>,
    catalog: Arc<Catalog>,
    engine: Arc<Engine>,
    grace: Duration,
}

impl Settling {
    pub(crate) fn new(site: &Site, stores: &Stores, engine: &Arc<Engine>) -> Self {
        Self {
            projects: stores.projects.clone(),
            definition: Arc::clone(&site.project.definition),
            catalog: Arc::clone(&site.catalog),
            engine: Arc::clone(engine),
            grace: site.project.config.speed.retire_grace,
        }
    }

    /// Settles the project at once, if it is built.
    pub(crate) async fn if_built(&self) -> Result<()> {
        if *self.engine.built().borrow() {
            self.settle().await?;
            self.engine.let_go_of_previous().await;
        }
        Ok(())
    }

    /// Settles the project once it is built; what went before answers other processes until the grace is over.
    pub(crate) async fn when_built(self, shutdown: Shutdown) -> Result<()> {
        let work = async {
            if self.engine.built().wait_for(|built| *built).await.is_err() {
                return;
            }
            while let Err(e) = self.settle().await {
                tracing::error!(error = %e, "the project is built, but this cannot be recorded; it is tried again");
                tokio::time::sleep(BACKOFF).await;
            }
            tokio::time::sleep(self.grace).await;
            if self.engine.let_go_of_previous().await {
                tracing::info!("the project before this one was let go of");
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = work => {}
        }
        Ok(())
    }

    async fn settle(&self) -> Result<()> {
        if self.projects.settle(&self.definition, &self.catalog, clock::nanos()).await? {
            tracing::info!(
                views = self.catalog.views().len(),
                "the project is settled: all of its views are built"
            );
        }
        Ok(())
    }
}
