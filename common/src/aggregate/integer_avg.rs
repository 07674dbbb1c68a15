//! The mean of integers, exact until its one division.
//!
//! ```text
//! avg(x1 … xn) = round(x1 + … + xn) / n        (the sum in 128 bits, rounded once to the nearest double)
//! ```
//!
//! The engine's own `avg` over integers adds doubles, so that its value depends on the order of the events once a
//! sum passes 2^53. Below that the two are the same double.

use super::one_group::{self, Groups as _, OneGroup};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, UInt64Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, TypeSignature, Volatility,
};
use std::sync::Arc;

const SUM: DataType = DataType::Decimal128(38, 0);

/// `avg` over `BIGINT` or `BIGINT UNSIGNED`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct IntegerAvg {
    signature: Signature,
}

impl IntegerAvg {
    pub(crate) fn new() -> Self {
        let types = [DataType::Int64, DataType::UInt64].map(|t| TypeSignature::Exact(vec![t]));
        Self { signature: Signature::one_of(types.to_vec(), Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for IntegerAvg {
    fn name(&self) -> &str {
        "integer_avg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, _: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Arc::new(Field::new("sum", SUM, false)),
            Arc::new(Field::new("count", DataType::UInt64, false)),
        ])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup(Groups::default())))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::default()))
    }
}

/// A sum and a count for each group.
#[derive(Debug, Default)]
struct Groups {
    sums: Vec<i128>,
    counts: Vec<u64>,
}

impl one_group::Groups for Groups {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, 0);
        self.counts.resize(groups, 0);
    }
}

impl Groups {
    fn add(&mut self, groups: &[usize], keep: impl Fn(usize) -> bool, value: impl Fn(usize) -> i128) {
        for (row, &group) in groups.iter().enumerate() {
            if keep(row) {
                self.sums[group] += value(row);
                self.counts[group] += 1;
            }
        }
    }

    fn columns(&mut self, emit_to: EmitTo) -> Result<[ArrayRef; 2]> {
        let sums = Decimal128Array::from_iter_values(emit_to.take_needed(&mut self.sums)).with_data_type(SUM);
        Ok([Arc::new(sums), Arc::new(UInt64Array::from(emit_to.take_needed(&mut self.counts)))])
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
        self.resize(total_num_groups);
        let [array] = values else { return internal_err!("avg takes one argument") };
        let keep = |row: usize| {
            array.is_valid(row) && opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
        };
        match array.data_type() {
            DataType::Int64 => {
                let array = array.as_primitive::<Int64Type>().values();
                self.add(group_indices, keep, |row| i128::from(array[row]));
            }
            DataType::UInt64 => {
                let array = array.as_primitive::<UInt64Type>().values();
                self.add(group_indices, keep, |row| i128::from(array[row]));
            }
            other => return internal_err!("avg over integers got {other}"),
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let counts = emit_to.take_needed(&mut self.counts);
        let means = sums.iter().zip(&counts).map(|(&sum, &n)| (n > 0).then(|| sum as f64 / n as f64));
        Ok(Arc::new(means.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.columns(emit_to)?.to_vec())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let [sums, counts] = values else { return internal_err!("the state of avg has two fields") };
        let (sums, counts) = (sums.as_primitive::<Decimal128Type>(), counts.as_primitive::<UInt64Type>());
        for (row, &group) in group_indices.iter().enumerate() {
            self.sums[group] += sums.value(row);
            self.counts[group] += counts.value(row);
        }
        Ok(())
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        internal_err!("avg over integers always aggregates")
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.counts.capacity() * size_of::<u64>()
    }
}
