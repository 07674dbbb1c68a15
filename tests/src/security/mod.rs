//! Who gets in, and what they can do: each guarantee of `docs/security.md`, attempted against real processes.

mod browsers;
mod limits;
mod logs;
mod read_only;
mod tls;
mod tokens;
mod wires;

use crate::process::{Server, succeeds};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const SQL: &str = "CREATE STREAM s (k TEXT NOT NULL, n BIGINT);
    CREATE STREAM t (k TEXT NOT NULL);
    CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c, sum(n) AS n FROM s GROUP BY k;
    CREATE MATERIALIZED VIEW w AS SELECT k, count(*) AS c FROM t GROUP BY k;";
const EVENTS: &str = "{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2}\n";
/// How long a change may take to count in a running server.
const SECONDS: Duration = Duration::from_secs(10);

/// A project with what `serve`, `speed` and other sections say besides.
fn project(serve: &str, speed: &str, more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let toml = format!(
        "[speed]\nlisten = \"127.0.0.1:0\"\n{speed}\n[serve]\nlisten = \"127.0.0.1:0\"\n{serve}\n[batch]\nschedule = \"off\"\n\
         {more}\n"
    );
    std::fs::write(dir.path().join("twofold.toml"), toml).unwrap();
    std::fs::write(dir.path().join("views.sql"), SQL).unwrap();
    dir
}

fn up(project: &Path) -> Server {
    Server::start(project, &["up"], "serve")
}

/// Makes a token: what is printed of it.
fn token(project: &Path, args: &[&str]) -> String {
    let args: Vec<&str> = ["token", "create"].iter().chain(args).copied().collect();
    succeeds(project, &args).trim_end().to_string()
}

/// Somebody who asks over HTTP.
#[derive(Clone)]
struct Asker {
    url: String,
    token: Option<String>,
    http: Client,
}

impl Asker {
    fn new(url: &str, token: Option<&str>) -> Self {
        let http = Client::builder().no_proxy().build().unwrap();
        Self { url: url.to_string(), token: token.map(str::to_string), http }
    }

    fn with(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn get_request(&self, path: &str) -> RequestBuilder {
        self.with(self.http.get(format!("{}{path}", self.url)))
    }

    fn post_request(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.with(self.http.post(format!("{}{path}", self.url))).body(body)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.get_request(path).send().await.unwrap()).await
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        answer(self.post_request(path, body).send().await.unwrap()).await
    }

    async fn sql(&self, sql: &str) -> (u16, Value) {
        self.post("/v1/sql", json!({ "sql": sql }).to_string()).await
    }

    /// Asks until the status is this one.
    async fn until(&self, path: &str, status: u16) {
        let started = Instant::now();
        loop {
            let (found, body) = self.get(path).await;
            if found == status {
                return;
            }
            assert!(started.elapsed() < SECONDS, "{path} is still {found}, not {status}: {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A metric's value.
    async fn metric(&self, name: &str) -> i64 {
        let text = self.get_request("/metrics").send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    }
}

async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn says(body: &Value) -> String {
    body["error"].as_str().unwrap_or_else(|| panic!("no error in {body}")).to_string()
}
