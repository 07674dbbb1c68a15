use super::*;
use crate::http::app;
use crate::testing::World;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use std::collections::BTreeSet;
use tower::ServiceExt;

async fn answer(world: &World, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_string())).unwrap();
    let response = app(world.serving()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn the_document_has_every_route_of_the_router() {
    let world = World::new().await;
    let (status, document) = answer(&world, "GET", "/openapi.json", "").await;
    assert_eq!((status, &document), (StatusCode::OK, &openapi()));
    let told: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |m| (path.clone(), m.clone()))
        })
        .collect();
    let routed: BTreeSet<_> =
        routes().into_iter().map(|r| (r.path.to_string(), r.method.to_string())).collect();
    assert_eq!(told, routed);
    // What the table says of methods is what the router does.
    for (path, method) in told {
        let path = path.replace("{name}", "delays");
        for (other, answers) in [("GET", method == "get"), ("POST", method == "post"), ("DELETE", false)] {
            let request = Request::builder().method(other).uri(&path).body(Body::empty()).unwrap();
            let status = app(world.serving()).oneshot(request).await.unwrap().status();
            assert_eq!(status != StatusCode::METHOD_NOT_ALLOWED, answers, "{other} {path}: {status}");
            assert!(!answers || status != StatusCode::NOT_FOUND || path.contains("streams"), "{path}");
        }
    }
}

#[test]
fn the_document_is_openapi() {
    let document = openapi();
    let read: utoipa::openapi::OpenApi = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(read.paths.paths.len(), document["paths"].as_object().unwrap().len());
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_string()), "{path}");
            assert!(operation["responses"]["200"]["description"].is_string(), "{path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let declared = parameters.iter().any(|p| p["in"] == "path" && p["name"] == "name");
            assert_eq!(declared, path.contains("{name}"), "{path}");
        }
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "nothing is at {reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_string));
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

/// What of `value` is not as `schema` says: types, members, and what they must be.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return wrong(document, schema, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices.iter().any(|choice| wrong(document, choice, value, at).is_empty());
        return if fits { vec![] } else { vec![format!("{at}: none of {schema}: {value}")] };
    }
    if let Some(values) = schema["enum"].as_array() {
        return if values.contains(value) {
            vec![]
        } else {
            vec![format!("{at}: none of {schema}: {value}")]
        };
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => vec![],
        one => vec![one.clone()],
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut found_wrong = Vec::new();
    let fits = types.iter().any(|t| t == found || (t == "number" && found == "integer"));
    if !types.is_empty() && !fits {
        found_wrong.push(format!("{at}: {types:?} expected, {value} found"));
    }
    if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
        found_wrong.extend(values.iter().flat_map(|value| wrong(document, items, value, at)));
    }
    if let (Some(properties), Value::Object(members)) = (schema["properties"].as_object(), value) {
        for (name, member) in members {
            match properties.get(name) {
                Some(schema) => found_wrong.extend(wrong(document, schema, member, &format!("{at}.{name}"))),
                None => found_wrong.push(format!("{at}.{name} is not in the document")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if !members.contains_key(name.as_str().unwrap()) {
                found_wrong.push(format!("{at}.{name} is required"));
            }
        }
    }
    found_wrong
}

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let world = World::new().await;
    world.archive_to([10, 0]).await;
    world.batch_to("delays", [10, 0]).await;
    let document = openapi();
    for (method, path, body, schema) in [
        ("POST", "/v1/sql", r#"{"sql": "SELECT * FROM delays"}"#, "Rows"),
        ("GET", "/v1/views/delays?order=name&limit=1", "", "Rows"),
        ("GET", "/v1/status", "", "Status"),
        ("POST", "/v1/streams/flights", "{}", "Receipt"),
        ("GET", "/v1/views/none", "", "Problem"),
        ("POST", "/v1/sql", "", "Problem"),
        ("DELETE", "/v1/sql", "", "Problem"),
        ("GET", "/nothing", "", "Problem"),
    ] {
        let (_, answer) = answer(&world, method, path, body).await;
        assert!(answer.is_object(), "{path}");
        let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
        assert_eq!(wrong(&document, &reference, &answer, path), Vec::<String>::new());
    }
}

#[test]
fn what_differs_from_the_document_is_found() {
    let document = openapi();
    let receipt = json!({"$ref": "#/components/schemas/Receipt"});
    let told = |value: Value| wrong(&document, &receipt, &value, "receipt").join("; ");
    let good = json!({"accepted": 1, "rejected": 0, "duplicates": 0, "offsets": [], "reasons": ["because"]});
    assert_eq!(told(good.clone()), "");
    let with = |name: &str, value: Value| {
        let mut receipt = good.clone();
        receipt[name] = value;
        told(receipt)
    };
    assert!(with("accepted", json!("1")).contains("expected"));
    assert!(with("else", json!(1)).contains("is not in the document"));
    assert!(with("offsets", json!([{"partition": 1}])).contains("is required"));
}
