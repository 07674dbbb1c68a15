//! The newest events of the log, in memory: what was just appended is read without the file.
//!
//! ```text
//! tail.read(from) = what the file holds from there on, or nothing        for every partition and offset
//! ```
//!
//! Only the writer adds to it, what has become durable. It has a bound: the oldest go first, of whatever partition. What
//! it does not have is read from the file.

use super::stored::with_meta;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use twofold_common::{Error, LogChunk, Offset, OffsetRange, Partition, Result};

/// How many bytes of events are held.
pub(super) const TAIL_BYTES: usize = 64 << 20;

/// Events that stand together in a partition, in the stream's own columns.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    pub(super) stream: String,
    pub(super) partition: Partition,
    pub(super) base: u64,
    pub(super) rows: RecordBatch,
    pub(super) ingest_time: i64,
}

/// The newest events.
#[derive(Debug)]
pub(super) struct Tail {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By partition, those of each without gaps.
    partitions: BTreeMap<Partition, BTreeMap<String, VecDeque<Recent>>>,
    /// The partition and the size of each, in the order in which they came.
    order: VecDeque<(Partition, String, usize)>,
    bytes: usize,
}

impl Tail {
    /// A tail of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was appended, which is durable.
    pub(super) fn push(&self, appended: Vec<Recent>) {
        let mut held = self.held();
        for recent in appended.into_iter().filter(|recent| recent.rows.num_rows() > 0) {
            let bytes = recent.rows.get_array_memory_size();
            held.bytes += bytes;
            held.order.push_back((recent.partition, recent.stream.clone(), bytes));
            let streams = held.partitions.entry(recent.partition).or_default();
            streams.entry(recent.stream.clone()).or_default().push_back(recent);
        }
        while held.bytes > self.most
            && let Some((partition, stream, bytes)) = held.order.pop_front()
        {
            held.bytes -= bytes;
            held.partitions.get_mut(&partition).and_then(|all| all.get_mut(&stream)?.pop_front());
        }
    }

    /// Forgets everything: what the file holds is to be seen anew.
    pub(super) fn clear(&self) {
        *self.held() = Held::default();
    }

    /// The events of a partition from one on, at most so many; `None` if that one is not here.
    ///
    /// # Errors
    /// `Internal` if their meta columns cannot be made.
    pub(super) fn read(
        &self,
        stream: &str,
        partition: Partition,
        from: Offset,
        max_rows: usize,
    ) -> Result<Option<LogChunk>> {
        let pieces = self.pieces(stream, partition, from.0, max_rows.max(1));
        if pieces.is_empty() {
            return Ok(None);
        }
        let rows: usize = pieces.iter().map(|piece| piece.rows.num_rows()).sum();
        let batch = |piece: &Recent| with_meta(&piece.rows, partition, piece.base, piece.ingest_time);
        let batches = pieces.iter().map(batch).collect::<Result<_, _>>();
        let batches = batches.map_err(|e| Error::Internal(format!("stream {stream}: {e}")))?;
        Ok(Some(LogChunk { range: OffsetRange::new(from, Offset(from.0 + rows as u64)), batches }))
    }

    fn pieces(&self, stream: &str, partition: Partition, from: u64, max_rows: usize) -> Vec<Recent> {
        let held = self.held();
        let Some(all) = held.partitions.get(&partition).and_then(|all| all.get(stream)) else {
            return Vec::new();
        };
        let (mut pieces, mut left) = (Vec::new(), max_rows);
        let first = all.partition_point(|recent| recent.base + recent.rows.num_rows() as u64 <= from);
        for recent in all.iter().skip(first) {
            // Of the first one some may be skipped; none if the one that is wanted lies below it.
            let skipped = if pieces.is_empty() { from.checked_sub(recent.base) } else { Some(0) };
            let Some(skipped) = skipped else { break };
            let taken = (recent.rows.num_rows() - skipped as usize).min(left);
            let rows = recent.rows.slice(skipped as usize, taken);
            pieces.push(Recent { rows, base: recent.base + skipped, ..recent.clone() });
            left -= taken;
            if left == 0 {
                break;
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;
    use twofold_common::stream::OFFSET;

    fn recent(stream: &str, partition: u32, base: u64, rows: u64) -> Recent {
        let values = Int64Array::from_iter_values((base..base + rows).map(|n| n as i64 * 10));
        let rows = RecordBatch::try_from_iter([("value", Arc::new(values) as _)]).unwrap();
        Recent { stream: stream.into(), partition: Partition(partition), base, rows, ingest_time: 7 }
    }

    /// The offsets of what is read, after a look at the values.
    fn read(tail: &Tail, stream: &str, partition: u32, from: u64, max_rows: usize) -> Option<Vec<i64>> {
        let chunk = tail.read(stream, Partition(partition), Offset(from), max_rows).unwrap()?;
        let column = |name: &str| -> Vec<i64> {
            let values = |batch: &RecordBatch| {
                let column = batch.column_by_name(name).unwrap();
                column.as_primitive::<Int64Type>().values().to_vec()
            };
            chunk.batches.iter().flat_map(values).collect()
        };
        let offsets = column(OFFSET);
        assert_eq!(column("value"), offsets.iter().map(|n| n * 10).collect::<Vec<_>>());
        assert_eq!(chunk.range, OffsetRange::new(Offset(from), Offset(from + offsets.len() as u64)));
        Some(offsets)
    }

    #[test]
    fn what_was_appended_is_read_from_any_offset_up_to_any_count() {
        let tail = Tail::new(1 << 20);
        tail.push(vec![recent("s", 0, 5, 3), recent("s", 1, 0, 2), recent("t", 0, 5, 1)]);
        tail.push(vec![recent("s", 0, 8, 0), recent("s", 0, 8, 4)]);
        for from in 5..12 {
            for count in 1..9 {
                let all: Vec<i64> = (from as i64..12).take(count).collect();
                assert_eq!(read(&tail, "s", 0, from, count), Some(all));
            }
        }
        assert_eq!(read(&tail, "s", 0, 4, 9), None, "that is in the file only");
        assert_eq!(read(&tail, "s", 0, 12, 9), None);
        assert_eq!(read(&tail, "s", 2, 0, 9), None);
        assert_eq!(read(&tail, "t", 0, 5, 9), Some(vec![5]));
        tail.clear();
        assert_eq!(read(&tail, "s", 0, 5, 9), None);
    }

    #[test]
    fn the_oldest_go_first() {
        let size = recent("s", 0, 0, 100).rows.get_array_memory_size();
        let tail = Tail::new(3 * size);
        for n in 0..5 {
            tail.push(vec![recent(if n % 2 == 0 { "s" } else { "t" }, 0, n / 2 * 100, 100)]);
        }
        assert_eq!(read(&tail, "s", 0, 99, 1), None);
        assert_eq!(read(&tail, "s", 0, 100, 1), Some(vec![100]));
        assert_eq!(read(&tail, "t", 0, 99, 1), None);
        assert_eq!(read(&tail, "t", 0, 100, 1), Some(vec![100]));
        tail.push(vec![recent("u", 0, 0, 1000)]);
        assert_eq!(read(&tail, "u", 0, 0, 1), None, "more than is held");
        assert_eq!(tail.held().bytes, 0);
    }
}
