//! Accumulators, for many groups and for one, over what a function keeps of one group.
//!
//! A function says with [`Fold`] what it keeps of a group and how rows and states are folded into that; everything
//! that the engine asks for besides follows from it. For rows or states `A` and `B` a fold must keep
//!
//! ```text
//! state(A + B) = state(B + A) = merge(state(A), state(B))        byte for byte
//! ```
//!
//! Asking for a value takes nothing away: a window with a running frame asks after every row, and goes on.

use arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt::Debug;

/// What a function keeps of each group.
pub(super) trait Fold: Debug + Send + Sync + 'static {
    /// What is kept of one group; the default is that of no rows.
    type Group: Debug + Default + Send + Sync;
    /// The arguments of a batch, ready to be read row by row.
    type Batch;
    /// A column of states, ready to be read row by row.
    type States;

    /// Prepares the arguments of a batch.
    fn batch(&self, arguments: &[ArrayRef]) -> Result<Self::Batch>;

    /// Adds a row to a group.
    fn row(&self, group: &mut Self::Group, batch: &Self::Batch, row: usize) -> Result<()>;

    /// Prepares a column of states, which may come from a disk.
    fn states(&self, column: &ArrayRef) -> Result<Self::States>;

    /// Adds a state to a group.
    fn merge(&self, group: &mut Self::Group, states: &Self::States, row: usize) -> Result<()>;

    /// The states of groups.
    fn state(&self, groups: &[Self::Group]) -> Result<ArrayRef>;

    /// The values of groups.
    fn finish(&self, groups: &[Self::Group]) -> Result<ArrayRef>;

    /// About how many bytes a group holds; asked for each row, so it must not count them anew.
    fn size(group: &Self::Group) -> usize;
}

/// An accumulator for many groups.
#[derive(Debug)]
pub(super) struct Many<F: Fold> {
    fold: F,
    groups: Vec<F::Group>,
    bytes: usize,
}

impl<F: Fold> Many<F> {
    pub(super) fn new(fold: F) -> Self {
        Self { fold, groups: Vec::new(), bytes: 0 }
    }

    fn resize(&mut self, groups: usize) {
        if groups > self.groups.len() {
            self.groups.resize_with(groups, F::Group::default);
        }
    }

    /// Lets `add` change a group, and keeps account of its size.
    fn change(&mut self, group: usize, add: impl FnOnce(&F, &mut F::Group) -> Result<()>) -> Result<()> {
        let group = &mut self.groups[group];
        let before = F::size(group);
        add(&self.fold, group)?;
        self.bytes = (self.bytes + F::size(group)).saturating_sub(before);
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<F::Group> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.bytes = self.bytes.saturating_sub(taken.iter().map(F::size).sum());
        taken
    }
}

fn kept(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

impl<F: Fold> GroupsAccumulator for Many<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let batch = self.fold.batch(values)?;
        for (row, &group) in group_indices.iter().enumerate().filter(|(row, _)| kept(opt_filter, *row)) {
            self.change(group, |fold, group| fold.row(group, &batch, row))?;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.take(emit_to);
        self.fold.finish(&groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.take(emit_to);
        Ok(vec![self.fold.state(&groups)?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let [column] = values else {
            return datafusion::common::internal_err!(
                "expected one column of states, found {}",
                values.len()
            );
        };
        let states = self.fold.states(column)?;
        for (row, &group) in group_indices.iter().enumerate() {
            self.change(group, |fold, group| fold.merge(group, &states, row))?;
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let batch = self.fold.batch(values)?;
        let rows = values.first().map_or(0, |v| v.len());
        let mut groups: Vec<F::Group> = Vec::new();
        groups.resize_with(rows, F::Group::default);
        for (row, group) in groups.iter_mut().enumerate().filter(|(row, _)| kept(opt_filter, *row)) {
            self.fold.row(group, &batch, row)?;
        }
        Ok(vec![self.fold.state(&groups)?])
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<F::Group>() + self.bytes
    }
}

/// An accumulator for one group: what a query without `GROUP BY`, or a window, asks for.
#[derive(Debug)]
pub(super) struct One<F: Fold>(Many<F>);

impl<F: Fold> One<F> {
    pub(super) fn new(fold: F) -> Self {
        let mut many = Many::new(fold);
        many.resize(1);
        Self(many)
    }
}

impl<F: Fold> Accumulator for One<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |v| v.len());
        self.0.update_batch(values, &vec![0; rows], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.0.fold.finish(&self.0.groups)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&self.0.fold.state(&self.0.groups)?, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |v| v.len());
        self.0.merge_batch(states, &vec![0; rows], 1)
    }
}
