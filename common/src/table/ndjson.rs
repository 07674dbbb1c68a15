//! NDJSON: one JSON object on each line. A key that an object does not have is null. Columns that are not declared
//! stand in the order of their names.

use super::{Problem, inferred, nullable, plain};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema;
use std::io::Cursor;
use std::sync::Arc;

/// The table's columns and its rows, with nulls not looked at yet.
pub(super) fn read(
    bytes: &[u8],
    declared: Option<&SchemaRef>,
) -> Result<(SchemaRef, Vec<RecordBatch>), Problem> {
    let schema = match declared {
        Some(schema) => Arc::clone(schema),
        None => infer(bytes)?,
    };
    let as_read = nullable(&schema);
    let batches = decode(bytes, &as_read).map_err(|e| explain(bytes, &as_read, e))?;
    Ok((schema, batches))
}

fn infer(bytes: &[u8]) -> Result<SchemaRef, Problem> {
    let (found, _) = infer_json_schema(Cursor::new(bytes), None).map_err(plain)?;
    let mut fields = inferred(&found).fields().to_vec();
    fields.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(Arc::new(Schema::new(fields)))
}

fn decode(bytes: &[u8], schema: &SchemaRef) -> Result<Vec<RecordBatch>, ArrowError> {
    ReaderBuilder::new(Arc::clone(schema)).build(Cursor::new(bytes))?.collect()
}

/// The reader does not say where it failed: find the first line that cannot be read alone.
fn explain(bytes: &[u8], schema: &SchemaRef, error: ArrowError) -> Problem {
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if let Err(error) = decode(line, schema) {
            return format!("line {}: {}", i + 1, plain(error));
        }
    }
    plain(error)
}
