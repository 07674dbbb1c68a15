//! A total of each group, and for a mean the number of its summands beside it.
//!
//! ```text
//! state = (total)  or  (total, count)
//! ```
//!
//! What totals are of, and what their value is, the [`Total`] says; taking rows in, merging and storing are alike.

use super::counts::Counts;
use super::rows::{for_each, kept, numbers, rows_as_states};
use crate::aggregate::one_group;
use arrow::array::{ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::UInt64Type;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use std::fmt::Debug;

/// A total of each group.
pub(super) trait Total: Debug + Clone + Send + Sync + 'static {
    /// The same without groups.
    fn emptied(&self) -> Self;

    /// Makes room for this many groups.
    fn resize(&mut self, groups: usize);

    /// Adds the rows that are `kept` to the totals of their groups.
    fn add(&mut self, values: &[ArrayRef], groups: &[usize], kept: Option<&NullBuffer>) -> Result<()>;

    /// The values of groups, which are taken out: their totals, or the means of so many.
    fn values(&mut self, emit_to: EmitTo, counts: Option<Vec<u64>>) -> Result<ArrayRef>;

    /// The totals of groups, which are taken out, as they are stored.
    fn store(&mut self, emit_to: EmitTo) -> ArrayRef;

    /// Adds stored totals, the first column of `stored`, to those of their groups.
    fn merge(&mut self, stored: &[ArrayRef], groups: &[usize]) -> Result<()>;

    /// In bytes, without the value itself.
    fn size(&self) -> usize;
}

/// Totals as the engine keeps them for a sum or a mean.
#[derive(Debug, Clone)]
pub(super) struct Totals<T> {
    total: T,
    /// For a mean.
    counts: Option<Counts>,
}

impl<T: Total> Totals<T> {
    pub(super) fn sum(total: T) -> Self {
        Self { total, counts: None }
    }

    pub(super) fn mean(total: T) -> Self {
        Self { total, counts: Some(Counts::default()) }
    }
}

impl<T: Total> one_group::Groups for Totals<T> {
    fn resize(&mut self, groups: usize) {
        self.total.resize(groups);
        if let Some(counts) = &mut self.counts {
            counts.resize(groups);
        }
    }

    fn value(&mut self) -> Result<ArrayRef> {
        self.clone().evaluate(EmitTo::All)
    }
}

impl<T: Total> GroupsAccumulator for Totals<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        let kept = kept(values, opt_filter);
        self.total.add(values, group_indices, kept.as_ref())?;
        if let Some(counts) = &mut self.counts {
            for_each(group_indices, kept.as_ref(), |_, group| counts.add_one(group));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let counts = self.counts.as_mut().map(|counts| counts.take(emit_to));
        self.total.values(emit_to, counts)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = self.total.store(emit_to);
        Ok(std::iter::once(totals).chain(self.counts.as_mut().map(|c| c.store(emit_to))).collect())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        one_group::Groups::resize(self, total_num_groups);
        self.total.merge(values, group_indices)?;
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
        rows_as_states(Self { total: self.total.emptied(), counts }, values, opt_filter)
    }

    fn size(&self) -> usize {
        self.total.size() + self.counts.as_ref().map_or(0, Counts::size)
    }
}
