//! Comparing two answers to the bit.
//!
//! Rows are compared as sets with repetition, each row by the engine's row encoding, which tells apart whatever two
//! values differ in: `0.0` and `-0.0`, two NaNs, null and empty. Names and types of the columns count as well, the
//! order of rows does not.

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use std::sync::Arc;

/// How many different rows are told.
const TOLD: usize = 3;

/// In what a merged and a plain answer differ; nothing, if they are equal.
pub(super) fn differences(
    (left, a): (&SchemaRef, &[RecordBatch]),
    (right, b): (&SchemaRef, &[RecordBatch]),
) -> Result<Vec<String>> {
    let columns = |schema: &SchemaRef| -> Vec<String> {
        schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
    };
    if columns(left) != columns(right) {
        return Ok(vec![format!("columns {} and {}", columns(left).join(", "), columns(right).join(", "))]);
    }
    let (a, b) = (concat(left, a)?, concat(left, b)?);
    let fields = left.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let sorted = |batch: &RecordBatch| -> Result<Vec<(Vec<u8>, usize)>> {
        let rows = converter.convert_columns(batch.columns())?;
        let mut rows: Vec<_> = rows.iter().enumerate().map(|(i, row)| (row.as_ref().to_vec(), i)).collect();
        rows.sort();
        Ok(rows)
    };
    let (x, y) = (sorted(&a)?, sorted(&b)?);
    let (only_a, only_b) = (missing(&x, &y), missing(&y, &x));
    let tell = |what: &'static str, batch: &RecordBatch, rows: &[usize]| -> Result<Vec<String>> {
        rows.iter().take(TOLD).map(|&i| Ok(format!("{what}: {}", row_text(batch, i)?))).collect()
    };
    let mut told = tell("only merged", &a, &only_a)?;
    told.extend(tell("only plain", &b, &only_b)?);
    let untold = only_a.len().saturating_sub(TOLD) + only_b.len().saturating_sub(TOLD);
    if untold > 0 {
        told.push(format!("and {untold} more"));
    }
    Ok(told)
}

/// The rows of `a` that `b` does not have, or not as often. Both are sorted.
fn missing(a: &[(Vec<u8>, usize)], b: &[(Vec<u8>, usize)]) -> Vec<usize> {
    let (mut found, mut j) = (Vec::new(), 0);
    for (row, i) in a {
        while j < b.len() && b[j].0 < *row {
            j += 1;
        }
        if j < b.len() && b[j].0 == *row {
            j += 1;
        } else {
            found.push(*i);
        }
    }
    found
}

/// The rows of an answer as one batch in which every column may be null: nullability is no difference.
fn concat(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields));
    let same = |b: &RecordBatch| RecordBatch::try_new(Arc::clone(&schema), b.columns().to_vec());
    let batches = batches.iter().map(same).collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

fn row_text(batch: &RecordBatch, row: usize) -> Result<String> {
    let cells = batch.columns().iter().map(|column| arrow::util::display::array_value_to_string(column, row));
    Ok(cells.collect::<Result<Vec<_>, _>>()?.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array};
    use std::slice::from_ref;

    fn rows(values: &[(i64, f64)]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from_iter_values(values.iter().map(|v| v.0)))),
            ("x", Arc::new(Float64Array::from_iter_values(values.iter().map(|v| v.1)))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn told(a: &[(i64, f64)], b: &[(i64, f64)]) -> Vec<String> {
        let (a, b) = (rows(a), rows(b));
        differences((&a.schema(), from_ref(&a)), (&b.schema(), from_ref(&b))).unwrap()
    }

    #[test]
    fn order_is_no_difference() {
        assert!(told(&[(1, 0.5), (2, 0.25)], &[(2, 0.25), (1, 0.5)]).is_empty());
        assert!(told(&[], &[]).is_empty());
    }

    #[test]
    fn one_bit_is_one() {
        let next = f64::from_bits(0.1_f64.to_bits() + 1);
        assert_eq!(told(&[(1, 0.1)], &[(1, next)]).len(), 2);
        assert_eq!(told(&[(1, 0.0)], &[(1, -0.0)]).len(), 2);
    }

    #[test]
    fn a_row_too_often_or_not_there_is_one() {
        assert_eq!(told(&[(1, 0.5), (1, 0.5)], &[(1, 0.5)]), ["only merged: 1 | 0.5"]);
        assert_eq!(told(&[], &[(1, 0.5)]), ["only plain: 1 | 0.5"]);
        let many: Vec<_> = (0..9).map(|n| (n, 0.0)).collect();
        assert_eq!(told(&many, &[]).last().unwrap(), "and 6 more");
    }

    #[test]
    fn another_type_is_one() {
        let (a, b) = (rows(&[]), RecordBatch::try_from_iter([("n", rows(&[]).column(0).clone())]).unwrap());
        assert_eq!(
            differences((&a.schema(), &[]), (&b.schema(), &[])).unwrap(),
            ["columns n Int64, x Float64 and n Int64"]
        );
    }
}
