//! `GET /openapi.json`: the table of routes, and the types of what is answered, as OpenAPI 3.1 has them.

use super::routes::{Route, routes};
use super::schemas::schemas;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use twofold_common::wire;

pub(super) async fn document() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    ([(CONTENT_TYPE, "application/json")], TEXT.get_or_init(|| openapi().to_string()).as_str())
}

/// The document.
pub(super) fn openapi() -> Value {
    let mut paths = Map::new();
    for Route { method, path, operation, .. } in routes() {
        let of_path = paths.entry(path).or_insert_with(|| json!({}));
        of_path[method] = with_errors(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Twofold",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Views over event streams, exact and fresh. Each answer says which offsets it is made of.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "events", "description": "What comes in"},
            {"name": "rows", "description": "What is asked"},
            {"name": "state", "description": "How it is going"},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": {"Problem": {
                "description": "What is wrong, and what to do",
                "content": {wire::PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    })
}

/// The operation, with problem details for every other status.
fn with_errors(mut operation: Value) -> Value {
    operation["responses"]["default"] = json!({"$ref": "#/components/responses/Problem"});
    operation
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
