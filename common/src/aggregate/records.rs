//! Rows of a few columns as bytes that compare as the rows do, and lists of such rows as a state column.
//!
//! ```text
//! encode(a) < encode(b)  =  a < b        by the columns in turn, each under its own options, floats by total order
//! ```
//!
//! The bytes live in memory only. On a disk rows are a `LIST<STRUCT<…>>` of their own types: no version of a library
//! can change what that means, and damaged bytes are found by whoever reads the column.

use super::function::damaged;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, UInt64Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use std::ops::Range;
use std::sync::Arc;

/// A column of records: its type and how it is ordered.
pub(super) type RecordColumn = (DataType, SortOptions);

/// Ascending, nulls after all values.
pub(super) const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Rows of these columns.
#[derive(Debug)]
pub(super) struct Records {
    types: Vec<DataType>,
    converter: RowConverter,
}

impl Records {
    pub(super) fn try_new(columns: Vec<RecordColumn>) -> Result<Self> {
        let types = columns.iter().map(|(t, _)| t.clone()).collect();
        let fields = columns.into_iter().map(|(t, o)| SortField::new_with_options(t, o)).collect();
        Ok(Self { types, converter: RowConverter::new(fields)? })
    }

    /// One ascending column.
    pub(super) fn of_one(data_type: &DataType) -> Result<Self> {
        Self::try_new(vec![(data_type.clone(), ASCENDING)])
    }

    /// Fails if values of this type have no order.
    pub(super) fn check(name: &str, data_type: &DataType) -> Result<()> {
        if RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
            return Ok(());
        }
        plan_err!("{name} takes values that can be ordered, found {data_type}")
    }

    pub(super) fn encode(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(self.converter.convert_columns(columns)?)
    }

    /// The columns of rows that [`Self::encode`] gave.
    pub(super) fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.into_iter().map(|row| parser.parse(row)))?;
        // A dictionary comes back as its values.
        let typed = columns.iter().zip(&self.types).map(|(column, data_type)| {
            if column.data_type() == data_type {
                Ok(Arc::clone(column))
            } else {
                Ok(cast(column, data_type)?)
            }
        });
        typed.collect()
    }

    /// The n-th column of rows, null where there is none.
    pub(super) fn decode_some(&self, rows: &[Option<&[u8]>], column: usize) -> Result<ArrayRef> {
        let columns = self.decode(rows.iter().flatten().copied())?;
        if columns[column].is_empty() {
            return Ok(new_null_array(&self.types[column], rows.len()));
        }
        let mut next = 0..;
        let places: UInt64Array = rows.iter().map(|row| row.and_then(|_| next.next())).collect();
        Ok(take(&columns[column], &places, None)?)
    }
}

/// `LIST<STRUCT<…>>`.
pub(super) fn list_type(fields: &Fields) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true)))
}

/// Nullable fields of these names and types.
pub(super) fn fields<'a>(columns: impl IntoIterator<Item = (&'a str, DataType)>) -> Fields {
    columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

/// Where lists of these lengths begin and end.
pub(super) fn offsets(lengths: impl Iterator<Item = usize>) -> Result<OffsetBuffer<i32>> {
    let mut ends = vec![0_i32];
    let mut end = 0_usize;
    for length in lengths {
        end += length;
        match i32::try_from(end) {
            Ok(end) => ends.push(end),
            Err(_) => return exec_err!("more than {} rows in lists of one batch", i32::MAX),
        }
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(ends)))
}

/// Lists of these lengths, whose rows are in `columns`, one list after the other.
pub(super) fn lists(
    fields: &Fields,
    lengths: impl Iterator<Item = usize>,
    columns: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let rows = StructArray::try_new(fields.clone(), columns, None)?;
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
    Ok(Arc::new(ListArray::try_new(item, offsets(lengths)?, Arc::new(rows), nulls)?))
}

/// Lists of rows, read from a state column.
#[derive(Debug)]
pub(super) struct Lists {
    /// The columns of all rows.
    pub(super) columns: Vec<ArrayRef>,
    ends: Vec<usize>,
    nulls: Option<NullBuffer>,
}

impl Lists {
    /// Reads a column of lists of structs with this many fields.
    pub(super) fn open(name: &str, column: &ArrayRef, fields: usize) -> Result<Self> {
        let list = column.as_list_opt::<i32>();
        let rows = list.and_then(|list| list.values().as_struct_opt());
        let (Some(list), Some(rows)) = (list, rows.filter(|rows| rows.num_columns() == fields)) else {
            return Err(damaged(
                name,
                format!("expected lists of {fields} columns, found {}", column.data_type()),
            ));
        };
        let ends: Vec<usize> = list.offsets().iter().map(|&end| end as usize).collect();
        let (first, last) = (ends[0], ends[ends.len() - 1]);
        let columns = rows.columns().iter().map(|column| column.slice(first, last - first)).collect();
        let ends = ends.iter().map(|end| end - first).collect();
        Ok(Self { columns, ends, nulls: list.nulls().cloned() })
    }

    /// The rows of a list; none if it is null.
    pub(super) fn rows(&self, list: usize) -> Range<usize> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(list)) {
            return 0..0;
        }
        self.ends[list]..self.ends[list + 1]
    }
}
