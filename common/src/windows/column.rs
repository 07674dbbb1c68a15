//! Columns of times and of windows.
//!
//! A window is `STRUCT<start, end>` of the type of the times; both fields are null where the window is.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Field, FieldRef, Fields, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::internal_err;
use datafusion::error::Result;
use std::sync::Arc;

use super::grid::Window;

/// The unit and zone of timestamps.
pub(super) type TimeType = (TimeUnit, Option<Arc<str>>);

/// The type of a window over times of this type.
pub(super) fn window_type(time: &DataType) -> DataType {
    let field = |name| Field::new(name, time.clone(), true);
    DataType::Struct(Fields::from(vec![field("start"), field("end")]))
}

/// The elements of lists of windows over times of this type.
pub(super) fn window_list_field(time: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(window_type(time), true))
}

/// The type of the times that windows of this type are over, if it is the type of windows.
pub(super) fn time_of(window: &DataType) -> Option<&DataType> {
    match window {
        DataType::Struct(fields) => match fields.as_ref() {
            [start, end] if start.name() == "start" && end.name() == "end" => {
                let same = start.data_type() == end.data_type();
                (same && matches!(start.data_type(), DataType::Timestamp(_, _))).then(|| start.data_type())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Timestamps as numbers, and which are there.
pub(super) fn ticks(times: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>)> {
    fn of<T: ArrowTimestampType>(times: &ArrayRef) -> ScalarBuffer<i64> {
        times.as_primitive::<T>().values().clone()
    }
    let values = match times.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => of::<TimestampSecondType>(times),
        DataType::Timestamp(TimeUnit::Millisecond, _) => of::<TimestampMillisecondType>(times),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of::<TimestampMicrosecondType>(times),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => of::<TimestampNanosecondType>(times),
        other => return internal_err!("expected timestamps, found {other}"),
    };
    Ok((values, times.nulls().cloned()))
}

/// The starts of windows as numbers, and which windows are there.
pub(super) fn starts(windows: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>)> {
    let Some(windows) = windows.as_struct_opt() else {
        return internal_err!("expected windows, found {}", windows.data_type());
    };
    let (values, nulls) = ticks(windows.column(0))?;
    Ok((values, NullBuffer::union(nulls.as_ref(), windows.nulls())))
}

/// The ends of windows as numbers.
pub(super) fn ends(windows: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    match windows.as_struct_opt().and_then(|windows| windows.columns().get(1)) {
        Some(ends) => Ok(ticks(ends)?.0),
        None => internal_err!("expected windows, found {}", windows.data_type()),
    }
}

/// One window for each row.
#[derive(Debug, Default)]
pub(super) struct Windows {
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Windows {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self { starts: Vec::with_capacity(rows), ends: Vec::with_capacity(rows) }
    }

    pub(super) fn push(&mut self, (start, end): Window) {
        self.starts.push(start);
        self.ends.push(end);
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// As a column over times of this type, null where `nulls` says so.
    pub(super) fn finish(self, time: &TimeType, nulls: Option<NullBuffer>) -> Result<StructArray> {
        let DataType::Struct(fields) = window_type(&DataType::Timestamp(time.0, time.1.clone())) else {
            return internal_err!("a window is a struct");
        };
        let columns = vec![times(self.starts, time, nulls.clone()), times(self.ends, time, nulls.clone())];
        Ok(StructArray::try_new(fields, columns, nulls)?)
    }

    /// As a column of lists: `lengths` says how many windows each row has.
    pub(super) fn finish_lists(
        self,
        time: &TimeType,
        lengths: Vec<usize>,
        nulls: Option<NullBuffer>,
    ) -> Result<ListArray> {
        if i32::try_from(self.len()).is_err() {
            return datafusion::common::exec_err!(
                "{} windows in one batch are too many: make the step longer",
                self.len()
            );
        }
        let field = window_list_field(&DataType::Timestamp(time.0, time.1.clone()));
        let windows = Arc::new(self.finish(time, None)?);
        Ok(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), windows, nulls)?)
    }
}

fn times(ticks: Vec<i64>, (unit, zone): &TimeType, nulls: Option<NullBuffer>) -> ArrayRef {
    fn of<T: ArrowTimestampType>(
        ticks: Vec<i64>,
        zone: &Option<Arc<str>>,
        nulls: Option<NullBuffer>,
    ) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(ticks.into(), nulls).with_timezone_opt(zone.clone()))
    }
    match unit {
        TimeUnit::Second => of::<TimestampSecondType>(ticks, zone, nulls),
        TimeUnit::Millisecond => of::<TimestampMillisecondType>(ticks, zone, nulls),
        TimeUnit::Microsecond => of::<TimestampMicrosecondType>(ticks, zone, nulls),
        TimeUnit::Nanosecond => of::<TimestampNanosecondType>(ticks, zone, nulls),
    }
}
