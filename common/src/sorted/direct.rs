//! What a plan comes to over the rows of one key, evaluated where it is asked for: without streams and tasks, and with
//! nothing that has to be reset before the next run. Of a row or two those would be all of the cost.

use super::exec::SortedAggregateExec;
use crate::scan::SlotExec;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::{FilterExec, batch_filter};
use datafusion::physical_plan::projection::ProjectionExec;
use std::any::Any;
use std::sync::Arc;

/// The rows of a plan over slots that hold rows of one key of their states; `None` if it has an operator that is more than
/// a projection, a filter, or an aggregate over sorted states.
pub(crate) fn rows_of_key(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<RecordBatch>> {
    let any = plan.as_ref() as &dyn Any;
    if let Some(slot) = any.downcast_ref::<SlotExec>() {
        return Ok(Some(concat_batches(&slot.schema(), &slot.rows()?)?));
    }
    if any.is::<CooperativeExec>() {
        return plan.children().first().map_or(Ok(None), |child| rows_of_key(child));
    }
    if let Some(aggregate) = any.downcast_ref::<SortedAggregateExec>() {
        let Some(input) = aggregate.children().first().copied().cloned() else { return Ok(None) };
        return rows_of_key(&input)?.map_or(Ok(None), |rows| aggregate.of_batch(rows));
    }
    if let Some(filter) = any.downcast_ref::<FilterExec>() {
        if plan.fetch().is_some() {
            return Ok(None);
        }
        let Some(rows) = rows_of_key(filter.input())? else { return Ok(None) };
        let kept = batch_filter(&rows, filter.predicate())?;
        return Ok(Some(match filter.projection() {
            Some(columns) => kept.project(columns)?,
            None => kept,
        }));
    }
    let Some(projection) = any.downcast_ref::<ProjectionExec>() else { return Ok(None) };
    let Some(rows) = rows_of_key(projection.input())? else { return Ok(None) };
    let columns =
        projection.expr().iter().map(|column| column.expr.evaluate(&rows)?.into_array(rows.num_rows()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(Some(RecordBatch::try_new_with_options(plan.schema(), columns, &options)?))
}
