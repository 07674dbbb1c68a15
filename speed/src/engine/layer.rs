//! The engine as [`SpeedLayer`]: what serving, batch and the command line ask of it.

use super::held::{Held, Place};
use super::{Engine, Ordering, PoisonError};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;
use twofold_common::stream::below;
use twofold_common::{
    Answer, Digest, Error, IngestReceipt, IngestRequest, LateEvents, Merger, Offset, Offsets, Partition,
    PartitionStatus, PartitionWatermark, Result, SegmentState, Snapshot, SnapshotRequest, SpeedLayer,
    SpeedStatus, SpeedViewStatus, State, StreamDef, StreamRequest, Tail,
};

/// How long sealing waits for the archiver.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(120);
/// Events read from the log at once.
const TAIL_ROWS: usize = 65_536;

#[async_trait]
impl SpeedLayer for Engine {
    async fn snapshot(&self, request: &SnapshotRequest) -> Result<Answer> {
        if let Some(staleness) = self.wait_until_fresh(request).await? {
            return Ok(Answer::Stale { staleness });
        }
        let mut snapshot = Snapshot::default();
        let ends: Vec<Offsets> = {
            let held = self.read();
            for view in &request.views {
                match held.states(view) {
                    Ok(states) => snapshot.views.push(states),
                    Err(answer) => return Ok(answer),
                }
            }
            snapshot.watermarks = self.watermarks(&held, request);
            if request.late_events {
                match held.late_events() {
                    Ok(rows) => snapshot.late_events = Some(LateEvents::batch(&rows)?),
                    Err(answer) => return Ok(answer),
                }
            }
            request.streams.iter().map(|s| held.ends(&s.stream)).collect()
        };
        for (stream, ends) in request.streams.iter().zip(ends) {
            match self.tail(stream, &ends).await? {
                Some(tail) => snapshot.streams.push(tail),
                None => return Ok(Answer::Retired { relation: stream.stream.clone() }),
            }
        }
        Ok(Answer::Snapshot(snapshot))
    }

    async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt> {
        self.ingest.ingest(request).await
    }

    async fn seal(&self) -> Result<()> {
        let ends: Vec<(String, Offsets)> = {
            let mut ends = Vec::new();
            for (name, stream) in self.catalog.streams() {
                let mut offsets = Offsets::new();
                for partition in stream.partitions() {
                    offsets.insert(partition, self.log.bounds(name, partition).await?.end);
                }
                ends.push((name.clone(), offsets));
            }
            ends
        };
        self.seal_wanted.store(true, Ordering::SeqCst);
        self.wake.notify_one();
        let archived = async {
            for (stream, offsets) in ends {
                loop {
                    let archived = self.archived(&stream).await?;
                    let done = |(partition, end): (&Partition, &Offset)| {
                        archived.get(partition).is_some_and(|at| at.end() >= *end)
                    };
                    if offsets.iter().filter(|(_, end)| end.0 > 0).all(done) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Ok(())
        };
        timeout(ARCHIVED_WITHIN, archived).await.map_err(|_| {
            Error::Unavailable(format!(
                "sealed segments were not archived within {} s: see the log of the speed layer",
                ARCHIVED_WITHIN.as_secs()
            ))
        })?
    }

    async fn gc(&self, dry_run: bool) -> Result<Vec<Digest>> {
        if dry_run { Ok(self.removed_views()) } else { self.drop_removed_views().await }
    }

    async fn status(&self) -> Result<SpeedStatus> {
        let mut partitions = Vec::new();
        for (name, stream) in self.catalog.streams() {
            let archived = self.archived(name).await?;
            for partition in stream.partitions() {
                let bounds = self.log.bounds(name, partition).await?;
                let archived = archived.get(&partition).map_or(Offset(0), |archived| archived.end());
                let held = self.read();
                let place = (name.clone(), partition);
                partitions.push(PartitionStatus {
                    stream: name.clone(),
                    partition,
                    log_start: bounds.start.0,
                    log_end: bounds.end.0,
                    folded: held.folded(&place).0,
                    archived: archived.0,
                    segments_waiting: held.sealed(&place, archived).len() as u64,
                    watermark: stream
                        .watermark
                        .as_ref()
                        .and(held.partitions.get(&place))
                        .and_then(|p| p.watermark),
                    idle: self.is_idle(&held, stream, &place),
                });
            }
        }
        let held = self.read();
        let views = held.views.values().map(|view| {
            let units = || view.partitions.values().flat_map(|p| p.units.values());
            let states = || units().flat_map(|u| u.runs.values().flatten());
            SpeedViewStatus {
                view: view.view.name().to_string(),
                fingerprint: view.view.fingerprint(),
                segments: units().count() as u64,
                rows: states().map(|run| run.state.rows() as u64).sum(),
                bytes: states().map(|run| run.state.memory() as u64).sum(),
                building: held.building(view),
                failed: view.failed.clone(),
            }
        });
        Ok(SpeedStatus {
            partitions,
            views: views.collect(),
            epochs: held.epochs,
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            late: held.late_totals(),
        })
    }

    async fn moved(&self, seen: Option<u64>) -> Result<u64> {
        let mut progress = self.progress.subscribe();
        loop {
            let folded =
                self.read().partitions.values().fold(0u64, |sum, held| sum.wrapping_add(held.folded.0));
            // The sender lives as long as the engine.
            if seen != Some(folded) || progress.changed().await.is_err() {
                return Ok(folded);
            }
        }
    }

    async fn segment_state(&self, segment: &SegmentState) -> Result<Option<State>> {
        let Some((view, states)) = self.read().unit_states(segment) else { return Ok(None) };
        let Some(cut) = view.cuts().get(segment.cut) else { return Ok(None) };
        let mut merger = Merger::try_new(self.catalog.session(), cut).await?;
        merger.merge(&states).await.map(Some)
    }
}

impl Engine {
    /// The watermarks of all partitions that an answer to `request` rests on.
    fn watermarks(&self, held: &Held, request: &SnapshotRequest) -> Vec<PartitionWatermark> {
        let views = request.views.iter().filter_map(|v| held.views.get(&v.fingerprint));
        let mut streams: BTreeSet<String> = views.flat_map(|v| v.view.streams()).collect();
        streams.extend(request.streams.iter().map(|s| s.stream.clone()));
        let defs = streams.iter().filter_map(|name| self.catalog.streams().get(name));
        let of_stream = |def: &StreamDef| -> Vec<PartitionWatermark> {
            let of_partition = |partition| {
                let place = (def.name.clone(), partition);
                // What another declaration left behind does not count.
                let declared = def.watermark.as_ref().and(held.partitions.get(&place));
                PartitionWatermark {
                    watermark: declared.and_then(|held| held.watermark),
                    idle: self.is_idle(held, def, &place),
                    stream: place.0,
                    partition,
                }
            };
            def.partitions().map(of_partition).collect()
        };
        defs.flat_map(of_stream).collect()
    }

    /// Whether nothing has come into a partition for as long as its stream's idle timeout.
    fn is_idle(&self, held: &Held, stream: &StreamDef, place: &Place) -> bool {
        let Some(timeout) = stream.watermark.as_ref().and_then(|w| w.idle_timeout) else { return false };
        let timeout = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        let came = held.partitions.get(place).map(|held| held.came);
        came.is_some_and(|came| (self.clock)().saturating_sub(came) >= timeout)
    }

    /// The events of a stream from where the archive ends up to `ends`; `None` if the log has let go of some.
    async fn tail(&self, request: &StreamRequest, ends: &Offsets) -> Result<Option<Tail>> {
        let mut tail = Tail::default();
        for (partition, end) in ends {
            let from = request.from.get(partition).copied().unwrap_or_default();
            if self.log.bounds(&request.stream, *partition).await?.start > from {
                return Ok(None);
            }
            let mut at = from;
            while at < *end {
                let chunk = match self.log.read(&request.stream, *partition, at, TAIL_ROWS).await {
                    Err(e) if e.kind() == twofold_common::Kind::NotFound => return Ok(None),
                    other => other?,
                };
                if chunk.range.is_empty() {
                    break;
                }
                for batch in &chunk.batches {
                    tail.batches.push(below(batch, *end)?);
                }
                at = chunk.range.end;
            }
            tail.ranges.insert(*partition, twofold_common::OffsetRange::new(from, at.min(*end).max(from)));
        }
        Ok(Some(tail))
    }
}
