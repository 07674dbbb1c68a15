//! Errors as HTTP answers.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use twofold_common::{Error, Intake, Interrupted, Kind, wire};

/// An error and the status that tells of it.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: Error,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: Error) -> Self {
        Self { status, error }
    }

    /// What axum refused, in our words where they are better.
    pub(super) fn rejected(status: StatusCode, reason: String, limit: usize, advice: &str) -> Self {
        let reason = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!("the body is larger than {} MiB: {advice}", limit >> 20)
            }
            _ => reason,
        };
        Self::new(status, Error::Invalid(reason))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(wire::status(error.kind()));
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
    }
}

impl From<Interrupted> for Failure {
    fn from(why: Interrupted) -> Self {
        let status = StatusCode::from_u16(why.status());
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), why.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self.error.kind() {
            Kind::Corrupt | Kind::Internal => tracing::error!(error = %self.error, "a request failed"),
            _ => tracing::debug!(error = %self.error, "a request was refused"),
        }
        let mut response = (self.status, Json(wire::body(&self.error))).into_response();
        if self.error.kind() == Kind::Busy {
            response.headers_mut().insert(RETRY_AFTER, Intake::RETRY_AFTER_S.into());
        }
        response
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Failure {
    Error::NotFound(format!(
        "there is nothing at {}; there are: / (the web page), /v1/streams/{{name}}, /v1/sql, /v1/views/{{name}}, \
         /v1/status, /v1/catalog, /v1/batches, /healthz, /metrics",
        uri.path()
    ))
    .into()
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let reason = format!("{} does not take {method}: streams and sql take POST, all else GET", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, Error::Invalid(reason))
}
