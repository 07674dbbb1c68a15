//! Streams: their columns, partitions and watermark, and the columns that Twofold stores beside them.
//!
//! An *event schema* is the stream's own columns followed by the three [`META_COLUMNS`]. Log, archive and fold
//! all see batches of that schema; users see the stream's columns, and the others where they name them.

use crate::error::{Error, Result};
use crate::offset::{Offset, Partition};
use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;
use std::time::Duration;

/// The column with the number of the event's partition (`INT`).
pub const PARTITION: &str = "_partition";
/// The column with the event's offset in its partition (`BIGINT`).
pub const OFFSET: &str = "_offset";
/// The column with the time at which the event was taken in (`TIMESTAMP`, nanoseconds since the epoch, UTC).
pub const INGEST_TIME: &str = "_ingest_time";
/// The columns stored with each event, after the stream's own, in this order.
pub const META_COLUMNS: [&str; 3] = [PARTITION, OFFSET, INGEST_TIME];
/// What the stream of the events that were rejected from stream `s` is called: `s` and this.
pub const REJECTED_SUFFIX: &str = "_rejected";

/// How far event time may lag: `WATERMARK FOR column AS expression`, and the option `idle_timeout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// The event-time column.
    pub column: String,
    /// The expression as SQL, over the stream's columns.
    pub expression: String,
    /// A partition into which nothing came for this long does not hold back what is final.
    pub idle_timeout: Option<Duration>,
}

/// Which events of a stream are repetitions of one another: the options `deduplicate_by` and `deduplicate_within`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deduplicate {
    /// The column with an event's id, of single values. Events whose id is null are all different.
    pub column: String,
    /// For how long after an event was taken in others of its id are left out.
    pub within: Duration,
}

/// A stream as its `CREATE STREAM` declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamDef {
    /// The stream's name.
    pub name: String,
    /// The stream's own columns.
    pub schema: SchemaRef,
    /// How many partitions it has; at least 1.
    pub partitions: u32,
    /// The column whose value chooses the partition; without it, requests go round.
    pub partition_by: Option<String>,
    /// The declared watermark.
    pub watermark: Option<Watermark>,
    /// Which events are not taken in a second time.
    pub deduplicate: Option<Deduplicate>,
}

impl StreamDef {
    /// The stream's columns followed by the [`META_COLUMNS`].
    pub fn event_schema(&self) -> SchemaRef {
        event_schema(&self.schema)
    }

    /// The partitions of the stream.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }

    /// The stream of the events that were rejected from this one: one partition, one event for each rejection.
    ///
    /// Columns: `reason TEXT NOT NULL` says what was wrong, `raw BYTEA NOT NULL` holds the bytes as they came.
    pub fn rejected(&self) -> StreamDef {
        StreamDef {
            name: format!("{}{REJECTED_SUFFIX}", self.name),
            schema: Arc::new(Schema::new(vec![
                Field::new("reason", DataType::Utf8, false),
                Field::new("raw", DataType::Binary, false),
            ])),
            partitions: 1,
            partition_by: None,
            watermark: None,
            deduplicate: None,
        }
    }
}

/// `schema` with the [`META_COLUMNS`] at its end: as it is, if they are there.
pub(crate) fn with_meta(schema: &SchemaRef) -> SchemaRef {
    if schema.column_with_name(OFFSET).is_some() { Arc::clone(schema) } else { event_schema(schema) }
}

/// `schema` followed by the [`META_COLUMNS`].
pub fn event_schema(schema: &Schema) -> SchemaRef {
    let meta = [
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(INGEST_TIME, DataType::Timestamp(TimeUnit::Nanosecond, None), false),
    ];
    Arc::new(Schema::new(schema.fields().iter().cloned().chain(meta.map(Arc::new)).collect::<Vec<_>>()))
}

/// `batch` as `schema` has it: columns by name, those that came later filled with nulls.
///
/// # Errors
/// `Corrupt` if a column that may not be null is missing, or one cannot be read as the schema says.
pub fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = schema
        .fields()
        .iter()
        .map(|field| -> Result<ArrayRef> {
            match batch.column_by_name(field.name()) {
                Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
                Some(column) => Ok(cast(column, field.data_type())?),
                None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
                None => Err(Error::corrupt("stored events", format!("column {} is missing", field.name()))),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The events of `batch` below `end`; its events are in offset order.
///
/// # Errors
/// `Corrupt` if the batch has no column of offsets.
pub fn below(batch: &RecordBatch, end: Offset) -> Result<RecordBatch> {
    Ok(batch.slice(0, position(batch, end)?))
}

/// The events of `batch` at or above `start`; its events are in offset order.
///
/// # Errors
/// `Corrupt` if the batch has no column of offsets.
pub fn at_or_above(batch: &RecordBatch, start: Offset) -> Result<RecordBatch> {
    let first = position(batch, start)?;
    Ok(batch.slice(first, batch.num_rows() - first))
}

/// How many events of a batch lie below `offset`.
fn position(batch: &RecordBatch, offset: Offset) -> Result<usize> {
    let column = batch.column_by_name(OFFSET).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let column = column.ok_or_else(|| Error::corrupt("stored events", "the column _offset is missing"))?;
    let offset = i64::try_from(offset.0).unwrap_or(i64::MAX);
    Ok(column.values().partition_point(|&o| o < offset))
}
