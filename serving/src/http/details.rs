//! `GET /v1/catalog` and `GET /v1/batches`: what a project declares, and what batch runs have done. For the page, and for
//! tools that list what there is.
//!
//! Both tell of the current project, also while the one before it still answers. They are read from memory and from the
//! store: the speed layer is not asked.

use super::failure::Failure;
use crate::query::Serving;
use crate::status::BatchStatus;
use arrow::datatypes::Schema;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use twofold_common::{BatchProgress, Catalog, Cut, CutKind, Result, StreamDef, View, rfc3339, sql_type};

/// How many batch views of each view are told: as many as `gc` keeps.
const BATCHES: usize = 16;

/// What a project declares.
#[derive(Debug, Serialize)]
pub(super) struct Declared {
    /// The version of Twofold.
    version: &'static str,
    streams: Vec<DeclaredStream>,
    tables: Vec<DeclaredTable>,
    views: Vec<DeclaredView>,
    /// The functions that queries may call, by name.
    functions: BTreeSet<String>,
}

#[derive(Debug, Serialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
    nullable: bool,
}

#[derive(Debug, Serialize)]
struct DeclaredStream {
    name: String,
    columns: Vec<Column>,
    partitions: u32,
    partition_by: Option<String>,
    /// As SQL, over the stream's columns.
    watermark: Option<String>,
    /// The column with the ids of events.
    deduplicate_by: Option<String>,
}

#[derive(Debug, Serialize)]
struct DeclaredTable {
    name: String,
    columns: Vec<Column>,
}

#[derive(Debug, Serialize)]
struct DeclaredView {
    name: String,
    materialized: bool,
    /// The query.
    sql: String,
    columns: Vec<Column>,
    /// What a materialized view keeps.
    cuts: Vec<DeclaredCut>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct DeclaredCut {
    /// `aggregate`: one row for each key; `events`: one row for each event.
    keeps: &'static str,
    streams: Vec<String>,
    /// What the columns of the key mean, in terms of the query.
    keys: Vec<String>,
    /// And the others.
    values: Vec<String>,
}

/// What batch runs have done for one view, and do now.
#[derive(Debug, Serialize)]
pub(super) struct ViewBatches {
    view: String,
    fingerprint: String,
    /// A run that goes on, or was broken off: its `at` tells when it was last heard of.
    running: Option<Running>,
    /// Newest first.
    batches: Vec<Batch>,
}

#[derive(Debug, Serialize)]
struct Running {
    mode: String,
    started: String,
    at: String,
    segments_done: u64,
    segments: u64,
    events: u64,
}

#[derive(Debug, Serialize)]
struct Batch {
    #[serde(flatten)]
    status: BatchStatus,
    /// How long the run of this view took, if it wrote that down.
    elapsed_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Batches {
    views: Vec<ViewBatches>,
}

pub(super) async fn catalog(State(serving): State<Arc<Serving>>) -> Result<Json<Declared>, Failure> {
    let catalog = serving.catalog();
    let tables = catalog.tables().iter();
    let mut views = Vec::new();
    for view in catalog.views().values() {
        views.push(materialized(view));
    }
    for (name, sql) in catalog.query_views() {
        let plan = catalog.scan_view(name).await?;
        let columns = columns(plan.schema().as_arrow());
        let (name, sql) = (name.clone(), sql.clone());
        views.push(DeclaredView {
            name,
            materialized: false,
            sql,
            columns,
            cuts: Vec::new(),
            notes: Vec::new(),
        });
    }
    Ok(Json(Declared {
        version: env!("CARGO_PKG_VERSION"),
        streams: catalog.streams().values().map(stream).collect(),
        tables: tables
            .map(|(name, table)| DeclaredTable { name: name.clone(), columns: columns(&table.def.schema) })
            .collect(),
        views,
        functions: functions(&catalog),
    }))
}

pub(super) async fn batches(State(serving): State<Arc<Serving>>) -> Result<Json<Batches>, Failure> {
    let mut views = Vec::new();
    for view in serving.catalog().views().values() {
        let (name, fingerprint) = (view.name(), view.fingerprint().to_string());
        let history = serving.batch_views.history(name, &fingerprint, BATCHES).await?;
        let running = serving.batch_views.progress(name, &fingerprint).await?;
        let batches = history.into_iter().map(|found| {
            let (started, created) = (found.body.started, found.body.created);
            let elapsed_ms = started.map(|started| milliseconds(created.saturating_sub(started)));
            Batch { status: crate::status::batch(found), elapsed_ms }
        });
        let (view, batches) = (name.to_string(), batches.collect());
        views.push(ViewBatches { view, fingerprint, running: running.map(self::running), batches });
    }
    Ok(Json(Batches { views }))
}

fn running(progress: BatchProgress) -> Running {
    let BatchProgress { mode, started, at, done, total, events } = progress;
    Running { mode, started: rfc3339(started), at: rfc3339(at), segments_done: done, segments: total, events }
}

fn milliseconds(nanoseconds: i64) -> u64 {
    u64::try_from(nanoseconds / 1_000_000).unwrap_or(0)
}

fn stream(def: &StreamDef) -> DeclaredStream {
    DeclaredStream {
        name: def.name.clone(),
        columns: columns(&def.schema),
        partitions: def.partitions,
        partition_by: def.partition_by.clone(),
        watermark: def.watermark.as_ref().map(|watermark| watermark.expression.clone()),
        deduplicate_by: def.deduplicate.as_ref().map(|deduplicate| deduplicate.column.clone()),
    }
}

fn materialized(view: &View) -> DeclaredView {
    DeclaredView {
        name: view.name().to_string(),
        materialized: true,
        sql: view.sql().to_string(),
        columns: columns(&view.schema()),
        cuts: view.cuts().iter().map(cut).collect(),
        notes: view.notes().to_vec(),
    }
}

fn cut(cut: &Cut) -> DeclaredCut {
    let (keys, values) = cut.meanings().split_at(cut.keys().min(cut.meanings().len()));
    DeclaredCut {
        keeps: if matches!(cut.kind(), CutKind::Aggregate { .. }) { "aggregate" } else { "events" },
        streams: cut.streams().to_vec(),
        keys: keys.to_vec(),
        values: values.to_vec(),
    }
}

fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &arrow::datatypes::FieldRef| Column {
        name: field.name().clone(),
        sql_type: sql_type(field.data_type()),
        nullable: field.is_nullable(),
    };
    schema.fields().iter().map(column).collect()
}

fn functions(catalog: &Catalog) -> BTreeSet<String> {
    let state = catalog.session().state();
    let scalar = state.scalar_functions().keys().cloned();
    let aggregate = state.aggregate_functions().keys().cloned();
    scalar.chain(aggregate).chain(state.window_functions().keys().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::app;
    use crate::testing::World;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use serde_json::{Value, json};
    use tower::ServiceExt;
    use twofold_common::BatchProgress;

    async fn get(world: &World, path: &str) -> Value {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app(world.serving()).oneshot(request).await.unwrap();
        serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap()
    }

    fn named<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
        list.as_array().unwrap().iter().find(|item| item[key] == name).unwrap()
    }

    #[tokio::test]
    async fn the_catalog_tells_columns_and_queries() {
        let declared = get(&World::new().await, "/v1/catalog").await;
        let flights = named(&declared["streams"], "name", "flights");
        let column = |name, sql_type, nullable| json!({"name": name, "type": sql_type, "nullable": nullable});
        assert_eq!(flights["columns"][0], column("carrier", "TEXT", false));
        assert_eq!(flights["partitions"], 2);
        let totals = named(&declared["views"], "name", "totals");
        assert_eq!(
            (&totals["materialized"], &totals["cuts"][0]["keeps"]),
            (&json!(true), &json!("aggregate"))
        );
        assert_eq!(totals["columns"], json!([column("n", "BIGINT", false), column("total", "BIGINT", true)]));
        assert!(totals["sql"].as_str().unwrap().contains("count(*)"));
        let materialized = |view: &&Value| view["materialized"] == true;
        let computed = declared["views"].as_array().unwrap().iter().find(|view| !materialized(view)).unwrap();
        assert_eq!((computed["cuts"].clone(), computed["columns"].is_array()), (json!([]), true));
        assert!(declared["functions"].as_array().unwrap().contains(&json!("tumble")));
        assert_eq!(named(&declared["tables"], "name", "airlines")["columns"][0]["name"], "carrier");
    }

    #[tokio::test]
    async fn batches_are_told_newest_first_with_the_run_that_goes_on() {
        let world = World::new().await;
        world.batch_to("totals", [8, 0]).await;
        world.batch_to("totals", [10, 10]).await;
        let batches = get(&world, "/v1/batches").await;
        let totals = named(&batches["views"], "view", "totals");
        let versions: Vec<_> =
            totals["batches"].as_array().unwrap().iter().map(|b| b["version"].clone()).collect();
        assert_eq!((versions, &totals["running"]), (vec![json!(2), json!(1)], &json!(null)));
        assert_eq!(totals["batches"][0]["horizon"], json!({"flights": {"0": 10, "1": 10}}));
        assert_eq!(totals["batches"][0]["elapsed_ms"], 1000);
        assert_eq!(named(&batches["views"], "view", "delays")["batches"], json!([]));

        let (mode, started) = ("full".to_string(), 1_357_034_400_000_000_000);
        let progress = BatchProgress { mode, started, at: started, done: 3, total: 9, events: 30 };
        let fingerprint = world.catalog.view("totals").unwrap().fingerprint().to_string();
        world.batch_views.tell_progress("totals", &fingerprint, &progress).await.unwrap();
        let batches = get(&world, "/v1/batches").await;
        let running = &named(&batches["views"], "view", "totals")["running"];
        let at = "2013-01-01T10:00:00Z";
        let expected =
            json!({"mode": "full", "started": at, "at": at, "segments_done": 3, "segments": 9, "events": 30});
        assert_eq!(*running, expected);
    }
}
