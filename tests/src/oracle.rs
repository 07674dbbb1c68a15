//! The oracle: one plain DataFusion query over all events.

use crate::views::PLAIN;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::row::{RowConverter, SortField};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;
use twofold_common::{Catalog, Project};

/// A session that knows nothing of Twofold but its functions: streams are tables with these events, in (partition,
/// offset) order, and views are its own views. (That the functions are right is tested where they are.)
pub async fn plain(project: &Project, streams: &[(&str, Vec<RecordBatch>)]) -> SessionContext {
    plain_with(project, streams, |_| ()).await
}

/// The same, with the functions that `register` gives the session.
pub async fn plain_with(
    project: &Project,
    streams: &[(&str, Vec<RecordBatch>)],
    register: fn(&SessionContext),
) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let session = SessionContext::new_with_config(config);
    for function in twofold_common::session().state().aggregate_functions().values() {
        session.register_udaf(function.as_ref().clone());
    }
    register(&session);
    for (name, batches) in streams {
        let schema = project.streams[*name].event_schema();
        let table = MemTable::try_new(schema, vec![batches.clone()]).unwrap();
        session.register_table(*name, Arc::new(table)).unwrap();
    }
    for (name, table) in &project.tables {
        let table = MemTable::try_new(table.def.schema.clone(), vec![table.batches.clone()]).unwrap();
        session.register_table(name.as_str(), Arc::new(table)).unwrap();
    }
    for view in &project.views {
        let plain = PLAIN.iter().find(|(name, _)| *name == view.name);
        let query = plain.map_or(view.sql.as_str(), |(_, query)| query);
        session.sql(&format!("CREATE VIEW {} AS {query}", view.name)).await.unwrap();
    }
    session
}

/// Rows in an order of their own, as bytes: equal if and only if the rows are equal to the bit, as multisets.
pub fn rows(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let Some(first) = batches.first() else { return Vec::new() };
    let all = concat_batches(first.schema_ref(), batches).unwrap();
    if all.num_columns() == 0 {
        return vec![Vec::new(); all.num_rows()];
    }
    let fields = all.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let rows = RowConverter::new(fields).unwrap().convert_columns(all.columns()).unwrap();
    let mut rows: Vec<Vec<u8>> = rows.iter().map(|row| row.data().to_vec()).collect();
    rows.sort();
    rows
}

/// What a plain query gives.
pub async fn answer(session: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    session.sql(sql).await.unwrap().collect().await.unwrap()
}

/// Fails with both tables if they differ in one bit.
pub fn assert_same(what: &str, got: &[RecordBatch], expected: &[RecordBatch]) {
    if rows(got) != rows(expected) {
        let table = |batches: &[RecordBatch]| {
            arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string()
        };
        panic!("{what}: got\n{}\nbut a plain query gives\n{}", table(got), table(expected));
    }
}

/// The rows of a view, given the states of its cuts.
pub async fn finish(
    catalog: &Catalog,
    view: &twofold_common::View,
    states: &[Vec<twofold_common::State>],
) -> Vec<RecordBatch> {
    let plan = twofold_common::scan::bind(view.finish_plan().clone(), |source| {
        let twofold_common::scan::Source::State { cut, .. } = source else { panic!("{source:?}") };
        let batches = states[*cut].iter().map(|s| s.batch().clone()).collect();
        let table = MemTable::try_new(view.cuts()[*cut].schema().clone(), vec![batches]);
        Ok(Arc::new(table?))
    });
    catalog.session().execute_logical_plan(plan.unwrap()).await.unwrap().collect().await.unwrap()
}
