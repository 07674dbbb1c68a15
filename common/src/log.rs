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

use crate::error::Result;
use crate::offset::{Offset, OffsetRange, Partition};
use arrow::array::RecordBatch;
use async_trait::async_trait;

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

/// The durable tail of the project's streams.
#[async_trait]
pub trait Log: std::fmt::Debug + Send + Sync {
    /// Appends all of `appends`, or nothing, and answers after they are durable: the offsets of each, in order.
    ///
    /// `ingest_time` is in nanoseconds since the epoch, UTC.
    ///
    /// # Errors
    /// `NotFound` for a stream or partition that the log does not have; `Unavailable` if it cannot be made
    /// durable now (nothing was appended).
    async fn append(&self, appends: Vec<Append>, ingest_time: i64) -> Result<Vec<OffsetRange>>;

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
