//! `POST /v1/sql` and `GET /v1/views/{name}`: rows out.

use super::failure::Failure;
use crate::encode::{Format, PREVIOUS};
use crate::page::{Page, ViewQuery};
use crate::query::Serving;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use twofold_common::{Error, duration, rfc3339};

/// How many bytes a statement may have.
pub(super) const SQL_LIMIT: usize = 1 << 20;
/// The header with the coverage, where the body has no place for it.
const COVERAGE: HeaderName = HeaderName::from_static("twofold-coverage");
/// The header with the watermark of the answer, if it has one, where the body has no place for it.
const WATERMARK: HeaderName = HeaderName::from_static("twofold-watermark");
/// The header with the cursor behind the rows, if they are ordered and there are more.
const CURSOR: HeaderName = HeaderName::from_static("twofold-cursor");
/// The header of a request that says how stale the answer may be; also a parameter, and of SQL a member of the body.
pub(super) const MAX_STALENESS: HeaderName = HeaderName::from_static("twofold-max-staleness");
/// The header that says that the answer is of the project before the current one, which is still being built.
const VERSION: HeaderName = HeaderName::from_static("twofold-version");
/// Longer headers are refused by many clients.
const COVERAGE_LIMIT: usize = 4096;

/// `?name=value&…`, in order.
pub(super) type Parameters = Vec<(String, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    sql: String,
    /// What `$1`, `$2` and so on stand for.
    #[serde(default)]
    parameters: Vec<Value>,
    /// How stale the answer may be.
    max_staleness: Option<String>,
}

pub(super) async fn sql(
    State(serving): State<Arc<Serving>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let mut parameters = self::parameters(parameters)?;
    let format = format(&mut parameters, &headers)?;
    let max_staleness = take(&mut parameters, "max_staleness")?;
    if let Some((name, _)) = parameters.first() {
        let known = "there are: format, max_staleness";
        return Err(Error::Invalid(format!("there is no parameter {name}; {known}")).into());
    }
    let body =
        body.map_err(|e| Failure::rejected(e.status(), e.body_text(), SQL_LIMIT, "shorten the statement"))?;
    let statement: Statement = serde_json::from_slice(&body)
        .map_err(|e| Error::Invalid(format!("the body is not {{\"sql\": \"…\"}}: {e}")))?;
    let Statement { sql, parameters, max_staleness: of_body } = statement;
    let max_staleness = self::max_staleness(max_staleness.or(of_body), &headers)?;
    let rows = serving.query_with(&sql, &parameters, max_staleness).await?;
    respond(Page { rows, cursor: None }, format)
}

pub(super) async fn view(
    State(serving): State<Arc<Serving>>,
    view: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Path(view) = view.map_err(|e| Error::Invalid(e.body_text()))?;
    let mut parameters = self::parameters(parameters)?;
    let format = format(&mut parameters, &headers)?;
    let limit = limit(&mut parameters)?;
    let (order, cursor) = (take(&mut parameters, "order")?, take(&mut parameters, "cursor")?);
    let max_staleness = self::max_staleness(take(&mut parameters, "max_staleness")?, &headers)?;
    let query = ViewQuery { filters: parameters, order, limit, cursor, max_staleness };
    respond(serving.query_view(&view, &query).await?, format)
}

pub(super) fn parameters(
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Parameters, Failure> {
    Ok(parameters.map_err(|e| Error::Invalid(e.body_text()))?.0)
}

/// Takes `format` out of the parameters; without it, what the client accepts.
fn format(parameters: &mut Parameters, headers: &HeaderMap) -> Result<Format, Error> {
    match take(parameters, "format")? {
        Some(name) => Format::from_name(&name),
        None => Ok(accepted(headers)),
    }
}

fn limit(parameters: &mut Parameters) -> Result<Option<usize>, Error> {
    let Some(text) = take(parameters, "limit")? else { return Ok(None) };
    let limit = text
        .parse()
        .map_err(|_| Error::Invalid(format!("limit: expected a number of rows, found {text:?}")))?;
    Ok(Some(limit))
}

/// How stale an answer may be, if it is `given` in the request, or else in a header.
fn max_staleness(given: Option<String>, headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let of_header = || Some(String::from_utf8_lossy(headers.get(MAX_STALENESS)?.as_bytes()).into_owned());
    let text = given.or_else(of_header);
    text.map(|text| duration("max_staleness", &text)).transpose()
}

fn take(parameters: &mut Parameters, name: &str) -> Result<Option<String>, Error> {
    let taken: Vec<_> = parameters.extract_if(.., |(n, _)| n == name).collect();
    match <[_; 1]>::try_from(taken) {
        Ok([(_, value)]) => Ok(Some(value)),
        Err(none) if none.is_empty() => Ok(None),
        Err(_) => Err(Error::Invalid(format!("{name} is given more than once"))),
    }
}

/// The first of our formats that `Accept` names; JSON for all else.
fn accepted(headers: &HeaderMap) -> Format {
    let accepted =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let mut types = accepted.filter_map(|range| range.split(';').next()).map(str::trim);
    let ours = |range: &str| Format::ALL.into_iter().find(|f| f.mime().split(';').next() == Some(range));
    types.find_map(ours).unwrap_or_default()
}

fn respond(Page { rows, cursor }: Page, format: Format) -> Result<Response, Failure> {
    let mut response = rows.encode_page(format, cursor.as_deref())?.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.mime()));
    if rows.previous {
        headers.insert(VERSION, HeaderValue::from_static(PREVIOUS));
    }
    if format != Format::Json {
        if let Some(value) = cursor.and_then(|cursor| HeaderValue::from_str(&cursor).ok()) {
            headers.insert(CURSOR, value);
        }
        let coverage = rows.coverage_json()?;
        // A name that a header cannot hold leaves it out too.
        if let Ok(value) = HeaderValue::from_str(&coverage)
            && coverage.len() <= COVERAGE_LIMIT
        {
            headers.insert(COVERAGE, value);
        }
        if let Some(value) = rows.watermark().and_then(|at| HeaderValue::from_str(&rfc3339(at)).ok()) {
            headers.insert(WATERMARK, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_format_that_is_accepted_wins() {
        let accept = |text| accepted(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))]));
        assert_eq!(accept("text/csv;q=0.9, application/json"), Format::Csv);
        assert_eq!(accept("text/html, application/vnd.apache.arrow.stream"), Format::Arrow);
        assert_eq!(accept("application/x-ndjson"), Format::Ndjson);
        assert_eq!(accept("*/*"), Format::Json);
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
    }
}
