//! The speed layer for other processes, over HTTP.
//!
//! ```text
//! POST /speed/v1/snapshot          a SnapshotRequest as JSON -> the bytes of an Answer
//! POST /speed/v1/streams/{name}    events, of the Content-Type, with an Idempotency-Key or without -> an IngestReceipt
//! POST /speed/v1/seal              -> 204 after all that was acknowledged before is archived
//! POST /speed/v1/gc?dry_run=true   -> the fingerprints of removed views, whose states are dropped unless it is a dry run
//! GET  /speed/v1/status            -> a SpeedStatus as JSON
//! POST /speed/v1/segment-state     a SegmentState as JSON -> the bytes of a State, or 404 if it is not held
//! ```
//!
//! Errors are as [`wire`] has them. This is for the processes of one project, not for users: those ask serving.

use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use std::sync::Arc;
use twofold_common::{
    Digest, Error, IDEMPOTENCY_KEY, IdempotencyKey, IngestReceipt, IngestRequest, Intake, Interrupted, Kind,
    SegmentState, SnapshotRequest, SpeedLayer, SpeedStatus, wire,
};

/// The most bytes of one request.
const MAX_BODY: usize = 64 << 20;

type Layer = State<Arc<dyn SpeedLayer>>;

/// The speed layer's routes, with the usual room for events.
pub fn app(layer: Arc<dyn SpeedLayer>) -> Router {
    app_with(layer, Arc::default())
}

/// The speed layer's routes, with that room for events.
pub fn app_with(layer: Arc<dyn SpeedLayer>, intake: Arc<Intake>) -> Router {
    Router::new()
        .route("/speed/v1/snapshot", post(snapshot))
        .route("/speed/v1/streams/{name}", post(ingest))
        .route("/speed/v1/seal", post(seal))
        .route("/speed/v1/gc", post(gc))
        .route("/speed/v1/status", get(status))
        .route("/speed/v1/segment-state", post(segment_state))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(Extension(intake))
        .with_state(layer)
}

struct Failure {
    status: u16,
    error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { status: wire::status(error.kind()), error }
    }
}

impl From<Interrupted> for Failure {
    fn from(why: Interrupted) -> Self {
        Failure { status: why.status(), error: why.into() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(wire::body(&self.error))).into_response();
        if self.error.kind() == Kind::Busy {
            response.headers_mut().insert(RETRY_AFTER, Intake::RETRY_AFTER_S.into());
        }
        response
    }
}

async fn snapshot(State(layer): Layer, body: Bytes) -> Result<Body, Failure> {
    let request: SnapshotRequest = serde_json::from_slice(&body)
        .map_err(|e| Error::Invalid(format!("this is no snapshot request: {e}")))?;
    let answer = layer.snapshot(&request).await?;
    Ok(Body::from(answer.to_bytes()?))
}

async fn ingest(
    State(layer): Layer,
    Path(stream): Path<String>,
    headers: HeaderMap,
    Extension(intake): Extension<Arc<Intake>>,
    body: Body,
) -> Result<Json<IngestReceipt>, Failure> {
    let format = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/x-ndjson");
    let key = headers.get(IDEMPOTENCY_KEY).map(|v| IdempotencyKey::from_header(v.as_bytes())).transpose()?;
    let announced = body.size_hint().exact();
    let taken = intake.read(body.into_data_stream(), announced, MAX_BODY).await?;
    let request = IngestRequest::new(stream, format, taken.body.clone()).with_key(key);
    Ok(Json(taken.hold(async move { layer.ingest(request).await }).await?))
}

async fn seal(State(layer): Layer) -> Result<StatusCode, Failure> {
    layer.seal().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Gc {
    dry_run: bool,
}

async fn gc(State(layer): Layer, Query(gc): Query<Gc>) -> Result<Json<Vec<Digest>>, Failure> {
    Ok(Json(layer.gc(gc.dry_run).await?))
}

async fn status(State(layer): Layer) -> Result<Json<SpeedStatus>, Failure> {
    Ok(Json(layer.status().await?))
}

async fn segment_state(State(layer): Layer, body: Bytes) -> Result<Body, Failure> {
    let segment: SegmentState = serde_json::from_slice(&body)
        .map_err(|e| Error::Invalid(format!("this names no state of a segment: {e}")))?;
    let state = layer.segment_state(&segment).await?;
    let state = state.ok_or_else(|| Error::NotFound("that state is not held any more".into()))?;
    Ok(Body::from(state.to_bytes()?))
}
