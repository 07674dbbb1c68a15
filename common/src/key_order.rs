//! The order of keys, in which states are sorted, told by comparing values, without encoding them.

use arrow::array::{ArrayRef, DynComparator, RecordBatch, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use std::cmp::Ordering;

/// The order of states: nulls first.
const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Whether values of a type compare as they do in the order of states, and equal ones are the same.
pub fn is_ordered(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| is_ordered(field.data_type())),
        DataType::Boolean
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(_, _)
        | DataType::Decimal128(_, _) => true,
        other => other.is_integer(),
    }
}

/// What compares rows of some columns with those of others of the same types.
pub(crate) fn comparators(a: &[ArrayRef], b: &[ArrayRef]) -> Result<Vec<DynComparator>> {
    let pairs = a.iter().zip(b).map(|(a, b)| make_comparator(a, b, ASCENDING));
    Ok(pairs.collect::<Result<_, _>>()?)
}

/// The order of two rows.
pub(crate) fn order_of(comparators: &[DynComparator], i: usize, j: usize) -> Ordering {
    let mut orders = comparators.iter().map(|compare| compare(i, j));
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Whether the rows of these batches, one batch after the other, are sorted by their first `keys` columns. Rows that are
/// not mostly say so at once. `false` too where values [compare otherwise](is_ordered).
pub(crate) fn are_sorted(keys: usize, batches: &[RecordBatch]) -> Result<bool> {
    let batches: Vec<_> = batches.iter().filter(|batch| batch.num_rows() > 0).collect();
    let columns = |batch: &RecordBatch| batch.columns()[..keys].to_vec();
    if batches.iter().any(|batch| !columns(batch).iter().all(|column| is_ordered(column.data_type()))) {
        return Ok(false);
    }
    let mut before: Option<&RecordBatch> = None;
    for batch in batches {
        let here = columns(batch);
        if let Some(before) = before
            && order_of(&comparators(&columns(before), &here)?, before.num_rows() - 1, 0).is_gt()
        {
            return Ok(false);
        }
        let within = comparators(&here, &here)?;
        if (1..batch.num_rows()).any(|row| order_of(&within, row - 1, row).is_gt()) {
            return Ok(false);
        }
        before = Some(batch);
    }
    Ok(true)
}
