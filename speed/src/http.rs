//! The speed layer for other processes, over HTTP.
//!
//! ```text
//! POST /speed/v1/snapshot          a SnapshotRequest as JSON -> the bytes of an Answer
//! POST /speed/v1/streams/{name}    events, of the Content-Type -> an IngestReceipt as JSON
//! POST /speed/v1/seal              -> 204 after all that was acknowledged before is archived
//! POST /speed/v1/gc?dry_run=true   -> the fingerprints of removed views, whose states are dropped unless it is a dry run
//! GET  /speed/v1/status            -> a SpeedStatus as JSON
//! POST /speed/v1/segment-state     a SegmentState as JSON -> the bytes of a State, or 404 if it is not held
//! ```
//!
//! Errors are as [`wire`] has them. This is for the processes of one project, not for users: those ask serving.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use std::sync::Arc;
use twofold_common::{
    Digest, Error, IngestReceipt, SegmentState, SnapshotRequest, SpeedLayer, SpeedStatus, wire,
};

/// The most bytes of one request.
const MAX_BODY: usize = 64 << 20;

type Layer = State<Arc<dyn SpeedLayer>>;

/// The speed layer's routes.
pub fn app(layer: Arc<dyn SpeedLayer>) -> Router {
    Router::new()
        .route("/speed/v1/snapshot", post(snapshot))
        .route("/speed/v1/streams/{name}", post(ingest))
        .route("/speed/v1/seal", post(seal))
        .route("/speed/v1/gc", post(gc))
        .route("/speed/v1/status", get(status))
        .route("/speed/v1/segment-state", post(segment_state))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(layer)
}

struct Failure(Error);

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure(e)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(wire::status(self.0.kind()));
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(wire::body(&self.0))).into_response()
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
    body: Bytes,
) -> Result<Json<IngestReceipt>, Failure> {
    let format = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/x-ndjson");
    Ok(Json(layer.ingest(&stream, format, body).await?))
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
