//! `POST /v1/streams/{name}`: events in.

use super::failure::Failure;
use crate::query::Serving;
use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use std::sync::Arc;
use twofold_common::{Error, IngestReceipt};

/// How many bytes one request may have.
pub const INGEST_LIMIT: usize = 64 << 20;
const NDJSON: &str = "application/x-ndjson";
/// What `curl --data` and forms send.
const FORM: &str = "application/x-www-form-urlencoded";

pub(super) async fn append(
    State(serving): State<Arc<Serving>>,
    stream: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<IngestReceipt>, Failure> {
    let Path(stream) = stream.map_err(|e| Error::Invalid(e.body_text()))?;
    let body = body.map_err(|e| {
        let advice = "send the events in several requests, cut at the ends of lines";
        Failure::rejected(e.status(), e.body_text(), INGEST_LIMIT, advice)
    })?;
    Ok(Json(serving.ingest(&stream, format(&headers), body).await?))
}

fn format(headers: &HeaderMap) -> &str {
    match headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        Some(given) if !given.starts_with(FORM) => given,
        _ => NDJSON,
    }
}
