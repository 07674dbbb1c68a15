//! Sealed segments on their way to the archive, and their states.

use crate::digest::Digest;
use crate::error::Result;
use crate::offset::{Offset, OffsetRange, Partition};
use crate::snapshot::SpeedLayer;
use crate::state::State;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
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

/// Which state of which segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentState {
    /// The fingerprint of the view.
    pub fingerprint: Digest,
    /// The number of the view's cut.
    pub cut: usize,
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: Partition,
    /// The segment.
    pub range: OffsetRange,
}

/// Who may still hold the speed layer's states of segments, for an audit to look into.
#[async_trait]
pub trait SpeedStates: std::fmt::Debug + Send + Sync {
    /// The speed layer's state of one segment; `None` if it is not held (any more).
    ///
    /// # Errors
    /// Those of asking, such as `Unavailable`.
    async fn state_of(&self, segment: &SegmentState) -> Result<Option<State>>;
}

#[async_trait]
impl SpeedStates for Arc<dyn SpeedLayer> {
    async fn state_of(&self, segment: &SegmentState) -> Result<Option<State>> {
        self.segment_state(segment).await
    }
}

/// Under which key a segment names the digest of one cut's state.
pub fn state_key(fingerprint: Digest, cut: usize) -> String {
    format!("{fingerprint}/{cut}")
}
