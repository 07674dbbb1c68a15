//! Answering a query: one basis, one snapshot of the speed layer, one plan over both.
//!
//! ```text
//! answer = finish( merge( batch[0, H), speed[H, now) ) )      for any horizon H
//! ```
//!
//! For each query: take a manifest of each relation that it reads, ask the speed layer once for all that lies
//! above, check the coverage, put both in the place of the plan's states and streams, and run it. If the
//! speed layer has dropped what lies above a manifest, there is a newer one: take that, and ask again.
//!
//! An answer is whole or an error: without the speed layer there is none. Two queries may see two moments.
//! `is_final` tells of the watermark of the answer: the least over all partitions of all relations of the query.
//! What was acknowledged before a query is in its answer, as far as the speed layer has got to it: coverage
//! tells.
//!
//! While a changed project is being built, the one before it answers what it can: each query wholly in one of the two,
//! see [`Versions`].

use crate::access::Access;
use crate::batch_states::BatchStates;
use crate::changes::Changes;
use crate::filter::filtered;
use crate::limits::{Deadline, Limits, Permit};
use crate::lookup::Finishers;
use crate::metrics::Metrics;
use crate::moment::{Bindings, key};
use crate::page::{Page, ViewQuery, page};
use crate::parameters::with_json;
use crate::plan_cache::PlanCache;
use crate::rows::Rows;
use crate::switch::Switch;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;
use twofold_common::scan::{Source, bind, sources};
use twofold_common::{
    Archive, BatchViews, Catalog, Coverage, Error, IngestReceipt, IngestRequest, Kind, Result, SpeedLayer,
    Versions, decide, depends_on_order, least_watermark,
};

/// The serving layer of a project.
#[derive(Debug)]
pub struct Serving {
    project: RwLock<Arc<Switch>>,
    pub(crate) archive: Archive,
    pub(crate) batch_views: BatchViews,
    pub(crate) speed: Arc<dyn SpeedLayer>,
    pub(crate) metrics: Metrics,
    pub(crate) changes: Changes,
    pub(crate) finishers: Finishers,
    plans: PlanCache,
    pub(crate) batch_states: Arc<BatchStates>,
    pub(crate) limits: Arc<Limits>,
}

impl Serving {
    /// Serves `catalog` from what is stored and what `speed` holds.
    pub fn new(
        catalog: Arc<Catalog>,
        archive: Archive,
        batch_views: BatchViews,
        speed: Arc<dyn SpeedLayer>,
    ) -> Self {
        Self::with_versions(Versions::new(catalog, None), archive, batch_views, speed)
    }

    /// Serves a project, and the one before it until `speed` has built this one.
    pub fn with_versions(
        versions: Versions,
        archive: Archive,
        batch_views: BatchViews,
        speed: Arc<dyn SpeedLayer>,
    ) -> Self {
        let project = RwLock::new(Arc::new(Switch::new(versions)));
        let (metrics, changes, limits) = (Metrics::default(), Changes::default(), Arc::default());
        let (finishers, plans) = (Finishers::default(), PlanCache::default());
        let batch_states = Arc::new(BatchStates::new(batch_views.clone()));
        Self {
            project,
            archive,
            batch_views,
            speed,
            metrics,
            changes,
            finishers,
            plans,
            batch_states,
            limits,
        }
    }

    /// The same, which lets queries take no more than `limits`. Without, they take what they need.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits: Arc::new(limits), ..self }
    }

    /// Serves another version of the project from now on. Queries that were asked before are answered by the one that
    /// they were asked of.
    pub fn adopt(&self, versions: Versions) {
        *self.project.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Switch::new(versions));
        self.changes.stir();
    }

    pub(crate) fn project(&self) -> Arc<Switch> {
        Arc::clone(&self.project.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The relations that are served.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(self.project().current())
    }

    /// The answer to one query in SQL.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` if the query is wrong; `Unavailable` if the speed layer cannot be reached, or
    /// builds a view still; `Corrupt` if what is stored is damaged; `Internal` if the coverage law does not
    /// hold.
    pub async fn query(&self, sql: &str) -> Result<Rows> {
        self.query_with(sql, &[], None).await
    }

    /// The same, of a query with `$1`, `$2` and so on, which stand for these JSON values; the answer may be as stale as
    /// `max_staleness`, and is waited for.
    ///
    /// # Errors
    /// `Invalid` if there are more or fewer of them than the query has; `Unavailable` if the answer would be staler;
    /// otherwise as [`query`](Self::query).
    pub async fn query_with(
        &self,
        sql: &str,
        parameters: &[Value],
        max_staleness: Option<Duration>,
    ) -> Result<Rows> {
        let question = Question::Sql { sql, parameters };
        let answer = async {
            let permit = self.permit(&question).await?;
            let (_, rows) = self.ask(&question, &permit, max_staleness).await?;
            Ok(rows)
        };
        self.measured(answer).await
    }

    /// The rows of a view that the filters let through, of the page that is asked for.
    ///
    /// # Errors
    /// `NotFound` for an unknown view, `Invalid` for an unknown column or a value that its type does not
    /// have; otherwise as [`query`](Self::query).
    pub async fn query_view(&self, view: &str, query: &ViewQuery) -> Result<Page> {
        let mut cursor = None;
        // What is ordered is cut off when it is in order.
        let limit = query.limit.filter(|_| query.order.is_none());
        let question = Question::View { view, filters: &query.filters, limit };
        let answer = async {
            let permit = self.permit(&question).await?;
            if let Some(rows) = self.look_up(view, query).await? {
                return Ok(rows);
            }
            let (catalog, rows) = self.ask(&question, &permit, query.max_staleness).await?;
            let key = if query.order.is_some() { catalog.row_key(view).await? } else { None };
            let page = page(rows, view, key.as_deref(), query)?;
            cursor = page.cursor;
            Ok(page.rows)
        };
        let rows = self.measured(answer).await?;
        Ok(Page { rows, cursor })
    }

    /// The rows of a view, the positions of its key, and whether they depend on the time as well.
    pub(crate) async fn view_to_watch(
        &self,
        view: &str,
        filters: &[(String, String)],
    ) -> Result<(Rows, Option<Vec<usize>>, bool)> {
        let question = Question::View { view, filters, limit: None };
        let answer = async {
            let permit = self.permit(&question).await?;
            self.ask(&question, &permit, None).await
        };
        let (catalog, rows) = self.limits.within(answer).await?;
        // The project before is let go of at some time, too.
        let depends_on_time = rows.previous || depends_on_time(&catalog.scan_view(view).await?)?;
        Ok((rows, catalog.row_key(view).await?, depends_on_time))
    }

    /// The plan of a statement, which is kept for the next time.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` if it is wrong.
    pub(crate) async fn plan_of(&self, catalog: &Arc<Catalog>, sql: &str) -> Result<LogicalPlan> {
        self.plans.plan(catalog, sql).await
    }

    /// The plan of `planner` for the project that would answer it now.
    ///
    /// # Errors
    /// Those of the planner, and of limits.
    pub(crate) async fn plan(&self, planner: &dyn Planner) -> Result<(Arc<Catalog>, LogicalPlan)> {
        let (project, question) = (self.project(), Question::Planned(planner));
        let planned = async {
            let _permit = self.permit(&question).await?;
            match self.of_previous(&project, &question).await? {
                Some((catalog, plan)) => Ok((Arc::clone(catalog), plan)),
                None => Ok((Arc::clone(project.current()), planner.plan(project.current()).await?)),
            }
        };
        self.limits.within(planned).await.inspect_err(|e| self.metrics.failed(e.kind()))
    }

    /// The answer to a query that `planner` has planned, as it comes: nothing of it is held here. It keeps its turn until
    /// it is taken to its end, or dropped; and it ends when the time of a query is over.
    ///
    /// # Errors
    /// As [`query`](Self::query); what goes wrong later, the stream tells.
    pub(crate) async fn stream(self: &Arc<Self>, planner: &dyn Planner) -> Result<Streamed> {
        let started = Instant::now();
        let question = Question::Planned(planner);
        let answer = async {
            let permit = self.permit(&question).await?;
            let (answer, previous) = self.start_of(&question, &permit).await?;
            Ok((permit, answer, previous))
        };
        let answer = self.limits.within(answer).await;
        let (permit, answer, previous) = answer.inspect_err(|e| self.metrics.failed(e.kind()))?;
        let Started { plan, context, coverage } = answer;
        let schema = plan.schema();
        let deadline = permit.deadline();
        let batches = permit.stream(plan, context)?;
        let (serving, mut rows) = (Arc::clone(self), Some(0));
        let end = futures::stream::once(async { None });
        let counted = batches.map(Some).chain(end).filter_map(move |batch| {
            match (&batch, &mut rows) {
                (Some(Ok(batch)), Some(rows)) => *rows += batch.num_rows(),
                (Some(Err(e)), rows) => {
                    serving.metrics.failed(e.kind());
                    *rows = None;
                }
                (None, Some(rows)) => serving.metrics.answered(*rows, started.elapsed()),
                _ => {}
            }
            std::future::ready(batch.map(|batch| batch.map_err(DataFusionError::from)))
        });
        let batches = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), counted));
        Ok(Streamed { schema, batches, coverage, previous, deadline })
    }

    /// Passes events on to the speed layer; answers after they are durable.
    ///
    /// # Errors
    /// Those of the speed layer.
    pub async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt> {
        let stream = request.stream.clone();
        let receipt = self.speed.ingest(request).await;
        match &receipt {
            Ok(receipt) => self.metrics.ingested(&stream, receipt),
            Err(e) => self.metrics.failed(e.kind()),
        }
        receipt
    }

    async fn measured(&self, answer: impl Future<Output = Result<Rows>>) -> Result<Rows> {
        let started = Instant::now();
        let answer = self.limits.within(answer).await;
        match &answer {
            Ok(rows) => {
                let (rows, elapsed) = (rows.num_rows(), started.elapsed());
                self.metrics.answered(rows, elapsed);
                tracing::debug!(rows, elapsed_ms = elapsed.as_secs_f64() * 1e3, "a query was answered");
            }
            Err(e) => self.metrics.failed(e.kind()),
        }
        answer
    }

    /// Looks whether a question may be asked by who asks it, and takes a turn for it.
    async fn permit(&self, question: &Question<'_>) -> Result<Permit> {
        let access = Access::current();
        match question {
            Question::Sql { sql, .. } => {
                self.limits.check_statement(sql)?;
                access.may_query(self.project().current(), sql)?;
            }
            Question::View { view, .. } => access.may_read(view)?,
            Question::Planned(planner) => self.limits.check_statement(planner.statement())?,
        }
        self.limits.admit(&access).await
    }

    /// The answer of the project that answers now, and its relations.
    async fn ask(
        &self,
        question: &Question<'_>,
        permit: &Permit,
        max_staleness: Option<Duration>,
    ) -> Result<(Arc<Catalog>, Rows)> {
        let project = self.project();
        if let Some((catalog, plan)) = self.of_previous(&project, question).await? {
            match self.answer(catalog, plan, permit, max_staleness).await {
                // Let go of because the current project is built by now; or itself not built, or failed on an event.
                Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Invalid) => {}
                answer => return Ok((Arc::clone(catalog), Rows { previous: true, ..answer? })),
            }
        }
        let catalog = project.current();
        let plan = question.plan(catalog, &self.plans).await?;
        let rows = self.answer(catalog, plan, permit, max_staleness).await?;
        Ok((Arc::clone(catalog), rows))
    }

    /// The same, not run yet, and whether it is of the previous project.
    async fn start_of(&self, question: &Question<'_>, permit: &Permit) -> Result<(Started, bool)> {
        let project = self.project();
        if let Some((catalog, plan)) = self.of_previous(&project, question).await? {
            match self.start(catalog, plan, permit, None).await {
                Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Invalid) => {}
                started => return started.map(|started| (started, true)),
            }
        }
        let plan = question.plan(project.current(), &self.plans).await?;
        Ok((self.start(project.current(), plan, permit, None).await?, false))
    }

    /// The question to the previous project, if that answers now, and can answer this.
    async fn of_previous<'p>(
        &self,
        project: &'p Switch,
        question: &Question<'_>,
    ) -> Result<Option<(&'p Arc<Catalog>, LogicalPlan)>> {
        let Some(previous) = project.previous(self.speed.as_ref()).await else { return Ok(None) };
        let Ok(plan) = question.plan(previous, &self.plans).await else { return Ok(None) };
        Ok(project.can_answer(&plan)?.then_some((previous, plan)))
    }

    async fn answer(
        &self,
        catalog: &Catalog,
        plan: LogicalPlan,
        permit: &Permit,
        max_staleness: Option<Duration>,
    ) -> Result<Rows> {
        let Started { plan, context, coverage } = self.start(catalog, plan, permit, max_staleness).await?;
        let schema = plan.schema();
        let batches = permit.collect(plan, context).await?;
        Ok(Rows { schema, batches, coverage, previous: false })
    }

    /// A plan over what its sources hold at one moment, ready to run.
    async fn start(
        &self,
        catalog: &Catalog,
        plan: LogicalPlan,
        permit: &Permit,
        max_staleness: Option<Duration>,
    ) -> Result<Started> {
        let ordered = depends_on_order(&plan)?;
        let (bindings, coverage) = self.bindings(catalog, &sources(&plan)?, ordered, max_staleness).await?;
        let watermark = least_watermark(coverage.iter().map(|part| (part.watermark, part.idle)));
        let bound = bind(decide(plan, watermark)?, |source| {
            let relation = bindings.get(&key(source));
            relation.cloned().ok_or_else(|| Error::Internal(format!("nothing is bound to {:?}", key(source))))
        })?;
        let state = catalog.session().state();
        let context = permit.context(state.task_ctx())?;
        let plan = DataFrame::new(state, bound).create_physical_plan().await?;
        Ok(Started { plan, context, coverage })
    }

    /// What the sources hold at one moment, and what that covers. With `ordered`, states come in the order of their
    /// keys, wherever the horizon is.
    async fn bindings(
        &self,
        catalog: &Catalog,
        sources: &[Source],
        ordered: bool,
        max_staleness: Option<Duration>,
    ) -> Result<(Bindings, Vec<Coverage>)> {
        let moment = self.moment(catalog, sources, max_staleness).await?;
        let (coverage, reads_nothing) = (moment.coverage.clone(), moment.basis.is_empty());
        let mut bindings = moment.bind_all(sources, &self.archive, ordered)?;
        if sources.contains(&Source::Coverage) {
            let told = if reads_nothing { self.coverage_of_views(catalog).await? } else { coverage.clone() };
            let rows = Coverage::batch(&told)?;
            let relation = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
            bindings.insert(key(&Source::Coverage), Arc::new(relation));
        }
        Ok((bindings, coverage))
    }
}

/// Whoever makes the plan of a question, for the project that is to answer it.
#[async_trait]
pub(crate) trait Planner: Send + Sync {
    /// What is asked, as it came.
    fn statement(&self) -> &str;

    /// Its plan.
    ///
    /// # Errors
    /// `Forbidden` if who asks may not read what it names; `Invalid` or `NotFound` if it is wrong.
    async fn plan(&self, catalog: &Arc<Catalog>) -> Result<LogicalPlan>;
}

/// An answer as it comes.
pub(crate) struct Streamed {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: SendableRecordBatchStream,
    pub(crate) coverage: Vec<Coverage>,
    /// Whether it is of the project before the current one.
    pub(crate) previous: bool,
    /// When all of it is to be taken: whoever holds it beyond that keeps others from their turn.
    pub(crate) deadline: Deadline,
}

/// A plan that is ready to run, and what its answer covers.
struct Started {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    coverage: Vec<Coverage>,
}

/// What is asked.
enum Question<'a> {
    Sql { sql: &'a str, parameters: &'a [Value] },
    View { view: &'a str, filters: &'a [(String, String)], limit: Option<usize> },
    Planned(&'a dyn Planner),
}

impl Question<'_> {
    async fn plan(&self, catalog: &Arc<Catalog>, plans: &PlanCache) -> Result<LogicalPlan> {
        match *self {
            Question::Planned(planner) => planner.plan(catalog).await,
            Question::Sql { sql, parameters } => with_json(plans.plan(catalog, sql).await?, parameters),
            Question::View { view, filters, limit } => {
                filtered(catalog.scan_view(view).await?, view, filters, limit)
            }
        }
    }
}

/// Whether the rows of a plan depend on when they are asked for: on the clock, or on the watermark.
fn depends_on_time(plan: &LogicalPlan) -> Result<bool> {
    let mut depends = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            depends |= expr.exists(|expr| {
                let Expr::ScalarFunction(call) = expr else { return Ok(false) };
                Ok(call.func.signature().volatility != Volatility::Immutable)
            })?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(depends)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
