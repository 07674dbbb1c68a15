//! Counting late events in the loop: those of an epoch with the epoch, in its transaction; and, for counters that lag
//! behind their partition, what lies between, from log or archive.
//!
//! ```text
//! counter = count of the events in [0, to)        to <= what the partition has folded
//! ```
//!
//! A counter has its own position, which does not depend on that of the view's states: what batch covers is counted
//! too. So a new view, or a store that was lost, has the counts of all history once it has caught up.

use super::held::Place;
use super::late::{Behind, KEPT, LateId};
use super::store::Write;
use super::watermark::Times;
use super::{Engine, Worker};
use arrow::array::RecordBatch;
use twofold_common::stream::below;
use twofold_common::{Digest, Offset, Result};

impl Engine {
    /// What the events from `from` to `end` change in the counters of a partition that have come to `from`.
    pub(super) fn late(
        &self,
        worker: &Worker,
        place: &Place,
        from: Offset,
        end: Offset,
        events: &[RecordBatch],
        times: &[Times],
    ) -> Result<Vec<Write>> {
        let held = self.read();
        let mut writes = Vec::new();
        let mut behind: Option<Behind> = None;
        for (fingerprint, counter) in held.late.get(place).into_iter().flatten() {
            let windows = worker.windows.get(&(*fingerprint, place.0.clone()));
            let Some(windows) = windows.filter(|_| counter.to == from) else { continue };
            let (stream, partition) = place.clone();
            let id = LateId { fingerprint: *fingerprint, stream, partition };
            let behind = match behind.take() {
                Some(known) if counter.is_at(&known) => behind.insert(known),
                _ => behind.insert(Behind::of(times, counter.watermark)),
            };
            let changes = counter.count(windows, events, times, behind, end, KEPT)?;
            writes.extend(changes.into_iter().map(|change| Write::Late { id: id.clone(), change }));
        }
        Ok(writes)
    }

    /// Counts one more piece for counters that lag behind their partition. Whether there may be more.
    pub(super) async fn count_late(&self, worker: &Worker) -> Result<bool> {
        let next = {
            let held = self.read();
            held.late.iter().find_map(|(place, counters)| {
                let folded = held.folded(place);
                let from = counters.values().map(|c| c.to).filter(|to| *to < folded).min()?;
                let there = counters.iter().filter(|(_, c)| c.to == from).map(|(f, _)| *f);
                Some((place.clone(), from, folded, there.collect::<Vec<Digest>>()))
            })
        };
        let Some((place, from, folded, views)) = next else { return Ok(false) };
        let (stream, partition) = &place;
        let Some(time) = worker.times.get(stream) else { return Ok(false) };
        let (end, events) = if self.log.bounds(stream, *partition).await?.start <= from {
            let chunk = self.log.read(stream, *partition, from, self.config.epoch_rows).await?;
            let end = chunk.range.end.min(folded);
            (end, chunk.batches.iter().map(|batch| below(batch, end)).collect::<Result<Vec<_>>>()?)
        } else {
            let windows = views.iter().filter_map(|view| worker.windows.get(&(*view, stream.clone())));
            let columns = time.columns().chain(windows.flat_map(|w| w.columns())).cloned();
            let (range, events) = self.archived_events(stream, *partition, from, columns.collect()).await?;
            (range.end, events)
        };
        if end <= from {
            return Ok(false);
        }
        let writes = self.late(worker, &place, from, end, &events, &time.of(&events)?)?;
        self.commit(writes).await?;
        Ok(true)
    }
}
