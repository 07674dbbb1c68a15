//! What there is to ask for: one table, from which the router and the OpenAPI document are made.

use super::{changes, details, events, metrics, openapi, rows, status};
use crate::query::Serving;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};
use std::sync::Arc;

/// One request that is answered.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) handler: MethodRouter<Arc<Serving>>,
    /// The operation, as OpenAPI has it, but for the answers to errors.
    pub(super) operation: Value,
}

/// The paths, each once.
pub(super) fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|route| route.path).collect()
}

/// The table.
pub(super) fn routes() -> Vec<Route> {
    let read = |path, handler, operation| Route { method: "get", path, handler, operation };
    vec![
        Route {
            method: "post",
            path: "/v1/streams/{name}",
            handler: post(events::append),
            operation: json!({
                "operationId": "append",
                "tags": ["events"],
                "summary": "Takes events in, and answers when they are durable",
                "description": "All of a request goes in or nothing does. Events that do not fit the stream are kept \
                                beside it with the reason.",
                "parameters": [
                    path_parameter("The stream"),
                    {"name": "Idempotency-Key", "in": "header", "required": false, "schema": {"type": "string", "maxLength": 255},
                     "description": "With a key, the same request may be sent again: it goes in once"},
                ],
                "requestBody": {"required": true, "content": {
                    "application/x-ndjson": {"schema": {"type": "string"}},
                    "text/csv": {"schema": {"type": "string"}},
                    "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
                }},
                "responses": {"200": json_answer("What became of the events", "Receipt")},
            }),
        },
        Route {
            method: "post",
            path: "/v1/sql",
            handler: post(rows::sql).layer(DefaultBodyLimit::max(rows::SQL_LIMIT)),
            operation: json!({
                "operationId": "query",
                "tags": ["rows"],
                "summary": "Answers a query",
                "parameters": [format_parameter(), staleness_parameter(), staleness_header()],
                "requestBody": {"required": true, "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Statement"}},
                }},
                "responses": {"200": rows_answer()},
            }),
        },
        read(
            "/v1/views/{name}",
            get(rows::view),
            json!({
                "operationId": "view",
                "tags": ["rows"],
                "summary": "The rows of a view, filtered, in an order, page by page",
                "parameters": [
                    path_parameter("The view"),
                    filters_parameter(),
                    {"name": "order", "in": "query", "required": false, "schema": {"type": "string"}, "example": "clicks.desc,page",
                     "description": "Columns, each with .asc or .desc and .nullsfirst or .nullslast behind it"},
                    {"name": "limit", "in": "query", "required": false, "schema": {"type": "integer", "minimum": 0},
                     "description": "How many rows at most"},
                    {"name": "cursor", "in": "query", "required": false, "schema": {"type": "string"},
                     "description": "The cursor of the page before, of the same order and filters"},
                    format_parameter(),
                    staleness_parameter(),
                    staleness_header(),
                ],
                "responses": {"200": rows_answer()},
            }),
        ),
        read(
            "/v1/views/{name}/changes",
            get(changes::changes),
            json!({
                "operationId": "changes",
                "tags": ["rows"],
                "summary": "The rows of a view, and then what changes of them, as Server-Sent Events",
                "description": "First `rows`, with the schema Rows and the names of the key's columns as `key`; then \
                                `changes`, with the schema Changes. After a gap come `rows` again. `failure` has a \
                                Problem. A comment is sent when nothing else is.",
                "parameters": [path_parameter("The view"), filters_parameter()],
                "responses": {"200": {
                    "description": "Events, until one side closes",
                    "content": {changes::EVENT_STREAM: {"schema": {"type": "string"}}},
                }},
            }),
        ),
        read(
            "/v1/status",
            get(status),
            json!({
                "operationId": "status",
                "tags": ["state"],
                "summary": "What the platform is doing",
                "responses": {"200": json_answer("The state of streams, views and layers", "Status")},
            }),
        ),
        read(
            "/v1/catalog",
            get(details::catalog),
            json!({
                "operationId": "catalog",
                "tags": ["state"],
                "summary": "What the project declares: streams, tables, views and functions",
                "responses": {"200": object_answer("The declarations of the current project")},
            }),
        ),
        read(
            "/v1/batches",
            get(details::batches),
            json!({
                "operationId": "batches",
                "tags": ["state"],
                "summary": "The newest batch views of each view, and the runs that go on",
                "responses": {"200": object_answer("What batch runs have done")},
            }),
        ),
        read(
            "/healthz",
            get(async || "ok"),
            json!({
                "operationId": "health",
                "tags": ["state"],
                "summary": "Whether this process lives; it says nothing about the speed layer",
                "responses": {"200": {
                    "description": "It does",
                    "content": {"text/plain": {"schema": {"type": "string", "const": "ok"}}},
                }},
            }),
        ),
        read(
            "/metrics",
            get(metrics),
            json!({
                "operationId": "metrics",
                "tags": ["state"],
                "summary": "What is measured, for Prometheus",
                "responses": {"200": {
                    "description": "OpenMetrics text",
                    "content": {"application/openmetrics-text": {"schema": {"type": "string"}}},
                }},
            }),
        ),
        read(
            "/openapi.json",
            get(openapi::document),
            json!({
                "operationId": "openapi",
                "tags": ["state"],
                "summary": "This document",
                "responses": {"200": {
                    "description": "OpenAPI 3.1",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                }},
            }),
        ),
    ]
}

fn path_parameter(description: &str) -> Value {
    json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string"}, "description": description})
}

fn format_parameter() -> Value {
    let names = crate::Format::ALL.map(crate::Format::name);
    json!({"name": "format", "in": "query", "required": false, "schema": {"type": "string", "enum": names},
           "description": "How rows are written; without it, the first that `Accept` names, else json"})
}

fn staleness_parameter() -> Value {
    json!({"name": "max_staleness", "in": "query", "required": false, "schema": {"type": "string"}, "example": "200ms",
           "description": "How stale the answer may be: it is waited for, or refused with 503"})
}

fn staleness_header() -> Value {
    json!({"name": rows::MAX_STALENESS.as_str(), "in": "header", "required": false, "schema": {"type": "string"},
           "example": "200ms", "description": "The same as max_staleness"})
}

fn filters_parameter() -> Value {
    json!({"name": "filters", "in": "query", "required": false, "style": "form", "explode": true,
           "schema": {"type": "object", "additionalProperties": {"type": "string"}},
           "example": {"page": "/home", "clicks[gt]": "5"},
           "description": "column=value, or column[eq|ne|lt|lte|gt|gte|null]=value"})
}

fn json_answer(description: &str, schema: &str) -> Value {
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn object_answer(description: &str) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": {"type": "object"}}}})
}

fn rows_answer() -> Value {
    let header = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "description": "Rows, and what they are made of",
        "headers": {
            "twofold-coverage": header("The coverage, but in JSON, where it is in the answer"),
            "twofold-watermark": header("The watermark, likewise"),
            "twofold-cursor": header("Where the next page begins, likewise"),
            "twofold-version": header("`previous` while a changed project is being built and the one before it answers"),
        },
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Rows"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
            "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
        },
    })
}
