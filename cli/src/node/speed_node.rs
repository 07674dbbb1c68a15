//! The speed layer in this process: the log, the engine over it, and the archiver behind it.
//!
//! It owns the data directory from when it is opened until it is dropped. A changed project is built beside the one
//! before it; when it is built, it is settled, and then the one before is let go of.

use super::background::{Background, on_own_thread};
use super::lock::DataLock;
use super::settling::Settling;
use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use crate::clock;
use anyhow::Result;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use twofold_batch::Archiver;
use twofold_common::{Log, Offset, SealedSegments, SpeedLayer, StreamDef};
use twofold_speed::log::EmbeddedLog;
use twofold_speed::{Engine, EngineConfig};

/// A speed layer.
#[derive(Debug)]
pub struct SpeedNode {
    // In this order they are let go.
    archiver: Arc<Archiver>,
    engine: Arc<Engine>,
    settling: Settling,
    background: Background,
    _lock: DataLock,
}

/// Takes the data directory and opens its log, which takes the project's streams in.
pub(crate) async fn open_log(
    site: &Site,
    stores: &Stores,
    command: &str,
) -> Result<(DataLock, Arc<dyn Log>)> {
    let lock = DataLock::take(site.data_dir(), command)?;
    let remember = site.project.config.ingest.remember_keys;
    let log = EmbeddedLog::open_with(&site.data_dir().join("log.redb"), &site.streams(), remember)?;
    for stream in site.catalog.streams().values() {
        if has_events(&log, stream).await? {
            stores.archive.declare(stream).await?;
        } else {
            stores.archive.declare_empty(stream).await?;
        }
    }
    Ok((lock, Arc::new(log)))
}

async fn has_events(log: &EmbeddedLog, stream: &StreamDef) -> Result<bool> {
    for partition in stream.partitions() {
        if log.bounds(&stream.name, partition).await?.end > Offset(0) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl SpeedNode {
    /// Takes the data directory for `command`, and opens what is in it.
    ///
    /// # Errors
    /// If another process owns it, or something in it is damaged: which.
    pub async fn open(site: &Site, stores: &Stores, command: &str) -> Result<Self> {
        let (lock, log) = open_log(site, stores, command).await?;
        let config = &site.project.config;
        let config = EngineConfig {
            state_path: site.data_dir().join("state.redb"),
            epoch_rows: config.speed.epoch_rows,
            epoch_interval: config.speed.epoch_interval,
            segment_rows: config.archive.segment_rows,
            segment_age: config.archive.segment_age,
            retire_grace: config.speed.retire_grace,
        };
        let versions = site.versions(stores).await;
        let (archive, batch_views) = (stores.archive.clone(), stores.batch_views.clone());
        let clock = Arc::new(clock::nanos);
        let engine =
            Engine::open_versions(config, versions, Arc::clone(&log), archive.clone(), batch_views, clock)
                .await?;
        let sealed: Arc<dyn SealedSegments> = Arc::clone(&engine) as _;
        let archiver = Arc::new(Archiver::new(Arc::clone(&site.catalog), log, archive, sealed));
        let settling = Settling::new(site, stores, &engine);
        settling.if_built().await?;
        Ok(Self { archiver, engine, settling, background: Background::start()?, _lock: lock })
    }

    /// The project, as it is now.
    pub(crate) fn site(&self) -> &watch::Sender<Site> {
        self.settling.site()
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The engine, as other layers see it.
    pub fn layer(&self) -> Arc<dyn SpeedLayer> {
        Arc::clone(&self.engine) as _
    }

    /// Threads for what takes long.
    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    /// Folds and archives until the switch is flipped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(&self, shutdown: &Shutdown, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
        let (engine, stop) = (Arc::clone(&self.engine), shutdown.receiver());
        if let Some(handle) = self.background.handle() {
            engine.merge_on(handle.clone());
        }
        if let Ok(handle) = Handle::try_current() {
            engine.fold_on(handle);
        }
        on_own_thread("twofold-speed", tasks, async move { engine.run(stop).await })?;
        let (archiver, stop) = (Arc::clone(&self.archiver), shutdown.receiver());
        self.background.spawn(tasks, async move {
            archiver.run(stop).await;
            Ok(())
        });
        self.background.spawn(tasks, self.settling.clone().run(shutdown.clone()));
        Ok(())
    }

    /// Folds all that is in the log, builds all views, and archives what is sealed by then.
    ///
    /// # Errors
    /// Those of the engine and the archiver.
    pub async fn catch_up(&self) -> Result<()> {
        self.engine.catch_up().await?;
        while self.archiver.run_once().await? > 0 {}
        self.settling.if_built().await
    }

    /// Seals what is open, and archives it.
    ///
    /// # Errors
    /// Those of the engine and the archiver.
    pub async fn seal(&self) -> Result<()> {
        self.engine.seal_all().await?;
        while self.archiver.run_once().await? > 0 {}
        Ok(())
    }
}
