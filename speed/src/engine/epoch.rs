//! Epochs: what is in the log, folded into every view that has come so far.
//!
//! ```text
//! state after an epoch = merge(state before it, fold(the epoch's events))
//! ```
//!
//! States, offsets, the open segment and the counts of late events change in one transaction.

use super::ahead::Share;
use super::folding::Folding;
use super::held::Place;
use super::store::{SegmentRecord, UnitId, Write};
use super::{Engine, Worker};
use arrow::array::RecordBatch;
use std::collections::BTreeSet;
use twofold_common::{Digest, Kind, OffsetRange, Result};

impl Engine {
    /// Folds the next events of every partition into the views that have come so far, and commits states and offsets
    /// in one transaction. Whether there were any.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(super) async fn epoch(&self, worker: &mut Worker) -> Result<bool> {
        let places: Vec<Place> = self.read().partitions.keys().cloned().collect();
        let mut writes = self.merged(worker).await?;
        let mut next = Vec::new();
        for place in places {
            if let Some((of_place, share)) = self.epoch_of(worker, &place).await? {
                writes.extend(of_place);
                next.push((place, share));
            }
        }
        let came = !next.is_empty();
        let touched = touched(&writes);
        writes.extend(self.compaction(worker));
        self.fold_ahead(worker, next).await?;
        self.commit(writes).await?;
        if came {
            let mut held = self.write();
            held.epochs += 1;
            self.progress.send_replace(held.epochs);
        }
        self.merge_gathered(worker, touched);
        Ok(came)
    }

    /// What is to be written of a partition, and its share in the epoch after this, as far as can be said. `None` if
    /// nothing came.
    async fn epoch_of(&self, worker: &mut Worker, place: &Place) -> Result<Option<(Vec<Write>, Share)>> {
        let (stream, partition) = place;
        let (folded, watermark, open, views) = {
            let held = self.read();
            let at_front = held.views.iter().filter(|(_, view)| {
                let to = view.partitions.get(place).map(|p| p.to);
                view.failed.is_none() && to == Some(held.partitions[place].folded)
            });
            let views: Vec<Digest> = at_front.map(|(fingerprint, _)| *fingerprint).collect();
            let held = &held.partitions[place];
            (held.folded, held.watermark, held.open().map(|(start, record)| (start, record.clone())), views)
        };
        let (start, mut record) = open.unwrap_or_else(|| {
            (folded, SegmentRecord { opened_at: (self.clock)(), ..SegmentRecord::default() })
        });
        let mut share = Share { start, from: folded, most: self.most(record.rows), views };
        let Some((chunk, folding)) = self.begun(worker, place, &share).await? else { return Ok(None) };
        let events = &chunk.batches;
        record.end = chunk.range.end;
        record.rows += rows(events);
        let mut writes = Vec::new();
        if let Some(time) = worker.times.get(stream) {
            let times = time.of(events)?;
            record.watermark = watermark.max(record.watermark).max(super::watermark::watermark(&times));
            writes.extend(self.late(worker, place, folded, chunk.range.end, events, &times)?);
        }
        share.from = chunk.range.end;
        if record.rows >= self.config.segment_rows {
            (share.start, share.most) = (share.from, self.most(0));
        } else {
            share.most = self.most(record.rows);
        }
        writes.extend(self.folded(worker, place, chunk.range, folding).await?);
        writes.push(Write::Segment { stream: stream.clone(), partition: *partition, start, record });
        if rows(events) > 0 {
            let mut held = self.write();
            held.partitions.entry(place.clone()).or_default().came = (self.clock)();
        }
        Ok(Some((writes, share)))
    }

    /// How many events of a partition an epoch takes at most, whose open segment has so many.
    fn most(&self, rows: u64) -> usize {
        let room = self.config.segment_rows.saturating_sub(rows).max(1);
        self.config.epoch_rows.min(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// What is to be written of the folds of a range: a new run of each state. A view whose query fails on the events
    /// is marked and left behind; all else goes on.
    pub(super) async fn folded(
        &self,
        worker: &mut Worker,
        place: &Place,
        range: OffsetRange,
        folding: Folding,
    ) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        for (id, folded) in folding.finish().await? {
            let from =
                self.read().views.get(&id.fingerprint).and_then(|v| Some(v.partitions.get(place)?.from));
            let (Some(from), UnitId { fingerprint, stream, partition, .. }) = (from, id.clone()) else {
                continue;
            };
            match folded {
                Ok(states) => {
                    worker.next_number += 1;
                    let (number, of) = (worker.next_number, id.clone());
                    let run = |(cut, state)| Write::Run { id: of.clone(), cut, number, state };
                    writes.extend(states.into_iter().map(run));
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

pub(super) fn rows(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}
