//! The watermark of a partition: how far event time has come in it, less the allowed delay.
//!
//! ```text
//! watermark(A + B) = max(watermark(A), watermark(B))
//! ```
//!
//! It is a function of the events below an offset and of nothing else; it moves forward only.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use std::sync::Arc;
use twofold_common::stream::adapt;
use twofold_common::{Result, StreamDef};

/// A stream's watermark expression, planned.
#[derive(Debug)]
pub(crate) struct WatermarkExpr {
    expr: Arc<dyn PhysicalExpr>,
    stream: StreamDef,
}

impl WatermarkExpr {
    /// Plans the expression; `None` if the stream declares none.
    pub(crate) fn plan(session: &SessionContext, stream: &StreamDef) -> Result<Option<Self>> {
        let Some(watermark) = &stream.watermark else { return Ok(None) };
        let schema = DFSchema::try_from(stream.event_schema())?;
        let expr = session.parse_sql_expr(&watermark.expression, &schema)?;
        let expr = session.create_physical_expr(expr, &schema)?;
        Ok(Some(Self { expr, stream: stream.clone() }))
    }

    /// The watermark of these events alone, in nanoseconds since the epoch, UTC.
    pub(crate) fn of(&self, events: &[RecordBatch]) -> Result<Option<i64>> {
        let mut watermark = None;
        for batch in events {
            let batch = adapt(batch, &self.stream.event_schema())?;
            let value = self.expr.evaluate(&batch)?.into_array(batch.num_rows())?;
            let value = cast(&value, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
            if value.len() > value.null_count() {
                watermark = watermark.max(max(value.as_primitive::<TimestampNanosecondType>()));
            }
        }
        Ok(watermark)
    }
}
