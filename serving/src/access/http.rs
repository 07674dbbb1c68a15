//! The gate around a router of HTTP.
//!
//! ```text
//! Authorization: Bearer twofold_…      else 401, with WWW-Authenticate
//!
//! /v1/streams/{name}…  ingest {name}         /v1/sql  read of what the query names (looked at where it is planned)
//! /v1/views/{name}…    read {name}           /v1/catalog  any token, as names and columns are in information_schema
//! all else below /v1, /metrics, /speed  admin
//! all else             for everybody: the page's files, /healthz, /openapi.json
//! ```

use super::{Access, Gate, Origins};
use crate::http::Failure;
use axum::RequestExt;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use twofold_common::{Error, Result};

const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"twofold\"");
/// How long a client may take to send the body of a request.
const BODY_WITHIN: Duration = Duration::from_secs(30);
const EVENT_STREAM: &str = "text/event-stream";

/// Which paths need what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Those for users.
    Serving,
    /// Those for the other processes of the project: an administrator's, all of them.
    Speed,
}

/// What stands before a router.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Who gets in.
    pub gate: Arc<Gate>,
    /// Which paths need what.
    pub rules: Rules,
    /// Whose pages may ask.
    pub origins: Origins,
}

/// The router, behind a guard.
pub fn guard(router: Router, guard: Guard) -> Router {
    router.layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Some(headers) = guard.origins.preflight(request.method(), request.headers()) {
        return (StatusCode::NO_CONTENT, headers).into_response();
    }
    let mut request = in_time(request);
    let cors = guard.origins.headers(request.headers());
    let access = guard.admit(&mut request).await;
    let mut response = match access {
        Ok(access) => {
            let response = access.clone().scope(next.run(request)).await;
            until_shut_out(response, &guard.gate, access)
        }
        Err(error) => Failure::from(error).into_response(),
    };
    let headers = response.headers_mut();
    headers.extend(cors.into_iter().flatten());
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
    }
    response
}

impl Guard {
    async fn admit(&self, request: &mut Request) -> Result<Access> {
        self.origins.check(request.method(), request.uri(), request.headers())?;
        if !self.gate.is_required() {
            self.origins.check_host(request.uri(), request.headers())?;
        }
        let path = request.uri().path();
        if !is_guarded(path) {
            return Ok(Access::nobody());
        }
        let needs = self.needs(path);
        let access = self.gate.admit(bearer(request.headers())?)?;
        match needs {
            Needs::Nothing => {}
            Needs::Admin => access.must_be_admin()?,
            Needs::Ingest => access.may_ingest(&name(request).await?)?,
            Needs::Read => access.may_read(&name(request).await?)?,
        }
        Ok(access)
    }

    fn needs(&self, path: &str) -> Needs {
        if self.rules == Rules::Speed {
            return Needs::Admin;
        }
        match path {
            "/v1/sql" | "/v1/catalog" => Needs::Nothing,
            path if path.starts_with("/v1/streams/") => Needs::Ingest,
            path if path.starts_with("/v1/views/") => Needs::Read,
            _ => Needs::Admin,
        }
    }
}

/// The same request, whose body ends where it is when its time is over. Events have a measure of their own.
fn in_time(request: Request) -> Request {
    if request.method().is_safe() || request.uri().path().contains("/streams/") {
        return request;
    }
    let over = tokio::time::sleep(BODY_WITHIN);
    request.map(|body| Body::from_stream(body.into_data_stream().take_until(over)))
}

enum Needs {
    /// Any token; the rest is looked at where the query is known.
    Nothing,
    Admin,
    /// The right to the stream that the path names.
    Ingest,
    /// The right to the view that the path names.
    Read,
}

/// Whether anything is to be had at a path that is not for everybody. Paths are matched as they are written, so that
/// an escape does not lead around it.
fn is_guarded(path: &str) -> bool {
    ["/v1", "/speed", "/metrics"].iter().any(|guarded| {
        path.strip_prefix(guarded).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The first name in the path, as its handler reads it; nothing is there for a path without a handler.
async fn name(request: &mut Request) -> Result<String> {
    let names = request.extract_parts::<RawPathParams>().await;
    let names = names.map_err(|e| Error::Invalid(format!("the path names nothing: {e}")))?;
    Ok(names.iter().next().map(|(_, name)| name.to_string()).unwrap_or_default())
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let wrong =
        || Error::Unauthenticated("Authorization is not `Bearer twofold_…`: send one token that way".into());
    let text = value.to_str().ok().filter(|_| all.next().is_none()).ok_or_else(wrong)?;
    let (scheme, token) = text.split_once(' ').ok_or_else(wrong)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token)) } else { Err(wrong()) }
}

/// An answer that goes on ends when its asker would not get in any more. None of the answers is for caches between.
fn until_shut_out(response: Response, gate: &Arc<Gate>, access: Access) -> Response {
    let (mut parts, body) = response.into_parts();
    if access.name().is_some() && !parts.headers.contains_key(CACHE_CONTROL) {
        parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with(EVENT_STREAM)) {
        return Response::from_parts(parts, body);
    }
    let gate = Arc::clone(gate);
    let shut_out = Box::pin(async move { gate.shut_out(&access).await });
    Response::from_parts(parts, Body::from_stream(body.into_data_stream().take_until(shut_out)))
}
