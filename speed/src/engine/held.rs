//! What the speed layer holds in memory: segments by partition, and by view the states of what it has folded.
//!
//! For each view and partition, with `from <= to`:
//!
//! ```text
//! units = the parts of the segments in [from, to):  disjoint, without a gap, none straddling two segments
//! state of [from, to) = merge of all runs of its units
//! ```
//!
//! Everything here is values. A change is decided as a list of [`Write`]s, which the store [commits](super::commit) and
//! which is [applied](Held::apply) here: memory is what the store would load once it has all of them.

use super::late::LateCounter;
use super::store::{SegmentRecord, UnitId, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twofold_common::{
    Answer, Digest, LATE_EVENTS, LateEvents, LateTotal, Offset, OffsetRange, Offsets, Partition,
    SealedSegment, SegmentState, SpeedView, State, View, ViewRequest,
};

/// A partition of a stream.
pub(crate) type Place = (String, Partition);

/// A sorted piece of the state of a unit.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// By which the store knows it; of several that were merged in memory alone, in their order.
    pub(crate) numbers: Vec<u64>,
    pub(crate) state: State,
}

/// What a view has folded of one segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unit {
    pub(crate) end: Offset,
    /// For each cut of the view, in the order of their numbers, which is that in which events came.
    pub(crate) runs: BTreeMap<usize, Vec<Run>>,
}

/// What a view has folded of one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldPartition {
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    pub(crate) units: BTreeMap<Offset, Unit>,
}

/// A view and its states.
#[derive(Debug)]
pub(crate) struct HeldView {
    pub(crate) view: Arc<View>,
    pub(crate) partitions: BTreeMap<Place, HeldPartition>,
    /// Why it does not go on.
    pub(crate) failed: Option<String>,
}

/// The segments of one partition that are not yet trimmed.
#[derive(Debug, Default)]
pub(crate) struct HeldSegments {
    pub(crate) segments: BTreeMap<Offset, SegmentRecord>,
    /// Everything below has been part of an epoch.
    pub(crate) folded: Offset,
    /// The watermark at `folded`.
    pub(crate) watermark: Option<i64>,
    /// When something last came, or else when the engine was opened. Not stored: who starts again waits again.
    pub(crate) came: i64,
}

impl HeldSegments {
    /// The segment that takes the next events, if one is open.
    pub(crate) fn open(&self) -> Option<(Offset, &SegmentRecord)> {
        self.segments.last_key_value().filter(|(_, r)| !r.sealed).map(|(start, r)| (*start, r))
    }

    /// The segment in which `offset` lies.
    pub(crate) fn at(&self, offset: Offset) -> Option<(Offset, &SegmentRecord)> {
        let (start, record) = self.segments.range(..=offset).next_back()?;
        (offset < record.end).then_some((*start, record))
    }
}

/// Everything that the speed layer holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) partitions: BTreeMap<Place, HeldSegments>,
    pub(crate) views: BTreeMap<Digest, HeldView>,
    /// Views whose states are stored, but which the project does not have (any more): for `gc`.
    pub(crate) removed: BTreeMap<Digest, u64>,
    pub(crate) epochs: u64,
    /// What is counted of late events, for each view that reads a partition of a stream with a watermark.
    pub(crate) late: BTreeMap<Place, BTreeMap<Digest, LateCounter>>,
    /// The fingerprints of the project's views, and then of those that answer in their place while they are built.
    pub(crate) answering: Vec<BTreeSet<Digest>>,
}

impl Held {
    /// Of these partitions and views, nothing yet; late events are counted in streams that are `timed`.
    pub(crate) fn new(
        places: impl IntoIterator<Item = Place>,
        views: impl IntoIterator<Item = Arc<View>>,
        timed: impl Fn(&str) -> bool,
    ) -> Self {
        let (places, views): (Vec<_>, Vec<_>) = (places.into_iter().collect(), views.into_iter().collect());
        let counters = |place: &Place| {
            let readers = views.iter().filter(|view| timed(&place.0) && view.streams().contains(&place.0));
            (place.clone(), readers.map(|view| (view.fingerprint(), LateCounter::default())).collect())
        };
        let late = places.iter().map(counters).collect();
        let answering = vec![views.iter().map(|view| view.fingerprint()).collect()];
        let view = |view: Arc<View>| {
            (view.fingerprint(), HeldView { view, partitions: BTreeMap::new(), failed: None })
        };
        Self {
            partitions: places.into_iter().map(|place| (place, HeldSegments::default())).collect(),
            views: views.into_iter().map(view).collect(),
            late,
            answering,
            ..Held::default()
        }
    }

    /// Takes over what was committed.
    pub(crate) fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Segment { stream, partition, start, record } => {
                    if let Some(held) = self.partitions.get_mut(&(stream, partition)) {
                        held.folded = held.folded.max(record.end);
                        held.watermark = held.watermark.max(record.watermark);
                        held.segments.insert(start, record);
                    }
                }
                Write::DropSegment { stream, partition, start } => {
                    if let Some(held) = self.partitions.get_mut(&(stream, partition)) {
                        held.segments.remove(&start);
                    }
                }
                Write::Position { fingerprint, stream, partition, from, to } => {
                    match self.views.get_mut(&fingerprint) {
                        Some(view) => {
                            let held = view.partitions.entry((stream, partition)).or_default();
                            (held.from, held.to) = (from, to);
                        }
                        None => *self.removed.entry(fingerprint).or_default() += 1,
                    }
                }
                Write::Unit { id, end } => {
                    if let Some(partition) = self.partition_of(&id) {
                        partition.units.entry(id.start).or_default().end = end;
                    }
                }
                Write::DropUnit { id } => {
                    if let Some(partition) = self.partition_of(&id) {
                        partition.units.remove(&id.start);
                    }
                }
                Write::Run { id, cut, number, state } => {
                    if let Some(partition) = self.partition_of(&id) {
                        let unit = partition.units.entry(id.start).or_default();
                        let runs = unit.runs.entry(cut).or_default();
                        let place = runs.partition_point(|run| run.numbers.first() < Some(&number));
                        runs.insert(place, Run { numbers: vec![number], state });
                    }
                }
                Write::DropRun { id, cut, number } => {
                    if let Some(partition) = self.partition_of(&id)
                        && let Some(unit) = partition.units.get_mut(&id.start)
                    {
                        unit.runs.entry(cut).or_default().retain(|run| !run.numbers.contains(&number));
                    }
                }
                // In memory they are one run already.
                Write::Stage { .. } | Write::Piece { .. } => {}
                Write::Whole { id, cut, numbers } => {
                    if let Some(partition) = self.partition_of(&id)
                        && let Some(unit) = partition.units.get_mut(&id.start)
                        && let [run] = unit.runs.entry(cut).or_default().as_mut_slice()
                    {
                        run.numbers = numbers;
                    }
                }
                Write::Late { id, change } => {
                    let of_place = self.late.get_mut(&(id.stream, id.partition));
                    if let Some(counter) = of_place.and_then(|all| all.get_mut(&id.fingerprint)) {
                        counter.apply(&change);
                    }
                }
                Write::DropView { fingerprint } => {
                    self.removed.remove(&fingerprint);
                }
            }
        }
    }

    /// Whether a view is one of the project before, and not of this one.
    pub(crate) fn is_previous(&self, fingerprint: &Digest) -> bool {
        self.answering.first().is_some_and(|current| !current.contains(fingerprint))
    }

    /// Folds the `new` views as well from now on, and no longer those that are not `answering`.
    pub(crate) fn take_over(
        &mut self,
        new: Vec<Arc<View>>,
        answering: Vec<BTreeSet<Digest>>,
        timed: impl Fn(&str) -> bool,
    ) {
        self.keep(|fingerprint| answering.iter().any(|views| views.contains(fingerprint)));
        self.answering = answering;
        for view in new {
            let (fingerprint, streams) = (view.fingerprint(), view.streams());
            self.removed.remove(&fingerprint);
            self.views.insert(fingerprint, HeldView { view, partitions: BTreeMap::new(), failed: None });
            for (place, counters) in &mut self.late {
                if timed(&place.0) && streams.contains(&place.0) {
                    counters.insert(fingerprint, LateCounter::default());
                }
            }
        }
    }

    /// Folds the views of the project before no longer: they are as those that the project does not have.
    pub(crate) fn let_go_of_previous(&mut self) -> Vec<Digest> {
        self.answering.truncate(1);
        let current = self.answering.first().cloned().unwrap_or_default();
        self.keep(|fingerprint| current.contains(fingerprint))
    }

    /// Folds only the views that are `kept`, and gives the others.
    fn keep(&mut self, kept: impl Fn(&Digest) -> bool) -> Vec<Digest> {
        let gone: Vec<Digest> = self.views.keys().filter(|f| !kept(f)).copied().collect();
        for fingerprint in &gone {
            if let Some(view) = self.views.remove(fingerprint) {
                self.removed.insert(*fingerprint, view.partitions.len() as u64);
            }
            self.late.values_mut().for_each(|counters| drop(counters.remove(fingerprint)));
        }
        gone
    }

    fn partition_of(&mut self, id: &UnitId) -> Option<&mut HeldPartition> {
        let view = self.views.get_mut(&id.fingerprint)?;
        Some(view.partitions.entry((id.stream.clone(), id.partition)).or_default())
    }

    /// Puts one run in the place of several, which the store goes on to have.
    pub(crate) fn merge(&mut self, id: &UnitId, cut: usize, merged: Run) {
        let unit = self.partition_of(id).and_then(|partition| partition.units.get_mut(&id.start));
        let Some(runs) = unit.and_then(|unit| unit.runs.get_mut(&cut)) else { return };
        runs.retain(|run| !run.numbers.iter().any(|number| merged.numbers.contains(number)));
        let place = runs.partition_point(|run| run.numbers.first() < merged.numbers.first());
        runs.insert(place, merged);
    }

    /// All units.
    pub(crate) fn units(&self) -> Vec<UnitId> {
        let mut units = Vec::new();
        for (fingerprint, view) in &self.views {
            for ((stream, partition), held) in &view.partitions {
                let id = |start: &Offset| UnitId {
                    fingerprint: *fingerprint,
                    stream: stream.clone(),
                    partition: *partition,
                    start: *start,
                };
                units.extend(held.units.keys().map(id));
            }
        }
        units
    }

    /// What a view has folded of one segment.
    pub(crate) fn unit(&self, id: &UnitId) -> Option<&Unit> {
        let partition =
            self.views.get(&id.fingerprint)?.partitions.get(&(id.stream.clone(), id.partition))?;
        partition.units.get(&id.start)
    }

    /// The offset up to which a partition was folded.
    pub(crate) fn folded(&self, place: &Place) -> Offset {
        self.partitions.get(place).map_or(Offset(0), |held| held.folded)
    }

    /// Events folded, and to fold, if the view has not caught up with its partitions yet.
    pub(crate) fn building(&self, view: &HeldView) -> Option<(u64, u64)> {
        let (mut done, mut total) = (0, 0);
        for (place, held) in &view.partitions {
            done += held.to.0.saturating_sub(held.from.0);
            total += self.folded(place).0.saturating_sub(held.from.0);
        }
        (done < total).then_some((done, total))
    }

    /// The states of a view at or above a horizon, or why not.
    pub(crate) fn states(&self, request: &ViewRequest) -> Result<SpeedView, Answer> {
        let name = request.view.clone();
        let view = self.views.get(&request.fingerprint).ok_or(Answer::Unknown { view: name.clone() })?;
        if let Some(reason) = &view.failed {
            return Err(Answer::Failed { view: name, reason: reason.clone() });
        }
        if let Some((done, total)) = self.building(view) {
            return Err(Answer::Building { view: name, done, total });
        }
        let mut states = SpeedView::default();
        for ((stream, partition), held) in &view.partitions {
            let asked = request.from.get(stream).and_then(|p| p.get(partition)).copied().unwrap_or_default();
            if asked < held.from {
                return Err(Answer::Retired { relation: name });
            }
            let pieces = states.pieces.entry(stream.clone()).or_default().entry(*partition).or_default();
            for (start, unit) in held.units.iter().filter(|(_, unit)| unit.end > asked) {
                pieces.push(OffsetRange::new(*start, unit.end));
                for (cut, runs) in &unit.runs {
                    states.states.extend(runs.iter().map(|run| (*cut, run.state.clone())));
                }
            }
        }
        Ok(states)
    }

    /// A view and the pieces of its state of one whole segment, if they are held.
    pub(crate) fn unit_states(&self, of: &SegmentState) -> Option<(Arc<View>, Vec<State>)> {
        let view = self.views.get(&of.fingerprint)?;
        let partition = view.partitions.get(&(of.stream.clone(), of.partition))?;
        let unit = partition.units.get(&of.range.start).filter(|unit| unit.end == of.range.end)?;
        let runs = unit.runs.get(&of.cut).map_or(&[][..], Vec::as_slice);
        Some((Arc::clone(&view.view), runs.iter().map(|run| run.state.clone()).collect()))
    }

    /// What lets go of the states of a view below a horizon.
    pub(crate) fn retire(&self, fingerprint: Digest, place: &Place, horizon: Offset) -> Vec<Write> {
        let Some(held) = self.views.get(&fingerprint).and_then(|v| v.partitions.get(place)) else {
            return Vec::new();
        };
        if horizon <= held.from {
            return Vec::new();
        }
        let (stream, partition) = place.clone();
        let id = |start: &Offset| UnitId { fingerprint, stream: stream.clone(), partition, start: *start };
        let below = held.units.iter().filter(|(_, unit)| unit.end <= horizon);
        let mut writes: Vec<Write> = below.map(|(start, _)| Write::DropUnit { id: id(start) }).collect();
        let to = held.to.max(horizon);
        writes.push(Write::Position { fingerprint, stream: stream.clone(), partition, from: horizon, to });
        writes
    }

    /// Up to where the log and the segments of a partition are needed by no view any more, given the archive's end.
    /// A view that failed needs none: another version of it is built from the archive.
    pub(crate) fn covered(&self, place: &Place, archived: Offset) -> Offset {
        let going = self.views.values().filter(|view| view.failed.is_none());
        let held = going.filter_map(|view| view.partitions.get(place));
        held.map(|partition| partition.from).fold(archived, Offset::min)
    }

    /// What forgets the segments of a partition below an offset. The last one stays, because it says how far the
    /// partition was folded.
    pub(crate) fn forget_segments(&self, place: &Place, below: Offset) -> Vec<Write> {
        let Some(held) = self.partitions.get(place) else { return Vec::new() };
        let last = held.segments.last_key_value().map(|(start, _)| *start);
        let gone = held.segments.iter().filter(|(start, r)| r.end <= below && Some(**start) != last);
        gone.map(|(start, _)| Write::DropSegment {
            stream: place.0.clone(),
            partition: place.1,
            start: *start,
        })
        .collect()
    }

    /// The sealed segments of a partition that end above `from`.
    pub(crate) fn sealed(&self, place: &Place, from: Offset) -> Vec<SealedSegment> {
        let Some(held) = self.partitions.get(place) else { return Vec::new() };
        let sealed = held.segments.iter().filter(|(_, r)| r.sealed && !r.unsummed && r.end > from);
        sealed
            .map(|(start, record)| SealedSegment {
                range: OffsetRange::new(*start, record.end),
                rows: record.rows,
                watermark: record.watermark,
                states: record.states.clone(),
            })
            .collect()
    }

    /// The late events of all views, or that they are still being counted. While they are, those of the project before.
    pub(crate) fn late_events(&self) -> Result<Vec<LateEvents>, Answer> {
        let mut rows = self.answering.iter().map(|views| self.late_events_of(views));
        let current = rows.next().unwrap_or_else(|| Ok(Vec::new()));
        if current.is_ok() { current } else { rows.find(|rows| rows.is_ok()).unwrap_or(current) }
    }

    fn late_events_of(&self, views: &BTreeSet<Digest>) -> Result<Vec<LateEvents>, Answer> {
        let counters = || {
            let of_place = |(place, all)| all_of(all, views).map(move |(_, c)| (place, c));
            self.late.iter().flat_map(of_place)
        };
        let done: u64 = counters().map(|(place, c)| c.to.min(self.folded(place)).0).sum();
        let total: u64 = counters().map(|(place, _)| self.folded(place).0).sum();
        if done < total {
            return Err(Answer::Building { view: LATE_EVENTS.to_string(), done, total });
        }
        let mut rows = Vec::new();
        for ((stream, partition), all) in &self.late {
            for (fingerprint, counter) in all_of(all, views) {
                let Some(view) = self.views.get(fingerprint) else { continue };
                rows.extend(counter.rows(view.view.name(), stream, *partition));
            }
        }
        rows.sort_by(|a, b| (&a.view, &a.stream, a.partition).cmp(&(&b.view, &b.stream, b.partition)));
        Ok(rows)
    }

    /// How many late events were counted so far, by stream and view.
    pub(crate) fn late_totals(&self) -> Vec<LateTotal> {
        let mut totals: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for ((stream, _), all) in &self.late {
            for (fingerprint, counter) in all.iter().filter(|(f, _)| !self.is_previous(f)) {
                let Some(view) = self.views.get(fingerprint) else { continue };
                *totals.entry((stream, view.view.name())).or_default() += counter.total();
            }
        }
        let total = |((stream, view), count): ((&str, &str), u64)| LateTotal {
            stream: stream.to_string(),
            view: view.to_string(),
            count,
        };
        totals.into_iter().map(total).collect()
    }

    /// The ends of a stream's partitions.
    pub(crate) fn ends(&self, stream: &str) -> Offsets {
        let of_stream = self.partitions.iter().filter(|((name, _), _)| name == stream);
        of_stream.map(|((_, partition), held)| (*partition, held.folded)).collect()
    }
}

fn all_of<'a>(
    counters: &'a BTreeMap<Digest, LateCounter>,
    views: &'a BTreeSet<Digest>,
) -> impl Iterator<Item = (&'a Digest, &'a LateCounter)> {
    counters.iter().filter(|(fingerprint, _)| views.contains(fingerprint))
}
