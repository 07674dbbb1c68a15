//! Sealing: open segments become closed ones, at an epoch's boundary, for the archiver to take.
//!
//! The digests of the states of a sealed segment go with it, so that a batch run can compare its own with them.

use super::held::{HeldView, Place, Unit};
use super::store::{SegmentRecord, UnitId, Write};
use super::{Engine, Worker};
use twofold_common::{Digest, Failpoint, Offset, Result, state_key};

impl Engine {
    /// Seals the open segments that are full, old, or all.
    pub(super) async fn seal(&self, worker: &mut Worker, all: bool) -> Result<()> {
        let now = (self.clock)();
        let age = i64::try_from(self.config.segment_age.as_nanos()).unwrap_or(i64::MAX);
        let due: Vec<(Place, Offset, SegmentRecord)> = {
            let held = self.read();
            let open = held.partitions.iter().filter_map(|(place, held)| Some((place, held.open()?)));
            open.filter(|(_, (_, r))| {
                all || r.rows >= self.config.segment_rows || now.saturating_sub(r.opened_at) >= age
            })
            .map(|(place, (start, record))| (place.clone(), start, record.clone()))
            .collect()
        };
        for (place, start, record) in due {
            self.seal_one(worker, place, start, record).await?;
        }
        Ok(())
    }

    pub(super) async fn seal_one(
        &self,
        worker: &mut Worker,
        place: Place,
        start: Offset,
        mut record: SegmentRecord,
    ) -> Result<()> {
        let (stream, partition) = place.clone();
        let complete: Vec<(UnitId, Unit)> = {
            let held = self.read();
            let of_view = |(fingerprint, view): (&Digest, &HeldView)| {
                let of_place = view.partitions.get(&place)?;
                let unit = of_place.units.get(&start)?;
                let id = UnitId { fingerprint: *fingerprint, stream: stream.clone(), partition, start };
                let whole = of_place.from <= start && unit.end == record.end;
                whole.then(|| (id, unit.clone()))
            };
            held.views.iter().filter_map(of_view).collect()
        };
        let mut writes = Vec::new();
        for (id, unit) in complete {
            let Some(runner) = worker.runners.get_mut(&id.fingerprint) else { continue };
            worker.next_number += 1;
            let (states, merged) = runner.whole(&id, &unit, worker.next_number).await?;
            writes.extend(merged);
            for (cut, state) in states {
                record.states.insert(state_key(id.fingerprint, cut), state.digest()?);
            }
        }
        Failpoint::SealMerged.reach();
        record.sealed = true;
        tracing::info!(
            stream,
            partition = partition.0,
            start = start.0,
            end = record.end.0,
            "segment sealed"
        );
        writes.push(Write::Segment { stream, partition, start, record });
        self.commit(writes).await?;
        Failpoint::SealDurable.reach();
        self.sealing.send_modify(|n| *n += 1);
        Ok(())
    }
}
