//! The window functions by name: what arguments each takes.

use super::column::{time_of, window_list_field, window_type};
use super::grid::Grid;
use super::interval::{scalar_nanos, ticks};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};

/// A window function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Tumble,
    Hop,
    Session,
    Cumulate,
    HopWindows,
    CumulateWindows,
    HopPane,
    PaneWindows,
    PaneWindowsWithin,
    EventSession,
    BlockWindows,
    FirstHop,
    FirstCumulation,
}

impl Kind {
    pub(super) const ALL: [Kind; 13] = [
        Kind::Tumble,
        Kind::Hop,
        Kind::Session,
        Kind::Cumulate,
        Kind::HopWindows,
        Kind::CumulateWindows,
        Kind::HopPane,
        Kind::PaneWindows,
        Kind::PaneWindowsWithin,
        Kind::EventSession,
        Kind::BlockWindows,
        Kind::FirstHop,
        Kind::FirstCumulation,
    ];

    pub(super) fn name(self) -> &'static str {
        self.usage().split_once('(').map_or("", |(name, _)| name)
    }

    /// How the function is called.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Kind::Tumble => "tumble(ts, size [, offset])",
            Kind::Hop => "hop(ts, slide, size [, offset])",
            Kind::Session => "session(ts, gap [, key, ...])",
            Kind::Cumulate => "cumulate(ts, step, size [, offset])",
            Kind::HopWindows => "hop_windows(ts, slide, size [, offset])",
            Kind::CumulateWindows => "cumulate_windows(ts, step, size [, offset])",
            Kind::HopPane => "hop_pane(ts, slide, size [, offset])",
            Kind::PaneWindows => "pane_windows(pane, slide, size [, offset])",
            Kind::PaneWindowsWithin => "pane_windows_within(pane, slide, size, offset, from, until)",
            Kind::EventSession => "event_session(ts, gap)",
            Kind::BlockWindows => "block_windows(block, slide, size, offset, parent)",
            Kind::FirstHop => "first_hop(ts, slide, size [, offset])",
            Kind::FirstCumulation => "first_cumulation(ts, step, size [, offset])",
        }
    }

    /// Whether the function is a mark in a plan, to be rewritten before the plan runs.
    pub(super) fn is_marker(self) -> bool {
        matches!(self, Kind::Hop | Kind::Session | Kind::Cumulate)
    }

    /// Whether the first argument is a pane, and not a time.
    pub(super) fn takes_pane(self) -> bool {
        matches!(self, Kind::PaneWindows | Kind::PaneWindowsWithin | Kind::BlockWindows)
    }

    /// Whether a row may be in several windows.
    pub(super) fn gives_list(self) -> bool {
        matches!(
            self,
            Kind::HopWindows
                | Kind::CumulateWindows
                | Kind::PaneWindows
                | Kind::PaneWindowsWithin
                | Kind::BlockWindows
        )
    }

    /// How many intervals there must be, and how many there may be, after the first argument.
    fn intervals(self) -> (usize, usize) {
        match self {
            Kind::Tumble => (1, 2),
            Kind::Session | Kind::EventSession => (1, 1),
            Kind::PaneWindowsWithin => (3, 3),
            Kind::BlockWindows => (4, 4),
            _ => (2, 3),
        }
    }

    /// The positions of the intervals among `arguments` arguments.
    pub(super) fn interval_range(self, arguments: usize) -> std::ops::Range<usize> {
        1..arguments.min(1 + self.intervals().1)
    }

    /// The types that the arguments are cast to.
    pub(super) fn coerce(self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (least, most) = self.intervals();
        let (least, most) = match self {
            Kind::Session => (least + 1, usize::MAX),
            Kind::PaneWindowsWithin => (least + 3, most + 3),
            _ => (least + 1, most + 1),
        };
        if !(least..=most).contains(&types.len()) {
            return plan_err!("{} is called with {} arguments", self.usage(), types.len());
        }
        let mut coerced = types.to_vec();
        coerced[0] = if self.takes_pane() {
            match time_of(&types[0]) {
                Some(_) => types[0].clone(),
                None => return plan_err!("{}: expected a window, found {}", self.usage(), types[0]),
            }
        } else {
            self.time(&types[0])?
        };
        for i in self.interval_range(types.len()) {
            coerced[i] = match &types[i] {
                DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
                other => {
                    return plan_err!(
                        "{}: expected an INTERVAL, such as INTERVAL '10 seconds', found {other}",
                        self.usage()
                    );
                }
            };
        }
        if let (Kind::PaneWindowsWithin, Some(time)) = (self, time_of(&types[0])) {
            coerced[4..].fill(time.clone());
        }
        Ok(coerced)
    }

    fn time(self, data_type: &DataType) -> Result<DataType> {
        match data_type {
            DataType::Timestamp(_, _) => Ok(data_type.clone()),
            DataType::Date32 | DataType::Date64 | DataType::Null => {
                Ok(DataType::Timestamp(TimeUnit::Nanosecond, None))
            }
            other => plan_err!("{}: expected a TIMESTAMP or a DATE, found {other}", self.usage()),
        }
    }

    /// The type of the times, given that of the first argument.
    pub(super) fn time_type(self, first: &DataType) -> Result<DataType> {
        match if self.takes_pane() { time_of(first) } else { Some(first) } {
            Some(time) => self.time(time),
            None => internal_err!("{}: expected a window, found {first}", self.usage()),
        }
    }

    /// The type of the result, over times of this type.
    pub(super) fn return_type(self, time: &DataType) -> DataType {
        if self.gives_list() { DataType::List(window_list_field(time)) } else { window_type(time) }
    }

    /// The windows that the intervals speak of, in ticks of `unit`; `None` for sessions, which have none.
    pub(super) fn grid(self, intervals: &[&ScalarValue], unit: TimeUnit) -> Result<Option<Grid>> {
        self.try_grid(intervals, unit).map_err(|e| match e {
            DataFusionError::Plan(message) => DataFusionError::Plan(format!("{}: {message}", self.usage())),
            other => other,
        })
    }

    fn try_grid(self, intervals: &[&ScalarValue], unit: TimeUnit) -> Result<Option<Grid>> {
        let lengths = intervals.iter().map(|value| ticks(scalar_nanos(value)?, unit));
        let lengths = lengths.collect::<Result<Vec<i64>>>()?;
        Ok(match (self, lengths.as_slice()) {
            (Kind::Session, [gap]) if *gap > 0 => None,
            (Kind::EventSession, [gap]) if *gap > 0 => Some(Grid::tumble(*gap, 0)?),
            (Kind::Session | Kind::EventSession, _) => return plan_err!("the gap must be more than nothing"),
            (Kind::Tumble, [size]) => Some(Grid::tumble(*size, 0)?),
            (Kind::Tumble, [size, offset]) => Some(Grid::tumble(*size, *offset)?),
            (_, [step, size, offset @ ..]) => {
                let offset = offset.first().copied().unwrap_or(0);
                Some(match self {
                    Kind::Cumulate | Kind::CumulateWindows | Kind::FirstCumulation => {
                        Grid::cumulate(*step, *size, offset)?
                    }
                    Kind::HopPane => Grid::hop(*step, *size, offset)?.panes(),
                    _ => Grid::hop(*step, *size, offset)?,
                })
            }
            _ => return internal_err!("{} lacks an interval", self.usage()),
        })
    }
}
