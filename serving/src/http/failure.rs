//! Errors as HTTP answers: problem details, as RFC 9457 has them.

use super::routes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use twofold_common::{Error, Intake, Interrupted, Kind, wire};

/// An error and the status that tells of it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: Kind,
    problem: Value,
}

impl Failure {
    /// The error with the status of its kind.
    pub(super) fn of(error: &Error) -> Self {
        let status = StatusCode::from_u16(wire::status(error.kind()));
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
    }

    pub(super) fn new(status: StatusCode, error: &Error) -> Self {
        match error.kind() {
            Kind::Corrupt | Kind::Internal => tracing::error!(%error, "a request failed"),
            _ => tracing::debug!(%error, "a request was refused"),
        }
        Self { status, kind: error.kind(), problem: wire::problem(status.as_u16(), error) }
    }

    /// What axum refused, in our words where they are better.
    pub(super) fn rejected(status: StatusCode, reason: String, limit: usize, advice: &str) -> Self {
        let reason = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!("the body is larger than {} MiB: {advice}", limit >> 20)
            }
            _ => reason,
        };
        Self::new(status, &Error::Invalid(reason))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

impl From<Interrupted> for Failure {
    fn from(why: Interrupted) -> Self {
        let status = StatusCode::from_u16(why.status());
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &why.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = self.problem.to_string();
        let mut response = (self.status, [(CONTENT_TYPE, wire::PROBLEM)], body).into_response();
        if self.kind == Kind::Busy {
            response.headers_mut().insert(RETRY_AFTER, Intake::RETRY_AFTER_S.into());
        }
        response
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Failure {
    let paths = routes::paths().join(", ");
    Error::NotFound(format!("there is nothing at {}; there are: {paths}", uri.path())).into()
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let reason = format!("{} does not take {method}: streams and sql take POST, all else GET", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, &Error::Invalid(reason))
}
