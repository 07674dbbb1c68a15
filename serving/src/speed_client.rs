//! The speed layer of another process, over HTTP.
//!
//! ```text
//! POST {base}/speed/v1/snapshot          a SnapshotRequest as JSON -> the bytes of an Answer
//! POST {base}/speed/v1/streams/{name}    events, of the Content-Type -> an IngestReceipt as JSON
//! POST {base}/speed/v1/seal              -> 2xx after all is archived
//! POST {base}/speed/v1/gc?dry_run=…      -> the fingerprints of removed views as JSON
//! GET  {base}/speed/v1/status            -> a SpeedStatus as JSON
//! POST {base}/speed/v1/segment-state     a SegmentState as JSON -> the bytes of a State, or 404
//! ```
//!
//! Errors travel as [`wire`] has them. A speed layer that cannot be reached is `Unavailable`, with its
//! address and what to do. Nothing is tried twice here: after an append without an answer, whether it went in
//! is unknown, and so it is said; with a key, the producer may send it again. No proxy of the environment is used, and no redirect followed.

use crate::trust::Trust;
use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Client, RequestBuilder, Url, header::CONTENT_TYPE, redirect::Policy};
use serde::de::DeserializeOwned;
use std::time::Duration;
use twofold_common::{
    Answer, Digest, Error, IDEMPOTENCY_KEY, IngestReceipt, IngestRequest, Kind, Result, SegmentState,
    SnapshotRequest, SpeedLayer, SpeedStatus, State, Token, wire,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than servers keep a connection on which nothing is asked, so that no request meets its end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// An append waits for its turn when the log is busy.
const INGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// A speed layer behind an HTTP address.
#[derive(Debug, Clone)]
pub struct HttpSpeed {
    base: Url,
    client: Client,
    token: Option<Token>,
}

impl HttpSpeed {
    /// The speed layer at `base_url`, such as `http://127.0.0.1:8661`. Nothing is sent yet: it need not run.
    ///
    /// # Errors
    /// `Invalid` if that is not the URL of an HTTP server.
    pub fn new(base_url: &str) -> Result<Self> {
        Self::with(base_url, None, None)
    }

    /// The same, to which `token` is shown, and whose certificate is checked by `trust`.
    ///
    /// # Errors
    /// `Invalid` if that is not the URL of an HTTP server, or one of HTTPS without any trust.
    pub fn with(base_url: &str, token: Option<Token>, trust: Option<&Trust>) -> Result<Self> {
        let invalid = |reason: &str| {
            let example = "write it as http://127.0.0.1:8661";
            Error::Invalid(format!("{base_url:?} is not the address of a speed layer ({reason}): {example}"))
        };
        let base = Url::parse(base_url).map_err(|e| invalid(&e.to_string()))?;
        match (base.scheme(), trust) {
            ("http", _) | ("https", Some(_)) => {}
            ("https", None) => {
                return Err(Error::Invalid(format!(
                    "{base_url} speaks TLS: name the file of the authorities that may vouch for it as `ca` in [speed] of \
                     twofold.toml"
                )));
            }
            _ => return Err(invalid("only http:// and https:// are spoken here")),
        }
        let client = Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT);
        let client = client.pool_idle_timeout(IDLE_TIMEOUT);
        let client = match trust {
            Some(trust) => trust.apply(client)?,
            None => client,
        };
        let client = client.build();
        let client = client.map_err(|e| Error::Internal(format!("no HTTP client: {}", cause(&e))))?;
        Ok(Self { base, client, token })
    }

    /// The address.
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.base.clone();
        let mut parts = url
            .path_segments_mut()
            .map_err(|()| Error::Invalid(format!("{} has no paths below it", self.base)))?;
        parts.pop_if_empty().extend(["speed", "v1"]).extend(path);
        drop(parts);
        Ok(url)
    }

    /// The body of a good answer. `unsure` is what is said of the request when there is none.
    async fn send(&self, request: RequestBuilder, unsure: &str) -> Result<Bytes> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let response = request.send().await.map_err(|e| self.unreachable(&e, unsure))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| self.unreachable(&e, unsure))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(match wire::error_from(status.as_u16(), &body) {
            // Of this process, and not of who asks it.
            Error::Unauthenticated(why) | Error::Forbidden(why) => Error::Unavailable(format!(
                "the speed layer at {} does not let this process in ({why}): start this one with an administrator's token \
                 in TWOFOLD_TOKEN",
                self.base_url()
            )),
            other => other,
        })
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|e| {
            Error::corrupt(
                self.base_url(),
                format!("the answer is not the speed layer's ({e}): is the address right?"),
            )
        })
    }

    fn unreachable(&self, e: &reqwest::Error, unsure: &str) -> Error {
        let (base, cause) = (self.base_url(), cause(e));
        Error::Unavailable(if e.is_connect() {
            format!(
                "the speed layer at {base} cannot be reached ({cause}): start it with `twofold speed` or `twofold up`, or \
                 correct `url` in [speed] of twofold.toml"
            )
        } else if e.is_timeout() {
            format!("the speed layer at {base} did not answer in time: try again later{unsure}")
        } else {
            format!("the speed layer at {base} broke off ({cause}): try again{unsure}")
        })
    }
}

#[async_trait]
impl SpeedLayer for HttpSpeed {
    async fn snapshot(&self, request: &SnapshotRequest) -> Result<Answer> {
        let request = self.client.post(self.url(&["snapshot"])?).json(request).timeout(SNAPSHOT_TIMEOUT);
        Answer::from_bytes(&self.send(request, "").await?, self.base_url())
    }

    async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt> {
        let IngestRequest { stream, format, key, body } = request;
        let url = self.url(&["streams", &stream])?;
        let mut request = self.client.post(url).header(CONTENT_TYPE, format).timeout(INGEST_TIMEOUT);
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key.as_str());
        }
        let request = request.body(body);
        self.decode(&self.send(request, "; the events may have gone in, or not").await?)
    }

    async fn seal(&self) -> Result<()> {
        // Archiving takes as long as there is to archive.
        self.send(self.client.post(self.url(&["seal"])?), "").await.map(drop)
    }

    async fn gc(&self, dry_run: bool) -> Result<Vec<Digest>> {
        let request = self.client.post(self.url(&["gc"])?).query(&[("dry_run", dry_run)]);
        self.decode(&self.send(request.timeout(STATUS_TIMEOUT), "").await?)
    }

    async fn status(&self) -> Result<SpeedStatus> {
        let request = self.client.get(self.url(&["status"])?).timeout(STATUS_TIMEOUT);
        self.decode(&self.send(request, "").await?)
    }

    async fn segment_state(&self, segment: &SegmentState) -> Result<Option<State>> {
        let request = self.client.post(self.url(&["segment-state"])?).json(segment).timeout(SNAPSHOT_TIMEOUT);
        match self.send(request, "").await {
            Ok(bytes) => State::from_bytes(&bytes, self.base_url()).map(Some),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// What lies at the bottom of an error.
fn cause(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
#[path = "speed_client_tests.rs"]
mod tests;
