//! `sum` and `avg` over decimals.
//!
//! ```text
//! sum(x1 … xn) = x1 + … + xn                       or an error, if its type does not hold that
//! avg(x1 … xn) = truncate((x1 + … + xn) / n)       to the digits of its type, toward zero as the engine does
//! ```
//!
//! The sum is exact whatever the precision: only the value must fit, never what came before it. The engine's own
//! wraps around.

use super::counts::Counts;
use super::narrow::{Wider, decimals};
use super::rows::{bytes, for_each, kept, numbers, rows_as_states};
use super::sums::Sums;
use crate::aggregate::one_group;
use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, UInt64Type};
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use num_bigint::BigInt;

/// The digits after the point.
pub(super) fn scale(data_type: &DataType) -> Result<i8> {
    match data_type {
        DataType::Decimal32(_, s)
        | DataType::Decimal64(_, s)
        | DataType::Decimal128(_, s)
        | DataType::Decimal256(_, s) => Ok(*s),
        other => internal_err!("{other} is no decimal"),
    }
}

/// An exact sum for each group, and for `avg` a count.
#[derive(Debug, Clone)]
pub(super) struct Decimals {
    sums: Sums,
    counts: Option<Counts>,
    /// What the mean of unscaled integers is to be multiplied by, for the digits that its type has more.
    factor: BigInt,
    /// The type of the value: a decimal, or `Binary` for the exact sum as it is stored.
    target: DataType,
    what: String,
}

impl Decimals {
    /// `sum` with a value of the type `target`. `what` is what a message calls it.
    pub(super) fn sum(target: &DataType, what: &str) -> Self {
        let (sums, factor) = (Sums::default(), BigInt::from(1));
        Self { sums, counts: None, factor, target: target.clone(), what: what.into() }
    }

    /// `avg` over decimals of the type `source`.
    ///
    /// # Errors
    ///
    /// If `target` has fewer digits after the point than `source`, which the engine never asks for.
    pub(super) fn avg(source: &DataType, target: &DataType, what: &str) -> Result<Self> {
        let more = i32::from(scale(target)?) - i32::from(scale(source)?);
        let more = u32::try_from(more)
            .map_err(|_| internal_datafusion_err!("avg over {source} cannot be {target}"))?;
        let factor = BigInt::from(10).pow(more);
        Ok(Self { counts: Some(Counts::default()), factor, ..Self::sum(target, what) })
    }

    fn add(
        &mut self,
        groups: &[usize],
        kept: Option<&arrow::buffer::NullBuffer>,
        value: impl Fn(usize) -> i128,
    ) {
        for_each(groups, kept, |row, group| self.sums.add_scaled(group, value(row), 0));
    }
}

impl one_group::Groups for Decimals {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups);
        if let Some(counts) = &mut self.counts {
            counts.resize(groups);
        }
    }

    fn value(&mut self) -> Result<ArrayRef> {
        self.clone().evaluate(EmitTo::All)
    }
}

impl GroupsAccumulator for Decimals {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        let kept = kept(values, opt_filter);
        let kept = kept.as_ref();
        match values.first().map(|v| v.data_type()) {
            Some(DataType::Decimal32(..)) => {
                let values = numbers::<Decimal32Type>(values, 0)?.values();
                self.add(group_indices, kept, |row| values[row].into());
            }
            Some(DataType::Decimal64(..)) => {
                let values = numbers::<Decimal64Type>(values, 0)?.values();
                self.add(group_indices, kept, |row| values[row].into());
            }
            Some(DataType::Decimal128(..)) => {
                let values = numbers::<Decimal128Type>(values, 0)?.values();
                self.add(group_indices, kept, |row| values[row]);
            }
            Some(DataType::Decimal256(..)) => {
                let values = numbers::<Decimal256Type>(values, 0)?.values();
                for_each(group_indices, kept, |row, group| {
                    // value = high * 2^128 + low, of which only `high` has a sign: so `low` goes in two halves.
                    let (low, high) = values[row].to_parts();
                    self.sums.add_scaled(group, high, 128);
                    self.sums.add_scaled(group, (low >> 64) as i128, 64);
                    self.sums.add_scaled(group, i128::from(low as u64), 0);
                });
            }
            other => return internal_err!("a sum of decimals got {other:?}"),
        }
        if let Some(counts) = &mut self.counts {
            for_each(group_indices, kept, |_, group| counts.add_one(group));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if self.target == DataType::Binary {
            return Ok(self.sums.store(emit_to));
        }
        let sums = self.sums.take(emit_to).into_iter().map(|sum| match sum.seen() {
            true => sum.finite().to_integer(),
            false => None,
        });
        let wider = |_| Wider::new(&self.what, &self.target);
        let Some(counts) = &mut self.counts else { return decimals(sums, &self.target, wider) };
        let counts = counts.take(emit_to);
        let mean = |(sum, n): (Option<BigInt>, u64)| Some(sum? * &self.factor / (n > 0).then_some(n)?);
        decimals(sums.zip(counts).map(mean), &self.target, wider)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = self.sums.store(emit_to);
        Ok(std::iter::once(sums).chain(self.counts.as_mut().map(|c| c.store(emit_to))).collect())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        self.sums.merge(bytes(values, 0)?, group_indices)?;
        match &mut self.counts {
            Some(counts) => counts.merge(numbers::<UInt64Type>(values, 1)?, group_indices),
            None => Ok(()),
        }
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let counts = self.counts.as_ref().map(|_| Counts::default());
        rows_as_states(Self { sums: Sums::default(), counts, ..self.clone() }, values, opt_filter)
    }

    fn size(&self) -> usize {
        self.sums.size() + self.counts.as_ref().map_or(0, Counts::size)
    }
}
