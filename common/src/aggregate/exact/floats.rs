//! `sum` and `avg` over doubles.
//!
//! ```text
//! sum(x1 … xn) = round(x1 + … + xn)        avg(x1 … xn) = round((x1 + … + xn) / n)
//! ```
//!
//! with one rounding each, to the nearest double. So the value does not depend on the order of the events, and a sum
//! of doubles is infinite only if it is too large itself.

use super::rows::{bytes, for_each, numbers};
use super::sums::Sums;
use super::total::Total;
use arrow::array::{ArrayRef, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Float64Type;
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use std::sync::Arc;

/// An exact sum for each group.
#[derive(Debug, Clone, Default)]
pub(super) struct Floats(Sums);

impl Total for Floats {
    fn emptied(&self) -> Self {
        Self::default()
    }

    fn resize(&mut self, groups: usize) {
        self.0.resize(groups);
    }

    fn add(&mut self, values: &[ArrayRef], groups: &[usize], kept: Option<&NullBuffer>) -> Result<()> {
        let values = numbers::<Float64Type>(values, 0)?.values();
        for_each(groups, kept, |row, group| self.0.add_f64(group, values[row]));
        Ok(())
    }

    fn values(&mut self, emit_to: EmitTo, counts: Option<Vec<u64>>) -> Result<ArrayRef> {
        let sums = self.0.take(emit_to);
        let values: Float64Array = match counts {
            None => sums.iter().map(|sum| sum.seen().then(|| sum.to_f64())).collect(),
            Some(counts) => sums.iter().zip(counts).map(|(sum, n)| (n > 0).then(|| sum.over(n))).collect(),
        };
        Ok(Arc::new(values))
    }

    fn store(&mut self, emit_to: EmitTo) -> ArrayRef {
        self.0.store(emit_to)
    }

    fn merge(&mut self, stored: &[ArrayRef], groups: &[usize]) -> Result<()> {
        self.0.merge(bytes(stored, 0)?, groups)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
