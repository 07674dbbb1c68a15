//! What an answer is made of, as the relation `twofold_coverage`.
//!
//! In a query that reads views or streams it is the coverage of that very answer. In one that reads nothing else it is
//! what answers about each maintained view are made of at that moment.

use crate::coverage::Coverage;
use crate::error::Result;
use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// The relation's name.
pub const COVERAGE: &str = "twofold_coverage";

impl Coverage {
    /// The columns of the relation.
    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("relation", DataType::Utf8, false),
            Field::new("stream", DataType::Utf8, false),
            Field::new("partition", DataType::Int32, false),
            Field::new("batch_end", DataType::Int64, false),
            Field::new("speed_end", DataType::Int64, false),
            Field::new("watermark", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("idle", DataType::Boolean, false),
        ]))
    }

    /// These as the relation has them, in their order.
    pub fn batch(rows: &[Coverage]) -> Result<RecordBatch> {
        let texts = |of: fn(&Coverage) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let ends = |of: fn(&Coverage) -> u64| -> ArrayRef {
            let ends = rows.iter().map(|row| i64::try_from(of(row)).unwrap_or(i64::MAX));
            Arc::new(Int64Array::from_iter_values(ends))
        };
        let partition = |row: &Coverage| i32::try_from(row.partition.0).unwrap_or(i32::MAX);
        let columns: Vec<ArrayRef> = vec![
            texts(|row| &row.relation),
            texts(|row| &row.stream),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(partition))),
            ends(|row| row.batch.end.0),
            ends(|row| row.speed.end.0),
            Arc::new(rows.iter().map(|row| row.watermark).collect::<TimestampNanosecondArray>()),
            Arc::new(rows.iter().map(|row| Some(row.idle)).collect::<BooleanArray>()),
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }
}
