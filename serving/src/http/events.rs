//! `POST /v1/streams/{name}`: events in.

use super::failure::Failure;
use crate::query::Serving;
use axum::body::{Body, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::{Extension, Json};
use std::sync::Arc;
use twofold_common::{Error, IDEMPOTENCY_KEY, IdempotencyKey, IngestReceipt, IngestRequest, Intake};

/// How many bytes one request may have.
pub const INGEST_LIMIT: usize = 64 << 20;
const NDJSON: &str = "application/x-ndjson";
/// What `curl --data` and forms send.
const FORM: &str = "application/x-www-form-urlencoded";

pub(super) async fn append(
    State(serving): State<Arc<Serving>>,
    stream: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    Extension(intake): Extension<Arc<Intake>>,
    body: Body,
) -> Result<Json<IngestReceipt>, Failure> {
    let Path(stream) = stream.map_err(|e| Error::Invalid(e.body_text()))?;
    let key = headers.get(IDEMPOTENCY_KEY).map(|key| IdempotencyKey::from_header(key.as_bytes()));
    let key = key.transpose()?;
    let announced = body.size_hint().exact();
    let taken = intake.read(body.into_data_stream(), announced, INGEST_LIMIT).await;
    let taken = taken.inspect_err(|why| serving.metrics.failed(why.kind()))?;
    let request = IngestRequest::new(stream, format(&headers), taken.body.clone()).with_key(key);
    Ok(Json(taken.hold(async move { serving.ingest(request).await }).await?))
}

fn format(headers: &HeaderMap) -> &str {
    match headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        Some(given) if !given.starts_with(FORM) => given,
        _ => NDJSON,
    }
}
