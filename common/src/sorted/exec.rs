//! The operator.

use super::groups::{Groups, Keys, groups};
use crate::key_order::is_ordered;
use crate::scan::SlotExec;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// More rows are left to the engine, which can go to disk with them.
const MOST_ROWS: usize = 8 << 20;
/// So are more batches: they are compared two by two.
const MOST_BATCHES: usize = 512;

/// The same plan, over sorted batches as they are.
fn side_by_side(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let leaf = (node.as_ref() as &dyn Any).downcast_ref::<SlotExec>();
        Ok(match leaf.and_then(SlotExec::side_by_side) {
            Some(leaf) => Transformed::yes(Arc::new(leaf) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(node),
        })
    })?;
    Ok(plan.data)
}

/// An aggregate whose input is sorted by what it groups by, in each of its batches.
#[derive(Debug)]
pub(super) struct SortedAggregateExec {
    /// What it stands for.
    by_hashing: Arc<dyn ExecutionPlan>,
    /// The expressions that it groups by, in the order by which the rows are sorted.
    order: Vec<usize>,
    /// Whether no two rows of one batch are in one group.
    unique: bool,
    properties: Arc<PlanProperties>,
}

impl SortedAggregateExec {
    /// The same as `node`, if that is an aggregate over sorted rows.
    pub(super) fn of(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let aggregate = aggregate(node)?;
        let single = matches!(aggregate.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned);
        let grouping = aggregate.group_expr();
        let plain = aggregate.aggr_expr().iter().all(|call| {
            call.groups_accumulator_supported() && !call.is_distinct() && call.order_bys().is_empty()
        });
        let filtered = aggregate.filter_expr().iter().any(Option::is_some);
        if !single || !plain || filtered || !grouping.is_single() || aggregate.limit_options().is_some() {
            return None;
        }
        let columns = grouping.expr().iter().map(|(expr, _)| column(expr)).collect::<Option<Vec<_>>>()?;
        let (leaf, columns) = leaf(aggregate.input(), columns)?;
        let sorted = leaf.sorted().get(..columns.len()).filter(|sorted| !sorted.is_empty())?;
        let order = sorted.iter().map(|sorted| columns.iter().position(|column| column == sorted));
        let order = order.collect::<Option<Vec<_>>>()?;
        let schema = aggregate.input_schema();
        let mut types = grouping.expr().iter().map(|(expr, _)| expr.data_type(&schema));
        if !types.all(|known| known.is_ok_and(|known| is_ordered(&known))) {
            return None;
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(node.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let unique = leaf.sorted().len() == order.len() && leaf.is_unique();
        Some(Self { by_hashing: Arc::clone(node), order, unique, properties: Arc::new(properties) })
    }

    /// What one batch comes to, whose rows may be of the same groups.
    pub(super) fn of_batch(&self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let batches = [batch].into_iter().filter(|batch| batch.num_rows() > 0).collect::<Vec<_>>();
        let Some(aggregate) = aggregate(&self.by_hashing).filter(|_| !batches.is_empty()) else {
            return Ok(Some(RecordBatch::new_empty(self.schema())));
        };
        let Some(mut grouped) = Grouped::of(aggregate, &self.order, false, &batches)? else {
            return Ok(None);
        };
        for call in aggregate.aggr_expr() {
            grouped.add(call, &batches, None)?;
        }
        grouped.finish(self.schema()).map(Some)
    }
}

fn aggregate(node: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    (node.as_ref() as &dyn Any).downcast_ref()
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    (expr.as_ref() as &dyn Any).downcast_ref::<Column>().map(Column::index)
}

/// The states that a plan passes on as they are, and which of their columns these are.
fn leaf(plan: &Arc<dyn ExecutionPlan>, columns: Vec<usize>) -> Option<(&SlotExec, Vec<usize>)> {
    let any = plan.as_ref() as &dyn Any;
    if let Some(leaf) = any.downcast_ref::<SlotExec>() {
        return Some((leaf, columns));
    }
    if let Some(projection) = any.downcast_ref::<ProjectionExec>() {
        let expr = projection.expr();
        let columns = columns.into_iter().map(|i| column(&expr.get(i)?.expr));
        return leaf(projection.input(), columns.collect::<Option<_>>()?);
    }
    let cooperative = any.downcast_ref::<CooperativeExec>()?;
    leaf(cooperative.children().first()?, columns)
}

impl DisplayAs for SortedAggregateExec {
    fn fmt_as(&self, style: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SortedAggregateExec, for ")?;
        self.by_hashing.fmt_as(style, f)
    }
}

impl ExecutionPlan for SortedAggregateExec {
    fn name(&self) -> &str {
        "SortedAggregateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.by_hashing.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.by_hashing.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let by_hashing = Arc::clone(&self.by_hashing).replace_children(children, options)?;
        Ok(match Self::of(&by_hashing) {
            Some(exec) => Arc::new(exec),
            None => by_hashing,
        })
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(input) = self.children().first().map(|child| Arc::clone(child)) else {
            return self.by_hashing.execute(partition, context);
        };
        let (plan, order, unique) = (Arc::clone(&self.by_hashing), self.order.clone(), self.unique);
        let schema = self.schema();
        let answer = async move {
            let batches: Vec<RecordBatch> =
                side_by_side(input)?.execute(partition, Arc::clone(&context))?.try_collect().await?;
            let batches: Vec<_> = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect();
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if rows > MOST_ROWS || batches.len() > MOST_BATCHES {
                return plan.execute(partition, context);
            }
            let reservation = MemoryConsumer::new("SortedAggregateExec").register(context.memory_pool());
            let size = context.session_config().batch_size();
            let schema = plan.schema();
            let Some(whole) = run(&plan, &order, unique, &batches, &reservation).await? else {
                drop(reservation);
                return plan.execute(partition, context);
            };
            let pieces = (0..whole.num_rows())
                .step_by(size)
                .map(move |at| Ok(whole.slice(at, size.min(whole.num_rows() - at))));
            // What is reserved is held until the last piece is taken.
            let held = stream::iter(pieces).chain(stream::once(async move {
                drop(reservation);
                Ok(RecordBatch::new_empty(Arc::clone(&schema)))
            }));
            let schema = plan.schema();
            let rows = held.try_filter(|batch| std::future::ready(batch.num_rows() > 0));
            Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)) as SendableRecordBatchStream)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(answer).try_flatten())))
    }
}

/// All groups of these batches, with what their calls come to; `None` if hashing is better.
async fn run(
    plan: &Arc<dyn ExecutionPlan>,
    order: &[usize],
    unique: bool,
    batches: &[RecordBatch],
    reservation: &MemoryReservation,
) -> Result<Option<RecordBatch>> {
    let Some(aggregate) = aggregate(plan).filter(|_| !batches.is_empty()) else {
        return Ok(Some(RecordBatch::new_empty(plan.schema())));
    };
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    reservation.try_grow(2 * rows * size_of::<usize>())?;
    let Some(mut grouped) = Grouped::of(aggregate, order, unique, batches)? else { return Ok(None) };
    for call in aggregate.aggr_expr() {
        tokio::task::yield_now().await;
        grouped.add(call, batches, Some(reservation))?;
    }
    grouped.finish(plan.schema()).map(Some)
}

/// The groups of some batches, and what calls come to for each.
struct Grouped {
    /// For each batch, the group of each row, by where it is seen first.
    of: Vec<Vec<usize>>,
    /// How many groups have been seen after each batch.
    seen: Vec<usize>,
    /// Of each group in the order of keys, its number, if that is not its place.
    numbers: Option<UInt64Array>,
    groups: usize,
    output: Vec<ArrayRef>,
}

impl Grouped {
    /// The groups, in the order of keys; `None` if hashing is better.
    fn of(
        aggregate: &AggregateExec,
        order: &[usize],
        unique: bool,
        batches: &[RecordBatch],
    ) -> Result<Option<Self>> {
        let by = aggregate.group_expr().expr();
        let mut columns: Vec<Vec<ArrayRef>> = Vec::with_capacity(batches.len());
        let mut keys = Vec::with_capacity(batches.len());
        for batch in batches {
            let rows = batch.num_rows();
            let evaluated = by.iter().map(|(expr, _)| expr.evaluate(batch)?.into_array(rows));
            let evaluated = evaluated.collect::<Result<Vec<_>>>()?;
            let sorted = order.iter().map(|&i| Arc::clone(&evaluated[i])).collect();
            keys.push(Keys::new(sorted, rows, unique)?);
            columns.push(evaluated);
        }
        let Some(mut groups) = groups(&keys)? else { return Ok(None) };
        drop(keys);
        let (seen, numbers) = groups.renumber();
        let numbers =
            numbers.map(|numbers| UInt64Array::from_iter_values(numbers.into_iter().map(|n| n as u64)));
        let Groups { of, firsts, .. } = groups;
        let mut output = Vec::with_capacity(by.len() + aggregate.aggr_expr().len());
        for i in 0..by.len() {
            let of_batches: Vec<&dyn Array> = columns.iter().map(|columns| columns[i].as_ref()).collect();
            // Each row a group of its own, as in a single state.
            let whole = of_batches.len() == 1 && of_batches[0].len() == firsts.len();
            output.push(if whole { Arc::clone(&columns[0][i]) } else { interleave(&of_batches, &firsts)? });
        }
        Ok(Some(Self { of, seen, numbers, groups: firsts.len(), output }))
    }

    /// What a call comes to.
    fn add(
        &mut self,
        call: &AggregateFunctionExpr,
        batches: &[RecordBatch],
        reservation: Option<&MemoryReservation>,
    ) -> Result<()> {
        let mut accumulator = call.create_groups_accumulator()?;
        for ((batch, of), seen) in batches.iter().zip(&self.of).zip(&self.seen) {
            let arguments = call.expressions();
            let arguments = arguments.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            accumulator.update_batch(&arguments, of, None, *seen)?;
        }
        if let Some(reservation) = reservation {
            reservation.try_grow(accumulator.size())?;
        }
        let values = accumulator.evaluate(EmitTo::All)?;
        self.output.push(match &self.numbers {
            Some(numbers) => take(&values, numbers, None)?,
            None => values,
        });
        Ok(())
    }

    fn finish(self, schema: SchemaRef) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.groups));
        Ok(RecordBatch::try_new_with_options(schema, self.output, &options)?)
    }
}
