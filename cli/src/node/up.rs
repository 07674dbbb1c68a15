//! Everything in one process: ingest, speed, archive, batch by schedule, serving.
//!
//! It answers on two addresses and those of other protocols: users on that of serving, and other processes of the project (a `serve` or a `batch`
//! of its own) on that of the speed layer.

use super::flight::{bind_flight, spawn_flight};
use super::http::Listener;
use super::lock::DataLock;
use super::reload::Reload;
use super::run_file::{Layer, RunFile};
use super::schedule;
use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use super::speed_node::SpeedNode;
use crate::progress::watch_building;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Intake, Listening};
use twofold_serving::Serving;

/// Where to listen instead of where `twofold.toml` says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listen {
    /// Serving.
    pub serve: Option<SocketAddr>,
    /// The speed layer.
    pub speed: Option<SocketAddr>,
    /// Arrow Flight SQL.
    pub flight: Option<Listening>,
}

/// A running `twofold up`.
#[derive(Debug)]
pub struct Up {
    url: String,
    flight: Option<String>,
    site: Site,
    tasks: JoinSet<Result<()>>,
    _run_files: [Option<RunFile>; 2],
    // Let go after all else: it owns the data directory.
    node: SpeedNode,
}

impl Up {
    /// Starts everything; it answers when this returns.
    ///
    /// # Errors
    /// What keeps it from starting. Nothing is written if the project is wrong, an address in use, or the data
    /// directory another process's.
    pub async fn start(site: Site, listen: Listen, command: &str, shutdown: &Shutdown) -> Result<Self> {
        let config = &site.project.config;
        DataLock::check(site.data_dir())?;
        let address = listen.serve.unwrap_or(config.serve.listen);
        let serve = Listener::bind(address, SERVE_SETTING).await?;
        let flight = bind_flight(&config.serve, listen.flight, address).await?;
        let speed = Listener::bind(listen.speed.unwrap_or(config.speed.listen), SPEED_SETTING).await?;
        let stores = site.stores().await?;
        let node = SpeedNode::open(&site, &stores, command).await?;

        let mut tasks = JoinSet::new();
        node.start(shutdown, &mut tasks);
        let (speed_url, url) = (speed.url(), serve.url());
        // One process, one memory: both addresses share the room.
        let intake = Arc::new(Intake::new(&config.ingest));
        spawn_server(&mut tasks, speed, twofold_speed::app_with(node.layer(), Arc::clone(&intake)), shutdown);
        let serving = serving(&stores, &node);
        let app = twofold_serving::app_with(Arc::clone(&serving), intake);
        spawn_server(&mut tasks, serve, app, shutdown);
        let flight =
            flight.map(|listener| spawn_flight(&mut tasks, listener, Arc::clone(&serving), shutdown));
        tasks.spawn(Reload::of_node(&node, &stores, Some(serving)).run(shutdown.clone()));
        tasks.spawn(schedule::run(node.site().subscribe(), stores, node.layer(), shutdown.clone()));
        tasks.spawn(watch_building(node.layer(), shutdown.clone()));
        let run_files = [
            RunFile::publish(site.data_dir(), Layer::Speed, &speed_url).await?,
            RunFile::publish_with(site.data_dir(), Layer::Serve, &url, flight.as_deref()).await?,
        ];
        if run_files[1].is_none() {
            tracing::warn!("another server of this project was first: commands go to that one");
        }
        Ok(Self { url, flight, site, tasks, _run_files: run_files, node })
    }

    /// Where users ask.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where Arrow Flight SQL is answered, if it is.
    pub fn flight(&self) -> Option<&str> {
        self.flight.as_deref()
    }

    /// The project.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The speed layer.
    pub fn node(&self) -> &SpeedNode {
        &self.node
    }

    /// Runs until the switch is flipped, and all that was begun is finished.
    ///
    /// # Errors
    /// If a part of it fails in a way that it cannot get over.
    pub async fn wait(mut self) -> Result<()> {
        join(&mut self.tasks).await
    }
}

pub(crate) const SERVE_SETTING: &str = "--listen, or `listen` in [serve] of twofold.toml";
pub(crate) const SPEED_SETTING: &str = "`listen` in [speed] of twofold.toml";

/// Waits for all tasks; the first that fails is the result.
pub(crate) async fn join(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done.context("a part of the server")??;
    }
    Ok(())
}

pub(crate) fn spawn_server(
    tasks: &mut JoinSet<Result<()>>,
    listener: Listener,
    app: axum::Router,
    shutdown: &Shutdown,
) {
    let server = listener.answer(app, shutdown.clone());
    tasks.spawn(async move { server.await? });
}

fn serving(stores: &Stores, node: &SpeedNode) -> Arc<Serving> {
    let (archive, batch_views) = (stores.archive.clone(), stores.batch_views.clone());
    Arc::new(Serving::with_versions(node.engine().versions(), archive, batch_views, node.layer()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::BatchArgs;
    use crate::commands::batch;
    use crate::node::Door;
    use std::path::Path;
    use twofold_common::{Functions, IngestRequest, template};

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, contents) in template("test") {
            std::fs::write(dir.path().join(file), contents).unwrap();
        }
        dir
    }

    async fn start(dir: &Path, shutdown: &Shutdown) -> Result<Up> {
        let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let site = Site::load(dir, &Functions::new()).await.unwrap();
        Up::start(site, Listen { serve: free, speed: free, flight: None }, "twofold up", shutdown).await
    }

    async fn clicks(dir: &Path) -> (bool, String) {
        let sql = "SELECT page, clicks FROM clicks_by_page";
        let door = Door::open(dir, &Functions::new(), Some(sql), "twofold query").await.unwrap();
        let rows = door.query(sql).await.unwrap();
        let text = crate::format::render(&rows, crate::Output::Csv).unwrap();
        (matches!(door, Door::Server(_)), String::from_utf8(text).unwrap())
    }

    const EVENT: &str = r#"{"event_time": "2024-05-01T12:00:00", "user_id": "ada", "page": "/home"}"#;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_acknowledged_is_answered_by_the_server_and_without_it() {
        let dir = project();
        let (stopper, shutdown) = Shutdown::new();
        let up = start(dir.path(), &shutdown).await.unwrap();
        let held = start(dir.path(), &shutdown).await.unwrap_err().to_string();
        assert!(held.contains("is held by process"), "{held}");
        let client = crate::client::Client::new(up.url()).unwrap();
        for answer in ["page,clicks\n/home,1\n", "page,clicks\n/home,2\n"] {
            client.ingest(IngestRequest::new("clicks", "application/x-ndjson", EVENT)).await.unwrap();
            assert_eq!(clicks(dir.path()).await, (true, answer.to_string()));
            let site = Site::load(dir.path(), &Functions::new()).await.unwrap();
            let reports = batch(&site, &BatchArgs::default(), "twofold batch").await.unwrap();
            assert!(reports[0].rows == 1 && reports[0].agrees(), "{reports:?}");
        }
        stopper.stop();
        up.wait().await.unwrap();
        assert_eq!(clicks(dir.path()).await, (false, "page,clicks\n/home,2\n".to_string()));
    }

    #[tokio::test]
    async fn an_address_in_use_leaves_nothing_behind() {
        let dir = project();
        let taken = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "").await.unwrap();
        let address = taken.url().trim_start_matches("http://").parse().unwrap();
        let listen = Listen { serve: Some(address), ..Listen::default() };
        let (_stopper, shutdown) = Shutdown::new();
        let site = Site::load(dir.path(), &Functions::new()).await.unwrap();
        let error = Up::start(site, listen, "twofold up", &shutdown).await.unwrap_err().to_string();
        assert!(error.contains("is in use"), "{error}");
        assert!(!dir.path().join("data").exists());
    }
}
