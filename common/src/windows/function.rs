//! The window functions as the engine calls them, over whole columns.

use super::column::{TimeType, Windows, starts, ticks};
use super::grid::Grid;
use super::interval::{scalar_nanos, ticks as lengths};
use super::kind::Kind;
use arrow::array::ArrayRef;
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// One of the functions of [`Kind`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowFunction {
    pub(super) kind: Kind,
    signature: Signature,
}

impl WindowFunction {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn time_type(&self, first: &DataType) -> Result<TimeType> {
        match self.kind.time_type(first)? {
            DataType::Timestamp(unit, zone) => Ok((unit, zone)),
            other => internal_err!("{} is called with {other}", self.kind.usage()),
        }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.kind.coerce(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let Some(first) = types.first() else {
            return internal_err!("{} is called without arguments", self.kind.usage());
        };
        Ok(self.kind.return_type(&self.kind.time_type(first)?))
    }

    /// The type, and a refusal of intervals that cannot be, while the query is planned.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let data_type = self.return_type(&types)?;
        let intervals = args.scalar_arguments.get(self.kind.interval_range(types.len())).unwrap_or_default();
        if let Some(intervals) = intervals.iter().copied().collect::<Option<Vec<_>>>() {
            self.kind.grid(&intervals, self.time_type(&types[0])?.0)?;
        }
        Ok(Arc::new(Field::new(self.name(), data_type, args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.kind.is_marker() {
            return exec_err!(
                "{} belongs to no single event: it may stand in GROUP BY and in the select list beside it, or in FROM \
                 as {}(stream, ts, ...)",
                self.kind.usage(),
                self.kind.name()
            );
        }
        let intervals = args.args.get(self.kind.interval_range(args.args.len())).unwrap_or_default();
        let intervals = intervals.iter().map(|value| match value {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(_) => exec_err!("{}: expected constant intervals", self.kind.usage()),
        });
        let intervals = intervals.collect::<Result<Vec<&ScalarValue>>>()?;
        let time = self.time_type(&args.args[0].data_type())?;
        let Some(grid) = self.kind.grid(&intervals, time.0)? else {
            return internal_err!("{} has no windows of fixed length", self.kind.usage());
        };
        let parent = match intervals.get(3) {
            Some(parent) => lengths(scalar_nanos(parent)?, time.0)?,
            None => 0,
        };
        let columns = [args.args.get(0..1), args.args.get(4..6)].into_iter().flatten().flatten();
        let constant = columns.clone().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns = columns.map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = call(self.kind, grid, parent, &time, &columns)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// One row of windows for each row of the first column: of times, of panes, or of blocks that are part of blocks of
/// `parent` ticks.
fn call(kind: Kind, grid: Grid, parent: i64, time: &TimeType, columns: &[ArrayRef]) -> Result<ArrayRef> {
    let ((values, nulls), bounds) = match columns {
        [times] if !kind.takes_pane() => (ticks(times)?, None),
        [panes] => (starts(panes)?, None),
        [panes, from, until] => (starts(panes)?, Some(Bounds::new(from, until)?)),
        _ => return internal_err!("{} is called with {} columns", kind.usage(), columns.len()),
    };
    if !kind.gives_list() {
        let mut windows = Windows::with_capacity(values.len());
        let window = |&t: &i64| match kind {
            Kind::EventSession => Some(grid.from(t)),
            Kind::FirstHop => grid.hops(t).next(),
            Kind::FirstCumulation => grid.cumulations(t).next(),
            _ => Some(grid.latest(t)),
        };
        let found: NullBuffer = values
            .iter()
            .map(|t| {
                let window = window(t);
                windows.push(window.unwrap_or_default());
                window.is_some()
            })
            .collect();
        return Ok(Arc::new(windows.finish(time, NullBuffer::union(nulls.as_ref(), Some(&found)))?));
    }
    let ends = match kind {
        Kind::BlockWindows => super::column::ends(&columns[0])?,
        _ => ScalarBuffer::default(),
    };
    let (mut windows, mut lengths) = (Windows::with_capacity(values.len()), Vec::new());
    for (row, &t) in values.iter().enumerate() {
        let before = windows.len();
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            match (kind, &bounds) {
                (Kind::BlockWindows, _) => {
                    grid.around_block((t, ends[row]), parent).for_each(|window| windows.push(window));
                }
                (Kind::CumulateWindows, _) => grid.cumulations(t).for_each(|window| windows.push(window)),
                (_, None) => grid.hops(t).for_each(|window| windows.push(window)),
                (_, Some(bounds)) => {
                    let (from, until) = bounds.of(row);
                    grid.hops_within(t, from, until).for_each(|window| windows.push(window));
                }
            }
        }
        lengths.push(windows.len() - before);
    }
    Ok(Arc::new(windows.finish_lists(time, lengths, nulls)?))
}

/// From when, inclusive, until when, exclusive, a window may start in each row; null is no bound.
struct Bounds {
    from: (ScalarBuffer<i64>, Option<NullBuffer>),
    until: (ScalarBuffer<i64>, Option<NullBuffer>),
}

impl Bounds {
    fn new(from: &ArrayRef, until: &ArrayRef) -> Result<Self> {
        Ok(Self { from: ticks(from)?, until: ticks(until)? })
    }

    fn of(&self, row: usize) -> (Option<i64>, Option<i64>) {
        let bound = |(values, nulls): &(ScalarBuffer<i64>, Option<NullBuffer>)| {
            nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| values[row])
        };
        (bound(&self.from), bound(&self.until))
    }
}
