//! How often a row counts: once, or as often as an integer argument says.
//!
//! Null and 0 count not at all, and a negative weight is an error. Counts that pass 2^64 - 1 stay there, so that
//! even then they do not depend on the order in which they were added.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::common::{exec_err, internal_err, plan_err};
use datafusion::error::Result;

/// The weights of a batch.
#[derive(Debug)]
pub(super) enum Weights {
    One,
    Signed(Int64Array),
    Unsigned(UInt64Array),
}

/// The type that weights of this type are cast to.
pub(super) fn coerce(name: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::UInt64 => Ok(DataType::UInt64),
        t if t.is_integer() || t.is_null() => Ok(DataType::Int64),
        other => plan_err!(
            "{name} counts each value an integer number of times, found a weight of type {other}: cast it to BIGINT"
        ),
    }
}

impl Weights {
    pub(super) fn of(column: &ArrayRef) -> Result<Self> {
        match column.data_type() {
            DataType::Int64 => Ok(Self::Signed(column.as_primitive::<Int64Type>().clone())),
            DataType::UInt64 => Ok(Self::Unsigned(column.as_primitive::<UInt64Type>().clone())),
            other => internal_err!("weights of type {other}"),
        }
    }

    /// How often the row counts.
    pub(super) fn at(&self, row: usize) -> Result<u64> {
        match self {
            Self::One => Ok(1),
            Self::Unsigned(weights) => Ok(if weights.is_null(row) { 0 } else { weights.value(row) }),
            Self::Signed(weights) if weights.is_null(row) => Ok(0),
            Self::Signed(weights) => match u64::try_from(weights.value(row)) {
                Ok(weight) => Ok(weight),
                Err(_) => exec_err!("expected a weight of 0 or more, found {}", weights.value(row)),
            },
        }
    }
}

/// A count as SQL has it.
pub(super) fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
