//! Sealed segments on their way to the archive.

use crate::digest::Digest;
use crate::offset::{Offset, OffsetRange, Partition};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// A segment that its owner has sealed: nothing is added to it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSegment {
    /// What it covers.
    pub range: OffsetRange,
    /// How many events it has.
    pub rows: u64,
    /// The watermark of the partition at the end of the segment: nanoseconds since the epoch, UTC.
    pub watermark: Option<i64>,
    /// The digest of the speed layer's state of this segment, by [`state_key`].
    pub states: BTreeMap<String, Digest>,
}

/// Who seals segments.
pub trait SealedSegments: std::fmt::Debug + Send + Sync {
    /// The sealed segments of a partition that end above `from`, in offset order.
    fn sealed(&self, stream: &str, partition: Partition, from: Offset) -> Vec<SealedSegment>;

    /// A signal that changes after each seal.
    fn sealing(&self) -> watch::Receiver<u64>;
}

/// Under which key a segment names the digest of one cut's state.
pub fn state_key(fingerprint: Digest, cut: usize) -> String {
    format!("{fingerprint}/{cut}")
}
