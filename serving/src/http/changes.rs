//! `GET /v1/views/{name}/changes`: the rows of a view, and then what changes of them, as Server-Sent Events.

use super::failure::Failure;
use super::rows::{Parameters, parameters};
use crate::query::Serving;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream::unfold;
use std::convert::Infallible;
use std::sync::Arc;
use twofold_common::Error;

/// The MIME type of Server-Sent Events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Tells proxies to pass on each event when it comes.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn changes(
    State(serving): State<Arc<Serving>>,
    view: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Failure> {
    let Path(view) = view.map_err(|e| Error::Invalid(e.body_text()))?;
    let filters = self::parameters(parameters)?;
    let mut subscription = serving.watch(&view, &filters)?;
    subscription.started().await.map_err(|e| Failure::of(&e))?;
    let events = unfold(subscription, |mut subscription| async move {
        let event = subscription.next().await?;
        Some((Ok::<_, Infallible>(event), subscription))
    });
    let headers = [(CONTENT_TYPE, EVENT_STREAM), (CACHE_CONTROL, "no-store"), (UNBUFFERED, "no")];
    Ok((headers, Body::from_stream(events)).into_response())
}
