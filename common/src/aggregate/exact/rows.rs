//! What every accumulator of many groups does with the rows that it is given.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::ArrowPrimitiveType;
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

/// The rows that count: not null in any of the columns, and kept by the filter. `None`: all of them.
pub(super) fn kept(columns: &[ArrayRef], filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let filter = filter.map(|filter| match filter.null_count() {
        0 => NullBuffer::new(filter.values().clone()),
        _ => NullBuffer::new(prep_null_mask_filter(filter).values().clone()),
    });
    columns.iter().fold(filter, |kept, column| {
        NullBuffer::union(kept.as_ref(), column.logical_nulls().filter(|n| n.null_count() > 0).as_ref())
    })
}

/// Calls `each` with the row and the group of every row that counts.
#[inline]
pub(super) fn for_each(groups: &[usize], kept: Option<&NullBuffer>, mut each: impl FnMut(usize, usize)) {
    match kept {
        None => groups.iter().enumerate().for_each(|(row, &group)| each(row, group)),
        Some(kept) => kept.valid_indices().for_each(|row| each(row, groups[row])),
    }
}

/// The column at `index` of what an accumulator was given, as numbers of this type.
pub(super) fn numbers<T: ArrowPrimitiveType>(
    columns: &[ArrayRef],
    index: usize,
) -> Result<&PrimitiveArray<T>> {
    let column = columns.get(index).and_then(|column| column.as_primitive_opt());
    column.ok_or_else(|| unexpected(columns, index, &T::DATA_TYPE.to_string()))
}

/// The column at `index` of what an accumulator was given, as bytes.
pub(super) fn bytes(columns: &[ArrayRef], index: usize) -> Result<&BinaryArray> {
    let column = columns.get(index).and_then(|column| column.as_binary_opt());
    column.ok_or_else(|| unexpected(columns, index, "Binary"))
}

fn unexpected(columns: &[ArrayRef], index: usize, wanted: &str) -> datafusion::error::DataFusionError {
    let found = columns.get(index).map_or("nothing".into(), |column| column.data_type().to_string());
    internal_datafusion_err!("column {index} of an aggregate is {found}, not {wanted}")
}

/// Each row as a state of its own, from groups that hold nothing yet.
pub(super) fn rows_as_states(
    mut groups: impl GroupsAccumulator,
    values: &[ArrayRef],
    filter: Option<&BooleanArray>,
) -> Result<Vec<ArrayRef>> {
    let rows = values.first().map_or(0, |column| column.len());
    let own_group: Vec<usize> = (0..rows).collect();
    groups.update_batch(values, &own_group, filter, rows)?;
    groups.state(EmitTo::All)
}
