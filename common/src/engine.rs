//! The query engine as both layers use it: one configuration and one set of functions for batch, speed and serving.

use crate::functions::{self, Functions};
use crate::sorted::GroupSorted;
use crate::windowed::blocks::MergeByBlocks;
use crate::windowed::once::MergeOnce;
use crate::windowed::prune::PrunePanes;
use crate::{aggregate, finality, windows};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::datetime;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

/// A session of the engine, configured so that plans mean the same everywhere, without functions of the user's own.
pub fn session() -> SessionContext {
    session_with(&Functions::default())
}

/// A session of the engine that has `functions` too.
///
/// One partition: what runs in parallel is views, segments and queries, not the operators of one plan; so the order
/// in which a plan sees its rows is the order in which it was given them.
pub fn session_with(functions: &Functions) -> SessionContext {
    session_over(functions, Arc::new(RuntimeEnv::default()))
}

/// The same, with bounds for what it takes of the machine.
pub(crate) fn session_over(functions: &Functions, runtime: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_information_schema(true)
        .with_default_catalog_and_schema("twofold", "public")
        .with_extension(Arc::new(functions.clone()));
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    options.optimizer.prefer_hash_join = true;
    // It fails on a field of a struct (such as a window) that comes out of a view with a filter: DataFusion #25446.
    options.optimizer.enable_leaf_expression_pushdown = false;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(aggregate::exact::optimizer_rules())
        .with_optimizer_rule(Arc::new(PrunePanes))
        .with_optimizer_rule(Arc::new(MergeByBlocks))
        .with_optimizer_rule(Arc::new(MergeOnce))
        .with_physical_optimizer_rule(Arc::new(GroupSorted))
        .build();
    let session = SessionContext::new_with_state(state);
    for function in aggregate::functions() {
        session.register_udaf(function);
    }
    for function in windows::functions() {
        session.register_udf(function.as_ref().clone());
    }
    register_proctime(&session);
    functions.install(&session);
    functions::record_calls(&session);
    session.register_udf(finality::function());
    session
}

/// Flink's name for the time of the clock: known, so that a view that calls it is told what to use instead.
fn register_proctime(session: &SessionContext) {
    let now = datetime::now(session.copied_config().options());
    session.register_udf(now.as_ref().clone().with_aliases(["proctime"]));
}

/// The settings and functions that a plan is made and run with, as they stand now.
pub(crate) fn state(session: &SessionContext) -> SessionState {
    session.state()
}

/// Like [`state`], but no execution begins: `now()` has no value. For what must mean the same in every run.
pub(crate) fn timeless_state(session: &SessionContext) -> SessionState {
    session.state_ref().read().clone()
}
