//! The laws of the algebra, on every query of the table.

use super::calls::{Call, Calls, calls};
use super::constructs::constructs;
use super::queries::{Query, by_call, by_key, by_window};
use super::wild::{Event, declarations, events, partitions};
use crate::events::cut;
use crate::laws::{Plans, plans};
use crate::oracle::{assert_same, plain};
use crate::views::NAMES;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use proptest::prelude::*;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use twofold_common::scan::{Source, bind};
use twofold_common::{Catalog, Project, State, View, depends_on_order};

/// The project of these queries.
pub async fn project(queries: &[Query]) -> (TempDir, Project, Arc<Catalog>) {
    let view = |q: &Query| format!("CREATE MATERIALIZED VIEW {} AS {};\n", q.name, q.view);
    let sql = declarations() + &queries.iter().map(view).collect::<String>();
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [("twofold.toml", ""), ("names.csv", NAMES), ("views.sql", &sql)] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    let project = Project::load(dir.path()).unwrap();
    let catalog = Arc::new(Catalog::new(&project).await.unwrap());
    (dir, project, catalog)
}

/// The streams with no events, in a plain session.
async fn empty_session() -> SessionContext {
    let (_dir, project, _) = project(&[]).await;
    plain(&project, &[("wild", vec![]), ("more", vec![])]).await
}

/// All calls and all queries, found once for all tests.
pub async fn everything() -> &'static (Calls, Vec<Query>) {
    static EVERYTHING: tokio::sync::OnceCell<(Calls, Vec<Query>)> = tokio::sync::OnceCell::const_new();
    let find = || async {
        let calls = calls(&empty_session().await).await;
        let plannable: &[Call] = &calls.plannable;
        let queries = [by_call(plannable), by_key(), by_window(plannable), constructs()].concat();
        (calls, queries)
    };
    EVERYTHING.get_or_init(find).await
}

/// A relation that a plan reads anew each time.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    batches: Mutex<Vec<RecordBatch>>,
}

impl Rows {
    fn new(schema: &SchemaRef) -> Arc<Self> {
        Arc::new(Self { schema: schema.clone(), batches: Mutex::default() })
    }

    fn fill(&self, batches: Vec<RecordBatch>) {
        *self.batches.lock().unwrap() = batches;
    }

    fn table(self: &Arc<Self>) -> Arc<StreamingTable> {
        Arc::new(StreamingTable::try_new(self.schema.clone(), vec![self.clone()]).unwrap())
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches.lock().unwrap().clone();
        Box::pin(MemoryStream::try_new(batches, self.schema.clone(), None).unwrap())
    }
}

/// A query, planned once.
struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    session: SessionContext,
}

impl Planned {
    async fn new(session: &SessionContext, plan: LogicalPlan) -> EngineResult<Self> {
        let plan = session.execute_logical_plan(plan).await?.create_physical_plan().await?;
        Ok(Self { plan, session: session.clone() })
    }

    async fn run(&self) -> EngineResult<Vec<RecordBatch>> {
        collect(reset_plan_states(self.plan.clone())?, self.session.task_ctx()).await
    }
}

/// One query under test.
struct Subject {
    query: Query,
    view: Arc<View>,
    plans: Plans,
    /// What the states of each cut are put into.
    states: Vec<Arc<Rows>>,
    finish: Planned,
    plain: Planned,
}

struct World {
    _dir: TempDir,
    catalog: Arc<Catalog>,
    /// The streams of the plain queries.
    streams: [(&'static str, Arc<Rows>); 2],
    subjects: Vec<Subject>,
}

impl World {
    async fn new(queries: Vec<Query>) -> Self {
        let (dir, project, catalog) = project(&queries).await;
        let oracle = plain(&Project { views: Vec::new(), ..project }, &[]).await;
        let streams = ["wild", "more"].map(|name| {
            let rows = Rows::new(&catalog.stream(name).unwrap().event_schema());
            oracle.register_table(name, rows.table()).unwrap();
            (name, rows)
        });
        let mut subjects = Vec::new();
        for query in queries {
            let view = catalog.view(&query.name).unwrap().clone();
            let states: Vec<_> = view.cuts().iter().map(|cut| Rows::new(cut.schema())).collect();
            let plan = bind(view.finish_plan().clone(), |source| {
                let Source::State { cut, .. } = source else { panic!("{source:?}") };
                Ok(states[*cut].table())
            });
            let finish = Planned::new(catalog.session(), plan.unwrap()).await;
            let finish = finish.unwrap_or_else(|e| panic!("{}: {}: {e}", query.name, query.view));
            let failed = |e| -> ! { panic!("{}: {}: {e}", query.name, query.plain) };
            let sql = oracle.sql(&query.plain).await.unwrap_or_else(|e| failed(e));
            let plain = Planned::new(&oracle, sql.into_unoptimized_plan()).await;
            let plain = plain.unwrap_or_else(|e| failed(e));
            let plans = plans(&catalog, &view).await;
            subjects.push(Subject { query, view, plans, states, finish, plain });
        }
        Self { _dir: dir, catalog, streams, subjects }
    }
}

impl Subject {
    async fn finish(&self, states: &[Vec<State>]) -> EngineResult<Vec<RecordBatch>> {
        for (rows, states) in self.states.iter().zip(states) {
            rows.fill(states.iter().map(|s| s.batch().clone()).collect());
        }
        self.finish.run().await
    }

    /// Merges the states of each cut in two parts, and then those.
    async fn bracketed(&mut self, states: &[Vec<State>], first: f64) -> (Vec<Vec<State>>, Vec<State>) {
        let at = |states: &[State]| (first * states.len() as f64) as usize;
        let left: Vec<Vec<State>> = states.iter().map(|s| s[..at(s)].to_vec()).collect();
        let right: Vec<Vec<State>> = states.iter().map(|s| s[at(s)..].to_vec()).collect();
        let (left, right) = (self.plans.merge(&left).await, self.plans.merge(&right).await);
        let halves: Vec<Vec<State>> = right.into_iter().zip(left).map(|(r, l)| vec![r, l]).collect();
        let merged = self.plans.merge(&halves).await;
        (halves, merged)
    }

    /// While there is no state at all, the answer is that of the plain query over no events.
    async fn check_no_events(&mut self) {
        let none = vec![Vec::new(); self.states.len()];
        let found = self.finish(&none).await.unwrap_or_else(|e| panic!("{}: {e}", self.query.name));
        let expected = self.plain.run().await.unwrap();
        assert_same(&format!("{} of no events: {}", self.query.name, self.view.sql()), &found, &expected);
    }

    /// Any pieces in any order and bracketing give one state, which can be stored, and the answer of the plain query.
    async fn check(&mut self, fine: &[(&str, RecordBatch)], coarse: &[(&str, RecordBatch)], first: f64) {
        let name = self.query.name.clone();
        let view = self.view.clone();
        let states = self.plans.fold(&view, fine).await;
        let (halves, merged) = self.bracketed(&states, first).await;
        let at_once = self.plans.fold(&view, coarse).await;
        let at_once = self.plans.merge(&at_once).await;
        for (cut, (a, b)) in merged.iter().zip(&at_once).enumerate() {
            assert_eq!(
                a.digest().unwrap(),
                b.digest().unwrap(),
                "state of cut {cut} of {name}: {}",
                view.sql()
            );
            let read = State::from_bytes(&a.to_bytes().unwrap(), "a state").unwrap();
            assert_eq!(read.digest().unwrap(), a.digest().unwrap(), "stored state of {name}");
        }
        self.plans.check_values(&merged, self.query.fallible).await;
        let expected = self.plain.run().await;
        let merged: Vec<Vec<State>> = merged.into_iter().map(|s| vec![s]).collect();
        let ordered = depends_on_order(view.finish_plan()).unwrap();
        for mut states in [merged, halves] {
            // Where the order of rows shows, serving sorts them by their keys.
            for (states, cut) in states.iter_mut().zip(view.cuts()).filter(|_| ordered) {
                let rows: Vec<RecordBatch> = states.iter().map(|s| s.batch().clone()).collect();
                *states = vec![State::from_rows(cut.schema(), cut.keys(), &rows).unwrap()];
            }
            match (self.finish(&states).await, &expected) {
                (Ok(found), Ok(expected)) => {
                    assert_same(&format!("{name}: {}", view.sql()), &found, expected)
                }
                (Err(found), Err(_)) if self.query.fallible => {
                    let found = found.to_string();
                    assert!(found.contains(" holds: use "), "{found}");
                    let named = name.starts_with("sum_") && !name.starts_with("sum_distinct");
                    assert!(!named || found.contains(&format!("view {name}: ")), "{found}");
                }
                (found, expected) => panic!("{name}: {}: {found:?}, but {expected:?}", view.sql()),
            }
        }
    }
}

/// Law 1, where nothing has come yet: an empty state is the state of no events.
#[test]
fn law_identity_of_no_events() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(everything().await.1.clone()).await;
        let mut failed = Vec::new();
        for subject in &mut world.subjects {
            if AssertUnwindSafe(subject.check_no_events()).catch_unwind().await.is_err() {
                failed.push(subject.query.name.clone());
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    });
}

fn shuffled<T: Clone>(items: &[T], seed: u64) -> Vec<T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| (i as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
    order.into_iter().map(|i| items[i].clone()).collect()
}

/// How often each query is tried.
pub fn cases() -> u32 {
    std::env::var("TWOFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12u32).div_ceil(3)
}

/// The laws on every `of`-th query, from the `shard`-th.
fn law_any_bracketing_of(shard: usize, of: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let (_, queries) = everything().await;
        let mine = |(i, q): (usize, &Query)| (i % of == shard || is_read_by_others(q)).then(|| q.clone());
        World::new(queries.iter().enumerate().filter_map(mine).collect()).await
    });
    let world = tokio::sync::Mutex::new(world);
    let config = ProptestConfig { cases: cases(), ..ProptestConfig::default() };
    let cuts = || proptest::collection::vec(0.0f64..1.0, 0..4);
    let all = (events(40), events(12), cuts(), cuts(), any::<u64>(), 0.0f64..1.0);
    proptest!(config, |((wild, more, fine, coarse, seed, first) in all)| {
        runtime.block_on(async {
            let World { catalog, streams, subjects, .. } = &mut *world.lock().await;
            let mut batches: Vec<(&str, Vec<RecordBatch>)> = Vec::new();
            for ((name, rows), events) in streams.iter().zip::<[&Vec<Event>; 2]>([&wild, &more]) {
                let partitions = partitions(catalog.stream(name).unwrap(), events);
                rows.fill(partitions.clone());
                batches.push((name, partitions));
            }
            let pieces = |at: &[f64]| -> Vec<(&str, RecordBatch)> {
                let of = |(name, batches): &(&'static str, Vec<RecordBatch>)| {
                    batches.iter().flat_map(|b| cut(b, at)).map(|piece| (*name, piece)).collect::<Vec<_>>()
                };
                batches.iter().flat_map(of).collect()
            };
            let (fine, coarse) = (shuffled(&pieces(&fine), seed), pieces(&coarse));
            // All that fail are told, and not only the first.
            let mut failed = Vec::new();
            for subject in subjects.iter_mut() {
                let name = subject.query.name.clone();
                if AssertUnwindSafe(subject.check(&fine, &coarse, first)).catch_unwind().await.is_err() {
                    failed.push(name);
                }
            }
            assert!(failed.is_empty(), "{failed:?}");
        });
    });
}

fn is_read_by_others(query: &Query) -> bool {
    ["construct_join_table", "construct_kept"].contains(&query.name.as_str())
}

macro_rules! shards {
    ($of:literal: $($name:ident = $shard:literal),*) => {
        $(#[test]
        fn $name() {
            law_any_bracketing_of($shard, $of);
        })*
    };
}

// Four tests, so that they run side by side.
shards!(4: law_any_bracketing_of_everything_1 = 0, law_any_bracketing_of_everything_2 = 1,
        law_any_bracketing_of_everything_3 = 2, law_any_bracketing_of_everything_4 = 3);

/// What no law is tried on: what the engine cannot plan, and where it is no oracle. Nothing drops out unseen.
#[tokio::test]
async fn what_is_left_out_is_known() {
    let (calls, queries) = everything().await;
    let line = |(form, columns): &(&str, std::collections::BTreeSet<&str>)| {
        format!("{form}: {}\n", columns.iter().copied().collect::<Vec<_>>().join(" "))
    };
    let mut text: String =
        calls.left_out.iter().filter(|(_, columns)| !columns.is_empty()).map(line).collect();
    text += &format!("{} calls in {} queries\n", calls.plannable.len(), queries.len());
    insta::assert_snapshot!(text);
}
