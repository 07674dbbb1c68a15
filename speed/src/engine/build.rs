//! Building: a view that lags behind its partitions is folded from archive and log, piece by piece, while all else
//! goes on.
//!
//! A piece never straddles two segments, so what is built has the same units as what was folded as it came.

use super::compaction::Whole;
use super::held::Place;
use super::store::UnitId;
use super::{Engine, Worker};
use arrow::array::RecordBatch;
use twofold_common::stream::{OFFSET, at_or_above, below};
use twofold_common::{Digest, Error, Offset, OffsetRange, Partition, Result};

impl Engine {
    /// Folds one more piece of one view that lags behind its partitions. Whether there may be more.
    pub(super) async fn build(&self, worker: &mut Worker) -> Result<bool> {
        let next = {
            let held = &*self.read();
            // First those that answer meanwhile, if they lag behind themselves.
            let of = |previous: bool| {
                let views = held.views.iter().filter(move |(f, _)| held.is_previous(f) == previous);
                views.filter(|(_, view)| view.failed.is_none()).find_map(|(f, view)| {
                    let behind = view.partitions.iter().find(|(place, p)| p.to < held.folded(place))?;
                    Some((*f, behind.0.clone(), behind.1.to))
                })
            };
            of(true).or_else(|| of(false))
        };
        let Some((fingerprint, place, to)) = next else { return Ok(false) };
        let (stream, partition) = (&place.0, place.1);
        let local = {
            let held = self.read();
            held.partitions[&place].at(to).map(|(start, record)| (start, record.clone()))
        };
        let log_start = self.log.bounds(stream, partition).await?.start;
        let (start, range, complete, events) = match local {
            Some((start, record)) if log_start <= to => {
                let chunk = self.log.read(stream, partition, to, self.config.epoch_rows).await?;
                let end = chunk.range.end.min(record.end);
                let events =
                    chunk.batches.iter().map(|batch| below(batch, end)).collect::<Result<Vec<_>>>()?;
                (start, OffsetRange::new(to, end), record.sealed && end == record.end, events)
            }
            _ => {
                let columns = worker.runners.get(&fingerprint).map(|r| r.columns(stream)).unwrap_or_default();
                let (range, events) = self.archived_events(stream, partition, to, columns).await?;
                (range.start, OffsetRange::new(to, range.end), true, events)
            }
        };
        let writes = self.fold(worker, &[fingerprint], &place, start, range, &events).await?;
        self.commit(writes).await?;
        if complete {
            self.merge_unit(worker, fingerprint, &place, start).await?;
        } else {
            let (stream, partition) = place;
            self.merge_gathered(worker, [UnitId { fingerprint, stream, partition, start }]);
        }
        Ok(true)
    }

    /// Makes a finished unit one run for each cut.
    pub(super) async fn merge_unit(
        &self,
        worker: &mut Worker,
        fingerprint: Digest,
        place: &Place,
        start: Offset,
    ) -> Result<()> {
        let unit = {
            let held = self.read();
            let partition = held.views.get(&fingerprint).and_then(|v| v.partitions.get(place));
            partition.and_then(|p| p.units.get(&start)).cloned()
        };
        let (Some(unit), Some(runner)) = (unit, worker.runners.get(&fingerprint)) else { return Ok(()) };
        let id = UnitId { fingerprint, stream: place.0.clone(), partition: place.1, start };
        let wholes = Whole::of(&unit, runner.mergers_of(&place.0)).await?;
        wholes.into_iter().for_each(|whole| self.compact(worker, &id, whole));
        Ok(())
    }

    /// The archived segment in which `from` lies, and its events at or above `from`.
    pub(super) async fn archived_events(
        &self,
        stream: &str,
        partition: Partition,
        from: Offset,
        mut columns: Vec<String>,
    ) -> Result<(OffsetRange, Vec<RecordBatch>)> {
        let manifest = self.archive.manifest(stream).await?;
        let segments = manifest.as_ref().and_then(|m| m.body.segments.get(&partition));
        let segment =
            segments.and_then(|all| all.iter().find(|s| s.range.contains(from))).ok_or_else(|| {
                Error::corrupt(
                    format!("archive of stream {stream}, partition {partition}"),
                    format!("offset {from} is neither in the log nor in the archive"),
                )
            })?;
        if !columns.iter().any(|c| c == OFFSET) {
            columns.push(OFFSET.to_string());
        }
        let schema = self.catalog.stream(stream)?.event_schema();
        let batches = self.archive.read_segment(segment, &schema, Some(&columns)).await?;
        let batches = batches.iter().map(|batch| at_or_above(batch, from));
        Ok((segment.range, batches.collect::<Result<_>>()?))
    }
}
