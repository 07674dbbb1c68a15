//! The rows of states as a relation that leaves out at once what a query does not ask for.
//!
//! States are sorted by their keys. So the rows that a filter keeps stand in runs, such as the panes of one window, key
//! after key; a run is copied as a whole, where a filter above would copy its rows one by one:
//!
//! ```text
//! rows of a table under a filter = the rows that the filter keeps, in their order
//! ```

use crate::error::Result;
use crate::scan::{Slot, Sorted};
use crate::sorted::MOST_RUNS;
use crate::state::State;
use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, MutableArrayData, RecordBatch, RecordBatchOptions,
    make_array,
};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// How many rows are filtered at once.
const PIECE: usize = 65_536;
/// Runs are copied as a whole if they have so many rows on average.
const LONG_RUN: usize = 8;

/// States, or other rows in memory, as a relation.
#[derive(Debug)]
pub struct StateTable {
    schema: SchemaRef,
    keys: usize,
    as_one: bool,
    batches: Vec<RecordBatch>,
}

impl StateTable {
    /// A relation of these rows, which have the columns of `schema`. Each batch is sorted by the first `keys` of them, and
    /// has each key once.
    pub fn new(schema: SchemaRef, keys: usize, batches: Vec<RecordBatch>) -> Self {
        Self { schema, keys, as_one: false, batches }
    }

    /// The same, whose rows come in the order of their keys, however they are cut into batches: for queries whose answer
    /// depends on the order of its input.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { as_one: true, ..self }
    }

    fn exec(
        &self,
        projection: Option<&Vec<usize>>,
        rows: Vec<RecordBatch>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let (rows, unique) = self.few(rows)?;
        let slot = Slot::sorted(self.schema(), Sorted { keys: self.keys, unique, as_one: self.as_one });
        slot.fill(rows);
        Ok(Arc::new(slot.exec(projection)?))
    }

    /// The same rows in so few batches that they can be walked side by side, if small ones can be put together for that; and
    /// whether each still has each key once.
    fn few(&self, mut batches: Vec<RecordBatch>) -> Result<(Vec<RecordBatch>, bool)> {
        batches.retain(|batch| batch.num_rows() > 0);
        if batches.len() <= MOST_RUNS || self.keys == 0 {
            return Ok((batches, true));
        }
        let all = batches.clone();
        batches.sort_by_key(|batch| std::cmp::Reverse(batch.num_rows()));
        let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let small = batches.split_off(MOST_RUNS - 1);
        if rows(&small) > rows(&batches) {
            return Ok((all, true));
        }
        batches.push(State::from_rows(small[0].schema_ref(), self.keys, &small)?.batch().clone());
        Ok((batches, false))
    }
}

#[async_trait]
impl TableProvider for StateTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return self.exec(projection, self.batches.clone());
        };
        let filter =
            session.create_physical_expr(filter, &DFSchema::try_from(self.schema.as_ref().clone())?)?;
        // With the keys, if rows may yet have to be put in their order.
        let columns = projection.map(|columns| match self.as_one || self.batches.len() > MOST_RUNS {
            true => (0..self.keys).chain(columns.iter().copied().filter(|i| *i >= self.keys)).collect(),
            false => columns.clone(),
        });
        let mut kept = Vec::new();
        for batch in &self.batches {
            let mut mask = BooleanBufferBuilder::new(batch.num_rows());
            for at in (0..batch.num_rows()).step_by(PIECE) {
                let piece = batch.slice(at, PIECE.min(batch.num_rows() - at));
                let of_piece = filter.evaluate(&piece)?.into_array(piece.num_rows())?;
                let of_piece = as_boolean_array(&of_piece)?;
                let of_piece = if of_piece.null_count() > 0 {
                    prep_null_mask_filter(of_piece)
                } else {
                    of_piece.clone()
                };
                mask.append_buffer(of_piece.values());
                // A long scan can be given up in between.
                tokio::task::yield_now().await;
            }
            let wanted = match &columns {
                Some(columns) => batch.project(columns)?,
                None => batch.clone(),
            };
            // One batch for each, so that it stays sorted as a whole.
            let rows = keep(&wanted, &BooleanArray::new(mask.finish(), None))?;
            if rows.num_rows() > 0 {
                kept.push(rows);
            }
        }
        self.exec(projection, kept)
    }
}

/// The rows of a batch where the mask is true. It has no nulls.
fn keep(batch: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    let rows = mask.true_count();
    let runs: Vec<(usize, usize)> = mask.values().set_slices().collect();
    match runs.as_slice() {
        [] => Ok(batch.slice(0, 0)),
        [(from, until)] => Ok(batch.slice(*from, until - from)),
        _ if runs.len() * LONG_RUN > rows => Ok(filter_record_batch(batch, mask)?),
        _ => {
            let columns = batch.columns().iter().map(|column| gather(column, &runs, rows));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
        }
    }
}

/// The rows of an array that are in runs `[from, until)`.
fn gather(column: &ArrayRef, runs: &[(usize, usize)], rows: usize) -> Result<ArrayRef> {
    let data = column.to_data();
    let mut gathered = MutableArrayData::new(vec![&data], false, rows);
    for &(from, until) in runs {
        gathered.try_extend(0, from, until)?;
    }
    Ok(make_array(gathered.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;

    fn batch(rows: usize) -> RecordBatch {
        let n: ArrayRef = Arc::new(Int64Array::from_iter((0..rows as i64).map(|i| (i % 7 > 0).then_some(i))));
        let text = (0..rows).map(|i| (i % 5 > 0).then(|| "x".repeat(i % 11)));
        let text: ArrayRef = Arc::new(StringArray::from_iter(text));
        let field = Arc::new(Field::new("n", DataType::Int64, true));
        let both: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::clone(&n))]));
        RecordBatch::try_from_iter([("n", n), ("text", text), ("both", both)]).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_filter_keeps(
            runs in proptest::collection::vec((any::<bool>(), 1usize..60), 0..12),
        ) {
            let mask = BooleanArray::from(runs.iter().flat_map(|(kept, n)| vec![*kept; *n]).collect::<Vec<_>>());
            // A slice, so that no offset is zero.
            let batch = batch(mask.len() + 3).slice(3, mask.len());
            prop_assert_eq!(keep(&batch, &mask).unwrap(), filter_record_batch(&batch, &mask).unwrap());
            let none = batch.project(&[]).unwrap();
            prop_assert_eq!(keep(&none, &mask).unwrap().num_rows(), filter_record_batch(&batch, &mask).unwrap().num_rows());
        }
    }

    #[tokio::test]
    async fn queries_see_the_rows_that_they_ask_for() {
        let whole = batch(3 * PIECE);
        let schema = Arc::new(Schema::new(whole.schema().fields().clone()));
        let table =
            StateTable::new(schema, 0, vec![whole.slice(0, 10), whole.slice(10, whole.num_rows() - 10)]);
        let session = SessionContext::new();
        session.register_table("t", Arc::new(table)).unwrap();
        let sql = "SELECT count(*), min(both['n']), max(both['n']), count(text) FROM t WHERE n >= 5 AND both['n'] < 100000";
        let frame = session.sql(sql).await.unwrap();
        let plan = frame.clone().into_optimized_plan().unwrap().to_string();
        assert!(plan.contains("full_filters") && !plan.contains("Filter:"), "{plan}");
        let rows = frame.collect().await.unwrap();
        let kept = (5..100_000).filter(|i| i % 7 > 0);
        let texts = kept.clone().filter(|i| i % 5 > 0).count();
        let expected = format!("{} 5 99999 {texts}", kept.count());
        let found: Vec<String> = (0..4)
            .map(|i| arrow::util::display::array_value_to_string(rows[0].column(i), 0).unwrap())
            .collect();
        assert_eq!(found.join(" "), expected);
    }
}
