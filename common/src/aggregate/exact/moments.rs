//! The accumulator of every [`Statistic`]: a count, and the exact sums of the values and of their products.

use super::counts::Counts;
use super::rows::{bytes, for_each, kept, numbers, rows_as_states};
use super::statistic::{Moment, Sample, Statistic};
use super::sums::Sums;
use crate::aggregate::one_group;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, UInt64Array};
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use std::sync::Arc;

/// A count and the sums that a statistic needs, for each group.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    statistic: Statistic,
    counts: Counts,
    sums: Vec<Sums>,
}

impl Moments {
    pub(super) fn new(statistic: Statistic) -> Self {
        let sums = vec![Sums::default(); statistic.moments().len()];
        Self { statistic, counts: Counts::default(), sums }
    }
}

impl one_group::Groups for Moments {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups);
        self.sums.iter_mut().for_each(|sums| sums.resize(groups));
    }

    fn value(&mut self) -> Result<ArrayRef> {
        self.clone().evaluate(EmitTo::All)
    }
}

impl GroupsAccumulator for Moments {
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
        // The last argument is x, and the one before it, if there is one, y.
        let arguments = self.statistic.arguments();
        let x = numbers::<Float64Type>(values, arguments - 1)?.values();
        let y = numbers::<Float64Type>(values, 0)?.values();
        for_each(group_indices, kept, |_, group| self.counts.add_one(group));
        for (moment, sums) in self.statistic.moments().iter().zip(&mut self.sums) {
            match moment {
                Moment::X => for_each(group_indices, kept, |row, group| sums.add_f64(group, x[row])),
                Moment::Y => for_each(group_indices, kept, |row, group| sums.add_f64(group, y[row])),
                Moment::XX => for_each(group_indices, kept, |row, g| sums.add_product(g, x[row], x[row])),
                Moment::YY => for_each(group_indices, kept, |row, g| sums.add_product(g, y[row], y[row])),
                Moment::XY => for_each(group_indices, kept, |row, g| sums.add_product(g, x[row], y[row])),
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let counts = self.counts.take(emit_to);
        let sums: Vec<_> = self.sums.iter_mut().map(|sums| sums.take(emit_to)).collect();
        if self.statistic == Statistic::RegrCount {
            return Ok(Arc::new(UInt64Array::from(counts)));
        }
        let value = |(group, n): (usize, u64)| {
            let sums: Vec<_> = sums.iter().map(|sums| &sums[group]).collect();
            Sample { statistic: self.statistic, n, sums: &sums }.value()
        };
        Ok(Arc::new(counts.into_iter().enumerate().map(value).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let counts = self.counts.store(emit_to);
        Ok(std::iter::once(counts).chain(self.sums.iter_mut().map(|sums| sums.store(emit_to))).collect())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        self.counts.merge(numbers::<UInt64Type>(values, 0)?, group_indices)?;
        for (i, sums) in self.sums.iter_mut().enumerate() {
            sums.merge(bytes(values, 1 + i)?, group_indices)?;
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        rows_as_states(Self::new(self.statistic), values, opt_filter)
    }

    fn size(&self) -> usize {
        self.counts.size() + self.sums.iter().map(Sums::size).sum::<usize>()
    }
}
