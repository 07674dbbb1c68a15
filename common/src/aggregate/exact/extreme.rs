//! The least and the greatest of floating-point numbers, by the total order of IEEE 754:
//!
//! ```text
//! -NaN < -inf < … < -0 < +0 < … < +inf < NaN
//! ```
//!
//! The engine's own `min` and `max` compare partially, so that with a NaN or with both zeros their value depends on
//! the order of the events. Without those the two are the same.

use super::rows::{for_each, kept, numbers, rows_as_states};
use crate::aggregate::one_group;
use arrow::array::{ArrayRef, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use std::cmp::Ordering;

/// The extreme of each group, as a double: every narrower float is one.
#[derive(Debug, Clone)]
pub(super) struct Extremes {
    /// How a value compares to the one kept so far when it replaces it.
    wins: Ordering,
    data_type: DataType,
    extremes: Vec<Option<f64>>,
}

impl Extremes {
    /// `min` if a value wins by being less, `max` if by being greater, over floats of this type.
    pub(super) fn new(wins: Ordering, data_type: &DataType) -> Self {
        Self { wins, data_type: data_type.clone(), extremes: Vec::new() }
    }

    fn emit(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let extremes = Float64Array::from(emit_to.take_needed(&mut self.extremes));
        Ok(cast(&extremes, &self.data_type)?)
    }
}

impl one_group::Groups for Extremes {
    fn resize(&mut self, groups: usize) {
        self.extremes.resize(groups, None);
    }

    fn value(&mut self) -> Result<ArrayRef> {
        self.clone().evaluate(EmitTo::All)
    }
}

impl GroupsAccumulator for Extremes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.extremes.resize(total_num_groups, None);
        let [values] = values else { return internal_err!("an extreme takes one argument") };
        let values = [cast(values, &DataType::Float64)?];
        let kept = kept(&values, opt_filter);
        let values = numbers::<Float64Type>(&values, 0)?.values();
        for_each(group_indices, kept.as_ref(), |row, group| {
            let extreme = &mut self.extremes[group];
            if extreme.is_none_or(|so_far| values[row].total_cmp(&so_far) == self.wins) {
                *extreme = Some(values[row]);
            }
        });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        rows_as_states(Self::new(self.wins, &self.data_type), values, opt_filter)
    }

    fn size(&self) -> usize {
        self.extremes.capacity() * size_of::<Option<f64>>()
    }
}
