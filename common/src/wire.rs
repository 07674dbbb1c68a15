//! Errors between processes: how an error's kind becomes an HTTP status and a JSON body, and is read back.
//!
//! ```text
//! {"error": "<message>", "kind": "invalid|unauthenticated|forbidden|not_found|conflict|unavailable|busy|corrupt|internal"}
//! {"type", "title", "status", "detail", "error", "kind"}      the same as RFC 9457 has it, for users
//!
//! error_from(status(e.kind()), body(e)) has the kind and the message of e
//! ```
//!
//! The kind decides, the status is for those who do not read the body. A body that is not ours gives an error of the
//! kind that its status suggests; it never fails and never panics.

use crate::error::{Error, Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is shown of a body that is not ours.
const SHOWN: usize = 300;
const INTERNAL: &str = "internal error: ";

#[derive(Serialize, Deserialize)]
struct Body {
    error: String,
    kind: String,
    /// What is corrupt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// The HTTP status for errors of a kind.
pub fn status(kind: Kind) -> u16 {
    match kind {
        Kind::Invalid => 400,
        Kind::Unauthenticated => 401,
        Kind::Forbidden => 403,
        Kind::NotFound => 404,
        Kind::Conflict => 409,
        Kind::Unavailable => 503,
        Kind::Busy => 429,
        Kind::Corrupt | Kind::Internal => 500,
    }
}

/// What a kind is called on the wire.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid",
        Kind::Unauthenticated => "unauthenticated",
        Kind::Forbidden => "forbidden",
        Kind::NotFound => "not_found",
        Kind::Conflict => "conflict",
        Kind::Unavailable => "unavailable",
        Kind::Busy => "busy",
        Kind::Corrupt => "corrupt",
        Kind::Internal => "internal",
    }
}

/// The kind of that name.
pub fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|&k| self::name(k) == name)
}

/// The JSON body for an error.
pub fn body(error: &Error) -> Value {
    let path = if let Error::Corrupt { path, .. } = error { Some(path.clone()) } else { None };
    let body = Body { error: error.to_string(), kind: name(error.kind()).to_string(), path };
    serde_json::to_value(body).unwrap_or_default()
}

/// The MIME type of [`problem`].
pub const PROBLEM: &str = "application/problem+json";

/// The problem details of an error (RFC 9457), answered with `status`: the members of [`body`], and the standard's own.
pub fn problem(status: u16, error: &Error) -> Value {
    let kind = error.kind();
    let mut problem = json!({
        "type": format!("urn:twofold:problem:{}", name(kind)),
        "title": title(kind),
        "status": status,
        "detail": error.to_string(),
    });
    if let (Some(problem), Value::Object(body)) = (problem.as_object_mut(), body(error)) {
        problem.extend(body);
    }
    problem
}

/// What all errors of a kind have in common.
fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "The request must be corrected",
        Kind::Unauthenticated => "A token is needed, or another one",
        Kind::Forbidden => "The token lacks a scope",
        Kind::NotFound => "It does not exist",
        Kind::Conflict => "Somebody else was first",
        Kind::Unavailable => "Not now: try again later",
        Kind::Busy => "Nothing was done: wait a moment, and send the same again",
        Kind::Corrupt => "Stored bytes are damaged, or newer than this version",
        Kind::Internal => "A defect, or a failing machine",
    }
}

/// The error that a status and a body tell of.
pub fn error_from(status: u16, body: &[u8]) -> Error {
    let ours = serde_json::from_slice::<Body>(body).ok();
    let Some((body, kind)) = ours.and_then(|body| kind(&body.kind).map(|kind| (body, kind))) else {
        return foreign(status, body);
    };
    let message = body.error;
    match kind {
        Kind::Invalid => Error::Invalid(message),
        Kind::Unauthenticated => Error::Unauthenticated(message),
        Kind::Forbidden => Error::Forbidden(message),
        Kind::NotFound => Error::NotFound(message),
        Kind::Conflict => Error::Conflict(message),
        Kind::Unavailable => Error::Unavailable(message),
        Kind::Busy => Error::Busy(message),
        Kind::Corrupt => {
            let path = body.path.unwrap_or_default();
            let reason = message.strip_prefix(&path).and_then(|rest| rest.strip_prefix(": "));
            let reason = reason.unwrap_or(&message).to_string();
            Error::Corrupt { path, reason }
        }
        Kind::Internal => Error::Internal(message.strip_prefix(INTERNAL).unwrap_or(&message).to_string()),
    }
}

/// An error of somebody who does not speak our JSON: a proxy, or another program at that address.
fn foreign(status: u16, body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(body);
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    let message = match text.as_str() {
        "" => format!("HTTP status {status} without a reason"),
        text => format!("HTTP status {status}: {text}"),
    };
    match status {
        401 => Error::Unauthenticated(message),
        403 => Error::Forbidden(message),
        404 => Error::NotFound(message),
        409 | 412 => Error::Conflict(message),
        429 => Error::Busy(message),
        408 | 502..=504 => Error::Unavailable(message),
        400..=499 => Error::Invalid(message),
        _ => Error::Internal(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_back_with_its_kind_and_message() {
        let errors = [
            Error::Invalid("a".into()),
            Error::Unauthenticated("g".into()),
            Error::Forbidden("h".into()),
            Error::NotFound("b".into()),
            Error::Conflict("c".into()),
            Error::Unavailable("d".into()),
            Error::Busy("d".into()),
            Error::corrupt("views/v/1: x.parquet", "e: f"),
            Error::Internal("g".into()),
            Error::io("/data", std::io::Error::from(std::io::ErrorKind::NotFound)),
        ];
        for error in errors {
            let bytes = serde_json::to_vec(&body(&error)).unwrap();
            let back = error_from(status(error.kind()), &bytes);
            assert_eq!((back.kind(), back.to_string()), (error.kind(), error.to_string()));
            let problem = problem(status(error.kind()), &error);
            let back = error_from(400, &serde_json::to_vec(&problem).unwrap());
            assert_eq!((back.kind(), back.to_string()), (error.kind(), error.to_string()));
        }
    }

    #[test]
    fn a_problem_has_what_the_standard_names() {
        let problem = problem(408, &Error::Invalid("too slow".into()));
        let expected = json!({
            "type": "urn:twofold:problem:invalid", "title": "The request must be corrected", "status": 408,
            "detail": "too slow", "error": "too slow", "kind": "invalid",
        });
        assert_eq!(problem, expected);
    }

    #[test]
    fn a_foreign_body_is_judged_by_its_status() {
        let error = error_from(502, b"<html>\nBad Gateway</html>");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(error.to_string(), "HTTP status 502: <html> Bad Gateway</html>");
        assert_eq!(error_from(413, b"").to_string(), "HTTP status 413 without a reason");
        assert_eq!(error_from(404, br#"{"error":"x","kind":"else"}"#).kind(), Kind::NotFound);
        assert_eq!(error_from(500, b"\xff").kind(), Kind::Internal);
    }
}
