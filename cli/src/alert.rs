//! Alerts: who is told when states differ that must be equal.
//!
//! A difference is a line of the log where it is found, a number of `/metrics`, and here a JSON document posted to the
//! address that the project names. Nothing waits for that but the end of a command, and that for seconds only: a run's
//! result stands before, and stays, whatever becomes of the alert.

use crate::node::Site;
use anyhow::{Context, Result, bail};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::{Map, Value, json};
use std::time::Duration;
use twofold_batch::ViewReport;
use twofold_common::{AuditRun, Audited, Digest, Finding, rfc3339};

/// How many differences one document tells.
const TOLD: usize = 100;

/// How long and how often a receiver is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For one answer.
    pub(crate) timeout: Duration,
    /// How often it is tried.
    pub(crate) tries: u32,
    /// How long before the second try; twice as long before each further one.
    pub(crate) wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), tries: 3, wait: Duration::from_millis(500) }
    }
}

/// What was found about one view.
#[derive(Debug, Clone)]
pub(crate) struct Differences {
    pub(crate) view: String,
    pub(crate) fingerprint: Digest,
    pub(crate) found: Vec<Finding>,
}

impl From<ViewReport> for Differences {
    fn from(report: ViewReport) -> Self {
        Self { view: report.view, fingerprint: report.fingerprint, found: report.differences }
    }
}

/// An alert that is to be delivered.
#[derive(Debug, Clone)]
pub(crate) struct Alert {
    url: String,
    document: Value,
}

impl Alert {
    /// The alert about what was found; `None` if nothing was, or nobody is to be told.
    pub(crate) fn about(site: &Site, run: AuditRun, at: i64, differences: &[Differences]) -> Option<Self> {
        let url = site.project.config.alerts.webhook.clone()?;
        let project =
            site.project.dir.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Some(Self { url, document: document(&project, run, at, differences)? })
    }

    /// Delivers it, or says on stderr that it could not be.
    pub(crate) async fn deliver(self, patience: Patience) {
        if let Err(e) = self.post(patience).await {
            tracing::error!(error = %format!("{e:#}"), "an alert was not delivered");
            eprintln!("warning: the alert was not delivered: {e:#}");
        }
    }

    async fn post(&self, patience: Patience) -> Result<()> {
        // As for all addresses of a project: no proxy of the environment, and no other address than this.
        let http = Client::builder().no_proxy().redirect(Policy::none()).timeout(patience.timeout).build();
        let http = http.context("an HTTP client")?;
        let mut wait = patience.wait;
        for left in (0..patience.tries).rev() {
            let failure = match http.post(&self.url).json(&self.document).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) if !is_passing(answer.status()) => {
                    bail!("{} answers {}: correct `webhook` in [alerts]", self.url, answer.status())
                }
                Ok(answer) => format!("it answers {}", answer.status()),
                Err(e) if e.is_timeout() => "it does not answer in time".to_string(),
                Err(e) => root(&e),
            };
            if left == 0 {
                bail!("{}: {failure}; tried {} times", self.url, patience.tries);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        bail!("{}: not tried", self.url)
    }
}

/// Whether the same request may be answered otherwise later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
}

fn root(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn document(project: &str, run: AuditRun, at: i64, differences: &[Differences]) -> Option<Value> {
    let all = || differences.iter().flat_map(|of| of.found.iter().map(move |finding| (of, finding)));
    let count = all().count();
    let told: Vec<Value> = all().take(TOLD).map(|(of, finding)| difference(of, finding)).collect();
    (count > 0).then(|| {
        json!({
            "alert": "states_differ",
            "project": project,
            "run": run.name(),
            "at": rfc3339(at),
            "count": count,
            "differences": told,
        })
    })
}

fn difference(of: &Differences, finding: &Finding) -> Value {
    let mut told = Map::new();
    let mut tell = |name: &str, value: Value| drop(told.insert(name.to_string(), value));
    tell("view", of.view.clone().into());
    tell("fingerprint", of.fingerprint.to_string().into());
    tell("cut", finding.cut.into());
    let found = finding.found.map(|digest| digest.to_string());
    match &finding.audited {
        Audited::Segment { stream, partition, range } => {
            tell("stream", stream.clone().into());
            tell("partition", partition.0.into());
            tell("start_offset", range.start.0.into());
            tell("end_offset", range.end.0.into());
            tell("speed_digest", found.into());
        }
        Audited::BatchView => tell("incremental_digest", found.into()),
    }
    tell("batch_digest", finding.batch.to_string().into());
    Value::Object(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::test_server;
    use axum::Router;
    use axum::routing::post;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    const QUICK: Patience =
        Patience { timeout: Duration::from_millis(200), tries: 3, wait: Duration::from_millis(1) };

    /// A receiver that gives these answers, one after the other, then the last: its address, and how often it was asked.
    async fn receiver(answers: &'static [u16]) -> (String, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let answer = move || async move {
            let nth = count.fetch_add(1, Ordering::SeqCst) as usize;
            let status = answers[nth.min(answers.len() - 1)];
            if status == 0 {
                std::future::pending::<()>().await;
            }
            StatusCode::from_u16(status).unwrap()
        };
        (test_server(Router::new().route("/", post(answer))).await, asked)
    }

    async fn post_to(url: &str) -> Result<()> {
        Alert { url: url.to_string(), document: json!({}) }.post(QUICK).await
    }

    #[tokio::test]
    async fn what_passes_is_tried_again_and_what_does_not_is_not() {
        for (answers, tries, delivered) in [
            (&[200][..], 1, true),
            (&[503, 500, 204], 3, true),
            (&[429, 200], 2, true),
            (&[500], 3, false),
            (&[404], 1, false),
            (&[302], 1, false),
            (&[0, 200], 2, true),
        ] {
            let (url, asked) = receiver(answers).await;
            assert_eq!(post_to(&url).await.is_ok(), delivered, "{answers:?}");
            assert_eq!(asked.load(Ordering::SeqCst), tries, "{answers:?}");
        }
    }

    #[tokio::test]
    async fn a_receiver_that_never_answers_is_given_up() {
        let (url, asked) = receiver(&[0]).await;
        let error = post_to(&url).await.unwrap_err().to_string();
        assert!(error.contains("does not answer in time; tried 3 times"), "{error}");
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        let error = post_to("http://127.0.0.1:1/x").await.unwrap_err().to_string();
        assert!(error.starts_with("http://127.0.0.1:1/x: "), "{error}");
    }
}
