//! `sum` and `avg` over integers.
//!
//! ```text
//! sum(x1 … xn) = x1 + … + xn            or an error, if its type does not hold that
//! avg(x1 … xn) = round((x1 + … + xn) / n)
//! ```
//!
//! The sum is exact in 128 bits: only the total must fit, never what came before it, so that an error does not
//! depend on the order of the events. The engine's own wraps around at 64 bits, and its `avg` adds doubles.

use super::counts::Counts;
use super::narrow::{self, Wider};
use super::number::Exact;
use super::rows::{for_each, kept, numbers, rows_as_states};
use crate::aggregate::one_group;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Int64Type, UInt64Type};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use std::sync::Arc;

/// What holds every sum of fewer than 2^63 integers of 64 bits.
pub(super) const TOTAL: DataType = DataType::Decimal128(38, 0);

/// A total for each group, and for `avg` a count.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    totals: Vec<i128>,
    /// Which groups have had a value.
    seen: Vec<bool>,
    counts: Option<Counts>,
    target: DataType,
    what: String,
}

impl Integers {
    /// `sum` with a value of the type `target`: `BIGINT`, `BIGINT UNSIGNED`, or [`TOTAL`] for the total as it is.
    /// `what` is what a message calls it.
    pub(super) fn sum(target: &DataType, what: &str) -> Self {
        let (totals, seen) = (Vec::new(), Vec::new());
        Self { totals, seen, counts: None, target: target.clone(), what: what.into() }
    }

    pub(super) fn avg() -> Self {
        Self { counts: Some(Counts::default()), ..Self::sum(&DataType::Float64, "avg") }
    }

    fn add<T>(&mut self, values: &PrimitiveArray<T>, groups: &[usize], filter: Option<&BooleanArray>)
    where
        T: ArrowPrimitiveType,
        i128: From<T::Native>,
    {
        let kept = kept(&[Arc::new(values.clone()) as ArrayRef], filter);
        for_each(groups, kept.as_ref(), |row, group| {
            self.totals[group] = self.totals[group].wrapping_add(i128::from(values.value(row)));
            self.seen[group] = true;
        });
        if let Some(counts) = &mut self.counts {
            for_each(groups, kept.as_ref(), |_, group| counts.add_one(group));
        }
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

impl one_group::Groups for Integers {
    fn resize(&mut self, groups: usize) {
        self.totals.resize(groups, 0);
        self.seen.resize(groups, false);
        if let Some(counts) = &mut self.counts {
            counts.resize(groups);
        }
    }

    fn value(&mut self) -> Result<ArrayRef> {
        self.clone().evaluate(EmitTo::All)
    }
}

impl GroupsAccumulator for Integers {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        let [array] = values else { return internal_err!("a sum takes one argument") };
        match array.data_type() {
            DataType::Int64 => self.add(array.as_primitive::<Int64Type>(), group_indices, opt_filter),
            DataType::UInt64 => self.add(array.as_primitive::<UInt64Type>(), group_indices, opt_filter),
            other => return internal_err!("a sum of integers got {other}"),
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let totals = self.take(emit_to);
        if let Some(counts) = &mut self.counts {
            let means = totals.zip(counts.take(emit_to)).map(|(total, n)| mean(total?, n));
            return Ok(Arc::new(means.collect::<Float64Array>()));
        }
        match &self.target {
            DataType::Int64 => self.narrow::<Int64Type>(totals),
            DataType::UInt64 => self.narrow::<UInt64Type>(totals),
            target if *target == TOTAL => Ok(as_totals(totals)),
            other => internal_err!("a sum of integers cannot be {other}"),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = as_totals(self.take(emit_to));
        Ok(std::iter::once(totals).chain(self.counts.as_mut().map(|c| c.store(emit_to))).collect())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        let totals = numbers::<Decimal128Type>(values, 0)?;
        for (row, &group) in group_indices.iter().enumerate().filter(|&(row, _)| totals.is_valid(row)) {
            let Some(total) = self.totals[group].checked_add(totals.value(row)) else {
                return exec_err!("the stored state of a sum is damaged: it is beyond every sum of integers");
            };
            self.totals[group] = total;
            self.seen[group] = true;
        }
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
        let empty = if self.counts.is_some() { Self::avg() } else { Self::sum(&self.target, &self.what) };
        rows_as_states(empty, values, opt_filter)
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<i128>()
            + self.seen.capacity()
            + self.counts.as_ref().map_or(0, Counts::size)
    }
}

/// The double nearest to `total / n`.
pub(super) fn mean(total: i128, n: u64) -> Option<f64> {
    let mut sum = Exact::default();
    sum.add_scaled(total, 0);
    (n > 0).then(|| sum.over(n))
}
