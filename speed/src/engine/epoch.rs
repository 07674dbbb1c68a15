//! Epochs: what is in the log, folded into every view that has come so far.
//!
//! ```text
//! state after an epoch = merge(state before it, fold(the epoch's events))
//! ```
//!
//! States, offsets, the open segment and the counts of late events change in one transaction.

use super::held::Place;
use super::runner::Fold;
use super::store::{SegmentRecord, UnitId, Write};
use super::{Engine, Worker};
use arrow::array::RecordBatch;
use std::collections::BTreeSet;
use twofold_common::{Digest, Kind, Offset, OffsetRange, Result};

impl Engine {
    /// Folds the next events of every partition into the views that have come so far, and commits states and offsets
    /// in one transaction. Whether there were any.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(super) async fn epoch(&self, worker: &mut Worker) -> Result<bool> {
        let places: Vec<Place> = self.read().partitions.keys().cloned().collect();
        let mut writes = self.merged(worker).await?;
        let merged = writes.len();
        for place in places {
            writes.extend(self.epoch_of(worker, &place).await?);
        }
        let came = writes.len() > merged;
        let touched = touched(&writes);
        writes.extend(self.compaction(worker));
        self.commit_behind(writes).await?;
        if came {
            let mut held = self.write();
            held.epochs += 1;
            self.progress.send_replace(held.epochs);
        }
        self.merge_gathered(worker, touched);
        self.wait_behind().await;
        Ok(came)
    }

    pub(super) async fn epoch_of(&self, worker: &mut Worker, place: &Place) -> Result<Vec<Write>> {
        let (stream, partition) = place;
        let (folded, watermark, open) = {
            let held = self.read();
            let held = &held.partitions[place];
            (held.folded, held.watermark, held.open().map(|(start, record)| (start, record.clone())))
        };
        let room = self.config.segment_rows.saturating_sub(open.as_ref().map_or(0, |(_, r)| r.rows)).max(1);
        let max_rows = self.config.epoch_rows.min(usize::try_from(room).unwrap_or(usize::MAX));
        let chunk = self.log.read(stream, *partition, folded, max_rows).await?;
        if chunk.range.is_empty() {
            return Ok(Vec::new());
        }
        let events = &chunk.batches;
        let (start, mut record) = open.unwrap_or_else(|| {
            (folded, SegmentRecord { opened_at: (self.clock)(), ..SegmentRecord::default() })
        });
        record.end = chunk.range.end;
        record.rows += rows(events);
        let mut writes = Vec::new();
        if let Some(time) = worker.times.get(stream) {
            let times = time.of(events)?;
            record.watermark = watermark.max(record.watermark).max(super::watermark::watermark(&times));
            writes.extend(self.late(worker, place, folded, chunk.range.end, events, &times)?);
        }
        let readers: Vec<Digest> = {
            let held = self.read();
            let at_front = held.views.iter().filter(|(_, view)| {
                view.failed.is_none() && view.partitions.get(place).is_some_and(|p| p.to == folded)
            });
            at_front.map(|(fingerprint, _)| *fingerprint).collect()
        };
        writes.extend(self.fold(worker, &readers, place, start, chunk.range, events).await?);
        writes.push(Write::Segment { stream: stream.clone(), partition: *partition, start, record });
        if rows(events) > 0 {
            let mut held = self.write();
            held.partitions.entry(place.clone()).or_default().came = (self.clock)();
        }
        Ok(writes)
    }

    /// Folds the events of a range into the views' states of the segment that begins at `start`. A view whose query
    /// fails on them is marked and left behind; all else goes on.
    pub(super) async fn fold(
        &self,
        worker: &mut Worker,
        views: &[Digest],
        place: &Place,
        start: Offset,
        range: OffsetRange,
        events: &[RecordBatch],
    ) -> Result<Vec<Write>> {
        let mut folds = Vec::new();
        for &fingerprint in views {
            let Some(runner) = worker.runners.get(&fingerprint) else { continue };
            let (stream, partition) = place.clone();
            worker.next_number += 1;
            folds.push(runner.fold(UnitId { fingerprint, stream, partition, start }, worker.next_number));
        }
        let mut writes = Vec::new();
        for (Fold { id, .. }, folded) in self.fold_all(folds, events).await? {
            let from =
                self.read().views.get(&id.fingerprint).and_then(|v| Some(v.partitions.get(place)?.from));
            let (Some(from), UnitId { fingerprint, stream, partition, .. }) = (from, id.clone()) else {
                continue;
            };
            match folded {
                Ok(runs) => {
                    writes.extend(runs);
                    writes.push(Write::Unit { id, end: range.end });
                    writes.push(Write::Position { fingerprint, stream, partition, from, to: range.end });
                }
                Err(e) if e.kind() == Kind::Invalid => {
                    let reason = format!("stream {stream}, partition {partition}, offsets {range}: {e}");
                    self.leave_behind(fingerprint, &reason);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(writes)
    }
}

/// The units that have new runs.
fn touched(writes: &[Write]) -> BTreeSet<UnitId> {
    let run = |write: &Write| match write {
        Write::Run { id, .. } => Some(id.clone()),
        _ => None,
    };
    writes.iter().filter_map(run).collect()
}

fn rows(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}
