//! `sum` and `avg` over integers.
//!
//! ```text
//! sum(x1 … xn) = x1 + … + xn            or an error, if its type does not hold that
//! avg(x1 … xn) = round((x1 + … + xn) / n)
//! ```
//!
//! The sum is exact in 128 bits: only the total must fit, never what came before it, so that an error does not
//! depend on the order of the events. The engine's own wraps around at 64 bits, and its `avg` adds doubles.

use super::narrow::{self, Wider};
use super::number::Exact;
use super::rows::{for_each, numbers};
use super::total::Total;
use arrow::array::{Array, ArrayRef, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Int64Type, UInt64Type};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use std::sync::Arc;

/// What holds every sum of fewer than 2^63 integers of 64 bits.
pub(super) const TOTAL: DataType = DataType::Decimal128(38, 0);

/// A total for each group.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    totals: Vec<i128>,
    /// Which groups have had a value.
    seen: Vec<bool>,
    target: DataType,
    what: String,
}

impl Integers {
    /// For `sum` with a value of the type `target`: `BIGINT`, `BIGINT UNSIGNED`, or [`TOTAL`] for the total as it is.
    /// `what` is what a message calls it.
    pub(super) fn sum(target: &DataType, what: &str) -> Self {
        Self { totals: Vec::new(), seen: Vec::new(), target: target.clone(), what: what.into() }
    }

    pub(super) fn avg() -> Self {
        Self::sum(&DataType::Float64, "avg")
    }

    fn add_all<T>(&mut self, values: &PrimitiveArray<T>, groups: &[usize], kept: Option<&NullBuffer>)
    where
        T: ArrowPrimitiveType,
        i128: From<T::Native>,
    {
        for_each(groups, kept, |row, group| {
            self.totals[group] = self.totals[group].wrapping_add(i128::from(values.value(row)));
            self.seen[group] = true;
        });
    }

    fn take(&mut self, emit_to: EmitTo) -> impl Iterator<Item = Option<i128>> + use<> {
        let totals = emit_to.take_needed(&mut self.totals);
        let seen = emit_to.take_needed(&mut self.seen);
        totals.into_iter().zip(seen).map(|(total, seen)| seen.then_some(total))
    }

    fn narrow<T>(&self, totals: impl Iterator<Item = Option<i128>>) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType,
        T::Native: TryFrom<i128>,
    {
        let narrow = |total: i128| {
            T::Native::try_from(total)
                .or_else(|_| narrow::too_wide(Wider::new(&self.what, &self.target), total.into()))
        };
        let values = totals.map(|total| total.map(narrow).transpose());
        Ok(Arc::new(values.collect::<Result<PrimitiveArray<T>>>()?))
    }
}

fn as_totals(totals: impl Iterator<Item = Option<i128>>) -> ArrayRef {
    Arc::new(totals.collect::<Decimal128Array>().with_data_type(TOTAL))
}

impl Total for Integers {
    fn emptied(&self) -> Self {
        Self::sum(&self.target, &self.what)
    }

    fn resize(&mut self, groups: usize) {
        self.totals.resize(groups, 0);
        self.seen.resize(groups, false);
    }

    fn add(&mut self, values: &[ArrayRef], groups: &[usize], kept: Option<&NullBuffer>) -> Result<()> {
        match values.first().map(|v| v.data_type()) {
            Some(DataType::Int64) => self.add_all(numbers::<Int64Type>(values, 0)?, groups, kept),
            Some(DataType::UInt64) => self.add_all(numbers::<UInt64Type>(values, 0)?, groups, kept),
            other => return internal_err!("a sum of integers got {other:?}"),
        }
        Ok(())
    }

    fn values(&mut self, emit_to: EmitTo, counts: Option<Vec<u64>>) -> Result<ArrayRef> {
        let totals = self.take(emit_to);
        if let Some(counts) = counts {
            let means = totals.zip(counts).map(|(total, n)| mean(total?, n));
            return Ok(Arc::new(means.collect::<Float64Array>()));
        }
        match &self.target {
            DataType::Int64 => self.narrow::<Int64Type>(totals),
            DataType::UInt64 => self.narrow::<UInt64Type>(totals),
            target if *target == TOTAL => Ok(as_totals(totals)),
            other => internal_err!("a sum of integers cannot be {other}"),
        }
    }

    fn store(&mut self, emit_to: EmitTo) -> ArrayRef {
        as_totals(self.take(emit_to))
    }

    fn merge(&mut self, stored: &[ArrayRef], groups: &[usize]) -> Result<()> {
        let totals = numbers::<Decimal128Type>(stored, 0)?;
        for (row, &group) in groups.iter().enumerate().filter(|&(row, _)| totals.is_valid(row)) {
            let Some(total) = self.totals[group].checked_add(totals.value(row)) else {
                return exec_err!("the stored state of a sum is damaged: it is beyond every sum of integers");
            };
            self.totals[group] = total;
            self.seen[group] = true;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<i128>() + self.seen.capacity()
    }
}

/// The double nearest to `total / n`.
pub(super) fn mean(total: i128, n: u64) -> Option<f64> {
    let mut sum = Exact::default();
    sum.add_scaled(total, 0);
    (n > 0).then(|| sum.over(n))
}
