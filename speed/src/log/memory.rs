//! A log in memory, for tests: nothing is durable but for as long as it lives.
//!
//! Unlike the embedded log its offsets can have gaps, inside a batch and between batches, as Kafka's have: code
//! that takes offsets for counts breaks on it.

use super::requests::conflict;
use super::{Declared, Partitions, find_bounds, trimmed};
use crate::ingest::ids_of;
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, TimestampNanosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use twofold_common::{
    Append, AppendRequest, Appended, Digest, IdempotencyKey, Log, LogBounds, LogChunk, Offset, OffsetRange,
    Partition, REMEMBER_KEYS, Result, StreamDef, stream,
};

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    declared: Declared,
    /// How many offsets are left out before the n-th event of a partition.
    gaps: fn(u64) -> u64,
    state: Arc<Mutex<State>>,
    appended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    bounds: Partitions,
    events: BTreeMap<(String, Partition), Events>,
    /// By stream and key: when, the digest of the request, and what it added.
    requests: BTreeMap<(String, IdempotencyKey), (i64, Digest, Appended)>,
    /// By stream and id: when.
    ids: BTreeMap<(String, u128), i64>,
}

#[derive(Debug, Default)]
struct Events {
    /// How many there ever were.
    count: u64,
    batches: Vec<RecordBatch>,
}

impl MemoryLog {
    /// An empty log for `streams`, without gaps.
    pub fn new(streams: &[StreamDef]) -> MemoryLog {
        MemoryLog::with_gaps(streams, |_| 0)
    }

    /// An empty log that leaves out `gaps(n)` offsets before the n-th event of each partition, counted from 0.
    pub fn with_gaps(streams: &[StreamDef], gaps: fn(u64) -> u64) -> MemoryLog {
        MemoryLog::over(streams, gaps, Arc::default())
    }

    /// This log as it would be opened anew for `streams`: it shares the events.
    pub fn reopen(&self, streams: &[StreamDef]) -> MemoryLog {
        MemoryLog::over(streams, self.gaps, Arc::clone(&self.state))
    }

    fn over(streams: &[StreamDef], gaps: fn(u64) -> u64, state: Arc<Mutex<State>>) -> MemoryLog {
        let log =
            MemoryLog { declared: Declared::new(streams), gaps, state, appended: watch::Sender::new(0) };
        for s in streams {
            let mut state = log.state();
            let all = state.bounds.entry(s.name.clone()).or_default();
            let len = all.len().max(s.partitions as usize);
            all.resize(len, LogBounds { start: Offset(0), end: Offset(0) });
        }
        log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append_request(&self, request: AppendRequest) -> Result<Appended> {
        let AppendRequest { appends, ingest_time, note, once } = request;
        appends.iter().try_for_each(|append| self.declared.check(append))?;
        let mut appended = Appended { note, ..Appended::default() };
        {
            let mut state = self.state();
            if let Some(once) = &once
                && let Some((time, digest, before)) =
                    state.requests.get(&(once.stream.clone(), once.key.clone()))
                && u128::from(ingest_time.saturating_sub(*time).max(0) as u64) < REMEMBER_KEYS.as_nanos()
            {
                return if *digest == once.digest { Ok(before.clone()) } else { Err(conflict(once)) };
            }
            for mut append in appends {
                let rows = append.rows.num_rows();
                if let Some((column, within)) = self.declared.ids(&append.stream) {
                    append.rows = state.fresh(&append, column, within, ingest_time)?;
                }
                appended.duplicates.push((rows - append.rows.num_rows()) as u64);
                appended.ranges.push(state.append(&append, ingest_time, self.gaps)?);
            }
            if let Some(once) = once {
                state.requests.insert((once.stream, once.key), (ingest_time, once.digest, appended.clone()));
            }
        }
        self.appended.send_modify(|n| *n += 1);
        Ok(appended)
    }

    async fn read(
        &self,
        stream: &str,
        partition: Partition,
        from: Offset,
        max_rows: usize,
    ) -> Result<LogChunk> {
        let state = self.state();
        let bounds = find_bounds(&state.bounds, stream, partition)?;
        if from < bounds.start {
            return Err(trimmed(stream, partition, bounds.start.0, from.0));
        }
        let (mut batches, mut left) = (Vec::new(), max_rows.max(1));
        let mut end = bounds.end.max(from);
        let events = state.events.get(&(stream.to_string(), partition));
        for batch in events.iter().flat_map(|events| &events.batches) {
            let first = below(batch, from);
            let rest = batch.slice(first, batch.num_rows() - first);
            let taken = rest.slice(0, rest.num_rows().min(left));
            left -= taken.num_rows();
            if let Some(last) = offsets(&taken).last() {
                if left == 0 {
                    end = Offset(*last as u64 + 1);
                }
                batches.push(taken);
            }
            if left == 0 {
                break;
            }
        }
        Ok(LogChunk { range: OffsetRange::new(from, end), batches })
    }

    async fn bounds(&self, stream: &str, partition: Partition) -> Result<LogBounds> {
        find_bounds(&self.state().bounds, stream, partition)
    }

    async fn trim(&self, stream: &str, partition: Partition, below_offset: Offset) -> Result<()> {
        let mut state = self.state();
        let mut bounds = find_bounds(&state.bounds, stream, partition)?;
        bounds.start = bounds.start.max(below_offset.min(bounds.end));
        state.set_bounds(stream, partition, bounds);
        if let Some(events) = state.events.get_mut(&(stream.to_string(), partition)) {
            events.batches.retain(|batch| below(batch, bounds.start) < batch.num_rows());
        }
        Ok(())
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }
}

impl State {
    /// The rows of `append` that are no repetitions.
    fn fresh(&mut self, append: &Append, column: usize, within: i64, now: i64) -> Result<RecordBatch> {
        let ids = ids_of(append.rows.column(column))?;
        let fresh = ids.into_iter().map(|id| {
            let Some(id) = id else { return true };
            let id = (append.stream.clone(), id);
            let repeated = self.ids.get(&id).is_some_and(|time| now.saturating_sub(*time) < within);
            if !repeated {
                self.ids.insert(id, now);
            }
            !repeated
        });
        Ok(filter_record_batch(&append.rows, &fresh.map(Some).collect::<BooleanArray>())?)
    }

    fn append(&mut self, append: &Append, ingest_time: i64, gaps: fn(u64) -> u64) -> Result<OffsetRange> {
        let Append { stream, partition, rows } = append;
        let mut bounds = find_bounds(&self.bounds, stream, *partition)?;
        let events = self.events.entry((stream.clone(), *partition)).or_default();
        let (start, len) = (bounds.end, rows.num_rows());
        let mut offsets = Vec::with_capacity(len);
        for _ in 0..len {
            let offset = bounds.end.0 + gaps(events.count);
            offsets.push(offset as i64);
            (bounds.end, events.count) = (Offset(offset + 1), events.count + 1);
        }
        let range =
            OffsetRange::new(offsets.first().map_or(start, |first| Offset(*first as u64)), bounds.end);
        if len > 0 {
            let meta: [ArrayRef; 3] = [
                Arc::new(Int32Array::from_value(partition.0 as i32, len)),
                Arc::new(Int64Array::from(offsets)),
                Arc::new(TimestampNanosecondArray::from_value(ingest_time, len)),
            ];
            let columns = rows.columns().iter().cloned().chain(meta).collect();
            let schema = stream::event_schema(rows.schema_ref());
            events.batches.push(RecordBatch::try_new(schema, columns)?);
        }
        self.set_bounds(stream, *partition, bounds);
        Ok(range)
    }

    fn set_bounds(&mut self, stream: &str, partition: Partition, bounds: LogBounds) {
        if let Some(known) = self.bounds.get_mut(stream).and_then(|all| all.get_mut(partition.0 as usize)) {
            *known = bounds;
        }
    }
}

fn offsets(batch: &RecordBatch) -> &[i64] {
    let column = batch.column_by_name(stream::OFFSET).and_then(|c| c.as_primitive_opt::<Int64Type>());
    column.map_or(&[], |column| column.values())
}

/// How many rows of `batch` have offsets below `offset`.
fn below(batch: &RecordBatch, offset: Offset) -> usize {
    offsets(batch).partition_point(|o| (*o as u64) < offset.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance;
    use std::collections::HashMap;

    async fn conforms(gaps: fn(u64) -> u64) {
        let logs = Mutex::new(HashMap::<String, MemoryLog>::new());
        conformance(|name, streams| {
            let mut logs = logs.lock().unwrap();
            let log = match logs.get(name) {
                Some(log) => log.reopen(streams),
                None => MemoryLog::with_gaps(streams, gaps),
            };
            logs.insert(name.to_string(), log.reopen(streams));
            Ok(Arc::new(log) as Arc<dyn Log>)
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn it_conforms() {
        conforms(|_| 0).await;
    }

    #[tokio::test]
    async fn it_conforms_with_gaps() {
        conforms(|n| [0, 0, 3, 1, 0, 7][n as usize % 6]).await;
    }
}
