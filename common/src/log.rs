//! The log: the durable tail of each stream.
//!
//! For a partition with events at offsets `o1 < o2 < …`:
//!
//! ```text
//! read(from) = the events with offset >= from, in order, up to a bound, and where to read on
//! ```
//!
//! What [`Log::append`] has answered is durable. Offsets grow but may have gaps, and the log promises nothing
//! about their size: only `start..end` of a read is contiguous coverage. Below [`LogBounds::start`] the log has
//! been trimmed. It does not say what was appended together, except that one append is visible all or nothing.

use crate::digest::Digest;
use crate::error::Result;
use crate::ingest::IdempotencyKey;
use crate::offset::{Offset, OffsetRange, Partition};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What the log holds of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// Events below were trimmed.
    pub start: Offset,
    /// One past the last durable event.
    pub end: Offset,
}

/// A piece of a partition.
#[derive(Debug, Clone)]
pub struct LogChunk {
    /// What was read; `range.end` is where to read on. Gaps inside are part of it.
    pub range: OffsetRange,
    /// The events in offset order, each batch of the stream's event schema (as it was when they were written:
    /// see [`adapt`](crate::stream::adapt)). Empty if there is nothing at or above `range.start`.
    pub batches: Vec<RecordBatch>,
}

/// One stream's share of an append: rows of the stream's own columns for one partition.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: Partition,
    /// Rows of the stream's own schema, without the meta columns: the log assigns those.
    pub rows: RecordBatch,
}

/// All that one request adds.
#[derive(Debug, Clone, Default)]
pub struct AppendRequest {
    /// The events.
    pub appends: Vec<Append>,
    /// When they were taken in: nanoseconds since the epoch, UTC.
    pub ingest_time: i64,
    /// What the caller wants to find in [`Appended`] again.
    pub note: String,
    /// What makes a repetition of it known as one.
    pub once: Option<Once>,
}

/// What makes a repetition of a request known as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The stream whose key it is.
    pub stream: String,
    /// The key.
    pub key: IdempotencyKey,
    /// The digest of what the producer sent: another one under the same key is a conflict.
    pub digest: Digest,
}

/// What a request added. All vectors have one entry for each of its appends, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The offsets; empty if nothing was added.
    pub ranges: Vec<OffsetRange>,
    /// How many events were left out because their ids were known: see [`Deduplicate`](crate::Deduplicate).
    pub duplicates: Vec<u64>,
    /// The note of the request that added it.
    pub note: String,
}

/// The durable tail of the project's streams.
#[async_trait]
pub trait Log: std::fmt::Debug + Send + Sync {
    /// Appends all of a request, or nothing, and answers after it is durable.
    ///
    /// A request whose key was used before, not longer ago than the log remembers keys by the requests' ingest
    /// times, adds nothing and is answered as the first one was; the key becomes durable together with the events.
    /// Of a stream that declares ids, events are left out whose id is that of an event taken in within the declared
    /// time, in any partition, or of one further ahead in the request.
    ///
    /// # Errors
    /// `NotFound` for a stream or partition that the log does not have; `Conflict` if the key was used for something
    /// else; `Unavailable` if it cannot be made durable now: the message says whether it may have been all the same.
    async fn append_request(&self, request: AppendRequest) -> Result<Appended>;

    /// Appends all of `appends`, or nothing, and answers after they are durable: the offsets of each, in order.
    ///
    /// # Errors
    /// Those of [`append_request`](Self::append_request).
    async fn append(&self, appends: Vec<Append>, ingest_time: i64) -> Result<Vec<OffsetRange>> {
        let request = AppendRequest { appends, ingest_time, ..AppendRequest::default() };
        Ok(self.append_request(request).await?.ranges)
    }

    /// The events of a partition at or above `from`, at least one batch of them if there are any, and then no
    /// more than `max_rows` (a bound, not an aim: a stored batch is cut where the bound falls).
    ///
    /// # Errors
    /// `NotFound` if `from` lies below the log's start; `Corrupt` if a stored batch is damaged.
    async fn read(
        &self,
        stream: &str,
        partition: Partition,
        from: Offset,
        max_rows: usize,
    ) -> Result<LogChunk>;

    /// What the log holds of a partition.
    async fn bounds(&self, stream: &str, partition: Partition) -> Result<LogBounds>;

    /// Forgets the events below `below`. Idempotent.
    async fn trim(&self, stream: &str, partition: Partition, below: Offset) -> Result<()>;

    /// A signal that changes after each append that became durable.
    fn appended(&self) -> tokio::sync::watch::Receiver<u64>;
}
