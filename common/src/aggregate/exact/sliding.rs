//! `avg` over integers in a window that slides: rows leave the frame as they came, exactly.

use super::integers::mean;
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;

/// The sum and the count of the frame.
#[derive(Debug, Default)]
pub(super) struct SlidingMean {
    sum: i128,
    count: u64,
}

impl SlidingMean {
    /// The sum and the count of the values of one batch.
    fn of(values: &[ArrayRef]) -> Result<(i128, u64)> {
        let [values] = values else { return internal_err!("avg takes one argument") };
        let sum = match values.data_type() {
            DataType::Int64 => values.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum(),
            DataType::UInt64 => values.as_primitive::<UInt64Type>().iter().flatten().map(i128::from).sum(),
            other => return internal_err!("avg over integers got {other}"),
        };
        Ok((sum, (values.len() - values.null_count()) as u64))
    }
}

impl Accumulator for SlidingMean {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = Self::of(values)?;
        (self.sum, self.count) = (self.sum + sum, self.count + count);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = Self::of(values)?;
        (self.sum, self.count) = (self.sum - sum, self.count - count);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(mean(self.sum, self.count)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a window that slides keeps no state")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a window that slides merges no state")
    }
}
