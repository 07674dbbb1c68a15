//! The least and the greatest of floating-point numbers, by the total order of IEEE 754:
//!
//! ```text
//! -NaN < -inf < … < -0 < +0 < … < +inf < NaN
//! ```
//!
//! The engine's own `min` and `max` compare partially, so that with a NaN or with both zeros their value depends on
//! the order of the events. Without those the two are the same.

use super::one_group::{self, OneGroup};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, TypeSignature, Volatility,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// `min` or `max` over `REAL` or `DOUBLE`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FloatExtreme {
    name: &'static str,
    /// How a value compares to the one kept so far when it replaces it.
    wins: Ordering,
    signature: Signature,
}

impl FloatExtreme {
    pub(crate) fn min() -> Self {
        Self::new("float_min", Ordering::Less)
    }

    pub(crate) fn max() -> Self {
        Self::new("float_max", Ordering::Greater)
    }

    fn new(name: &'static str, wins: Ordering) -> Self {
        let types = [DataType::Float32, DataType::Float64].map(|t| TypeSignature::Exact(vec![t]));
        Self { name, wins, signature: Signature::one_of(types.to_vec(), Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for FloatExtreme {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [one] => Ok(one.clone()),
            _ => internal_err!("{} takes one argument", self.name),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new("extreme", args.return_type().clone(), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup(Groups::new(self.wins, args.return_type()))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.wins, args.return_type())))
    }
}

/// The extreme of each group, as a double: every `REAL` is one.
#[derive(Debug)]
struct Groups {
    wins: Ordering,
    data_type: DataType,
    extremes: Vec<Option<f64>>,
}

impl Groups {
    fn new(wins: Ordering, data_type: &DataType) -> Self {
        Self { wins, data_type: data_type.clone(), extremes: Vec::new() }
    }

    fn emit(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let extremes = Float64Array::from(emit_to.take_needed(&mut self.extremes));
        Ok(cast(&extremes, &self.data_type)?)
    }
}

impl one_group::Groups for Groups {
    fn resize(&mut self, groups: usize) {
        self.extremes.resize(groups, None);
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.extremes.resize(total_num_groups, None);
        let [values] = values else { return internal_err!("an extreme takes one argument") };
        let values = cast(values, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        for (row, &group) in group_indices.iter().enumerate() {
            let kept = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if !kept || values.is_null(row) {
                continue;
            }
            let value = values.value(row);
            let extreme = &mut self.extremes[group];
            if extreme.is_none_or(|so_far| value.total_cmp(&so_far) == self.wins) {
                *extreme = Some(value);
            }
        }
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

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        internal_err!("an extreme always aggregates")
    }

    fn size(&self) -> usize {
        self.extremes.capacity() * size_of::<Option<f64>>()
    }
}
