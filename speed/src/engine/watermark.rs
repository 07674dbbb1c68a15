//! The watermark of a partition: how far event time has come in it, less the allowed delay.
//!
//! ```text
//! watermark(A + B) = max(watermark(A), watermark(B))
//! ```
//!
//! It is a function of the events below an offset and of nothing else; it moves forward only. An event without a time,
//! or on whose time the declared expression fails, does not move it.

use super::event_expr::EventExpr;
use arrow::array::{AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::compute::max;
use arrow::datatypes::TimestampNanosecondType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::ident;
use datafusion::prelude::SessionContext;
use twofold_common::{Result, StreamDef};

/// A stream's event time and watermark, planned.
#[derive(Debug)]
pub(crate) struct StreamTime {
    watermark: EventExpr,
    time: EventExpr,
}

/// The times of a batch of events, in nanoseconds since the epoch, UTC; null where an event has none.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// The watermark of each event alone.
    pub(crate) watermarks: TimestampNanosecondArray,
    /// The event time of each.
    pub(crate) times: TimestampNanosecondArray,
}

impl StreamTime {
    /// Plans what the stream declares; `None` if it declares no watermark.
    pub(crate) fn plan(session: &SessionContext, stream: &StreamDef) -> Result<Option<Self>> {
        let Some(watermark) = &stream.watermark else { return Ok(None) };
        let schema = DFSchema::try_from(stream.event_schema())?;
        let expr = session.parse_sql_expr(&watermark.expression, &schema)?;
        Ok(Some(Self {
            watermark: EventExpr::plan(session, stream, expr)?,
            time: EventExpr::plan(session, stream, ident(&watermark.column))?,
        }))
    }

    /// The event columns that it reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &String> {
        self.watermark.columns().chain(self.time.columns())
    }

    /// The times of each of these batches.
    pub(crate) fn of(&self, events: &[RecordBatch]) -> Result<Vec<Times>> {
        let of_batch = |batch| -> Result<Times> {
            let watermarks = self.watermark.nanoseconds(batch)?;
            let times = self.time.nanoseconds(batch)?;
            Ok(Times {
                watermarks: watermarks.as_primitive::<TimestampNanosecondType>().clone(),
                times: times.as_primitive::<TimestampNanosecondType>().clone(),
            })
        };
        events.iter().map(of_batch).collect()
    }
}

/// The watermark of these events alone.
pub(crate) fn watermark(times: &[Times]) -> Option<i64> {
    times.iter().filter_map(|times| max(&times.watermarks)).max()
}
