//! The basis of an answer: what is stored of the relations that it reads, and what must be asked of the speed
//! layer.
//!
//! One manifest is taken for each relation. Whatever horizons they have, the answer is the same:
//!
//! ```text
//! coverage(relation, partition) = stored [0, H) + speed [H, end)      end is the same for all relations of a query
//! ```
//!
//! [`Basis::coverage`] is the predicate that says so of an actual answer of the speed layer. It does not
//! promise that two queries have the same `end`.

use crate::batch_states::{BatchStates, Pick};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use twofold_common::{
    Archive, BatchManifest, Catalog, Coverage, Error, Horizon, Offset, OffsetRange, Offsets, Partition,
    PartitionWatermark, Result, Segment, Snapshot, SnapshotRequest, StateFile, StreamDef, StreamManifest,
    StreamRequest, View, ViewRequest, scan::Source,
};

/// The relations that a query reads, each once.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    views: Vec<Arc<View>>,
    streams: Vec<StreamDef>,
    late_events: bool,
}

/// What is stored of them.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) views: Vec<ViewBasis>,
    pub(crate) streams: Vec<StreamBasis>,
    /// Whether the late events are read, of which nothing is stored.
    pub(crate) late_events: bool,
}

/// A view's batch view: before the first, one that covers nothing.
#[derive(Debug)]
pub(crate) struct ViewBasis {
    pub(crate) view: Arc<View>,
    /// The files of each cut's state.
    pub(crate) files: Vec<Vec<StateFile>>,
    /// For each partition of each of the view's streams.
    pub(crate) horizon: Horizon,
}

/// A stream's archive.
#[derive(Debug)]
pub(crate) struct StreamBasis {
    pub(crate) def: StreamDef,
    pub(crate) segments: Vec<(Partition, Segment)>,
    /// For each partition.
    pub(crate) end: Offsets,
}

impl Relations {
    /// The relations of these sources.
    pub(crate) fn of(sources: &[Source], catalog: &Catalog) -> Result<Self> {
        let mut relations = Self::default();
        for source in sources {
            match source {
                Source::State { view, .. } => {
                    if !relations.views.iter().any(|known| known.name() == view) {
                        relations.views.push(Arc::clone(catalog.view(view)?));
                    }
                }
                Source::Stream(stream) => {
                    if !relations.streams.iter().any(|known| &known.name == stream) {
                        relations.streams.push(catalog.stream(stream)?.clone());
                    }
                }
                Source::LateEvents => relations.late_events = true,
                Source::Audit | Source::Coverage => {}
            }
        }
        Ok(relations)
    }
}

impl Basis {
    /// Takes the newest manifest of each relation, or of views the newest whose states are at hand.
    pub(crate) async fn take(
        relations: &Relations,
        catalog: &Catalog,
        archive: &Archive,
        batch_states: &Arc<BatchStates>,
        pick: Pick,
    ) -> Result<Self> {
        let late_events = relations.late_events;
        let mut basis = Self { views: Vec::new(), streams: Vec::new(), late_events };
        for view in &relations.views {
            let manifest = batch_states.latest(view, pick).await?;
            let mut horizon = Horizon::new();
            for stream in view.streams() {
                let none = catalog.stream(&stream)?.partitions().map(|p| (p, Offset(0))).collect();
                horizon.insert(stream, none);
            }
            basis.views.push(ViewBasis::new(view, manifest.as_ref().map(|m| &m.body), horizon)?);
        }
        for def in &relations.streams {
            let manifest = archive.manifest(&def.name).await?;
            basis.streams.push(StreamBasis::new(def, manifest.map(|m| m.body))?);
        }
        Ok(basis)
    }

    /// Whether there is nothing to ask of the speed layer.
    pub(crate) fn is_empty(&self) -> bool {
        self.views.is_empty() && self.streams.is_empty() && !self.late_events
    }

    /// What lies at or above the basis.
    pub(crate) fn request(&self, max_staleness: Option<Duration>) -> SnapshotRequest {
        let views = self.views.iter().map(|basis| ViewRequest {
            view: basis.view.name().to_string(),
            fingerprint: basis.view.fingerprint(),
            from: basis.horizon.clone(),
        });
        let streams = self.streams.iter();
        let streams = streams.map(|b| StreamRequest { stream: b.def.name.clone(), from: b.end.clone() });
        let (views, streams) = (views.collect(), streams.collect());
        SnapshotRequest { views, streams, late_events: self.late_events, max_staleness }
    }

    /// What the basis and a snapshot cover together, with the watermarks there.
    ///
    /// # Errors
    /// `Internal` if that has a gap or an overlap, lacks a partition, or ends differently for two relations.
    pub(crate) fn coverage(&self, snapshot: &Snapshot) -> Result<Vec<Coverage>> {
        if (snapshot.views.len(), snapshot.streams.len()) != (self.views.len(), self.streams.len()) {
            return Err(Error::Internal(format!(
                "asked for {} views and {} streams, the speed layer answered with {} and {}",
                self.views.len(),
                self.streams.len(),
                snapshot.views.len(),
                snapshot.streams.len()
            )));
        }
        let mut coverage = Vec::new();
        for (basis, speed) in self.views.iter().zip(&snapshot.views) {
            let name = basis.view.name();
            for (stream, offsets) in &basis.horizon {
                let nothing = BTreeMap::new();
                let pieces = speed.pieces.get(stream).unwrap_or(&nothing);
                coverage.extend(cover(name, stream, offsets, |p| pieces.get(&p).map(Vec::as_slice))?);
            }
            if let Some(stream) = speed.pieces.keys().find(|stream| !basis.horizon.contains_key(*stream)) {
                return Err(Error::Internal(format!(
                    "{name}: the speed layer's answer has stream {stream}, which it does not read"
                )));
            }
        }
        for (basis, tail) in self.streams.iter().zip(&snapshot.streams) {
            let name = &basis.def.name;
            coverage
                .extend(cover(name, name, &basis.end, |p| tail.ranges.get(&p).map(std::slice::from_ref))?);
        }
        check_ends(&coverage)?;
        for part in &mut coverage {
            let of_part =
                |w: &&PartitionWatermark| (&w.stream, w.partition) == (&part.stream, part.partition);
            if let Some(known) = snapshot.watermarks.iter().find(of_part) {
                (part.watermark, part.idle) = (known.watermark, known.idle);
            }
        }
        Ok(coverage)
    }
}

impl ViewBasis {
    /// What `manifest` says, over `none`: offset 0 for each partition of each of the view's streams.
    fn new(view: &Arc<View>, manifest: Option<&BatchManifest>, none: Horizon) -> Result<Self> {
        let mut basis =
            Self { view: Arc::clone(view), files: vec![Vec::new(); view.cuts().len()], horizon: none };
        let Some(manifest) = manifest else { return Ok(basis) };
        let corrupt = |reason: String| Error::corrupt(format!("the batch view of {}", view.name()), reason);
        if manifest.cuts.len() != view.cuts().len() {
            let (found, expected) = (manifest.cuts.len(), view.cuts().len());
            return Err(corrupt(format!("expected the states of {expected} cuts, found {found}")));
        }
        for (stream, offsets) in &manifest.horizon {
            for (partition, offset) in offsets {
                let known = basis.horizon.get_mut(stream).and_then(|all| all.get_mut(partition));
                let known = known.ok_or_else(|| {
                    corrupt(format!(
                        "it covers stream {stream}, partition {partition}, which the view does not read"
                    ))
                })?;
                *known = *offset;
            }
        }
        basis.files.clone_from(&manifest.cuts);
        Ok(basis)
    }
}

impl StreamBasis {
    fn new(def: &StreamDef, manifest: Option<StreamManifest>) -> Result<Self> {
        if let Some(manifest) = &manifest
            && manifest.partitions != def.partitions
        {
            return Err(Error::Invalid(format!(
                "stream {} has {} partitions in the archive, but the project declares {}: declare it as before",
                def.name, manifest.partitions, def.partitions
            )));
        }
        let end = |p| manifest.as_ref().map_or(Offset(0), |m| m.end(p));
        let end = def.partitions().map(|p| (p, end(p))).collect();
        let of_partition = |(partition, segments): (Partition, Vec<Segment>)| {
            segments.into_iter().map(move |segment| (partition, segment))
        };
        let segments =
            manifest.into_iter().flat_map(|m| m.segments.into_iter().flat_map(of_partition)).collect();
        Ok(Self { def: def.clone(), segments, end })
    }
}

/// The coverage of one stream in one relation.
fn cover<'a>(
    relation: &str,
    stream: &str,
    from: &Offsets,
    speed: impl Fn(Partition) -> Option<&'a [OffsetRange]>,
) -> Result<Vec<Coverage>> {
    let one = |(&partition, &horizon)| {
        let Some(ranges) = speed(partition) else {
            return Err(Error::Internal(format!(
                "{relation}: the speed layer's answer lacks stream {stream}, partition {partition}; no answer is given \
                 without it"
            )));
        };
        Coverage::assemble(relation, stream, partition, horizon, ranges)
    };
    from.iter().map(one).collect()
}

/// Checks that all relations of a query end at the same offsets.
fn check_ends(coverage: &[Coverage]) -> Result<()> {
    let mut ends: BTreeMap<(&str, Partition), &Coverage> = BTreeMap::new();
    for part in coverage {
        let first = ends.entry((&part.stream, part.partition)).or_insert(part);
        if first.speed.end != part.speed.end {
            return Err(Error::Internal(format!(
                "stream {}, partition {}: {} ends at offset {}, but {} at {}; no answer is given from two moments",
                part.stream, part.partition, first.relation, first.speed.end, part.relation, part.speed.end
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::Tail;

    fn range(start: u64, end: u64) -> OffsetRange {
        OffsetRange::new(Offset(start), Offset(end))
    }

    fn stream(name: &str, partitions: u32, archived: u64) -> StreamBasis {
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let def = StreamDef {
            name: name.into(),
            schema,
            partitions,
            partition_by: None,
            watermark: None,
            deduplicate: None,
        };
        let end = def.partitions().map(|p| (p, Offset(archived))).collect();
        StreamBasis { def, segments: Vec::new(), end }
    }

    fn tail(ranges: &[OffsetRange]) -> Tail {
        let ranges = ranges.iter().enumerate().map(|(i, r)| (Partition(i as u32), *r)).collect();
        Tail { ranges, batches: Vec::new() }
    }

    fn coverage(basis: Vec<StreamBasis>, tails: Vec<Tail>) -> Result<Vec<Coverage>> {
        let basis = Basis { views: Vec::new(), streams: basis, late_events: false };
        let watermark = |(partition, watermark, idle)| PartitionWatermark {
            stream: "s".into(),
            partition: Partition(partition),
            watermark,
            idle,
        };
        let watermarks = [(1, Some(7), true), (2, Some(9), false)].map(watermark).to_vec();
        basis.coverage(&Snapshot { streams: tails, watermarks, ..Snapshot::default() })
    }

    fn refusal(basis: Vec<StreamBasis>, tails: Vec<Tail>) -> String {
        coverage(basis, tails).unwrap_err().to_string()
    }

    #[test]
    fn stored_and_speed_parts_make_one_range() {
        let covered = coverage(vec![stream("s", 2, 5)], vec![tail(&[range(5, 9), range(5, 5)])]).unwrap();
        assert_eq!((covered[0].batch, covered[0].speed), (range(0, 5), range(5, 9)));
        assert_eq!((covered[1].batch, covered[1].speed), (range(0, 5), range(5, 5)));
        assert_eq!((covered[0].watermark, covered[0].idle), (None, false));
        assert_eq!((covered[1].watermark, covered[1].idle), (Some(7), true));
    }

    #[test]
    fn a_partition_that_is_not_answered_is_refused() {
        let message = refusal(vec![stream("s", 2, 5)], vec![tail(&[range(5, 9)])]);
        assert!(message.contains("lacks stream s, partition 1"), "{message}");
    }

    #[test]
    fn a_gap_between_archive_and_tail_is_refused() {
        let message = refusal(vec![stream("s", 1, 5)], vec![tail(&[range(7, 9)])]);
        assert!(message.contains("offsets [5, 7) are missing"), "{message}");
    }

    #[test]
    fn relations_of_two_moments_are_refused() {
        let tails = vec![tail(&[range(5, 9)]), tail(&[range(5, 8)])];
        let message = refusal(vec![stream("s", 1, 5), stream("s", 1, 5)], tails);
        assert!(message.contains("stream s, partition 0: s ends at offset 9, but s at 8"), "{message}");
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let message = refusal(vec![stream("s", 1, 5)], vec![]);
        assert!(message.contains("asked for 0 views and 1 streams"), "{message}");
    }
}
