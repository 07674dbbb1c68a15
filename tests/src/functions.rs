//! Functions of the user's own, in every layer: a scalar, an aggregate whose states merge in any order, one that
//! depends on the order of the events, and a table function.

use crate::events::Event;
use crate::parity::{Platform, Step};
use crate::views::STREAMS;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::datasource::MemTable;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, ColumnarValue, Expr, ScalarUDF, Volatility, create_udaf,
};
use datafusion::prelude::{SessionContext, create_udf};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use twofold_common::{Catalog, CutKind, Digest, Functions, Merging, Project, Result};

/// `twice(n)`, and under another name and volatility whatever the test needs.
fn doubling(name: &str, volatility: Volatility) -> ScalarUDF {
    let twice = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let twice: Int64Array = arrays[0].as_primitive::<Int64Type>().unary(|n: i64| n.wrapping_mul(2));
        Ok(ColumnarValue::Array(Arc::new(twice) as ArrayRef))
    };
    create_udf(name, vec![DataType::Int64], DataType::Int64, volatility, Arc::new(twice))
}

const P: i64 = 1_000_003;

/// The product modulo a prime: the same in any order.
#[derive(Debug)]
struct Product(i64);

impl Accumulator for Product {
    fn update_batch(&mut self, values: &[ArrayRef]) -> EngineResult<()> {
        for n in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.0 = self.0 * n.rem_euclid(P) % P;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> EngineResult<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> EngineResult<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.0)))
    }

    fn state(&mut self) -> EngineResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// A chain of hashes: another one for each order. Its states cannot be merged at all.
#[derive(Debug)]
struct Chain(i64);

impl Accumulator for Chain {
    fn update_batch(&mut self, values: &[ArrayRef]) -> EngineResult<()> {
        for n in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.0 = self.0.wrapping_mul(31).wrapping_add(n);
        }
        Ok(())
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> EngineResult<()> {
        internal_err!("a chain was merged")
    }

    fn evaluate(&mut self) -> EngineResult<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.0)))
    }

    fn state(&mut self) -> EngineResult<Vec<ScalarValue>> {
        internal_err!("a chain was kept as a state")
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn aggregate(name: &str, start: fn() -> Box<dyn Accumulator>) -> AggregateUDF {
    let int = || Arc::new(DataType::Int64);
    let types = vec![DataType::Int64];
    create_udaf(
        name,
        types,
        int(),
        Volatility::Immutable,
        Arc::new(move |_| Ok(start())),
        Arc::new(vec![DataType::Int64]),
    )
}

/// `upto(n)`: the numbers below n, as a column `m`.
#[derive(Debug)]
struct UpTo;

impl TableFunctionImpl for UpTo {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> EngineResult<Arc<dyn TableProvider>> {
        let [Expr::Literal(ScalarValue::Int64(Some(n)), _)] = args.exprs() else {
            return plan_err!("upto takes one number");
        };
        let schema = Arc::new(Schema::new(vec![Field::new("m", DataType::Int64, false)]));
        let numbers = Arc::new(Int64Array::from_iter_values(0..*n));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![numbers])?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}

/// The functions, each with the version that `version` gives it.
fn functions(version: impl Fn(&str) -> u32) -> Functions {
    let mut functions = Functions::new();
    functions
        .scalar(doubling("twice", Volatility::Immutable), version("twice"))
        .and_then(|f| f.scalar(doubling("dice", Volatility::Volatile), version("dice")))
        .and_then(|f| {
            f.aggregate(aggregate("product", || Box::new(Product(1))), version("product"), Merging::AnyOrder)
        })
        .and_then(|f| {
            f.aggregate(aggregate("chain", || Box::new(Chain(7))), version("chain"), Merging::InOrder)
        })
        .and_then(|f| f.table("upto", Arc::new(UpTo), version("upto")))
        .unwrap();
    functions
}

/// The same functions in a session that knows nothing of Twofold.
fn register(session: &SessionContext) {
    session.register_udf(doubling("twice", Volatility::Immutable));
    session.register_udaf(aggregate("product", || Box::new(Product(1))));
    session.register_udaf(aggregate("chain", || Box::new(Chain(7))));
    session.register_udtf("upto", Arc::new(UpTo));
}

/// Name, query, the functions that it uses, and whether its state is one row for each event.
const VIEWS: &[(&str, &str, &[&str], bool)] = &[
    ("plain_counts", "SELECT k, count(*) AS c FROM clicks GROUP BY k", &[], false),
    ("doubled", "SELECT twice(n) AS t, sum(twice(n)) AS s FROM clicks GROUP BY twice(n)", &["twice"], false),
    ("products", "SELECT k, product(n) AS p, count(*) AS c FROM clicks GROUP BY k", &["product"], false),
    (
        "product_of_all",
        "SELECT product(twice(n)) FILTER (WHERE n > 0) AS p, product(n) AS q FROM clicks",
        &["product", "twice"],
        false,
    ),
    ("chains", "SELECT k, chain(n) AS h, max(n) AS hi FROM clicks GROUP BY k", &["chain"], true),
    ("chain_of_all", "SELECT chain(twice(n)) AS h FROM clicks WHERE n <> 2", &["chain", "twice"], true),
    ("chained_rows", "SELECT n, chain(n) OVER (ORDER BY n, x, ts, ok, k) AS h FROM clicks", &["chain"], true),
    ("some", "SELECT m, count(*) AS c FROM clicks JOIN upto(4) u ON n = m GROUP BY m", &["upto"], false),
    ("product_of_products", "SELECT product(p) AS p FROM products", &["product"], false),
];

async fn load(sql: &str, functions: &Functions) -> Result<(TempDir, Project, Arc<Catalog>)> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("names.csv"), crate::views::NAMES).unwrap();
    std::fs::write(dir.path().join("views.sql"), sql).unwrap();
    let project = Project::load_with(dir.path(), functions)?;
    let catalog = Arc::new(Catalog::with_functions(&project, functions).await?);
    Ok((dir, project, catalog))
}

fn sql() -> String {
    let view =
        |(name, query, _, _): &(&str, &str, _, _)| format!("CREATE MATERIALIZED VIEW {name} AS {query};\n");
    STREAMS.to_string() + &VIEWS.iter().map(view).collect::<String>()
}

async fn fingerprints(functions: &Functions) -> BTreeMap<String, Digest> {
    let (_dir, _, catalog) = load(&sql(), functions).await.unwrap();
    catalog.views().iter().map(|(name, view)| (name.clone(), view.fingerprint())).collect()
}

async fn refusal(view: &str) -> String {
    let sql = format!("{STREAMS}CREATE MATERIALIZED VIEW v AS {view};");
    load(&sql, &functions(|_| 1)).await.unwrap_err().to_string()
}

/// Whatever the cut, every answer is that of a plain query with the same functions.
#[tokio::test(flavor = "multi_thread")]
async fn law_any_cut_with_functions_of_ones_own() {
    let world = load(&sql(), &functions(|_| 1)).await.unwrap();
    let mut platform = Platform::over(world, 2, register).await;
    let views: Vec<&str> = VIEWS.iter().map(|view| view.0).collect();
    let ks = ["a", "b", "é"].map(Some);
    for second in 0..8 {
        let event = |partition, k, n| Event { second, k, n, x: None, ok: None, partition, gap: 0 };
        let (i, j) = (second as usize % 3, second as usize * 2 % 3);
        // The partitions take turns, so that the order of arrival is not that of (partition, offset).
        let events =
            [event(1, ks[i], Some(second * 5 + 2)), event(0, ks[j], Some(second)), event(1, ks[j], None)];
        platform.take(&Step::Ingest("clicks", events.to_vec())).await;
        for step in
            [Step::Epochs, Step::Seal, Step::Archive, Step::Batch { full: second % 3 == 0 }, Step::Retire]
        {
            // The horizon stays behind now and then.
            if second % 2 == 0 || matches!(step, Step::Epochs | Step::Seal) {
                platform.take(&step).await;
            }
            platform.check(&views).await;
        }
    }
}

#[tokio::test]
async fn the_promise_decides_what_a_view_keeps() {
    let (_dir, _, catalog) = load(&sql(), &functions(|_| 1)).await.unwrap();
    for (name, query, _, append) in VIEWS {
        let view = catalog.view(name).unwrap();
        let found = view.cuts().iter().any(|cut| matches!(cut.kind(), CutKind::Append));
        assert_eq!(found, *append, "{name}: {query}\n{}", view.finish_plan().display_indent());
    }
    let notes = catalog.view("chains").unwrap().notes().to_vec();
    assert_eq!(notes, ["chain depends on the order of the events"]);
}

#[tokio::test]
async fn a_raised_version_is_a_new_view_for_those_that_use_the_function() {
    let before = fingerprints(&functions(|_| 1)).await;
    assert_eq!(before, fingerprints(&functions(|_| 1)).await);
    for raised in ["twice", "product", "chain", "upto", "dice"] {
        let after = fingerprints(&functions(|name| if name == raised { 2 } else { 1 })).await;
        for (name, _, uses, _) in VIEWS {
            let over_view = *name == "product_of_products" && raised == "product";
            let changed = uses.contains(&raised) || over_view;
            assert_eq!(before[*name] != after[*name], changed, "{name} when {raised} is raised");
        }
    }
}

#[tokio::test]
async fn the_arguments_of_a_table_function_are_part_of_the_meaning() {
    let of = |call: &'static str| async move {
        let view = format!("CREATE MATERIALIZED VIEW v AS SELECT u.*, k FROM clicks JOIN {call} u ON true;");
        let (_dir, _, catalog) = load(&format!("{STREAMS}{view}"), &functions(|_| 1)).await.unwrap();
        catalog.view("v").unwrap().fingerprint()
    };
    assert_eq!(of("upto(3)").await, of("upto(1 + 2)").await);
    assert_ne!(of("upto(3)").await, of("upto(4)").await);
    assert_ne!(of("generate_series(1, 3)").await, of("generate_series(1, 4)").await);
}

#[tokio::test]
async fn what_differs_between_runs_is_refused_in_maintained_views_only() {
    for (query, named) in [
        ("SELECT dice(n) AS d FROM clicks", "view v calls dice"),
        ("SELECT k FROM clicks WHERE dice(n) = 3", "view v calls dice"),
        (
            "SELECT k FROM clicks JOIN upto(CAST(date_part('year', now()) AS BIGINT)) ON n = m",
            "upto calls now",
        ),
        (
            "SELECT k FROM clicks JOIN generate_series(now(), now() + INTERVAL '1 day', INTERVAL '1 hour') ON true",
            "calls now",
        ),
        ("SELECT k FROM clicks JOIN upto(dice(3)) ON n = m", "upto calls dice"),
    ] {
        let message = refusal(query).await;
        assert!(message.contains(named), "{query}: {message}");
    }
    let query_time = "CREATE VIEW v AS SELECT dice(c) AS d FROM plain_counts;";
    let (_dir, _, catalog) = load(&(sql() + query_time), &functions(|_| 1)).await.unwrap();
    for query in ["SELECT d FROM v", "SELECT dice(m) FROM upto(CAST(date_part('year', now()) AS BIGINT))"] {
        catalog.plan(query).await.unwrap();
    }
}

#[tokio::test]
async fn a_watermark_may_use_them() {
    let early = |arguments: &[ColumnarValue]| Ok(arguments[0].clone());
    let timestamp = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None);
    let early =
        create_udf("early", vec![timestamp.clone()], timestamp, Volatility::Immutable, Arc::new(early));
    let sql = "CREATE STREAM s (ts TIMESTAMP, WATERMARK FOR ts AS early(ts));";
    let mut functions = Functions::new();
    functions.scalar(early, 1).unwrap();
    load(sql, &functions).await.unwrap();
    let unknown = load(sql, &Functions::new()).await.unwrap_err().to_string();
    assert!(unknown.contains("early"), "{unknown}");
}
