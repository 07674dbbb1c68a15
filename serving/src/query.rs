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

use crate::basis::{Basis, Relations, ViewBasis};
use crate::events::Events;
use crate::filter::filtered;
use crate::metrics::Metrics;
use crate::parameters::with_values;
use crate::rows::Rows;
use crate::state_cache::StateCache;
use crate::switch::Switch;
use crate::yielding::yielding;
use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::DataFrame;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use twofold_common::scan::{Source, bind, sources};
use twofold_common::{
    AUDIT, Answer, Archive, BatchViews, Catalog, Coverage, Error, Finding, IngestReceipt, IngestRequest,
    Kind, LATE_EVENTS, LateEvents, Result, Snapshot, SpeedLayer, SpeedView, State, StateFile, Versions,
    conform, decide, depends_on_order, least_watermark,
};

/// How often a query starts again because the speed layer has moved on.
const TRIES: u32 = 6;
/// How long it waits before the second try; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// How many bytes of decoded batch states are kept.
const STATE_CACHE_BYTES: usize = 512 << 20;

/// The serving layer of a project.
#[derive(Debug)]
pub struct Serving {
    project: RwLock<Arc<Switch>>,
    pub(crate) archive: Archive,
    pub(crate) batch_views: BatchViews,
    pub(crate) speed: Arc<dyn SpeedLayer>,
    pub(crate) metrics: Metrics,
    states: StateCache,
}

/// What a plan runs over: one relation for each of its sources.
type Bindings = BTreeMap<Key, Arc<dyn TableProvider>>;

/// A source as a key: a stream, or a view's cut.
type Key = (String, Option<usize>);

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
        let states = StateCache::new(STATE_CACHE_BYTES);
        let project = RwLock::new(Arc::new(Switch::new(versions)));
        Self { project, archive, batch_views, speed, metrics: Metrics::default(), states }
    }

    /// Serves another version of the project from now on. Queries that were asked before are answered by the one that
    /// they were asked of.
    pub fn adopt(&self, versions: Versions) {
        *self.project.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Switch::new(versions));
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
        self.measured(self.ask(Question::Sql(sql))).await
    }

    /// The rows of a view where each column of `filters` has one of the values given for it.
    ///
    /// # Errors
    /// `NotFound` for an unknown view, `Invalid` for an unknown column or a value that its type does not
    /// have; otherwise as [`query`](Self::query).
    pub async fn query_view(
        &self,
        view: &str,
        filters: &[(String, String)],
        limit: Option<usize>,
    ) -> Result<Rows> {
        self.measured(self.ask(Question::View { view, filters, limit })).await
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
        let answer = answer.await;
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

    /// The answer of the project that answers now.
    async fn ask(&self, question: Question<'_>) -> Result<Rows> {
        let project = self.project();
        if let Some((catalog, plan)) = self.of_previous(&project, &question).await? {
            match self.answer(catalog, plan).await {
                // Let go of because the current project is built by now; or itself not built, or failed on an event.
                Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Invalid) => {}
                answer => return answer.map(|rows| Rows { previous: true, ..rows }),
            }
        }
        self.answer(project.current(), question.plan(project.current()).await?).await
    }

    /// The question to the previous project, if that answers now, and can answer this.
    pub(crate) async fn of_previous<'p>(
        &self,
        project: &'p Switch,
        question: &Question<'_>,
    ) -> Result<Option<(&'p Catalog, LogicalPlan)>> {
        let Some(previous) = project.previous(self.speed.as_ref()).await else { return Ok(None) };
        let Ok(plan) = question.plan(previous).await else { return Ok(None) };
        Ok(project.can_answer(&plan)?.then_some((previous.as_ref(), plan)))
    }

    async fn answer(&self, catalog: &Catalog, plan: LogicalPlan) -> Result<Rows> {
        let Ready { plan, context, coverage } = self.ready(catalog, plan).await?;
        let schema = plan.schema();
        let batches = collect(plan, context).await?;
        Ok(Rows { schema, batches, coverage, previous: false })
    }

    /// The plan over what its sources hold at one moment: nothing is asked of anybody when it runs.
    pub(crate) async fn ready(&self, catalog: &Catalog, plan: LogicalPlan) -> Result<Ready> {
        let ordered = depends_on_order(&plan)?;
        let (bindings, coverage) = self.bindings(catalog, &sources(&plan)?, ordered).await?;
        let watermark = least_watermark(coverage.iter().map(|part| (part.watermark, part.idle)));
        let bound = bind(decide(plan, watermark)?, |source| {
            let relation = bindings.get(&key(source));
            relation.cloned().ok_or_else(|| Error::Internal(format!("nothing is bound to {:?}", key(source))))
        })?;
        let state = catalog.session().state();
        let context = state.task_ctx();
        let plan = yielding(DataFrame::new(state, bound).create_physical_plan().await?)?;
        Ok(Ready { plan, context, coverage })
    }

    /// What the sources hold at one moment, and what that covers. With `ordered`, states come in the order of their
    /// keys, wherever the horizon is.
    async fn bindings(
        &self,
        catalog: &Catalog,
        sources: &[Source],
        ordered: bool,
    ) -> Result<(Bindings, Vec<Coverage>)> {
        let relations = Relations::of(sources, catalog)?;
        let mut wait = FIRST_WAIT;
        let mut again = None;
        for _ in 0..TRIES {
            if again.take().is_some() {
                sleep(wait).await;
                wait *= 2;
            }
            let basis = Basis::take(&relations, catalog, &self.archive, &self.batch_views).await?;
            let stored = match self.stored(catalog, sources, &basis).await {
                // Removed with its manifest, which was replaced meanwhile.
                Err(e) if e.kind() == Kind::NotFound => {
                    again = Some(Error::corrupt(
                        "the batch views",
                        format!("{e}, but a manifest names it: restore it"),
                    ));
                    continue;
                }
                stored => stored?,
            };
            let snapshot = match self.snapshot(&basis).await? {
                Ok(snapshot) => snapshot,
                Err(retired) => {
                    again = Some(retired);
                    continue;
                }
            };
            let coverage = basis.coverage(&snapshot)?;
            return Ok((self.bind_all(sources, &basis, stored, &snapshot, ordered)?, coverage));
        }
        Err(again.unwrap_or_else(|| Error::Internal("no try was made".into())))
    }

    /// The snapshot above a basis, or why another basis is needed.
    async fn snapshot(&self, basis: &Basis) -> Result<Result<Snapshot, Error>> {
        if basis.is_empty() {
            return Ok(Ok(Snapshot::default()));
        }
        match self.speed.snapshot(&basis.request()).await? {
            Answer::Snapshot(snapshot) => Ok(Ok(snapshot)),
            Answer::Retired { relation } => Ok(Err(Error::Unavailable(format!(
                "the speed layer has dropped a part of {relation} that the newest manifest found does not cover: try \
                 again; if it stays so, the speed layer and this process use different stores"
            )))),
            Answer::Building { view, done, total } => {
                let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(0);
                Err(Error::Unavailable(format!(
                    "view {view} is being built: {percent} % ({} of {} events folded); try again later",
                    grouped(done),
                    grouped(total)
                )))
            }
            Answer::Unknown { view } => Err(Error::Unavailable(format!(
                "the speed layer runs with another definition of view {view}, or without it: restart whichever of \
                 `twofold speed` and `twofold serve` was started before the project changed"
            ))),
            Answer::Failed { view, reason } => Err(Error::Invalid(format!(
                "view {view} stands still because its query failed on an event ({reason}): change its query"
            ))),
        }
    }

    /// The rows of the batch states that the sources need, and of what audits found.
    async fn stored(
        &self,
        catalog: &Catalog,
        sources: &[Source],
        basis: &Basis,
    ) -> Result<BTreeMap<Key, Vec<RecordBatch>>> {
        let mut stored = BTreeMap::new();
        for source in sources {
            if *source == Source::Audit {
                stored.insert(key(source), self.findings(catalog).await?);
            }
            let Source::State { view, cut, .. } = source else { continue };
            let Some(files) = basis.view(view).and_then(|basis| basis.files.get(*cut)) else { continue };
            let mut batches = Vec::new();
            for file in files {
                batches.extend(self.state_file(file).await?);
            }
            stored.insert(key(source), batches);
        }
        Ok(stored)
    }

    async fn state_file(&self, file: &StateFile) -> Result<Vec<RecordBatch>> {
        if let Some(batches) = self.states.get(&file.digest) {
            return Ok(batches);
        }
        let batches = self.batch_views.read_state(file).await?;
        self.states.put(file.digest, batches.clone());
        Ok(batches)
    }

    fn bind_all(
        &self,
        sources: &[Source],
        basis: &Basis,
        mut stored: BTreeMap<Key, Vec<RecordBatch>>,
        snapshot: &Snapshot,
        ordered: bool,
    ) -> Result<Bindings> {
        let mut bindings = Bindings::new();
        for source in sources {
            let relation: Arc<dyn TableProvider> = match source {
                Source::State { view, cut, .. } => {
                    let found = basis.views.iter().zip(&snapshot.views).find(|(b, _)| b.view.name() == view);
                    let (basis, speed) =
                        found.ok_or_else(|| Error::Internal(format!("no basis for view {view}")))?;
                    let stored = stored.remove(&key(source)).unwrap_or_default();
                    Arc::new(states(basis, *cut, stored, speed, ordered)?)
                }
                Source::Stream(stream) => {
                    let found =
                        basis.streams.iter().zip(&snapshot.streams).find(|(b, _)| &b.def.name == stream);
                    let (basis, tail) =
                        found.ok_or_else(|| Error::Internal(format!("no basis for stream {stream}")))?;
                    let (archive, schema) = (self.archive.clone(), basis.def.event_schema());
                    Arc::new(Events::new(archive, schema, &basis.segments, &tail.batches)?)
                }
                Source::LateEvents => {
                    let rows = snapshot.late_events.as_ref();
                    let rows = rows.ok_or_else(|| {
                        Error::Internal("the speed layer's answer lacks the late events".into())
                    })?;
                    let rows = conform(rows, &LateEvents::schema(), || LATE_EVENTS.to_string())?;
                    Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)
                }
                Source::Audit => {
                    let rows = stored.remove(&key(source)).unwrap_or_default();
                    Arc::new(MemTable::try_new(Finding::schema(), vec![rows])?)
                }
            };
            bindings.insert(key(source), relation);
        }
        Ok(bindings)
    }
}

/// A plan that can run, and what its answer covers.
pub(crate) struct Ready {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) context: Arc<TaskContext>,
    pub(crate) coverage: Vec<Coverage>,
}

/// What is asked.
pub(crate) enum Question<'a> {
    Sql(&'a str),
    /// SQL with parameters `$1`, `$2`, …, and their values; without these they are left open.
    Bound {
        sql: &'a str,
        values: Option<&'a [ScalarValue]>,
    },
    View {
        view: &'a str,
        filters: &'a [(String, String)],
        limit: Option<usize>,
    },
}

impl Question<'_> {
    pub(crate) async fn plan(&self, catalog: &Catalog) -> Result<LogicalPlan> {
        match *self {
            Question::Sql(sql) | Question::Bound { sql, values: None } => catalog.plan(sql).await,
            Question::Bound { sql, values: Some(values) } => with_values(catalog.plan(sql).await?, values),
            Question::View { view, filters, limit } => {
                filtered(catalog.scan_view(view).await?, view, filters, limit)
            }
        }
    }
}

impl Basis {
    fn view(&self, name: &str) -> Option<&ViewBasis> {
        self.views.iter().find(|basis| basis.view.name() == name)
    }
}

fn key(source: &Source) -> Key {
    match source {
        Source::State { view, cut, .. } => (view.clone(), Some(*cut)),
        Source::Stream(stream) => (stream.clone(), None),
        Source::LateEvents => (LATE_EVENTS.to_string(), None),
        Source::Audit => (AUDIT.to_string(), None),
    }
}

/// The states of one cut, from both layers, as one relation: the plan above merges them.
fn states(
    basis: &ViewBasis,
    cut: usize,
    stored: Vec<RecordBatch>,
    speed: &SpeedView,
    ordered: bool,
) -> Result<MemTable> {
    let view = basis.view.name();
    let cuts = basis.view.cuts();
    let definition = cuts.get(cut).ok_or_else(|| Error::Internal(format!("view {view} has no cut {cut}")))?;
    let schema = definition.schema();
    let mut batches = Vec::new();
    for batch in &stored {
        batches.push(conform(batch, schema, || format!("the batch view of {view}, cut {cut}"))?);
    }
    for (of, state) in &speed.states {
        if *of >= cuts.len() {
            return Err(Error::corrupt(
                format!("the speed layer's states of {view}"),
                format!("there is no cut {of}"),
            ));
        }
        if *of == cut {
            batches.push(conform(state.batch(), schema, || {
                format!("the speed layer's states of {view}, cut {cut}")
            })?);
        }
    }
    if ordered {
        batches = vec![State::from_rows(schema, definition.keys(), &batches)?.batch().clone()];
    }
    Ok(MemTable::try_new(Arc::clone(schema), vec![batches])?)
}

/// `1203000` as `1,203,000`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
