//! `sum` and `avg` over decimals.
//!
//! ```text
//! sum(x1 … xn) = x1 + … + xn                       or an error, if its type does not hold that
//! avg(x1 … xn) = truncate((x1 + … + xn) / n)       to the digits of its type, toward zero as the engine does
//! ```
//!
//! The sum is exact whatever the precision: only the value must fit, never what came before it. The engine's own
//! wraps around.

use super::narrow::{Wider, decimals, scale};
use super::rows::{bytes, for_each, numbers};
use super::sums::Sums;
use super::total::Total;
use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use num_bigint::BigInt;

/// An exact sum for each group.
#[derive(Debug, Clone)]
pub(super) struct Decimals {
    sums: Sums,
    /// What the mean of unscaled integers is to be multiplied by, for the digits that its type has more.
    factor: BigInt,
    /// The type of the value: a decimal, or `Binary` for the exact sum as it is stored.
    target: DataType,
    what: String,
}

impl Decimals {
    /// For `sum` with a value of the type `target`. `what` is what a message calls it.
    pub(super) fn sum(target: &DataType, what: &str) -> Self {
        Self { sums: Sums::default(), factor: BigInt::from(1), target: target.clone(), what: what.into() }
    }

    /// For `avg` over decimals of the type `source`.
    ///
    /// # Errors
    ///
    /// If `target` has fewer digits after the point than `source`, which the engine never asks for.
    pub(super) fn avg(source: &DataType, target: &DataType, what: &str) -> Result<Self> {
        let more = i32::from(scale(target)?) - i32::from(scale(source)?);
        let more = u32::try_from(more)
            .map_err(|_| internal_datafusion_err!("avg over {source} cannot be {target}"))?;
        Ok(Self { factor: BigInt::from(10).pow(more), ..Self::sum(target, what) })
    }

    fn add_all(&mut self, groups: &[usize], kept: Option<&NullBuffer>, value: impl Fn(usize) -> i128) {
        for_each(groups, kept, |row, group| self.sums.add_scaled(group, value(row), 0));
    }
}

impl Total for Decimals {
    fn emptied(&self) -> Self {
        Self { sums: Sums::default(), ..self.clone() }
    }

    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups);
    }

    fn add(&mut self, values: &[ArrayRef], groups: &[usize], kept: Option<&NullBuffer>) -> Result<()> {
        match values.first().map(|v| v.data_type()) {
            Some(DataType::Decimal32(..)) => {
                let values = numbers::<Decimal32Type>(values, 0)?.values();
                self.add_all(groups, kept, |row| values[row].into());
            }
            Some(DataType::Decimal64(..)) => {
                let values = numbers::<Decimal64Type>(values, 0)?.values();
                self.add_all(groups, kept, |row| values[row].into());
            }
            Some(DataType::Decimal128(..)) => {
                let values = numbers::<Decimal128Type>(values, 0)?.values();
                self.add_all(groups, kept, |row| values[row]);
            }
            Some(DataType::Decimal256(..)) => {
                let values = numbers::<Decimal256Type>(values, 0)?.values();
                for_each(groups, kept, |row, group| {
                    // value = high * 2^128 + low, of which only `high` has a sign: so `low` goes in two halves.
                    let (low, high) = values[row].to_parts();
                    self.sums.add_scaled(group, high, 128);
                    self.sums.add_scaled(group, (low >> 64) as i128, 64);
                    self.sums.add_scaled(group, i128::from(low as u64), 0);
                });
            }
            other => return internal_err!("a sum of decimals got {other:?}"),
        }
        Ok(())
    }

    fn values(&mut self, emit_to: EmitTo, counts: Option<Vec<u64>>) -> Result<ArrayRef> {
        if self.target == DataType::Binary {
            return Ok(self.sums.store(emit_to));
        }
        let sums = self.sums.take(emit_to).into_iter().map(|sum| match sum.seen() {
            true => sum.finite().to_integer(),
            false => None,
        });
        let wider = |_| Wider::new(&self.what, &self.target);
        let Some(counts) = counts else { return decimals(sums, &self.target, wider) };
        let mean = |(sum, n): (Option<BigInt>, u64)| Some(sum? * &self.factor / (n > 0).then_some(n)?);
        decimals(sums.zip(counts).map(mean), &self.target, wider)
    }

    fn store(&mut self, emit_to: EmitTo) -> ArrayRef {
        self.sums.store(emit_to)
    }

    fn merge(&mut self, stored: &[ArrayRef], groups: &[usize]) -> Result<()> {
        self.sums.merge(bytes(stored, 0)?, groups)
    }

    fn size(&self) -> usize {
        self.sums.size()
    }
}
