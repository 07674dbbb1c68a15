//! Late events, counted: the relation `twofold_late_events`.
//!
//! An event is *late* for a view if the window that it belongs to had ended when it came, by the watermark of its
//! partition just before it:
//!
//! ```text
//! late(e)     = window(e).end <= watermark(events of the partition before e)       (a view without windows: time(e) <)
//! lateness(e) = watermark(events of the partition before e) - window(e).end        (a view without windows: - time(e))
//! ```
//!
//! So it is a function of the log, whatever was an epoch. Late events are folded like all others; here they are only
//! counted. All events of the streams that a view reads are looked at, also those that its `WHERE` leaves out.

use crate::error::Result;
use crate::offset::Partition;
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// The relation's name.
pub const LATE_EVENTS: &str = "twofold_late_events";
/// What the names of Twofold's own relations begin with.
pub(crate) const SYSTEM_PREFIX: &str = "twofold_";

/// The late events of one window of a view, in one partition of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateEvents {
    /// The stream.
    pub stream: String,
    /// The view.
    pub view: String,
    /// The partition.
    pub partition: Partition,
    /// Start and end of the window in nanoseconds since the epoch, UTC. `None` for a view without windows, and for
    /// the windows too old to be told one by one.
    pub window: Option<(i64, i64)>,
    /// How many there were.
    pub count: u64,
    /// The greatest lateness among them, in nanoseconds.
    pub worst_lateness: i64,
}

impl LateEvents {
    /// The columns of the relation.
    pub fn schema() -> SchemaRef {
        let timestamp = || DataType::Timestamp(TimeUnit::Nanosecond, None);
        Arc::new(Schema::new(vec![
            Field::new("stream", DataType::Utf8, false),
            Field::new("view", DataType::Utf8, false),
            Field::new("partition", DataType::Int32, false),
            Field::new("window_start", timestamp(), true),
            Field::new("window_end", timestamp(), true),
            Field::new("count", DataType::Int64, false),
            Field::new("worst_lateness_ms", DataType::Int64, false),
        ]))
    }

    /// These rows as the relation has them, in their order.
    pub fn batch(rows: &[LateEvents]) -> Result<RecordBatch> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let partition = |row: &LateEvents| i32::try_from(row.partition.0).unwrap_or(i32::MAX);
        let timestamps = |of: fn((i64, i64)) -> i64| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.window.map(of)).collect::<TimestampNanosecondArray>())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.stream))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.view))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(partition))),
            timestamps(|(start, _)| start),
            timestamps(|(_, end)| end),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| number(row.count)))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.worst_lateness / 1_000_000))),
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }
}
