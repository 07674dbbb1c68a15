//! What serving asks of the speed layer, and what it is answered.
//!
//! A request names the views and streams that one query reads, with the offsets from which on the archive does not
//! cover them. The answer is taken at one moment: all its parts end at the same offsets, and watermarks and counts of
//! late events are those there.
//!
//! On the wire an answer is a sequence of frames: a length (4 bytes, little endian) and that many bytes. The first
//! is JSON, and says what the others are; each of those is the bytes of a [`State`], or an Arrow IPC stream of
//! events. States carry their own digest; the last frame is the digest of all before it.

use crate::coverage::{Horizon, Offsets};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::finality::PartitionWatermark;
use crate::foreign;
use crate::ingest::{IngestReceipt, IngestRequest};
use crate::offset::{OffsetRange, Partition};
use crate::segment::SegmentState;
use crate::state::State;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// How often a speed layer in another process is asked whether it has moved on.
pub const MOVED_EVERY: Duration = Duration::from_millis(100);

/// What one query needs of the speed layer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SnapshotRequest {
    /// The views that it reads.
    pub views: Vec<ViewRequest>,
    /// The streams that it reads event by event.
    pub streams: Vec<StreamRequest>,
    /// Whether it reads [`LATE_EVENTS`](crate::LATE_EVENTS).
    #[serde(default)]
    pub late_events: bool,
    /// How stale the answer may be: how long before the question the oldest event was taken in that had been
    /// acknowledged by then and is not in it. Without this it waits for all of them, but not for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_staleness: Option<Duration>,
}

/// The states of a view at or above a horizon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ViewRequest {
    /// The view's name.
    pub view: String,
    /// Its fingerprint, as the one who asks knows it.
    pub fingerprint: Digest,
    /// Where the batch view ends, for each partition of each of the view's streams.
    pub from: Horizon,
}

/// The events of a stream at or above offsets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamRequest {
    /// The stream.
    pub stream: String,
    /// Where the archive ends, for each partition.
    pub from: Offsets,
}

/// What the speed layer answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// All that was asked for, at one moment.
    Snapshot(Snapshot),
    /// It has dropped part of what was asked for: there is a newer manifest. Take that and ask again.
    Retired {
        /// The view or stream.
        relation: String,
    },
    /// The view is being built.
    Building {
        /// The view.
        view: String,
        /// Events folded so far.
        done: u64,
        /// Events to fold.
        total: u64,
    },
    /// The speed layer runs with another definition of the view, or without it.
    Unknown {
        /// The view.
        view: String,
    },
    /// The answer would be staler than it may be, though it was waited for.
    Stale {
        /// How stale.
        staleness: Duration,
    },
    /// The view's query failed on an event, and does not go on.
    Failed {
        /// The view.
        view: String,
        /// What the engine said.
        reason: String,
    },
}

/// States and events of one moment, in the order of the request.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// For each view of the request.
    pub views: Vec<SpeedView>,
    /// For each stream of the request.
    pub streams: Vec<Tail>,
    /// For each partition of each stream that is covered: its watermark at the end of the coverage.
    pub watermarks: Vec<PartitionWatermark>,
    /// The rows of [`LATE_EVENTS`](crate::LATE_EVENTS), if they were asked for.
    pub late_events: Option<RecordBatch>,
}

/// The offset ranges of the pieces that something is made of, for each partition of each stream, in offset order.
pub type Pieces = BTreeMap<String, BTreeMap<Partition, Vec<OffsetRange>>>;

/// The states of one view at or above the horizon that was asked for.
#[derive(Debug, Clone, Default)]
pub struct SpeedView {
    /// What the states cover.
    pub pieces: Pieces,
    /// States by cut: together they are the state of what the pieces cover.
    pub states: Vec<(usize, State)>,
}

/// The events of one stream at or above the offsets that were asked for.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// What the events cover.
    pub ranges: BTreeMap<Partition, OffsetRange>,
    /// The events, in offset order within each partition.
    pub batches: Vec<RecordBatch>,
}

/// The speed layer as serving and batch see it, in this process or in another.
#[async_trait]
pub trait SpeedLayer: std::fmt::Debug + Send + Sync {
    /// States and events of one moment. What was acknowledged before the call is in the answer, if the speed layer
    /// gets to it within a short time; coverage tells.
    async fn snapshot(&self, request: &SnapshotRequest) -> Result<Answer>;

    /// Takes in events. Answers after they are durable.
    async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt>;

    /// Seals what is open, and answers after it is archived, so that a batch run covers all that was acknowledged
    /// before the call.
    async fn seal(&self) -> Result<()>;

    /// Drops the states of views that its project does not have, or with `dry_run` only tells which.
    async fn gc(&self, dry_run: bool) -> Result<Vec<Digest>>;

    /// What the speed layer is doing.
    async fn status(&self) -> Result<SpeedStatus>;

    /// Waits until its answers differ from those that it gave when it told `seen`, and tells a number of what it has
    /// folded by now, which says no more than that. Without `seen` it does not wait. Asked of another process, it asks
    /// for the status every [`MOVED_EVERY`].
    async fn moved(&self, seen: Option<u64>) -> Result<u64> {
        loop {
            let folded =
                self.status().await?.partitions.iter().fold(0u64, |sum, p| sum.wrapping_add(p.folded));
            if seen != Some(folded) {
                return Ok(folded);
            }
            sleep(MOVED_EVERY).await;
        }
    }

    /// Its state of one segment; `None` if it does not hold that (any more).
    async fn segment_state(&self, _segment: &SegmentState) -> Result<Option<State>> {
        Ok(None)
    }
}

/// What the speed layer is doing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SpeedStatus {
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Its views.
    pub views: Vec<SpeedViewStatus>,
    /// Epochs committed since it started.
    pub epochs: u64,
    /// The last error of its loop, if the last try failed.
    pub error: Option<String>,
    /// How many late events it has counted, by stream and view.
    #[serde(default)]
    pub late: Vec<LateTotal>,
}

/// How many events of a stream came late for a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateTotal {
    /// The stream.
    pub stream: String,
    /// The view.
    pub view: String,
    /// How many, of those looked at so far.
    pub count: u64,
}

/// One partition of a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: Partition,
    /// The first offset that the log still holds.
    pub log_start: u64,
    /// One past the last durable event.
    pub log_end: u64,
    /// One past the last event that was folded.
    pub folded: u64,
    /// The exclusive end of what is archived.
    pub archived: u64,
    /// Segments that are sealed and not archived yet.
    pub segments_waiting: u64,
    /// How far event time has come, less the allowed delay: nanoseconds since the epoch, UTC.
    pub watermark: Option<i64>,
    /// Whether nothing has come for as long as the stream's idle timeout.
    #[serde(default)]
    pub idle: bool,
}

/// One view in the speed layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpeedViewStatus {
    /// The view's name.
    pub view: String,
    /// Its fingerprint.
    pub fingerprint: Digest,
    /// How many segments it holds states of.
    pub segments: u64,
    /// How many rows these states have.
    pub rows: u64,
    /// About how many bytes of memory they take.
    pub bytes: u64,
    /// Events folded, and to fold, while it is being built.
    pub building: Option<(u64, u64)>,
    /// Why it does not go on, if its query failed on an event.
    pub failed: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Header {
    Snapshot {
        views: Vec<ViewHeader>,
        streams: Vec<TailHeader>,
        #[serde(default)]
        watermarks: Vec<PartitionWatermark>,
        /// Whether the last of the frames has the late events.
        #[serde(default)]
        late_events: bool,
    },
    Retired {
        relation: String,
    },
    Building {
        view: String,
        done: u64,
        total: u64,
    },
    Unknown {
        view: String,
    },
    Failed {
        view: String,
        reason: String,
    },
    Stale {
        staleness: Duration,
    },
}

#[derive(Serialize, Deserialize)]
struct ViewHeader {
    pieces: Pieces,
    cuts: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
struct TailHeader {
    ranges: BTreeMap<Partition, OffsetRange>,
    batches: usize,
}

impl Answer {
    /// The answer as bytes for the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut blobs = Vec::new();
        let header = match self {
            Answer::Snapshot(snapshot) => {
                let views = snapshot.views.iter().map(|view| {
                    for (_, state) in &view.states {
                        blobs.push(state.to_bytes()?);
                    }
                    let cuts = view.states.iter().map(|(cut, _)| *cut).collect();
                    Ok(ViewHeader { pieces: view.pieces.clone(), cuts })
                });
                let views = views.collect::<Result<_>>()?;
                let streams = snapshot.streams.iter().map(|tail| {
                    for batch in &tail.batches {
                        blobs.push(ipc(batch)?);
                    }
                    Ok(TailHeader { ranges: tail.ranges.clone(), batches: tail.batches.len() })
                });
                let streams = streams.collect::<Result<_>>()?;
                let late_events = snapshot.late_events.is_some();
                if let Some(rows) = &snapshot.late_events {
                    blobs.push(ipc(rows)?);
                }
                Header::Snapshot { views, streams, watermarks: snapshot.watermarks.clone(), late_events }
            }
            Answer::Retired { relation } => Header::Retired { relation: relation.clone() },
            Answer::Building { view, done, total } => {
                Header::Building { view: view.clone(), done: *done, total: *total }
            }
            Answer::Unknown { view } => Header::Unknown { view: view.clone() },
            Answer::Stale { staleness } => Header::Stale { staleness: *staleness },
            Answer::Failed { view, reason } => Header::Failed { view: view.clone(), reason: reason.clone() },
        };
        let header = serde_json::to_vec(&header).map_err(|e| Error::Internal(e.to_string()))?;
        let mut bytes =
            Vec::with_capacity(header.len() + blobs.iter().map(|b| b.len() + 4).sum::<usize>() + 64);
        for frame in std::iter::once(&header).chain(&blobs) {
            put_frame(&mut bytes, frame)?;
        }
        let digest = Digest::of(&bytes);
        put_frame(&mut bytes, digest.as_bytes())?;
        Ok(bytes)
    }

    /// The answer that [`Answer::to_bytes`] wrote; `origin` names its sender in errors.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are not such an answer, whole.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self> {
        let corrupt =
            |reason: &str| Error::corrupt(origin, format!("the answer of the speed layer {reason}"));
        let mut frames = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut short"))?;
            let length = u32::from_le_bytes(*length) as usize;
            let (frame, after) = after.split_at_checked(length).ok_or_else(|| corrupt("is cut short"))?;
            frames.push(frame);
            rest = after;
        }
        let digest = frames.pop().ok_or_else(|| corrupt("is empty"))?;
        let signed = bytes.len() - digest.len() - 4;
        if Digest::from_bytes(digest) != Some(Digest::of(&bytes[..signed])) {
            return Err(corrupt("does not fit its digest"));
        }
        let mut frames = frames.into_iter();
        let header = frames.next().ok_or_else(|| corrupt("has no header"))?;
        let header: Header = serde_json::from_slice(header)
            .map_err(|e| corrupt(&format!("has a header that is not one: {e}")))?;
        let mut next = || frames.next().ok_or_else(|| corrupt("has too few frames"));
        Ok(match header {
            Header::Retired { relation } => Answer::Retired { relation },
            Header::Building { view, done, total } => Answer::Building { view, done, total },
            Header::Unknown { view } => Answer::Unknown { view },
            Header::Stale { staleness } => Answer::Stale { staleness },
            Header::Failed { view, reason } => Answer::Failed { view, reason },
            Header::Snapshot { views, streams, watermarks, late_events } => {
                let views = views.into_iter().map(|view| {
                    let states =
                        view.cuts.into_iter().map(|cut| Ok((cut, State::from_bytes(next()?, origin)?)));
                    Ok(SpeedView { states: states.collect::<Result<_>>()?, pieces: view.pieces })
                });
                let views = views.collect::<Result<_>>()?;
                let streams = streams.into_iter().map(|tail| {
                    let batches = (0..tail.batches).map(|_| from_ipc(next()?, origin));
                    let batches = batches.collect::<Result<Vec<_>>>()?;
                    Ok(Tail { ranges: tail.ranges, batches: batches.into_iter().flatten().collect() })
                });
                let streams = streams.collect::<Result<_>>()?;
                let late_events = match late_events {
                    true => {
                        Some(from_ipc(next()?, origin)?.pop().ok_or_else(|| corrupt("has no late events"))?)
                    }
                    false => None,
                };
                Answer::Snapshot(Snapshot { views, streams, watermarks, late_events })
            }
        })
    }
}

fn put_frame(bytes: &mut Vec<u8>, frame: &[u8]) -> Result<()> {
    let length = u32::try_from(frame.len())
        .map_err(|_| Error::Unavailable("one state of more than 4 GiB cannot be sent".into()))?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(frame);
    Ok(())
}

fn ipc(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn from_ipc(bytes: &[u8], origin: &str) -> Result<Vec<RecordBatch>> {
    let read = || foreign::ipc_stream(bytes)?.collect::<Result<_, ArrowError>>();
    let read = foreign::guard(read).unwrap_or_else(|panic| Err(ArrowError::IpcError(panic)));
    read.map_err(|e| Error::corrupt(origin, format!("rows that cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset::Offset;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn batch(values: &[i64]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("k0", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
    }

    fn snapshot() -> Snapshot {
        let range = OffsetRange::new(Offset(3), Offset(9));
        let state = State::from_rows(&batch(&[]).schema(), 1, &[batch(&[2, 1])]).unwrap();
        let partitions = BTreeMap::from([(Partition(0), vec![range]), (Partition(1), Vec::new())]);
        let pieces = Pieces::from([("s".to_string(), partitions)]);
        Snapshot {
            views: vec![SpeedView { pieces, states: vec![(1, state.clone()), (0, state)] }],
            streams: vec![Tail {
                ranges: BTreeMap::from([(Partition(0), range)]),
                batches: vec![batch(&[7])],
            }],
            watermarks: vec![PartitionWatermark {
                stream: "s".into(),
                partition: Partition(1),
                watermark: Some(-3),
                idle: true,
            }],
            late_events: Some(batch(&[])),
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let bytes = Answer::Snapshot(snapshot()).to_bytes().unwrap();
        let Answer::Snapshot(read) = Answer::from_bytes(&bytes, "there").unwrap() else {
            panic!("another answer")
        };
        let written = snapshot();
        assert_eq!(read.views[0].pieces, written.views[0].pieces);
        let cuts: Vec<usize> = read.views[0].states.iter().map(|(cut, _)| *cut).collect();
        assert_eq!(cuts, [1, 0]);
        assert_eq!(read.views[0].states[0].1.batch(), written.views[0].states[0].1.batch());
        assert_eq!(read.streams[0].ranges, written.streams[0].ranges);
        assert_eq!(read.streams[0].batches, written.streams[0].batches);
        assert_eq!((read.watermarks, read.late_events), (written.watermarks, written.late_events));
        let building = Answer::Building { view: "v".into(), done: 1, total: 3 };
        let read = Answer::from_bytes(&building.to_bytes().unwrap(), "there").unwrap();
        assert!(matches!(read, Answer::Building { view, done: 1, total: 3 } if view == "v"));
    }

    #[test]
    fn a_damaged_answer_is_refused() {
        let bytes = Answer::Snapshot(snapshot()).to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Answer::from_bytes(&damaged, "there").is_err(), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(Answer::from_bytes(&bytes[..length], "there").is_err(), "cut to {length}");
        }
    }
}
