//! Reloading: a server looks at the files of its tables, and takes the project over anew when one has changed.
//!
//! A file counts as changed when its size or time of change is another, has stayed so from one look to the next (so that
//! a file that is being written is not read), and its bytes differ. A file that cannot be read as the table that is
//! declared is told once, and the table stays as it was. Statements are read at the start only.

use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use super::speed_node::SpeedNode;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use twofold_serving::Serving;
use twofold_speed::Engine;

/// Who takes a changed project over.
#[derive(Debug, Clone)]
pub(crate) struct Reload {
    site: watch::Sender<Site>,
    stores: Stores,
    engine: Option<Arc<Engine>>,
    serving: Option<Arc<Serving>>,
}

/// Size and time of change of each table's file, as far as they can be known.
type Stamps = BTreeMap<PathBuf, Option<(u64, SystemTime)>>;

impl Reload {
    /// For the speed layer of `node`, and for `serving` over it, if it is in this process.
    pub(crate) fn of_node(node: &SpeedNode, stores: &Stores, serving: Option<Arc<Serving>>) -> Self {
        Self {
            site: node.site().clone(),
            stores: stores.clone(),
            engine: Some(node.engine().clone()),
            serving,
        }
    }

    /// For serving alone.
    pub(crate) fn of_serving(site: &Site, stores: &Stores, serving: Arc<Serving>) -> Self {
        let site = watch::Sender::new(site.clone());
        Self { site, stores: stores.clone(), engine: None, serving: Some(serving) }
    }

    /// Looks again and again until the switch is flipped.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<()> {
        let every = self.site.borrow().project.config.tables.reload;
        if every.is_zero() {
            return Ok(());
        }
        let (mut seen, mut read) = (None, None);
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(every) => {}
            }
            let now = stamps(&self.site.borrow());
            let stays = seen.replace(now.clone()).is_some_and(|seen| seen == now);
            if !stays || read.as_ref() == Some(&now) {
                continue;
            }
            if let Err(e) = self.look().await {
                tracing::warn!(error = %e, "a changed table is not taken over; it stays as it was");
            }
            read = Some(now);
        }
    }

    /// Takes the tables over as they are now, if they have changed.
    async fn look(&self) -> Result<()> {
        let site = self.site.borrow().clone();
        let Some(site) = site.reloaded().await? else { return Ok(()) };
        // The speed layer first: it knows the old states as well as the new ones.
        let versions = match &self.engine {
            Some(engine) => {
                engine.adopt(Arc::clone(&site.catalog)).await?;
                engine.versions()
            }
            None => site.versions(&self.stores).await,
        };
        if let Some(serving) = &self.serving {
            serving.adopt(versions);
        }
        self.site.send_replace(site);
        tracing::info!(
            "a table has changed: the views over it are built anew, and answer as before until then"
        );
        Ok(())
    }
}

fn stamps(site: &Site) -> Stamps {
    let paths = site.catalog.tables().values().map(|table| table.def.path.clone());
    let stamp = |path: PathBuf| {
        let known = std::fs::metadata(&path).ok().and_then(|m| Some((m.len(), m.modified().ok()?)));
        (path, known)
    };
    paths.map(stamp).collect()
}
