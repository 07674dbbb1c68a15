//! The HTTP interface.
//!
//! ```text
//! POST /v1/streams/{name}        events -> {"accepted", "rejected", "duplicates", "offsets", "reasons"} after they are durable
//! POST /v1/sql                   {"sql": "…", "parameters": […]} -> {"columns", "rows", "coverage", "watermark"}
//! GET  /v1/views/{name}          ?column=value&column[gt]=value&order=column.desc&limit=n&cursor=… -> the same, and "cursor"
//! GET  /v1/views/{name}/changes  ?column=value -> Server-Sent Events: the rows, then what changes of them
//! GET  /v1/status                see [`Status`](crate::Status)
//! GET  /healthz                  200 while the process lives; it says nothing about the other layers
//! GET  /metrics                  OpenMetrics text
//! GET  /openapi.json             all of this, as OpenAPI has it
//! GET  /v1/catalog               streams, tables, views and functions, as declared
//! GET  /v1/batches               the newest batch views of each view, and runs that go on
//! GET  /, /page/…                the web page
//! ```
//!
//! What there is, is one table, [`routes`], from which both the router and the OpenAPI document are made.
//!
//! Events are of the request's `Content-Type`; without one, or with that of a form, which some clients send
//! unasked, they are `application/x-ndjson`. A body has at most [`INGEST_LIMIT`] bytes; what is held of bodies at once is
//! bounded by an [`Intake`]. A request with an `Idempotency-Key` may be sent again.
//!
//! Rows come as JSON, NDJSON, CSV or an Arrow stream: `?format=json|ndjson|csv|arrow`, else the first of these that
//! `Accept` names, else JSON. All but JSON have the coverage in the header `twofold-coverage` if it is short, Arrow also
//! in its metadata, the watermark of the answer, if it has one, in `twofold-watermark`, and the cursor in
//! `twofold-cursor`. A column that is called as a parameter is for SQL. Answers are compressed as `Accept-Encoding` has
//! it, events are not.
//!
//! Every error is problem details, see [`wire`](twofold_common::wire::problem). No request makes the process panic, and
//! none is retried here.

mod changes;
mod details;
mod events;
mod failure;
mod openapi;
mod page;
mod routes;
mod rows;
mod schemas;

use crate::metrics;
use crate::query::Serving;
use crate::status::Status;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::{Extension, Json, Router};
pub(crate) use failure::Failure;
use std::sync::Arc;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use twofold_common::Intake;

pub use events::INGEST_LIMIT;

/// Smaller answers are not compressed: they fit into one packet as they are.
const COMPRESS_ABOVE: u16 = 1024;

/// The HTTP interface of a serving layer, with the usual room for events.
pub fn app(serving: Arc<Serving>) -> Router {
    app_with(serving, Arc::default())
}

/// The HTTP interface of a serving layer, with that room for events.
pub fn app_with(serving: Arc<Serving>, intake: Arc<Intake>) -> Router {
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    // An event must not wait for the next one to be compressed with it.
    let compression = compression.compress_when(
        SizeAbove::new(COMPRESS_ABOVE).and(NotForContentType::const_new(changes::EVENT_STREAM)),
    );
    let all = routes::routes().into_iter();
    let router = all.fold(Router::new(), |router, route| router.route(route.path, route.handler));
    router
        .merge(page::routes())
        .layer(compression)
        .layer(Extension(intake))
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_method)
        .with_state(serving)
}

async fn status(State(serving): State<Arc<Serving>>) -> Result<Json<Status>, Failure> {
    Ok(Json(serving.status().await?))
}

async fn metrics(State(serving): State<Arc<Serving>>) -> Result<impl IntoResponse, Failure> {
    let speed = serving.speed.status().await.ok();
    serving.metrics.watched(serving.changes.subscribers());
    serving.metrics.taken(&serving.limits);
    let text = serving.metrics.encode(speed.as_ref(), &serving.audits().await)?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
