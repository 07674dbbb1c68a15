//! The query engine as both layers use it: one configuration and one set of functions for batch, speed and serving.

use crate::aggregate;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::{SessionConfig, SessionContext};

/// A session of the engine, configured so that plans mean the same everywhere.
///
/// One partition: what runs in parallel is views, segments and queries, not the operators of one plan; so the order
/// in which a plan sees its rows is the order in which it was given them.
pub fn session() -> SessionContext {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_information_schema(true)
        .with_default_catalog_and_schema("twofold", "public");
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    options.optimizer.prefer_hash_join = true;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_optimizer_rules(aggregate::exact::optimizer_rules())
        .build();
    let session = SessionContext::new_with_state(state);
    for function in aggregate::functions() {
        session.register_udaf(function);
    }
    session
}

/// The settings and functions that a plan is made and run with, as they stand now.
pub(crate) fn state(session: &SessionContext) -> SessionState {
    session.state()
}
