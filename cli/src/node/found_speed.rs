//! The speed layer of the project, wherever it runs now.
//!
//! Where it is, is looked up for each request: `[speed] url` if the project names one, else the run file of a running
//! process, else `[speed] listen`. So serving may start before the speed layer, and outlive it.

use super::run_file::{Layer, find};
use super::site::Site;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use twofold_common::{
    Answer, Digest, IngestReceipt, IngestRequest, Result, SegmentState, SnapshotRequest, SpeedLayer,
    SpeedStatus, State,
};
use twofold_serving::HttpSpeed;

/// How long a speed layer may take to say that it is there.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// A speed layer in another process.
#[derive(Debug)]
pub struct FoundSpeed {
    data: PathBuf,
    fixed: Option<String>,
    listen: String,
    last: Mutex<Option<HttpSpeed>>,
}

impl FoundSpeed {
    /// The speed layer of this project.
    pub fn of(site: &Site) -> Self {
        let config = &site.project.config.speed;
        Self {
            data: site.data_dir().to_path_buf(),
            fixed: config.url.clone(),
            listen: format!("http://{}", config.listen),
            last: Mutex::new(None),
        }
    }

    /// Whether one is running: it has a run file and answers, or answers at `[speed] url`.
    pub async fn is_running(&self) -> bool {
        if self.fixed.is_none() && find(&self.data, Layer::Speed).is_none() {
            return false;
        }
        matches!(tokio::time::timeout(ALIVE_WITHIN, self.status()).await, Ok(Ok(_)))
    }

    /// Where it is looked for now.
    pub fn url(&self) -> String {
        let running = || find(&self.data, Layer::Speed).map(|running| running.url);
        self.fixed.clone().or_else(running).unwrap_or_else(|| self.listen.clone())
    }

    fn current(&self) -> Result<HttpSpeed> {
        let url = self.url();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref().filter(|speed| speed.base_url() == url) {
            Some(speed) => Ok(speed.clone()),
            None => Ok(last.insert(HttpSpeed::new(&url)?).clone()),
        }
    }
}

#[async_trait]
impl SpeedLayer for FoundSpeed {
    async fn snapshot(&self, request: &SnapshotRequest) -> Result<Answer> {
        self.current()?.snapshot(request).await
    }

    async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt> {
        self.current()?.ingest(request).await
    }

    async fn seal(&self) -> Result<()> {
        self.current()?.seal().await
    }

    async fn gc(&self, dry_run: bool) -> Result<Vec<Digest>> {
        self.current()?.gc(dry_run).await
    }

    async fn status(&self) -> Result<SpeedStatus> {
        self.current()?.status().await
    }

    async fn segment_state(&self, segment: &SegmentState) -> Result<Option<State>> {
        self.current()?.segment_state(segment).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::run_file::RunFile;
    use super::super::test_server;
    use super::*;
    use axum::routing::get;
    use axum::{Json, Router};

    fn found(data: PathBuf, fixed: Option<&str>) -> FoundSpeed {
        let listen = "http://127.0.0.1:1".to_string();
        FoundSpeed { data, fixed: fixed.map(str::to_string), listen, last: Mutex::new(None) }
    }

    async fn speed_server() -> String {
        let status = || async { Json(SpeedStatus { epochs: 7, ..SpeedStatus::default() }) };
        test_server(Router::new().route("/speed/v1/status", get(status))).await
    }

    #[tokio::test]
    async fn it_is_found_as_it_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let found = found(dir.path().into(), None);
        assert!(!found.is_running().await);
        let message = found.status().await.unwrap_err().to_string();
        assert!(message.contains("http://127.0.0.1:1"), "{message}");
        for _ in 0..2 {
            let file = RunFile::publish(dir.path(), Layer::Speed, &speed_server().await).await.unwrap();
            assert!(found.is_running().await);
            assert_eq!(found.status().await.unwrap().epochs, 7);
            drop(file);
            assert!(!found.is_running().await);
        }
    }

    #[tokio::test]
    async fn a_url_in_the_project_is_the_one() {
        let dir = tempfile::tempdir().unwrap();
        let _file = RunFile::publish(dir.path(), Layer::Speed, "http://127.0.0.1:2").await.unwrap();
        let url = speed_server().await;
        let found = found(dir.path().into(), Some(&url));
        assert_eq!(found.url(), url);
        assert!(found.is_running().await);
    }
}
