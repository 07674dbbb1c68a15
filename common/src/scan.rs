//! Where plans meet data: scans that stand for events or states, and the slots that are put in their place.
//!
//! A view is planned once, over [`Unbound`] scans that know a schema and what they stand for, but hold nothing.
//! Before a plan runs, [`bind`] puts a provider in the place of each. Fold and merge plans get [`Slot`]s, which
//! are filled anew before each run, so that one physical plan runs many times.

use crate::Digest;
use crate::error::{Error, Result};
use crate::state::State;
use crate::stream::adapt;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, project_schema,
};
use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What an [`Unbound`] scan stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The events of a stream.
    Stream(String),
    /// The merged state of one cut of a view.
    State {
        /// The view's name.
        view: String,
        /// The view's fingerprint.
        fingerprint: Digest,
        /// Which cut of the view, from 0.
        cut: usize,
    },
    /// The relation [`LATE_EVENTS`](crate::LATE_EVENTS).
    LateEvents,
    /// The relation [`AUDIT`](crate::AUDIT).
    Audit,
    /// The relation [`COVERAGE`](crate::COVERAGE).
    Coverage,
}

/// A relation that has a schema and stands for a [`Source`], but must be bound before it can be read.
#[derive(Debug)]
pub struct Unbound {
    source: Source,
    schema: SchemaRef,
}

impl Unbound {
    /// A relation of this schema that stands for `source`.
    pub fn new(source: Source, schema: SchemaRef) -> Self {
        Self { source, schema }
    }
}

#[async_trait]
impl TableProvider for Unbound {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Err(Error::Internal(format!("{:?} was read before it was bound", self.source)).into())
    }
}

/// What the scan stands for, if it is unbound.
pub(crate) fn source_of(scan: &TableScan) -> Option<Source> {
    let provider = source_as_provider(&scan.source).ok()?;
    let unbound = (provider.as_ref() as &dyn Any).downcast_ref::<Unbound>()?;
    Some(unbound.source.clone())
}

/// The sources that a plan reads, its subqueries included, each once, in the order of the plan.
pub fn sources(plan: &LogicalPlan) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = source_of(scan)
            && !found.contains(&source)
        {
            found.push(source);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// `plan` with a provider in the place of each unbound scan, its subqueries included.
///
/// The provider's schema must begin with the columns of the scan's: more may follow.
///
/// # Errors
/// Those of `provide`.
pub fn bind(
    plan: LogicalPlan,
    mut provide: impl FnMut(&Source) -> Result<Arc<dyn TableProvider>>,
) -> Result<LogicalPlan> {
    let bound = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let Some(source) = source_of(scan) else { return Ok(Transformed::no(node)) };
        let columns = scan.source.schema().fields().len();
        let projection = scan.projection.clone().unwrap_or_else(|| (0..columns).collect());
        let table = TableScanBuilder::new(scan.table_name.clone(), provider_as_source(provide(&source)?))
            .with_projection(Some(projection))
            .with_filters(scan.filters.clone())
            .with_fetch(scan.fetch)
            .build()?;
        Ok(Transformed::yes(LogicalPlan::TableScan(table)))
    })?;
    Ok(bound.data)
}

/// How many scans of a slot a physical plan has.
pub(crate) fn scans(plan: &Arc<dyn ExecutionPlan>, slot: &Arc<Slot>) -> usize {
    let scan = (plan.as_ref() as &dyn Any).downcast_ref::<SlotExec>();
    let here = usize::from(scan.is_some_and(|exec| Arc::ptr_eq(&exec.slot, slot)));
    here + plan.children().into_iter().map(|child| scans(child, slot)).sum::<usize>()
}

/// The columns that a physical plan reads from a slot, by name.
pub(crate) fn columns_read(plan: &Arc<dyn ExecutionPlan>, slot: &Arc<Slot>) -> BTreeSet<String> {
    let mut columns = BTreeSet::new();
    if let Some(exec) = (plan.as_ref() as &dyn Any).downcast_ref::<SlotExec>()
        && Arc::ptr_eq(&exec.slot, slot)
    {
        columns.extend(exec.schema.fields().iter().map(|f| f.name().clone()));
    }
    for child in plan.children() {
        columns.extend(columns_read(child, slot));
    }
    columns
}

/// Where the input of a plan is put before each run. Empty when nothing was put there.
///
/// Batches may have more columns than the plan reads, in any order: they are matched by name.
#[derive(Debug)]
pub(crate) struct Slot {
    schema: SchemaRef,
    sorted: Sorted,
    input: Mutex<Input>,
}

/// Batches that are made while they are read.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// What is in a [`Slot`].
enum Input {
    Held(Vec<RecordBatch>),
    /// For one scan, which takes them.
    Made(Batches),
    Taken,
    /// Why there was no next batch.
    Failed(Error),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Held(batches) => write!(f, "{} batches", batches.len()),
            Input::Made(_) => f.write_str("batches to be made"),
            Input::Taken => f.write_str("taken"),
            Input::Failed(e) => write!(f, "failed: {e}"),
        }
    }
}

/// How rows in a [`Slot`] are sorted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sorted {
    /// Each batch is sorted by so many columns from the first on.
    pub(crate) keys: usize,
    /// Whether it has each key once.
    pub(crate) unique: bool,
    /// Whether the rows of all batches are to be read as one, which is sorted likewise.
    pub(crate) as_one: bool,
}

impl Slot {
    pub(crate) fn new(schema: SchemaRef) -> Arc<Self> {
        Self::sorted(schema, Sorted::default())
    }

    /// For states, which have so many key columns.
    pub(crate) fn of_states(schema: SchemaRef, keys: usize) -> Arc<Self> {
        Self::sorted(schema, Sorted { keys, unique: true, as_one: false })
    }

    /// For batches that are sorted.
    pub(crate) fn sorted(schema: SchemaRef, sorted: Sorted) -> Arc<Self> {
        Arc::new(Self { schema, sorted, input: Mutex::new(Input::Held(Vec::new())) })
    }

    /// The columns of what is put there.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads some columns of what is put there.
    pub(crate) fn exec(self: &Arc<Self>, projection: Option<&Vec<usize>>) -> EngineResult<SlotExec> {
        let schema = project_schema(&self.schema, projection)?;
        let place = |key| match projection {
            Some(columns) => columns.iter().position(|column| *column == key),
            None => Some(key),
        };
        let sorted: Vec<usize> = (0..self.sorted.keys).map_while(place).collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let as_one = self.sorted.as_one;
        Ok(SlotExec { slot: Arc::clone(self), schema, sorted, as_one, properties: Arc::new(properties) })
    }

    /// Replaces what the next run will read.
    pub(crate) fn fill(&self, batches: Vec<RecordBatch>) {
        self.put(Input::Held(batches));
    }

    /// Lets the next run make the batches that it reads. For plans with [one scan](scans) of the slot.
    pub(crate) fn fill_while_read(&self, batches: Batches) {
        self.put(Input::Made(batches));
    }

    /// Leaves nothing behind. Why the batches that were made while they were read came to an end too early, if so.
    pub(crate) fn clear(&self) -> Option<Error> {
        match self.put(Input::Held(Vec::new())) {
            Input::Failed(e) => Some(e),
            _ => None,
        }
    }

    fn put(&self, input: Input) -> Input {
        std::mem::replace(&mut *self.input.lock().unwrap_or_else(PoisonError::into_inner), input)
    }

    fn read(&self) -> Result<Vec<RecordBatch>> {
        match &*self.input.lock().unwrap_or_else(PoisonError::into_inner) {
            Input::Held(batches) => Ok(batches.clone()),
            other => Err(Error::Internal(format!("a slot was read as a whole: {other:?}"))),
        }
    }

    /// The batches to be made, if they are; each of `schema`.
    fn take(self: &Arc<Self>, schema: &SchemaRef) -> Option<SendableRecordBatchStream> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = match std::mem::replace(&mut *input, Input::Taken) {
            Input::Made(batches) => batches,
            other => {
                *input = other;
                return None;
            }
        };
        let (slot, to) = (Arc::clone(self), Arc::clone(schema));
        let adapted = batches.map(move |batch| {
            batch.and_then(|batch| adapt(&batch, &to)).map_err(|e| {
                let said = DataFusionError::Execution(e.to_string());
                slot.put(Input::Failed(e));
                said
            })
        });
        Some(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), futures::stream::iter(adapted))))
    }
}

/// A relation over a [`Slot`].
#[derive(Debug)]
pub(crate) struct SlotTable(pub(crate) Arc<Slot>);

#[async_trait]
impl TableProvider for SlotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.0.exec(projection)?))
    }
}

/// Reads what is in its slot at the moment when it is executed.
#[derive(Debug)]
pub(crate) struct SlotExec {
    slot: Arc<Slot>,
    schema: SchemaRef,
    sorted: Vec<usize>,
    as_one: bool,
    properties: Arc<PlanProperties>,
}

impl SlotExec {
    /// The columns by which each batch is sorted.
    pub(crate) fn sorted(&self) -> &[usize] {
        &self.sorted
    }

    /// Whether no two rows of a batch have the same values in these.
    pub(crate) fn is_unique(&self) -> bool {
        self.slot.sorted.unique && self.sorted.len() == self.slot.sorted.keys
    }

    /// The same, for who reads sorted batches side by side; `None` if it does so already.
    pub(crate) fn side_by_side(&self) -> Option<Self> {
        let (slot, schema, sorted) = (Arc::clone(&self.slot), Arc::clone(&self.schema), self.sorted.clone());
        self.as_one.then(|| Self {
            slot,
            schema,
            sorted,
            as_one: false,
            properties: Arc::clone(&self.properties),
        })
    }

    /// What is in the slot now.
    pub(crate) fn rows(&self) -> Result<Vec<RecordBatch>> {
        let mut batches = self.slot.read()?;
        if self.as_one
            && let [first, _, ..] = batches.as_slice()
        {
            let all = State::from_rows(first.schema_ref(), self.slot.sorted.keys, &batches)?;
            batches = vec![all.batch().clone()];
        }
        batches.iter().map(|batch| adapt(batch, &self.schema)).collect()
    }
}

impl DisplayAs for SlotExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        write!(f, "SlotExec: columns=[{}]", names.join(", "))
    }
}

impl ExecutionPlan for SlotExec {
    fn name(&self) -> &str {
        "SlotExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        if let Some(batches) = self.slot.take(&self.schema) {
            return Ok(batches);
        }
        Ok(Box::pin(MemoryStream::try_new(self.rows()?, Arc::clone(&self.schema), None)?))
    }
}
