//! An aggregate over distinct values, at query time: the values in a set, and then all of them at once.
//!
//! The functions that it is for do not depend on the order, so that the order of the set does not show.
//! `-0` is `0` here, and there is one NaN, as in `GROUP BY`.

use super::recipe::Recipe;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{ScalarValue, internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The distinct rows of arguments without a null, for an accumulator that is fresh.
#[derive(Debug)]
pub(super) struct DistinctValues {
    recipe: Recipe,
    converter: RowConverter,
    rows: BTreeSet<OwnedRow>,
    bytes: usize,
}

impl DistinctValues {
    /// Of arguments of these types, for the accumulator that the recipe makes.
    pub(super) fn try_new(types: &[DataType], recipe: Recipe) -> Result<Self> {
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        Ok(Self { recipe, converter, rows: BTreeSet::new(), bytes: 0 })
    }

    fn columns(&self) -> Result<Vec<ArrayRef>> {
        Ok(self.converter.convert_rows(self.rows.iter().map(OwnedRow::row))?)
    }
}

impl Accumulator for DistinctValues {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = match super::rows::kept(values, None) {
            None => values.to_vec(),
            Some(kept) => {
                let kept = kept.into_inner().into();
                values.iter().map(|column| filter(column, &kept)).collect::<std::result::Result<_, _>>()?
            }
        };
        let values: Vec<ArrayRef> = values.into_iter().map(canonical).collect();
        for row in &self.converter.convert_columns(&values)? {
            let row = row.owned();
            let bytes = row.as_ref().len() + size_of::<OwnedRow>();
            self.bytes += if self.rows.insert(row) { bytes } else { 0 };
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut accumulator = self.recipe.accumulator()?;
        accumulator.update_batch(&self.columns()?)?;
        accumulator.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.converter.size() + self.bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let lists = self.columns()?.into_iter();
        Ok(lists.map(|values| SingleRowListArrayBuilder::new(values).build_list_scalar()).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states.iter().map(|state| {
            state.as_list_opt::<i32>().ok_or_else(|| internal_datafusion_err!("a set that is no list"))
        });
        let lists = lists.collect::<Result<Vec<_>>>()?;
        for row in 0..lists.first().map_or(0, |list| list.len()) {
            let values: Vec<ArrayRef> = lists.iter().map(|list| list.value(row)).collect();
            if values.iter().any(|column| column.len() != values[0].len()) {
                return internal_err!("the columns of a set differ in length");
            }
            self.update_batch(&values)?;
        }
        Ok(())
    }
}

/// Doubles with one zero and one NaN.
fn canonical(column: ArrayRef) -> ArrayRef {
    match column.as_primitive_opt::<Float64Type>() {
        Some(values) => {
            let one: Float64Array = values.unary(|v| if v.is_nan() { f64::NAN } else { v + 0.0 });
            Arc::new(one)
        }
        None => column,
    }
}
