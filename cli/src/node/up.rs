//! Everything in one process: ingest, speed, archive, batch by schedule, serving.
//!
//! It answers on two addresses: users on that of serving (with one more for each protocol besides HTTP), and other processes of the project (a `serve` or a `batch`
//! of its own) on that of the speed layer.

use super::entrance::Entrance;
use super::lock::DataLock;
use super::reload::Reload;
use super::run_file::{Layer, RunFile, Running};
use super::schedule;
use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use super::speed_node::SpeedNode;
use crate::args::ServeArgs;
use crate::progress::watch_building;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Intake, Listening};
use twofold_serving::{Limits, Serving};

/// Where to listen instead of where `twofold.toml` says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listen {
    /// Serving.
    pub serve: Option<SocketAddr>,
    /// The speed layer.
    pub speed: Option<SocketAddr>,
    /// Serving, for clients of PostgreSQL.
    pub pg: Option<Listening>,
    /// Serving, for clients of Arrow Flight SQL.
    pub flight: Option<Listening>,
    /// Also where others can reach it, without TLS and tokens.
    pub insecure: bool,
}

impl Listen {
    /// As the arguments say.
    pub(crate) fn of(args: &ServeArgs) -> Self {
        let ServeArgs { listen: serve, pg_listen: pg, flight_listen: flight, insecure_listen: insecure } =
            *args;
        Self { serve, speed: None, pg, flight, insecure }
    }

    /// No protocol but HTTP.
    #[cfg(test)]
    pub(crate) fn quiet() -> Self {
        let off = Some(Listening::Off);
        Self { pg: off, flight: off, ..Self::default() }
    }
}

/// A running `twofold up`.
#[derive(Debug)]
pub struct Up {
    running: Running,
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
        DataLock::check(site.data_dir())?;
        let serve = Entrance::of_serving(&site, &listen).take().await?;
        let speed = Entrance::of_speed(&site, &listen).take().await?;
        let stores = site.stores().await?;
        let (serve, speed) = (serve.gated(&stores).await?, speed.gated(&stores).await?);
        let node = SpeedNode::open(&site, &stores, command).await?;

        let mut tasks = JoinSet::new();
        node.start(shutdown, &mut tasks)?;
        let (at_speed, running) = (speed.running(), serve.running());
        // One process, one memory: both addresses share the room.
        let intake = Arc::new(Intake::new(&site.project.config.ingest));
        speed.open(twofold_speed::app_with(node.layer(), Arc::clone(&intake)), &mut tasks, shutdown)?;
        let serving = serving(&site, &stores, &node);
        let app = twofold_serving::app_with(Arc::clone(&serving), intake);
        serve.open_serving(app, &serving, &mut tasks, shutdown)?;
        tasks.spawn(Reload::of_node(&node, &stores, Some(serving)).run(shutdown.clone()));
        let schedule = schedule::run(node.site().subscribe(), stores, node.layer(), shutdown.clone());
        node.background().spawn(&mut tasks, schedule);
        tasks.spawn(watch_building(node.layer(), shutdown.clone()));
        let run_files = [
            RunFile::publish(site.data_dir(), Layer::Speed, &at_speed).await?,
            RunFile::publish(site.data_dir(), Layer::Serve, &running).await?,
        ];
        if run_files[1].is_none() {
            tracing::warn!("another server of this project was first: commands go to that one");
        }
        Ok(Self { running, site, tasks, _run_files: run_files, node })
    }

    /// Where users ask over HTTP.
    pub fn url(&self) -> &str {
        &self.running.url
    }

    /// Where users ask, over all protocols.
    pub fn running(&self) -> &Running {
        &self.running
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

/// Waits for all tasks; the first that fails is the result.
pub(crate) async fn join(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done.context("a part of the server")??;
    }
    Ok(())
}

fn serving(site: &Site, stores: &Stores, node: &SpeedNode) -> Arc<Serving> {
    let (archive, batch_views) = (stores.archive.clone(), stores.batch_views.clone());
    let serving = Serving::with_versions(node.engine().versions(), archive, batch_views, node.layer());
    Arc::new(serving.with_limits(Limits::new(&site.project.config.limits)))
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
        let listen = Listen { serve: free, speed: free, ..Listen::quiet() };
        Up::start(site, listen, "twofold up", shutdown).await
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
        let taken = crate::node::Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "").await.unwrap();
        let address = taken.url().trim_start_matches("http://").parse().unwrap();
        let listen = Listen { serve: Some(address), ..Listen::default() };
        let (_stopper, shutdown) = Shutdown::new();
        let site = Site::load(dir.path(), &Functions::new()).await.unwrap();
        let error = Up::start(site, listen, "twofold up", &shutdown).await.unwrap_err().to_string();
        assert!(error.contains("is in use"), "{error}");
        assert!(!dir.path().join("data").exists());
    }
}
