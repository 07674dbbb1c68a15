//! `twofold ingest`: events from files or stdin into a stream, in their order.
//!
//! ```text
//! accepted + rejected = the events of the input
//! ```
//!
//! One request at a time, so that the order of the input is the order in each partition; the next body is read while
//! one is being answered. It is not tried again: an input that broke off in the middle is told how far it came.

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
use twofold_common::stream::REJECTED_SUFFIX;
use twofold_common::{Config, Functions, IngestReceipt, SpeedLayer};
use twofold_speed::{Format, Ingest};

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
            Ok(Body { bytes, read }) => target.append(stream, format, bytes).await.map(|receipt| {
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
    let mut text = format!("accepted {}, rejected {}\n", total.accepted, total.rejected);
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
        if let Some(client) = server(&Config::load(dir)?.data).await? {
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

    async fn append(&self, stream: &str, format: Input, body: Bytes) -> Result<IngestReceipt> {
        Ok(match self {
            Target::Server(client) => client.ingest(stream, format.mime(), body).await?,
            Target::Speed(speed) => speed.ingest(stream, format.mime(), body).await?,
            Target::Log { ingest, .. } => ingest.ingest_body(stream, Format::from(format), body).await?,
        })
    }
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
}
