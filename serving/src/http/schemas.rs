//! The types of requests and answers, as JSON Schema has them.
//!
//! Those of the state are derived from the types themselves; the others are written here, and tests compare them with
//! what is answered.

use crate::status::{
    AuditStatus, BatchStatus, Building, LayerStatus, SpeedStates, Status, StreamPartition, StreamStatus,
    TableStatus, ViewState, ViewStatus,
};
use serde_json::{Map, Value, json};
use twofold_common::{Kind, wire};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(components(schemas(
    AuditStatus,
    BatchStatus,
    Building,
    LayerStatus,
    SpeedStates,
    Status,
    StreamPartition,
    StreamStatus,
    TableStatus,
    ViewState,
    ViewStatus,
)))]
struct Derived;

/// All of them, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let derived = serde_json::to_value(Derived::openapi().components).unwrap_or_default();
    let mut schemas = derived["schemas"].as_object().cloned().unwrap_or_default();
    schemas.extend(written());
    schemas
}

fn written() -> impl Iterator<Item = (String, Value)> {
    let text = || json!({"type": "string"});
    let offsets = || {
        json!({"type": "array", "items": {"type": "integer", "format": "int64"}, "minItems": 2,
                            "maxItems": 2, "description": "[start, end), end exclusive"})
    };
    let list =
        |name: &str| json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}});
    let row = || json!({"type": "object", "additionalProperties": true});
    let watermark = || json!({"type": ["string", "null"], "format": "date-time"});
    let version = || json!({"type": "string", "const": crate::encode::PREVIOUS});
    let kinds = Kind::ALL.map(wire::name);
    let schemas = [
        (
            "Statement",
            object(
                &["sql"],
                json!({
                    "sql": text(),
                    "parameters": {"type": "array", "description": "What $1, $2 and so on stand for", "items":
                        {"type": ["string", "number", "boolean", "null"]}},
                    "max_staleness": {"type": "string", "description": "How stale the answer may be"},
                }),
            ),
        ),
        (
            "Rows",
            object(
                &["columns", "rows", "coverage", "watermark"],
                json!({
                    "key": {"type": "array", "items": text(), "description": "In the event `rows` only"},
                    "columns": list("Column"),
                    "rows": {"type": "array", "items": row()},
                    "coverage": list("Coverage"),
                    "watermark": watermark(),
                    "cursor": {"type": "string", "description": "Where the next page begins, if there is one"},
                    "version": version(),
                }),
            ),
        ),
        ("Column", object(&["name", "type"], json!({"name": text(), "type": text()}))),
        (
            "Coverage",
            object(
                &["relation", "stream", "partition", "batch", "speed", "watermark"],
                json!({
                    "relation": text(),
                    "stream": text(),
                    "partition": {"type": "integer"},
                    "batch": offsets(),
                    "speed": offsets(),
                    "watermark": watermark(),
                    "idle": {"type": "boolean"},
                }),
            ),
        ),
        (
            "Changes",
            object(
                &["changed", "removed", "coverage", "watermark"],
                json!({
                    "changed": {"type": "array", "items": row(), "description": "Rows that came or changed"},
                    "removed": {"type": "array", "items": row(), "description": "Keys of rows that went"},
                    "coverage": list("Coverage"),
                    "watermark": watermark(),
                    "version": version(),
                }),
            ),
        ),
        (
            "Receipt",
            object(
                &["accepted", "rejected", "duplicates", "offsets", "reasons"],
                json!({
                    "accepted": {"type": "integer"},
                    "rejected": {"type": "integer"},
                    "duplicates": {"type": "integer"},
                    "offsets": {"type": "array", "items": object(&["partition", "start", "end"], json!({
                        "partition": {"type": "integer"}, "start": {"type": "integer"}, "end": {"type": "integer"},
                    }))},
                    "reasons": {"type": "array", "items": text()},
                }),
            ),
        ),
        (
            "Problem",
            object(
                &["type", "title", "status", "detail", "error", "kind"],
                json!({
                    "type": {"type": "string", "format": "uri"},
                    "title": text(),
                    "status": {"type": "integer"},
                    "detail": {"type": "string", "description": "What is wrong, and what to do"},
                    "error": {"type": "string", "description": "The same as `detail`"},
                    "kind": {"type": "string", "enum": kinds},
                    "path": {"type": "string", "description": "What is corrupt"},
                }),
            ),
        ),
    ];
    schemas.into_iter().map(|(name, schema)| (name.to_string(), schema))
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}
