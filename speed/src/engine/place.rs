//! Where the engine and its views stand in log and archive.
//!
//! ```text
//! log start <= archive's end <= folded <= log end
//! each archived segment, as far back as segments are held, is one of them
//! ```
//!
//! The second line is not so by itself: states may have been put back from an older copy, and another owner of the
//! stream may have sealed at other offsets. The archive decides. What does not fit it is let go of and folded again,
//! so that no owner waits for ever to archive segments that the archive has no place for.

use super::Engine;
use super::held::{Held, Place};
use super::store::{Contents, UnitId, Write};
use super::versions::answering;
use std::collections::BTreeMap;
use std::sync::Arc;
use twofold_common::{Digest, Error, Horizon, LogBounds, Offset, Partition, Result, Segment, Versions, View};

/// What is archived of one partition.
#[derive(Debug, Default)]
pub(super) struct Archived {
    pub(super) segments: Vec<Segment>,
}

impl Archived {
    pub(super) fn end(&self) -> Offset {
        self.segments.last().map_or(Offset(0), |segment| segment.range.end)
    }

    fn watermark(&self) -> Option<i64> {
        self.segments.last().and_then(|segment| segment.watermark)
    }
}

impl Engine {
    /// Checks that log and archive are of one history with the states, and starts where they have come to. Where the
    /// states do not fit the archive, they are let go of.
    ///
    /// # Errors
    /// `Corrupt` if events are missing that were taken over before.
    pub(super) async fn place(&self) -> Result<()> {
        let places: Vec<Place> = self.read().partitions.keys().cloned().collect();
        for place in places {
            let bounds = self.log.bounds(&place.0, place.1).await?;
            let archived = self.archived(&place.0).await?.remove(&place.1).unwrap_or_default();
            self.check_place(&place, bounds, &archived)?;
            {
                let mut held = self.write();
                let held = held.partitions.entry(place.clone()).or_default();
                held.came = (self.clock)();
                if held.segments.is_empty() {
                    held.folded = archived.end();
                    held.watermark = archived.watermark();
                }
            }
            self.fit(&place, bounds, &archived).await?;
        }
        Ok(())
    }

    fn check_place(&self, (stream, partition): &Place, bounds: LogBounds, archived: &Archived) -> Result<()> {
        let held = self.read();
        let segments = held.partitions.get(&(stream.clone(), *partition));
        let end = archived.end();
        let known =
            segments.filter(|held| !held.segments.is_empty()).map_or(end, |held| held.folded).max(end);
        let damage = |reason: String| {
            let path = self.config.state_path.display().to_string();
            Err(Error::corrupt(path, format!("stream {stream}, partition {partition}: {reason}")))
        };
        if bounds.end < known {
            return damage(format!(
                "events up to offset {known} were taken over, but the log ends at {}: the log is not the one that the \
                 states and the archive were made from; put the right log back",
                bounds.end
            ));
        }
        if end < bounds.start {
            return damage(format!(
                "the archive ends at offset {end}, but the log begins at {}: what lies between was archived once; the \
                 archive is not the one that the log was trimmed for; put the right archive back",
                bounds.start
            ));
        }
        Ok(())
    }

    /// Lets go of what is held of a partition, if the archive has other segments: it is folded again, from the
    /// archive's end on.
    pub(super) async fn fit(&self, place: &Place, bounds: LogBounds, archived: &Archived) -> Result<()> {
        if self.read().fits(place, &archived.segments) {
            return Ok(());
        }
        self.check_place(place, bounds, archived)?;
        let (stream, partition) = place;
        let end = archived.end();
        tracing::warn!(
            stream,
            partition = partition.0,
            archived = end.0,
            "the archive has other segments than were sealed here: another owner archived, or the states are older \
             than the archive; the partition is folded again from there"
        );
        let mut starts = BTreeMap::new();
        for view in self.views().into_iter().filter(|view| view.streams().contains(stream)) {
            let horizon = self.horizon(view.name(), view.fingerprint()).await?;
            let at = horizon.get(stream).and_then(|p| p.get(partition)).copied().unwrap_or_default();
            // Newer than the archive that was read: then there is a segment for each of its offsets.
            starts.insert(view.fingerprint(), at.min(end));
        }
        let writes = self.read().let_go_of(place, &starts);
        let writes = self.store(writes).await?;
        let mut held = self.write();
        held.apply(writes);
        let held = held.partitions.entry(place.clone()).or_default();
        (held.folded, held.watermark) = (end, archived.watermark());
        Ok(())
    }

    /// Gives each view that the store does not know yet the place to start from: the horizon of its batch view, or
    /// the beginning.
    pub(super) async fn place_new_views(&self) -> Result<()> {
        let known = |fingerprint: &Digest, place: &Place| {
            self.read().views.get(fingerprint).is_some_and(|v| v.partitions.contains_key(place))
        };
        let writes = self.starts(&self.views(), known).await?;
        self.commit(writes).await
    }

    /// The places to start from of those `views` and partitions that are not `known`.
    pub(super) async fn starts(
        &self,
        views: &[Arc<View>],
        known: impl Fn(&Digest, &Place) -> bool,
    ) -> Result<Vec<Write>> {
        let places: Vec<Place> = self.read().partitions.keys().cloned().collect();
        let mut writes = Vec::new();
        for view in views {
            let fingerprint = view.fingerprint();
            let horizon = self.horizon(view.name(), fingerprint).await?;
            for stream in view.streams() {
                for place @ (_, partition) in places.iter().filter(|(name, _)| *name == stream) {
                    if known(&fingerprint, place) {
                        continue;
                    }
                    let horizon = horizon.get(&stream).and_then(|p| p.get(partition)).copied();
                    let from = self.read().floor(place, horizon.unwrap_or_default());
                    let (stream, partition) = place.clone();
                    writes.push(Write::Position { fingerprint, stream, partition, from, to: from });
                }
            }
        }
        Ok(writes)
    }

    /// What is archived of each partition of a stream.
    pub(super) async fn archived(&self, stream: &str) -> Result<BTreeMap<Partition, Archived>> {
        let manifest = self.archive.manifest(stream).await?;
        let segments = manifest.map(|m| m.body.segments).unwrap_or_default();
        Ok(segments.into_iter().map(|(partition, segments)| (partition, Archived { segments })).collect())
    }

    pub(super) async fn horizon(&self, view: &str, fingerprint: Digest) -> Result<Horizon> {
        let manifest = self.batch_views.latest(view, &fingerprint.to_string()).await?;
        Ok(manifest.map(|m| m.body.horizon).unwrap_or_default())
    }
}

impl Held {
    /// What a store holds for these versions of a project.
    pub(super) fn of(versions: &Versions, contents: Contents) -> Self {
        let catalog = versions.current();
        let places = catalog.streams().values().flat_map(|s| s.partitions().map(|p| (s.name.clone(), p)));
        let timed = |stream: &str| catalog.streams().get(stream).is_some_and(|s| s.watermark.is_some());
        let views = versions.folded().into_iter().map(|(view, _)| view);
        let mut held = Self::new(places, views, timed);
        held.answering = answering(versions);
        held.apply(contents.into_writes());
        held
    }

    /// Whether the segments that the archive has of a partition are ones that are held, as far back as these reach.
    fn fits(&self, place: &Place, archived: &[Segment]) -> bool {
        let end = archived.last().map_or(Offset(0), |segment| segment.range.end);
        let Some(held) = self.partitions.get(place) else { return true };
        let Some((&first, _)) = held.segments.first_key_value() else { return end <= held.folded };
        let known = |segment: &Segment| {
            let record = held.segments.get(&segment.range.start);
            record.is_some_and(|record| record.sealed && record.end == segment.range.end)
        };
        let within = archived.iter().rev().take_while(|segment| segment.range.end > first);
        first <= end && end <= held.folded && within.into_iter().all(known)
    }

    /// What lets go of all that is held of a partition, so that each view starts again at its offset of `starts`.
    fn let_go_of(&self, place: &Place, starts: &BTreeMap<Digest, Offset>) -> Vec<Write> {
        let (stream, partition) = place.clone();
        let segments = self.partitions.get(place).into_iter().flat_map(|held| held.segments.keys());
        let mut writes: Vec<Write> =
            segments.map(|&start| Write::DropSegment { stream: stream.clone(), partition, start }).collect();
        for (&fingerprint, view) in &self.views {
            let Some(held) = view.partitions.get(place) else { continue };
            let id = |&start: &Offset| UnitId { fingerprint, stream: stream.clone(), partition, start };
            writes.extend(held.units.keys().map(|start| Write::DropUnit { id: id(start) }));
            let from = starts.get(&fingerprint).copied().unwrap_or_default();
            writes.push(Write::Position { fingerprint, stream: stream.clone(), partition, from, to: from });
        }
        writes
    }

    /// The last offset at or below `offset` at which states can be cut: where a segment begins, or nothing is folded
    /// yet.
    pub(super) fn floor(&self, place: &Place, offset: Offset) -> Offset {
        let Some(held) = self.partitions.get(place) else { return Offset(0) };
        held.at(offset).map_or(offset.min(held.folded), |(start, _)| start)
    }
}
