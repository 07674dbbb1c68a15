//! Parquet. A declared column is converted as `CAST` does it, and a value that cannot be is an error.

use super::{Problem, inferred, locate, nullable, plain, plain_parquet};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;

/// The table's columns and its rows, with nulls not looked at yet.
pub(super) fn read(
    bytes: Bytes,
    declared: Option<&SchemaRef>,
) -> Result<(SchemaRef, Vec<RecordBatch>), Problem> {
    let file = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(plain_parquet)?;
    let schema = declared.cloned().unwrap_or_else(|| inferred(file.schema()));
    let found: Vec<_> = file.schema().fields().iter().map(|f| f.name().clone()).collect();
    let places = locate(&schema, &found)?;
    let mask = ProjectionMask::roots(file.parquet_schema(), places);
    let reader = file.with_projection(mask).build().map_err(plain_parquet)?;
    let as_read = nullable(&schema);
    let batches = reader.map(|batch| convert(&batch.map_err(plain)?, &as_read));
    Ok((schema, batches.collect::<Result<_, _>>()?))
}

fn convert(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Problem> {
    let column = |field: &Arc<Field>| -> Result<ArrayRef, Problem> {
        let name = field.name();
        let found = batch.column_by_name(name).ok_or_else(|| format!("has no column `{name}`"))?;
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(found, field.data_type(), &options).map_err(|e| {
            let (found, expected) = (found.data_type(), field.data_type());
            format!("column `{name}` is {found} and cannot be read as {expected}: {}", plain(e))
        })
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(plain)
}
