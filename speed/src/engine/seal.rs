//! Sealing: open segments become closed ones, at an epoch's boundary, for the archiver to take.
//!
//! ```text
//! open -> closed, its range fixed, the next event opens another -> sealed, with the digests of its states
//! ```
//!
//! The digests go with a sealed segment, so that a batch run can compare its own with them. What a whole segment comes
//! to takes long to find where there are many keys: that is done beside the epochs, a segment of each partition after the
//! other.

use super::compaction::Whole;
use super::held::{HeldView, Place, Unit};
use super::store::{UnitId, Write};
use super::{Engine, Worker};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use twofold_common::{Digest, Error, Failpoint, Kind, Merger, Offset, Result, state_key};

/// Closed segments whose states are being summed up.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    tasks: JoinSet<Closed>,
    under_way: BTreeSet<Place>,
}

/// A closed segment, and what the states of each view come to that has folded all of it.
#[derive(Debug)]
struct Closed {
    place: Place,
    start: Offset,
    views: Vec<(UnitId, Result<Summed>)>,
}

/// The whole state of each cut, and what names its content.
type Summed = Vec<(Digest, Whole)>;

/// What a view has folded of a segment, and what merges that.
type Folded = (UnitId, Unit, Vec<(usize, Arc<Mutex<Merger>>)>);

impl Sealing {
    /// Gives up what is under way.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Engine {
    /// Closes the open segments that are full, old, or all, and seals what was closed before and is summed up by now.
    pub(super) async fn seal(&self, worker: &mut Worker, all: bool) -> Result<()> {
        let now = (self.clock)();
        let age = i64::try_from(self.config.segment_age.as_nanos()).unwrap_or(i64::MAX);
        let writes = {
            let held = self.read();
            let open = held.partitions.iter().filter_map(|(place, held)| Some((place, held.open()?)));
            let due = open.filter(|(_, (_, r))| {
                all || r.rows >= self.config.segment_rows || now.saturating_sub(r.opened_at) >= age
            });
            let close = due.map(|((stream, partition), (start, record))| {
                let mut record = record.clone();
                (record.sealed, record.unsummed) = (true, true);
                Write::Segment { stream: stream.clone(), partition: *partition, start, record }
            });
            close.collect()
        };
        self.commit(writes).await?;
        self.sum_up(worker);
        while let Some(closed) = worker.sealing.tasks.try_join_next() {
            self.seal_closed(worker, closed.map_err(|e| gave_up(&e))).await?;
        }
        Ok(())
    }

    /// Waits until all closed segments are sealed.
    pub(super) async fn seal_all_closed(&self, worker: &mut Worker) -> Result<()> {
        while let Some(closed) = worker.sealing.tasks.join_next().await {
            self.seal_closed(worker, closed.map_err(|e| gave_up(&e))).await?;
        }
        Ok(())
    }

    /// Begins to sum up the first closed segment of each partition.
    fn sum_up(&self, worker: &mut Worker) {
        let held = self.read();
        for (place, segments) in &held.partitions {
            let Some((&start, record)) = segments.segments.iter().find(|(_, record)| record.unsummed) else {
                continue;
            };
            if !worker.sealing.under_way.insert(place.clone()) {
                continue;
            }
            let of_view = |(fingerprint, view): (&Digest, &HeldView)| -> Option<Folded> {
                let of_place = view.partitions.get(place)?;
                let unit = of_place.units.get(&start)?;
                let (stream, partition) = place.clone();
                let id = UnitId { fingerprint: *fingerprint, stream, partition, start };
                let whole = of_place.from <= start && unit.end == record.end && view.failed.is_none();
                let mergers = worker.runners.get(fingerprint)?.mergers_of(&place.0);
                whole.then(|| (id, unit.clone(), mergers))
            };
            let folded: Vec<Folded> = held.views.iter().filter_map(of_view).collect();
            let (place, wake) = (place.clone(), Arc::clone(&self.wake));
            let sum = async move {
                let mut views = Vec::new();
                for (id, unit, mergers) in folded {
                    views.push((id, summed_up(&unit, mergers).await));
                }
                wake.notify_one();
                Closed { place, start, views }
            };
            match self.merge_on.get() {
                Some(handle) => worker.sealing.tasks.spawn_on(sum, handle),
                None => worker.sealing.tasks.spawn(sum),
            };
        }
    }

    async fn seal_closed(&self, worker: &mut Worker, closed: Result<Closed>) -> Result<()> {
        let Closed { place, start, views } = closed.inspect_err(|_| worker.sealing.clear())?;
        worker.sealing.under_way.remove(&place);
        let record = self.read().partitions.get(&place).and_then(|held| held.segments.get(&start)).cloned();
        // Let go of meanwhile, since it does not fit the archive.
        let Some(mut record) = record.filter(|record| record.unsummed) else { return Ok(()) };
        let mut all = Vec::new();
        for (id, states) in views {
            let states = match states {
                Err(e) if e.kind() == Kind::Invalid => {
                    self.leave_behind(id.fingerprint, &e.to_string());
                    continue;
                }
                states => states?,
            };
            for (digest, whole) in states {
                record.states.insert(state_key(id.fingerprint, whole.cut), digest);
                all.push((id.clone(), whole));
            }
        }
        Failpoint::SealMerged.reach();
        record.unsummed = false;
        let (stream, partition) = place;
        tracing::info!(
            stream,
            partition = partition.0,
            start = start.0,
            end = record.end.0,
            "segment sealed"
        );
        self.commit(vec![Write::Segment { stream, partition, start, record }]).await?;
        Failpoint::SealDurable.reach();
        all.into_iter().for_each(|(id, whole)| self.compact(worker, &id, whole));
        self.sealing.send_modify(|n| *n += 1);
        self.sum_up(worker);
        Ok(())
    }
}

async fn summed_up(unit: &Unit, mergers: Vec<(usize, Arc<Mutex<Merger>>)>) -> Result<Summed> {
    let wholes = Whole::of(unit, mergers).await?;
    wholes.into_iter().map(|whole| Ok((whole.state.digest()?, whole))).collect()
}

fn gave_up(e: &tokio::task::JoinError) -> Error {
    Error::Internal(format!("summing up a segment: {e}"))
}
