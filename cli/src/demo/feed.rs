//! Sending the demo's events: NDJSON over HTTP, in order, one request at a time, the next one written meanwhile.

use super::data::STREAM;
use crate::args::Input;
use crate::client::Client;
use crate::clock::Stopwatch;
use crate::progress::{self, Unit};
use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use twofold_common::{Coverage, IngestRequest, Offset, Partition};

/// How many events one request has.
const REQUEST_ROWS: usize = 8_192;

/// The events, and what was sent of them.
pub(super) struct Feed<'a> {
    client: &'a Client,
    events: &'a RecordBatch,
    sent: usize,
    spent: Duration,
    ends: BTreeMap<Partition, Offset>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(client: &'a Client, events: &'a RecordBatch) -> Self {
        Self { client, events, sent: 0, spent: Duration::ZERO, ends: BTreeMap::new() }
    }

    /// How many events were sent and acknowledged.
    pub(super) fn sent(&self) -> u64 {
        self.sent as u64
    }

    /// How long sending took.
    pub(super) fn spent(&self) -> Duration {
        self.spent
    }

    /// Sends the events up to the `upto`-th.
    pub(super) async fn send(&mut self, upto: usize) -> Result<()> {
        let bar = progress::bar(Some(self.events.num_rows() as u64), Unit::Events, "streaming");
        bar.set_position(self.sent as u64);
        let watch = Stopwatch::start();
        let mut requests = write(self.events.slice(self.sent, upto - self.sent));
        while let Some(request) = requests.recv().await {
            let (rows, body) = request?;
            let receipt = self.client.ingest(IngestRequest::new(STREAM, Input::Ndjson.mime(), body)).await?;
            if receipt.rejected > 0 {
                let reason = receipt.reasons.first().context("a rejection without a reason")?;
                bail!("{} events were rejected: {reason}", receipt.rejected);
            }
            for at in receipt.offsets {
                self.ends.insert(at.partition, at.range.end);
            }
            self.sent += rows;
            bar.set_position(self.sent as u64);
        }
        self.spent += watch.elapsed();
        bar.finish_and_clear();
        if self.sent != upto {
            bail!("{} of {upto} events were sent", self.sent);
        }
        Ok(())
    }

    /// Whether an answer is made of everything that was acknowledged.
    pub(super) fn is_covered_by(&self, coverage: &[Coverage]) -> bool {
        self.ends.iter().all(|(partition, end)| {
            coverage.iter().any(|c| c.stream == STREAM && c.partition == *partition && c.speed.end >= *end)
        })
    }
}

/// Writes events as requests on a thread of its own, two ahead.
fn write(events: RecordBatch) -> mpsc::Receiver<Result<(usize, Bytes)>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        for start in (0..events.num_rows()).step_by(REQUEST_ROWS) {
            let rows = REQUEST_ROWS.min(events.num_rows() - start);
            let body = ndjson(&events.slice(start, rows)).map(|body| (rows, body));
            if sender.blocking_send(body).is_err() {
                return;
            }
        }
    });
    receiver
}

fn ndjson(events: &RecordBatch) -> Result<Bytes> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(events)?;
    writer.finish()?;
    Ok(Bytes::from(writer.into_inner()))
}
