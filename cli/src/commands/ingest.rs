//! `twofold ingest`: events from files or stdin into a stream, in their order.
//!
//! ```text
//! accepted + rejected = the events of the input
//! ```
//!
//! One request at a time, so that the order of the input is the order in each partition; the next body is read while
//! one is being answered. Each has a key of its own, so that one that was not answered is sent again and goes in once
//! all the same; [`RETRIES`] times, and then an input that broke off in the middle is told how far it came.

use crate::args::{IngestArgs, Input};
use crate::client::Client;
use crate::clock;
use crate::feed::{Body, Feed};
use crate::node::{DataLock, FoundSpeed, Site, open_log, server};
use crate::progress::{self, Unit};
use crate::text::print;
use anyhow::{Result, bail};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use twofold_common::stream::REJECTED_SUFFIX;
use twofold_common::{
    Digest, Error, Functions, IdempotencyKey, IngestReceipt, IngestRequest, Kind, SpeedLayer,
};
use twofold_speed::Ingest;

/// How long to wait before each further try.
const RETRIES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &IngestArgs, command: &str) -> Result<()> {
    let feeds = Feed::all(&args.files, args.format)?;
    let target = Target::open(dir, functions, &args.stream, command).await?;
    let mut total = IngestReceipt::default();
    for feed in feeds {
        let name = feed.name();
        if let Err(error) = append(&target, &args.stream, feed, &mut total).await {
            if total.accepted + total.rejected == 0 {
                return Err(error);
            }
            let IngestReceipt { accepted, rejected, .. } = total;
            bail!("{name}: {error:#}; before that, {accepted} events were accepted and {rejected} rejected");
        }
    }
    print(summary(&args.stream, &total))
}

fn check_stream(site: &Site, name: &str) -> Result<()> {
    let stream = site.catalog.stream(name)?;
    if site.project.streams.contains_key(name) {
        return Ok(());
    }
    let of = stream.name.trim_end_matches(REJECTED_SUFFIX);
    bail!("{name} keeps the events that were rejected from {of}: nothing else goes in; ingest into {of}")
}

async fn append(target: &Target, stream: &str, feed: Feed, total: &mut IngestReceipt) -> Result<()> {
    let bar = progress::bar(feed.size()?, Unit::Bytes, feed.name());
    let format = feed.format();
    let mut bodies = feed.start();
    let mut result = Ok(());
    while let Some(body) = bodies.recv().await {
        result = match body {
            Ok(Body { bytes, read }) => target.append_once(stream, format, bytes).await.map(|receipt| {
                bar.inc(read);
                *total = std::mem::take(total).and(receipt);
            }),
            Err(e) => Err(e),
        };
        if result.is_err() {
            break;
        }
    }
    bar.finish_and_clear();
    result
}

fn summary(stream: &str, total: &IngestReceipt) -> String {
    let mut text = format!("accepted {}, rejected {}", total.accepted, total.rejected);
    if total.duplicates > 0 {
        text += &format!(", left out {} duplicates", total.duplicates);
    }
    text += "\n";
    for reason in &total.reasons {
        text += &format!("  {reason}\n");
    }
    if total.rejected > 0 {
        text += &format!("what was rejected is kept: SELECT reason, raw FROM {stream}{REJECTED_SUFFIX}\n");
    }
    text
}

/// Who takes the events in.
enum Target {
    Server(Client),
    Speed(FoundSpeed),
    /// The log itself.
    Log {
        ingest: Box<Ingest>,
        _lock: DataLock,
    },
}

impl Target {
    async fn open(dir: &Path, functions: &Functions, stream: &str, command: &str) -> Result<Self> {
        // A running server knows its streams itself.
        if let Some(client) = server(dir).await? {
            return Ok(Self::Server(client));
        }
        let site = Site::load(dir, functions).await?;
        check_stream(&site, stream)?;
        let speed = FoundSpeed::of(&site);
        if speed.is_running().await {
            return Ok(Self::Speed(speed));
        }
        if let Some(url) = &site.project.config.speed.url {
            bail!(
                "the speed layer at {url} does not answer: start it, or remove `url` in [speed] of twofold.toml"
            );
        }
        let stores = site.stores().await?;
        let (lock, log) = open_log(&site, &stores, command).await?;
        let ingest = Box::new(Ingest::new(log, &site.project.streams, Arc::new(clock::nanos))?);
        Ok(Self::Log { ingest, _lock: lock })
    }

    /// Appends a body, and if there is no answer, or the server cannot take it now, the same again.
    async fn append_once(&self, stream: &str, format: Input, body: Bytes) -> Result<IngestReceipt> {
        let key = new_key(&body)?;
        let request = IngestRequest::new(stream, format.mime(), body).with_key(Some(key));
        let mut waits = RETRIES.iter();
        loop {
            let error = match self.append(request.clone()).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            let kind = error.downcast_ref::<Error>().map(Error::kind);
            let passes = matches!(kind, Some(Kind::Unavailable | Kind::Busy));
            let Some(wait) = waits.next().filter(|_| passes && self.is_remote()) else { return Err(error) };
            tracing::warn!(error = %error, wait_ms = wait.as_millis(), "sending the same events again");
            tokio::time::sleep(*wait).await;
        }
    }

    fn is_remote(&self) -> bool {
        !matches!(self, Target::Log { .. })
    }

    async fn append(&self, request: IngestRequest) -> Result<IngestReceipt> {
        Ok(match self {
            Target::Server(client) => client.ingest(request).await?,
            Target::Speed(speed) => speed.ingest(request).await?,
            Target::Log { ingest, .. } => ingest.ingest(request).await?,
        })
    }
}

/// A key that no other request has: of this process, this moment and these bytes.
fn new_key(body: &Bytes) -> Result<IdempotencyKey> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    let process = std::process::id().to_le_bytes();
    let of = Digest::of_parts([process.as_slice(), &clock::nanos().to_le_bytes(), &number, body]);
    Ok(IdempotencyKey::new(format!("twofold-ingest-{of}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_is_told_with_where_to_find_it() {
        let total = IngestReceipt { accepted: 5, ..IngestReceipt::default() };
        assert_eq!(summary("s", &total), "accepted 5, rejected 0\n");
        let total = IngestReceipt { rejected: 2, reasons: vec!["column n: expected BIGINT".into()], ..total };
        let expected = "accepted 5, rejected 2\n  column n: expected BIGINT\n\
                        what was rejected is kept: SELECT reason, raw FROM s_rejected\n";
        assert_eq!(summary("s", &total), expected);
    }

    #[tokio::test]
    async fn what_is_not_answered_is_sent_again_with_its_key() {
        use axum::http::{HeaderMap, StatusCode};
        use std::sync::Mutex;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::clone(&seen);
        let answer = move |headers: HeaderMap, body: Bytes| {
            let mut seen = answers.lock().unwrap();
            let key = headers["idempotency-key"].to_str().unwrap().to_string();
            seen.push((key, body));
            let (status, answer) = match seen.len() {
                1 => (503, r#"{"error":"a disk is full","kind":"unavailable"}"#),
                2 => (429, r#"{"error":"too much","kind":"busy"}"#),
                3 | 4 => (200, r#"{"accepted":1,"rejected":0,"duplicates":0,"offsets":[],"reasons":[]}"#),
                _ => (400, r#"{"error":"no","kind":"invalid"}"#),
            };
            std::future::ready((StatusCode::from_u16(status).unwrap(), answer))
        };
        let app = axum::Router::new().route("/v1/streams/s", axum::routing::post(answer));
        let url = crate::node::test_server(app).await;
        let target = Target::Server(Client::new(&url).unwrap());
        let send = || target.append_once("s", Input::Ndjson, Bytes::from_static(b"{}"));
        assert_eq!(send().await.unwrap().accepted, 1);
        send().await.unwrap();
        assert_eq!(send().await.unwrap_err().to_string(), "no", "what is wrong stays wrong");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 5);
        assert!(seen[..3].iter().all(|sent| *sent == seen[0]), "{seen:?}");
        let mut keys: Vec<_> = seen[2..].iter().map(|(key, _)| key).collect();
        keys.dedup();
        assert_eq!(keys.len(), 3, "each request has a key of its own: {keys:?}");
    }
}
