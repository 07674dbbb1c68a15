//! An expression over the events of a stream, planned once and evaluated over every epoch.
//!
//! Event by event: an event on which it fails has null there, and harms no other, whatever was read with it.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use std::sync::Arc;
use twofold_common::stream::adapt;
use twofold_common::{Error, Result, StreamDef};

/// A planned expression.
#[derive(Debug)]
pub(crate) struct EventExpr {
    expr: Arc<dyn PhysicalExpr>,
    /// The event columns that it reads, and no others.
    schema: SchemaRef,
}

impl EventExpr {
    /// Plans `expr`, whose columns are those of the stream's event schema, with any qualifier or none.
    pub(crate) fn plan(session: &SessionContext, stream: &StreamDef, expr: Expr) -> Result<Self> {
        let expr = expr.transform_up(|expr| match expr {
            Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
            other => Ok(Transformed::no(other)),
        })?;
        let expr = expr.data;
        let used = expr.column_refs().iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let events = stream.event_schema();
        let fields = events.fields().iter().filter(|field| used.contains(field.name())).cloned();
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let expr = session.create_physical_expr(expr, &DFSchema::try_from(Arc::clone(&schema))?)?;
        Ok(Self { expr, schema })
    }

    /// The event columns that it reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &String> {
        self.schema.fields().iter().map(|field| field.name())
    }

    /// Its value for each event; null for those on which it fails.
    ///
    /// # Errors
    /// `Corrupt` if the events lack a column.
    pub(crate) fn values(&self, events: &RecordBatch) -> Result<ArrayRef> {
        let events = adapt(events, &self.schema)?;
        match self.evaluate(&events) {
            Ok(values) => Ok(values),
            Err(_) => self.one_by_one(&events),
        }
    }

    /// [`values`](Self::values) for some of the events alone.
    pub(crate) fn values_at(&self, events: &RecordBatch, rows: &UInt32Array) -> Result<ArrayRef> {
        self.values(&take_record_batch(&adapt(events, &self.schema)?, rows)?)
    }

    /// [`values`](Self::values) as nanoseconds since the epoch, UTC; null beyond what they can count.
    pub(crate) fn nanoseconds(&self, events: &RecordBatch) -> Result<ArrayRef> {
        Ok(nanoseconds(&self.values(events)?)?)
    }

    fn evaluate(&self, events: &RecordBatch) -> Result<ArrayRef> {
        Ok(self.expr.evaluate(events)?.into_array(events.num_rows())?)
    }

    fn one_by_one(&self, events: &RecordBatch) -> Result<ArrayRef> {
        let null = new_null_array(&self.expr.data_type(&self.schema)?, 1);
        let value = |row| self.evaluate(&events.slice(row, 1)).unwrap_or_else(|_| Arc::clone(&null));
        let values: Vec<ArrayRef> = (0..events.num_rows()).map(value).collect();
        let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        if values.is_empty() {
            return Err(Error::Internal("an expression fails without events".into()));
        }
        Ok(concat(&values)?)
    }
}

/// Timestamps as nanoseconds since the epoch, UTC; null beyond what they can count.
pub(crate) fn nanoseconds(timestamps: &ArrayRef) -> arrow::error::Result<ArrayRef> {
    cast(timestamps, &DataType::Timestamp(TimeUnit::Nanosecond, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::{Field, TimestampNanosecondType};

    fn stream() -> StreamDef {
        let schema = Schema::new(vec![
            Field::new("t", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("k", DataType::Utf8, false),
        ]);
        StreamDef {
            name: "s".into(),
            schema: Arc::new(schema),
            partitions: 1,
            partition_by: None,
            watermark: None,
            deduplicate: None,
        }
    }

    fn planned(sql: &str) -> EventExpr {
        let session = twofold_common::session();
        let schema = DFSchema::try_from_qualified_schema("s", &stream().schema).unwrap();
        let expr = session.parse_sql_expr(sql, &schema).unwrap();
        EventExpr::plan(&session, &stream(), expr).unwrap()
    }

    #[test]
    fn an_event_on_which_it_fails_harms_no_other() {
        let expr = planned("s.t - INTERVAL '1 hour'");
        assert_eq!(expr.columns().collect::<Vec<_>>(), ["t"]);
        let hour = 3_600_000_000_000;
        let times = TimestampNanosecondArray::from(vec![Some(hour), Some(i64::MIN), None, Some(2 * hour)]);
        let batch =
            RecordBatch::try_from_iter_with_nullable([("t", Arc::new(times) as ArrayRef, true)]).unwrap();
        let values = expr.nanoseconds(&batch).unwrap();
        let values: Vec<_> = values.as_primitive::<TimestampNanosecondType>().iter().collect();
        assert_eq!(values, [Some(0), None, None, Some(hour)]);
    }

    #[test]
    fn missing_columns_are_told() {
        let batch =
            RecordBatch::try_from_iter([("x", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)]).unwrap();
        assert!(planned("k").values(&batch).unwrap_err().to_string().contains("column k is missing"));
    }
}
