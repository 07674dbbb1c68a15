//! The running server of a project, as the command line asks it: the HTTP interface of serving.
//!
//! Nothing is tried twice here: after an append without an answer, whether it went in is unknown, and so it is said. With
//! a key, the caller may send it again.

use crate::server_events::ServerEvents;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client as Http, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use std::time::Duration;
use twofold_common::{Error, IDEMPOTENCY_KEY, IngestReceipt, IngestRequest, Token, wire};
use twofold_serving::{Rows, Status, Trust};

const ALIVE_WITHIN: Duration = Duration::from_secs(2);
/// Shorter than servers keep a connection on which nothing is asked, so that no request meets its end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A server at an address.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: Url,
    http: Http,
    token: Option<Token>,
}

impl Client {
    pub(crate) fn new(base: &str) -> Result<Self> {
        Self::with(base, None, None)
    }

    /// The same, to which `token` is shown, and whose certificate is checked by `trust`.
    pub(crate) fn with(base: &str, token: Option<Token>, trust: Option<&Trust>) -> Result<Self> {
        let base = Url::parse(base).with_context(|| format!("the server's address {base:?}"))?;
        // A proxy of the environment is for the world outside.
        let http = Http::builder().no_proxy().connect_timeout(CONNECT_WITHIN).pool_idle_timeout(IDLE_TIMEOUT);
        let http = match trust {
            Some(trust) => trust.apply(http)?,
            None if base.scheme() == "https" => bail!(
                "{base} speaks TLS: name the file of the authorities that may vouch for it with --ca, or in TWOFOLD_CA"
            ),
            None => http,
        };
        let http = http.build().context("an HTTP client")?;
        Ok(Self { base, http, token })
    }

    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Whether something answers there.
    pub(crate) async fn is_alive(&self) -> bool {
        let Ok(url) = self.path(&["healthz"]) else { return false };
        let answer = self.http.get(url).timeout(ALIVE_WITHIN).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Appends events; answers after they are durable.
    pub(crate) async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt> {
        let IngestRequest { stream, format, key, body } = request;
        let mut request =
            self.http.post(self.path(&["v1", "streams", &stream])?).header(CONTENT_TYPE, format);
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key.as_str());
        }
        let unsure = "; the events of that request may have gone in, or not";
        self.decode(&self.send(request.body(body), unsure).await?)
    }

    /// The answer to a query.
    pub(crate) async fn query(&self, sql: &str) -> Result<Rows> {
        let mut url = self.path(&["v1", "sql"])?;
        url.query_pairs_mut().append_pair("format", "arrow");
        let body = self.send(self.http.post(url).json(&serde_json::json!({ "sql": sql })), "").await?;
        Ok(Rows::from_arrow(&body, self.url())?)
    }

    /// The rows of a view, and what changes of them.
    pub(crate) async fn watch(&self, view: &str, conditions: &[(String, String)]) -> Result<ServerEvents> {
        let mut url = self.path(&["v1", "views", view, "changes"])?;
        url.query_pairs_mut().extend_pairs(conditions);
        Ok(ServerEvents::new(self.good(self.http.get(url), "").await?))
    }

    pub(crate) async fn status(&self) -> Result<Status> {
        self.decode(&self.send(self.http.get(self.path(&["v1", "status"])?), "").await?)
    }

    fn path(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("{} has no paths below it", self.base))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    /// The body of a good answer. `unsure` is what is said of the request when there is none.
    async fn send(&self, request: RequestBuilder, unsure: &str) -> Result<Bytes> {
        let answer = self.good(request, unsure).await?;
        Ok(answer.bytes().await.map_err(|e| self.broken(&e, unsure))?)
    }

    /// A good answer, whose body may still be on its way.
    async fn good(&self, request: RequestBuilder, unsure: &str) -> Result<Response> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let answer = request.send().await.map_err(|e| self.broken(&e, unsure))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.map_err(|e| self.broken(&e, unsure))?;
        Err(wire::error_from(status.as_u16(), &body).into())
    }

    fn broken(&self, e: &reqwest::Error, unsure: &str) -> Error {
        let mut cause: &dyn std::error::Error = e;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let unsure = if e.is_connect() { "" } else { unsure };
        Error::Unavailable(format!("the server at {} does not answer ({cause}){unsure}", self.url()))
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).with_context(|| {
            format!(
                "the answer of {} is not that of this version of Twofold: is it another version?",
                self.url()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::test_server;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, post};

    #[tokio::test]
    async fn an_error_of_the_server_comes_back_as_it_is() {
        let refuse =
            || async { (StatusCode::NOT_FOUND, r#"{"error":"there is no stream x","kind":"not_found"}"#) };
        let url = test_server(Router::new().route("/v1/streams/{name}", post(refuse))).await;
        let error =
            Client::new(&url).unwrap().ingest(IngestRequest::new("x", "text/csv", "")).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no stream x");
    }

    #[tokio::test]
    async fn names_are_escaped() {
        let echo = |axum::extract::Path(name): axum::extract::Path<String>| async move {
            format!(r#"{{"accepted":{},"rejected":0,"offsets":[],"reasons":[]}}"#, name.len())
        };
        let url = test_server(Router::new().route("/v1/streams/{name}", post(echo))).await;
        let receipt =
            Client::new(&url).unwrap().ingest(IngestRequest::new("a/ü?", "text/csv", "")).await.unwrap();
        assert_eq!(receipt.accepted, 5);
    }

    #[tokio::test]
    async fn only_what_answers_is_alive() {
        let url = test_server(Router::new().route("/healthz", get(|| async { "ok" }))).await;
        assert!(Client::new(&url).unwrap().is_alive().await);
        let url = test_server(Router::new()).await;
        assert!(!Client::new(&url).unwrap().is_alive().await);
        assert!(!Client::new("http://127.0.0.1:1").unwrap().is_alive().await);
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_named() {
        let error = Client::new("http://127.0.0.1:1").unwrap().status().await.unwrap_err().to_string();
        assert!(error.starts_with("the server at http://127.0.0.1:1 does not answer ("), "{error}");
    }
}
