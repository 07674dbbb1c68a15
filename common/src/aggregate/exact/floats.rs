//! `sum` and `avg` over doubles.
//!
//! ```text
//! sum(x1 … xn) = round(x1 + … + xn)        avg(x1 … xn) = round((x1 + … + xn) / n)
//! ```
//!
//! with one rounding each, to the nearest double. So the value does not depend on the order of the events, and a sum
//! of doubles is infinite only if it is too large itself.

use super::counts::Counts;
use super::rows::{bytes, for_each, kept, numbers, rows_as_states};
use super::sums::Sums;
use crate::aggregate::one_group;
use arrow::array::{ArrayRef, BooleanArray, Float64Array};
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use std::sync::Arc;

/// An exact sum for each group, and for `avg` a count.
#[derive(Debug, Clone)]
pub(super) struct Floats {
    sums: Sums,
    counts: Option<Counts>,
}

impl Floats {
    pub(super) fn sum() -> Self {
        Self { sums: Sums::default(), counts: None }
    }

    pub(super) fn avg() -> Self {
        Self { sums: Sums::default(), counts: Some(Counts::default()) }
    }
}

impl one_group::Groups for Floats {
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

impl GroupsAccumulator for Floats {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        let kept = kept(values, opt_filter);
        let values = numbers::<Float64Type>(values, 0)?.values();
        for_each(group_indices, kept.as_ref(), |row, group| self.sums.add_f64(group, values[row]));
        if let Some(counts) = &mut self.counts {
            for_each(group_indices, kept.as_ref(), |_, group| counts.add_one(group));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = self.sums.take(emit_to);
        let values: Float64Array = match &mut self.counts {
            None => sums.iter().map(|sum| sum.seen().then(|| sum.to_f64())).collect(),
            Some(counts) => {
                let counts = counts.take(emit_to);
                sums.iter().zip(counts).map(|(sum, n)| (n > 0).then(|| sum.over(n))).collect()
            }
        };
        Ok(Arc::new(values))
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
        let empty = if self.counts.is_some() { Self::avg() } else { Self::sum() };
        rows_as_states(empty, values, opt_filter)
    }

    fn size(&self) -> usize {
        self.sums.size() + self.counts.as_ref().map_or(0, Counts::size)
    }
}
