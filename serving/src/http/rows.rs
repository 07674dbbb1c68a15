//! `POST /v1/sql` and `GET /v1/views/{name}`: rows out.

use super::failure::Failure;
use crate::encode::{Format, PREVIOUS};
use crate::query::Serving;
use crate::rows::Rows;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use std::sync::Arc;
use twofold_common::{Error, rfc3339};

/// How many bytes a statement may have.
pub(super) const SQL_LIMIT: usize = 1 << 20;
/// The header with the coverage, where the body has no place for it.
const COVERAGE: HeaderName = HeaderName::from_static("twofold-coverage");
/// The header with the watermark of the answer, if it has one, where the body has no place for it.
const WATERMARK: HeaderName = HeaderName::from_static("twofold-watermark");
/// The header that says that the answer is of the project before the current one, which is still being built.
const VERSION: HeaderName = HeaderName::from_static("twofold-version");
/// Longer headers are refused by many clients.
const COVERAGE_LIMIT: usize = 4096;

/// `?name=value&…`, in order.
type Parameters = Vec<(String, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    sql: String,
}

pub(super) async fn sql(
    State(serving): State<Arc<Serving>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let mut parameters = self::parameters(parameters)?;
    let format = format(&mut parameters, &headers)?;
    if let Some((name, _)) = parameters.first() {
        return Err(Error::Invalid(format!("there is no parameter {name}; there is: format")).into());
    }
    let body =
        body.map_err(|e| Failure::rejected(e.status(), e.body_text(), SQL_LIMIT, "shorten the statement"))?;
    let statement: Statement = serde_json::from_slice(&body)
        .map_err(|e| Error::Invalid(format!("the body is not {{\"sql\": \"…\"}}: {e}")))?;
    respond(serving.query(&statement.sql).await?, format)
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
    respond(serving.query_view(&view, &parameters, limit).await?, format)
}

fn parameters(parameters: Result<Query<Parameters>, QueryRejection>) -> Result<Parameters, Failure> {
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

fn respond(rows: Rows, format: Format) -> Result<Response, Failure> {
    let mut response = rows.encode(format)?.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.mime()));
    if rows.previous {
        headers.insert(VERSION, HeaderValue::from_static(PREVIOUS));
    }
    if format != Format::Json {
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
        assert_eq!(accept("*/*"), Format::Json);
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
    }
}
