//! The HTTP interface.
//!
//! ```text
//! POST /v1/streams/{name}     events -> {"accepted", "rejected", "duplicates", "offsets", "reasons"} after they are durable
//! POST /v1/sql                {"sql": "…"} -> {"columns", "rows", "coverage", "watermark"}
//! GET  /v1/views/{name}       ?column=value&… -> the same
//! GET  /v1/status             see [`Status`](crate::Status)
//! GET  /healthz               200 while the process lives; it says nothing about the other layers
//! GET  /metrics               OpenMetrics text
//! GET  /v1/catalog            streams, tables, views and functions, as declared
//! GET  /v1/batches            the newest batch views of each view, and runs that go on
//! GET  /, /page/…             the web page
//! ```
//!
//! Events are of the request's `Content-Type`; without one, or with that of a form, which some clients send
//! unasked, they are `application/x-ndjson`. A body has at most [`INGEST_LIMIT`] bytes; what is held of bodies at once is
//! bounded by an [`Intake`]. A request with an `Idempotency-Key` may be sent again.
//!
//! Rows come as JSON, CSV or an Arrow stream: `?format=json|csv|arrow`, else the first of these that `Accept`
//! names, else JSON. CSV and Arrow have the coverage in the header `twofold-coverage` if it is short, Arrow
//! also in its metadata, and the watermark of the answer, if it has one, in `twofold-watermark`. `column=value` given for two columns asks for both, twice for one column for either;
//! `limit=n` bounds the rows. A column that is called `limit` or `format` is for SQL.
//!
//! Every error is `{"error": "<what and what to do>", "kind": "…"}`, see [`wire`](twofold_common::wire). No
//! request makes the process panic, and none is retried here.

mod details;
mod events;
mod failure;
mod page;
mod rows;

use crate::metrics;
use crate::query::Serving;
use crate::status::Status;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use failure::Failure;
use std::sync::Arc;
use twofold_common::Intake;

pub use events::INGEST_LIMIT;

/// The HTTP interface of a serving layer, with the usual room for events.
pub fn app(serving: Arc<Serving>) -> Router {
    app_with(serving, Arc::default())
}

/// The HTTP interface of a serving layer, with that room for events.
pub fn app_with(serving: Arc<Serving>, intake: Arc<Intake>) -> Router {
    Router::new()
        .route("/v1/streams/{name}", post(events::append).layer(Extension(intake)))
        .route("/v1/sql", post(rows::sql).layer(DefaultBodyLimit::max(rows::SQL_LIMIT)))
        .route("/v1/views/{name}", get(rows::view))
        .route("/v1/status", get(status))
        .route("/v1/catalog", get(details::catalog))
        .route("/v1/batches", get(details::batches))
        .route("/healthz", get(async || "ok"))
        .route("/metrics", get(metrics))
        .merge(page::routes())
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_method)
        .with_state(serving)
}

async fn status(State(serving): State<Arc<Serving>>) -> Result<Json<Status>, Failure> {
    Ok(Json(serving.status().await?))
}

async fn metrics(State(serving): State<Arc<Serving>>) -> Result<impl IntoResponse, Failure> {
    let speed = serving.speed.status().await.ok();
    let text = serving.metrics.encode(speed.as_ref(), &serving.audits().await)?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
