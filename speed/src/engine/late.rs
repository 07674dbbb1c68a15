//! Counting late events: for one view and one partition, how many came after their window had ended.
//!
//! ```text
//! count(A + B) = count(B) after count(A)        the watermark goes on from A into B, event by event
//! kept         = the newest windows; all older ones are one row without a window
//! ```
//!
//! Both are functions of the events alone, whatever was read at once: a window that is among the newest at the end was
//! so at all times before, so nothing of it went elsewhere. See [`LateEvents`] for what late means.

use super::event_expr::{EventExpr, nanoseconds};
use super::watermark::Times;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::datatypes::TimestampNanosecondType;
use datafusion::prelude::SessionContext;
use std::collections::{BTreeMap, BTreeSet};
use twofold_common::{Digest, Error, LateEvents, Offset, Partition, Result, StreamDef, WindowKey};

/// How many windows of a view are told one by one in each partition.
pub(crate) const KEPT: usize = 10_000;

/// What is counted: a view and a partition of one of its streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateId {
    pub(crate) fingerprint: Digest,
    pub(crate) stream: String,
    pub(crate) partition: Partition,
}

/// A window; the older one is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window {
    pub(crate) end: i64,
    pub(crate) start: i64,
}

/// How many events were late, and the greatest lateness in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) worst: i64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.count = self.count.saturating_add(other.count);
        self.worst = self.worst.max(other.worst);
    }
}

/// The late events below an offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LateCounter {
    /// Everything below has been looked at.
    pub(crate) to: Offset,
    /// The watermark of what lies below.
    pub(crate) watermark: Option<i64>,
    /// By window; without one, those of a view without windows and of windows too old.
    pub(crate) tallies: BTreeMap<Option<Window>, Tally>,
}

/// What changes in a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LateChange {
    /// It has come to an offset, with the watermark there.
    To(Offset, Option<i64>),
    /// What it counts for a window is now this.
    Tally(Option<Window>, Tally),
    /// A window became too old to be told by itself.
    Drop(Window),
}

/// The windows of a view over one stream, planned. None: the event time decides.
#[derive(Debug, Default)]
pub(crate) struct Windows(Vec<PlannedWindow>);

#[derive(Debug)]
struct PlannedWindow {
    window: EventExpr,
    /// Whether the event's time lies in it: then only an event behind the watermark can be late.
    of_time: bool,
}

impl Windows {
    pub(crate) fn plan(session: &SessionContext, stream: &StreamDef, keys: &[WindowKey]) -> Result<Self> {
        let mut planned: Vec<&WindowKey> = Vec::new();
        for key in keys.iter().filter(|key| key.stream == stream.name) {
            if !planned.iter().any(|known| known.window == key.window) {
                planned.push(key);
            }
        }
        let of_time = |key: &WindowKey| stream.watermark.as_ref().is_some_and(|w| key.is_of(&w.column));
        let plan = |key: &WindowKey| -> Result<PlannedWindow> {
            let window = EventExpr::plan(session, stream, key.window.clone())?;
            Ok(PlannedWindow { window, of_time: of_time(key) })
        };
        Ok(Self(planned.into_iter().map(plan).collect::<Result<_>>()?))
    }

    /// The event columns that they read.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|planned| planned.window.columns())
    }
}

/// The rows of events whose time lies below the watermark before them, each with that watermark.
type EventsBehind = Vec<(u32, i64)>;

/// What stands behind the watermark in some events: the same for all that is counted there.
#[derive(Debug)]
pub(crate) struct Behind {
    /// For each batch: the watermark before it, and its events behind.
    batches: Vec<(Option<i64>, EventsBehind)>,
    /// The watermark before all of them.
    before: Option<i64>,
    /// The watermark after all of them.
    after: Option<i64>,
}

impl Behind {
    /// Of events that come after others with this watermark.
    pub(crate) fn of(times: &[Times], before: Option<i64>) -> Self {
        let mut watermark = before;
        let of_batch = |times: &Times| {
            let (start, mut behind) = (watermark, EventsBehind::new());
            for row in 0..times.times.len() {
                if let Some(watermark) = watermark
                    && times.times.is_valid(row)
                    && times.times.value(row) < watermark
                {
                    behind.push((row as u32, watermark));
                }
                if times.watermarks.is_valid(row) {
                    watermark = watermark.max(Some(times.watermarks.value(row)));
                }
            }
            (start, behind)
        };
        let batches = times.iter().map(of_batch).collect();
        Self { batches, before, after: watermark }
    }
}

/// The windows of a batch of events.
struct Bounds {
    windows: ArrayRef,
    starts: TimestampNanosecondArray,
    ends: TimestampNanosecondArray,
}

impl Bounds {
    fn of(windows: &ArrayRef) -> Result<Self> {
        let side = |name: &str| {
            let side = windows.as_struct_opt().and_then(|all| all.column_by_name(name));
            let side = side.ok_or_else(|| Error::Internal(format!("a window without {name}")))?;
            Ok::<_, Error>(nanoseconds(side)?.as_primitive::<TimestampNanosecondType>().clone())
        };
        Ok(Self { starts: side("start")?, ends: side("end")?, windows: windows.clone() })
    }

    fn of_event(&self, row: usize) -> Option<Window> {
        let known = self.windows.is_valid(row) && self.starts.is_valid(row) && self.ends.is_valid(row);
        known.then(|| Window { end: self.ends.value(row), start: self.starts.value(row) })
    }
}

impl LateCounter {
    /// Whether this is where the counter is.
    pub(crate) fn is_at(&self, behind: &Behind) -> bool {
        self.watermark == behind.before
    }

    /// What counting the events from [`to`](Self::to) to `end` changes, when at most `kept` windows are told one by one.
    /// `behind` is of these events, after the counter's watermark.
    pub(crate) fn count(
        &self,
        windows: &Windows,
        events: &[RecordBatch],
        times: &[Times],
        behind: &Behind,
        end: Offset,
        kept: usize,
    ) -> Result<Vec<LateChange>> {
        let mut late: BTreeMap<Option<Window>, Tally> = BTreeMap::new();
        let mut came = |window, ended: i64, watermark: i64| {
            let worst = watermark.saturating_sub(ended);
            late.entry(window).or_default().add(Tally { count: 1, worst });
        };
        for ((events, times), (before, behind)) in events.iter().zip(times).zip(&behind.batches) {
            if windows.0.is_empty() {
                let time = |row: u32| times.times.value(row as usize);
                behind.iter().for_each(|(row, watermark)| came(None, time(*row), *watermark));
            }
            for PlannedWindow { window, of_time } in &windows.0 {
                let mut look = |bounds: &Bounds, row: usize, watermark: i64| {
                    let ended = bounds.of_event(row).filter(|window| window.end <= watermark);
                    ended.into_iter().for_each(|window| came(Some(window), window.end, watermark));
                };
                if *of_time {
                    if !behind.is_empty() {
                        let rows = UInt32Array::from_iter_values(behind.iter().map(|(row, _)| *row));
                        let bounds = Bounds::of(&window.values_at(events, &rows)?)?;
                        behind
                            .iter()
                            .enumerate()
                            .for_each(|(i, (_, watermark))| look(&bounds, i, *watermark));
                    }
                    continue;
                }
                let (bounds, mut watermark) = (Bounds::of(&window.values(events)?)?, *before);
                for row in 0..events.num_rows() {
                    watermark.into_iter().for_each(|watermark| look(&bounds, row, watermark));
                    if times.watermarks.is_valid(row) {
                        watermark = watermark.max(Some(times.watermarks.value(row)));
                    }
                }
            }
        }
        let mut changes = self.changes(late, kept);
        changes.push(LateChange::To(end, behind.after));
        Ok(changes)
    }

    /// What adding these to what is counted changes.
    fn changes(&self, late: BTreeMap<Option<Window>, Tally>, kept: usize) -> Vec<LateChange> {
        let mut changed: BTreeMap<Option<Window>, Tally> = BTreeMap::new();
        for (window, tally) in late {
            let mut sum = self.tallies.get(&window).copied().unwrap_or_default();
            sum.add(tally);
            changed.insert(window, sum);
        }
        let mut changes = Vec::new();
        for window in self.too_old(changed.keys().flatten(), kept) {
            let known = self.tallies.get(&Some(window)).copied();
            if known.is_some() {
                changes.push(LateChange::Drop(window));
            }
            let tally = changed.remove(&Some(window)).or(known).unwrap_or_default();
            let rest = || self.tallies.get(&None).copied().unwrap_or_default();
            changed.entry(None).or_insert_with(rest).add(tally);
        }
        changes.extend(changed.into_iter().map(|(window, tally)| LateChange::Tally(window, tally)));
        changes
    }

    /// The oldest of the known windows and `new`: as many as are too many.
    fn too_old<'a>(&self, new: impl Iterator<Item = &'a Window>, kept: usize) -> Vec<Window> {
        let new: BTreeSet<Window> = new.filter(|w| !self.tallies.contains_key(&Some(**w))).copied().collect();
        let known = self.tallies.len() - usize::from(self.tallies.contains_key(&None));
        let too_many = (known + new.len()).saturating_sub(kept);
        if too_many == 0 {
            return Vec::new();
        }
        let oldest = self.tallies.keys().flatten().take(too_many).copied();
        let mut all: Vec<Window> = oldest.chain(new.into_iter().take(too_many)).collect();
        all.sort_unstable();
        all.truncate(too_many);
        all
    }

    /// Takes over a change that was committed.
    pub(crate) fn apply(&mut self, change: &LateChange) {
        match change {
            LateChange::To(to, watermark) => (self.to, self.watermark) = (*to, *watermark),
            LateChange::Tally(window, tally) => drop(self.tallies.insert(*window, *tally)),
            LateChange::Drop(window) => drop(self.tallies.remove(&Some(*window))),
        }
    }

    /// How many late events there were.
    pub(crate) fn total(&self) -> u64 {
        self.tallies.values().map(|tally| tally.count).sum()
    }

    /// What is counted, as rows of the relation, older windows first.
    pub(crate) fn rows(&self, view: &str, stream: &str, partition: Partition) -> Vec<LateEvents> {
        let row = |(window, tally): (&Option<Window>, &Tally)| LateEvents {
            stream: stream.to_string(),
            view: view.to_string(),
            partition,
            window: window.map(|w| (w.start, w.end)),
            count: tally.count,
            worst_lateness: tally.worst,
        };
        self.tallies.iter().map(row).collect()
    }
}

#[cfg(test)]
#[path = "late_tests.rs"]
mod tests;
