//! The speed layer of the project, wherever it runs now.
//!
//! Where it is, is looked up for each request: `[speed] url` if the project names one, else the run file of a running
//! process, else `[speed] listen`. So serving may start before the speed layer, and outlive it. One on this machine lets
//! in who shows the secret of its run file; to one elsewhere the token of this process is shown.

use super::run_file::{Layer, find};
use super::site::Site;
use crate::credentials::Credentials;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use twofold_common::{
    Answer, Digest, IngestReceipt, IngestRequest, Result, SegmentState, SnapshotRequest, SpeedLayer,
    SpeedStatus, State, Token,
};
use twofold_serving::{HttpSpeed, Trust};

/// How long a speed layer may take to say that it is there.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// A speed layer in another process.
#[derive(Debug)]
pub struct FoundSpeed {
    data: PathBuf,
    fixed: Option<String>,
    listen: String,
    ca: Option<PathBuf>,
    last: Mutex<Option<(Place, HttpSpeed)>>,
}

/// Where it is, and what it is shown there. A process that was started again has another secret.
#[derive(Clone, PartialEq)]
struct Place {
    url: String,
    token: Option<String>,
    trust: Option<Trust>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("url", &self.url).field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl FoundSpeed {
    /// The speed layer of this project.
    pub fn of(site: &Site) -> Self {
        let config = &site.project.config.speed;
        Self {
            data: site.data_dir().to_path_buf(),
            fixed: config.url.clone(),
            listen: format!("{}://{}", if config.tls.is_some() { "https" } else { "http" }, config.listen),
            ca: config.ca.clone(),
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
        self.place().url
    }

    fn place(&self) -> Place {
        let running = find(&self.data, Layer::Speed);
        let running = running.filter(|running| self.fixed.as_ref().is_none_or(|url| *url == running.url));
        let given = Credentials::given();
        if let Some(running) = running {
            let token = running.token().or(given.token);
            let trust = running.trust();
            return Place { url: running.url, token: token.as_ref().map(Token::reveal), trust };
        }
        let url = self.fixed.clone().unwrap_or_else(|| self.listen.clone());
        let trust = self.ca.clone().or(given.ca).map(Trust::Authorities);
        Place { url, token: given.token.as_ref().map(Token::reveal), trust }
    }

    fn current(&self) -> Result<HttpSpeed> {
        let place = self.place();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, speed)) = last.as_ref().filter(|(known, _)| *known == place) {
            return Ok(speed.clone());
        }
        let token = place.token.as_deref().map(Token::parse).transpose()?;
        let speed = HttpSpeed::with(&place.url, token, place.trust.as_ref())?;
        *last = Some((place, speed.clone()));
        Ok(speed)
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
    use super::super::run_file::{RunFile, Running};
    use super::super::test_server;
    use super::*;
    use axum::routing::get;
    use axum::{Json, Router};

    fn found(data: PathBuf, fixed: Option<&str>) -> FoundSpeed {
        let listen = "http://127.0.0.1:1".to_string();
        FoundSpeed { data, fixed: fixed.map(str::to_string), listen, ca: None, last: Mutex::new(None) }
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
            let running = Running::at(&speed_server().await, None);
            let file = RunFile::publish(dir.path(), Layer::Speed, &running).await.unwrap();
            assert!(found.is_running().await);
            assert_eq!(found.status().await.unwrap().epochs, 7);
            drop(file);
            assert!(!found.is_running().await);
        }
    }

    #[tokio::test]
    async fn a_url_in_the_project_is_the_one() {
        let dir = tempfile::tempdir().unwrap();
        let _file = RunFile::publish(dir.path(), Layer::Speed, &Running::at("http://127.0.0.1:2", None))
            .await
            .unwrap();
        let url = speed_server().await;
        let found = found(dir.path().into(), Some(&url));
        assert_eq!(found.url(), url);
        assert!(found.is_running().await);
    }
}
