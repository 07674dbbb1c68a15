//! Running fold and merge: physical plans that are made once and run many times.
//!
//! ```text
//! fold(A + B) = merge(fold(A), fold(B))        for any two sets of events A and B
//! merge(a, b) = merge(b, a),  merge(a, merge(b, c)) = merge(merge(a, b), c),  merge(a, empty) = a
//! ```
//!
//! A physical plan keeps what its operators cached in an earlier run (a hash join its build side, for one), so
//! each run starts from a plan whose state was reset.

use crate::by_start::by_start;
use crate::cut::{Cut, Kind};
use crate::engine;
use crate::error::Result;
use crate::scan::{Slot, SlotTable, Source, bind, columns_read, scans};
use crate::sorted::rows_of_key;
use crate::state::State;
use crate::text_views::with_views;
use crate::union::union;
use crate::view::View;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A physical plan that can be run again and again.
#[derive(Debug)]
struct Runnable {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

/// What a merge comes to is wanted whole: so many rows of it are given at once, and need not be put together.
const MERGED_ROWS: usize = 1 << 20;

impl Runnable {
    async fn try_new(session: &SessionContext, plan: LogicalPlan) -> Result<Self> {
        Self::with(engine::state(session), plan).await
    }

    async fn with(state: SessionState, plan: LogicalPlan) -> Result<Self> {
        let plan = state.create_physical_plan(&plan).await?;
        Ok(Self { plan, context: state.task_ctx() })
    }

    /// A plan over states of the cut, and where they are put.
    async fn over_states(
        session: &SessionContext,
        cut: &Cut,
        plan: &LogicalPlan,
    ) -> Result<(Self, Arc<Slot>)> {
        let slot = Slot::of_states(Arc::clone(cut.schema()), cut.keys());
        let plan = bind(plan.clone(), |_| Ok(Arc::new(SlotTable(Arc::clone(&slot)))))?;
        let mut state = engine::state(session);
        *state.config_mut() = state.config().clone().with_batch_size(MERGED_ROWS);
        Ok((Self::with(state, plan).await?, slot))
    }

    async fn run(&self) -> Result<Vec<RecordBatch>> {
        let plan = reset_plan_states(Arc::clone(&self.plan))?;
        Ok(collect(plan, Arc::clone(&self.context)).await?)
    }
}

/// Folds events of one cut's streams into states.
#[derive(Debug)]
pub struct Folder {
    runnable: Runnable,
    slots: BTreeMap<String, Arc<Slot>>,
    schema: SchemaRef,
    keys: usize,
}

impl Folder {
    /// Plans the fold of a cut. `event_schema` gives each stream's event schema.
    pub async fn try_new(
        session: &SessionContext,
        cut: &Cut,
        event_schema: impl Fn(&str) -> Result<SchemaRef>,
    ) -> Result<Self> {
        let mut slots = BTreeMap::new();
        let plan = bind(by_start(cut.fold_plan().clone())?, |source| {
            let Source::Stream(stream) = source else {
                return Err(crate::Error::Internal(format!("a fold over {source:?}")));
            };
            let schema = event_schema(stream)?;
            let slot = slots.entry(stream.clone()).or_insert_with(|| Slot::new(schema));
            Ok(Arc::new(SlotTable(Arc::clone(slot))))
        })?;
        let runnable = Runnable::try_new(session, plan).await?;
        Ok(Self { runnable, slots, schema: Arc::clone(cut.schema()), keys: cut.keys() })
    }

    /// The same for events from Parquet, of which the fold reads [some text as views](crate::text_views).
    pub async fn over_parquet(
        session: &SessionContext,
        cut: &Cut,
        event_schema: impl Fn(&str) -> Result<SchemaRef>,
    ) -> Result<Self> {
        let views = |stream: &str| with_views(&event_schema(stream)?, cut.fold_plan());
        match Self::try_new(session, cut, views).await {
            Ok(folder) if folder.gives_states() => Ok(folder),
            _ => Self::try_new(session, cut, event_schema).await,
        }
    }

    /// Whether what the plan gives has the types of a state.
    fn gives_states(&self) -> bool {
        let given = self.runnable.plan.schema();
        let types =
            |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        types(&given) == types(&self.schema)
    }

    /// The events of a stream as the fold reads them; it takes others with the same columns too.
    pub fn event_schema(&self, stream: &str) -> Option<&SchemaRef> {
        self.slots.get(stream).map(|slot| slot.schema())
    }

    /// The columns of a stream that the fold reads, by name.
    pub fn columns(&self, stream: &str) -> Vec<String> {
        let slot = self.slots.get(stream);
        slot.map_or_else(Vec::new, |slot| columns_read(&self.runnable.plan, slot).into_iter().collect())
    }

    /// The state of these events of one stream. Batches need only the [columns](Folder::columns) that the fold reads.
    pub async fn fold(&mut self, stream: &str, events: &[RecordBatch]) -> Result<State> {
        if let Some(slot) = self.slots.get(stream) {
            slot.fill(events.to_vec());
        }
        self.run().await
    }

    /// The same of events that are made while they are folded, a batch at a time, so that they need not be in memory
    /// together: unless the fold looks at them more than once.
    ///
    /// # Errors
    /// The first that `events` gives; those of [`fold`](Self::fold).
    pub async fn fold_each(
        &mut self,
        stream: &str,
        events: impl Iterator<Item = Result<RecordBatch>> + Send + 'static,
    ) -> Result<State> {
        match self.slots.get(stream) {
            Some(slot) if scans(&self.runnable.plan, slot) == 1 => slot.fill_while_read(Box::new(events)),
            Some(slot) => slot.fill(events.collect::<Result<_>>()?),
            None => {}
        }
        self.run().await
    }

    async fn run(&self) -> Result<State> {
        let rows = self.runnable.run().await;
        let mut failed = None;
        for slot in self.slots.values() {
            failed = slot.clear().or(failed);
        }
        match failed {
            Some(e) => Err(e),
            None => State::from_rows(&self.schema, self.keys, &rows?),
        }
    }
}

/// Merges states of one cut.
#[derive(Debug)]
pub struct Merger {
    /// What adds up the rows of a key; `None` if there is nothing to add up, so that the merge is a union.
    runnable: Option<(Runnable, Arc<Slot>)>,
    schema: SchemaRef,
    keys: usize,
}

impl Merger {
    /// Plans the merge of a cut.
    pub async fn try_new(session: &SessionContext, cut: &Cut) -> Result<Self> {
        let runnable = match cut.kind() {
            _ if cut.merges_by_union() => None,
            Kind::Append => None,
            Kind::Aggregate { merge, .. } => Some(Runnable::over_states(session, cut, merge).await?),
        };
        Ok(Self { runnable, schema: Arc::clone(cut.schema()), keys: cut.keys() })
    }

    /// The merge of these states, in any order. Of none: the empty state.
    ///
    /// # Errors
    /// `Corrupt` if one is no state of this cut, or one of another version of its functions.
    pub async fn merge(&mut self, states: &[State]) -> Result<State> {
        states.iter().try_for_each(|state| state.check(&self.schema))?;
        if let [one] = states {
            return Ok(one.clone());
        }
        let states: Vec<&State> = states.iter().filter(|s| s.rows() > 0).collect();
        match (states.as_slice(), &self.runnable) {
            ([], _) => Ok(State::empty(&self.schema, self.keys)),
            ([one], _) => Ok(State::clone(one)),
            (_, None) => union(&states),
            (_, Some((runnable, slot))) => {
                slot.fill(states.iter().map(|s| s.batch().clone()).collect());
                let merged = runnable.run().await;
                slot.fill(Vec::new());
                State::from_rows(&self.schema, self.keys, &merged?)
            }
        }
    }
}

/// Finishes states of a view into its rows.
#[derive(Debug)]
pub struct Finisher {
    runnable: Runnable,
    /// For each cut.
    slots: Vec<Arc<Slot>>,
}

impl Finisher {
    /// Plans the finish of a view.
    pub async fn try_new(session: &SessionContext, view: &View) -> Result<Self> {
        let slot = |cut: &Cut| Slot::of_states(Arc::clone(cut.schema()), cut.keys());
        let slots: Vec<_> = view.cuts().iter().map(slot).collect();
        let plan = bind(view.finish_plan().clone(), |source| match source {
            Source::State { cut, .. } if *cut < slots.len() => {
                Ok(Arc::new(SlotTable(Arc::clone(&slots[*cut]))))
            }
            other => Err(crate::Error::Internal(format!("a finish over {other:?}"))),
        })?;
        Ok(Self { runnable: Runnable::try_new(session, plan).await?, slots })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.runnable.plan.schema()
    }

    /// The rows of these states, given for each cut.
    pub async fn finish(&mut self, states: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        self.slots.iter().zip(states).for_each(|(slot, states)| slot.fill(states));
        let rows = self.runnable.run().await;
        self.slots.iter().for_each(|slot| slot.fill(Vec::new()));
        rows
    }

    /// The same of a view with one cut, whose states have rows of one key only.
    pub async fn finish_key(&mut self, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let [slot] = self.slots.as_slice() else { return self.finish(vec![states]).await };
        slot.fill(states);
        let rows = match rows_of_key(&self.runnable.plan) {
            Ok(None) => self.runnable.run().await,
            Ok(Some(rows)) => Ok(vec![rows]),
            Err(e) => Err(e.into()),
        };
        slot.fill(Vec::new());
        rows
    }
}

/// What states say, for people: the values of a cut's calls.
#[derive(Debug)]
pub struct Values {
    /// `None` for a cut whose states are values as they are.
    runnable: Option<(Runnable, Arc<Slot>)>,
}

impl Values {
    /// Plans the values of a cut.
    pub async fn try_new(session: &SessionContext, cut: &Cut) -> Result<Self> {
        let Kind::Aggregate { values, .. } = cut.kind() else { return Ok(Self { runnable: None }) };
        Ok(Self { runnable: Some(Runnable::over_states(session, cut, values).await?) })
    }

    /// One row: the keys of that row of the state, and what its calls come to.
    pub async fn of(&mut self, state: &State, row: usize) -> Result<RecordBatch> {
        let row = state.batch().slice(row, 1);
        let Some((runnable, slot)) = &self.runnable else { return Ok(row) };
        slot.fill(vec![row]);
        let values = runnable.run().await;
        slot.fill(Vec::new());
        let one = values?.into_iter().find(|batch| batch.num_rows() == 1);
        one.ok_or_else(|| crate::Error::Internal("a key of a state has no values".into()))
    }
}
