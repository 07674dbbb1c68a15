//! The web page at `GET /`, and its files below `/page/`.
//!
//! The files of `serving/page` are part of the binary: nothing is read from a disk or fetched from elsewhere. Each has
//! an `ETag` of its content and is asked for again each time, so that a page never mixes two versions of Twofold.
//!
//! The page runs no script, takes no style and asks no address but its own, stands in no frame of another page, and
//! cannot turn text into markup: so says its [`POLICY`], and the browser keeps it.

use super::failure::no_such_path;
use crate::query::Serving;
use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use twofold_common::Digest;

/// What a browser lets the page do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'";
/// What each answer with a file says besides its type and `ETag`.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
const INDEX: &str = "index.html";

macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_bytes!(concat!("../../page/", $path)))),*] };
}

/// The files by their path in `serving/page`.
const FILES: &[(&str, &[u8])] = files![
    "css/base.css",
    "css/pages.css",
    "css/parts.css",
    "icon.svg",
    "index.html",
    "js/api.js",
    "js/app.js",
    "js/batch.js",
    "js/catalog.js",
    "js/chart.js",
    "js/coverage.js",
    "js/dom.js",
    "js/editor.js",
    "js/figure.js",
    "js/format.js",
    "js/health.js",
    "js/history.js",
    "js/live.js",
    "js/overview.js",
    "js/path.js",
    "js/pick.js",
    "js/queries.js",
    "js/status.js",
    "js/stream.js",
    "js/streams.js",
    "js/table.js",
    "js/view-state.js",
    "js/view.js",
    "js/views.js",
    "js/words.js",
    "vendor/uPlot-LICENSE.txt",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
];

struct File {
    bytes: &'static [u8],
    content_type: &'static str,
    etag: String,
}

static BY_PATH: LazyLock<BTreeMap<&str, File>> = LazyLock::new(|| {
    let file = |bytes, content_type| File {
        bytes,
        content_type,
        etag: format!("\"{}\"", Digest::of(bytes).short()),
    };
    FILES.iter().filter_map(|(path, bytes)| Some((*path, file(*bytes, content_type(path)?)))).collect()
});

/// The types of the files that a page is made of; `None` for others, which are not served.
fn content_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// The page's own routes.
pub(super) fn routes() -> Router<Arc<Serving>> {
    Router::new().route("/", get(index)).route("/page/{*path}", get(asset))
}

async fn index(headers: HeaderMap, uri: Uri) -> Response {
    answer(INDEX, &headers, uri).await
}

async fn asset(Path(path): Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    answer(&path, &headers, uri).await
}

async fn answer(path: &str, asked: &HeaderMap, uri: Uri) -> Response {
    match file(path, asked) {
        Some(response) => response,
        None => no_such_path(uri).await.into_response(),
    }
}

fn file(path: &str, asked: &HeaderMap) -> Option<Response> {
    let file = BY_PATH.get(path)?;
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let known =
        known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == file.etag);
    let mut response =
        if known { StatusCode::NOT_MODIFIED.into_response() } else { file.bytes.into_response() };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.extend(HeaderValue::from_str(&file.etag).ok().map(|etag| (ETAG, etag)));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::super::app;
    use super::*;
    use crate::testing::World;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use std::path::Path;
    use tower::ServiceExt;

    async fn ask(path: &str, etag: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::get(path);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let app = app(World::new().await.serving());
        let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    /// The files of a directory and those below it, by their path.
    fn below(dir: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => below(&entry.path(), &format!("{path}/"), found),
                false => found.push(path),
            }
        }
    }

    #[tokio::test]
    async fn every_file_of_the_page_is_served_as_what_it_is() {
        let mut found = Vec::new();
        below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("page"), "", &mut found);
        found.sort();
        assert_eq!(found, BY_PATH.keys().copied().collect::<Vec<_>>(), "add it to FILES, and its type");
        for path in found {
            let (status, headers, body) = ask(&format!("/page/{path}"), None).await;
            let on_disk = Path::new(env!("CARGO_MANIFEST_DIR")).join("page").join(&path);
            assert_eq!((status, body), (StatusCode::OK, std::fs::read(on_disk).unwrap()), "{path}");
            assert_eq!(headers[CONTENT_TYPE], content_type(&path).unwrap());
        }
        let (status, headers, body) = ask("/", None).await;
        assert_eq!((status, body.starts_with(b"<!doctype html>")), (StatusCode::OK, true));
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(ask("/page/none.js", None).await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask("/page/..%2Fsrc%2Flib.rs", None).await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_page_may_do_nothing_but_what_it_needs() {
        for path in ["/", "/page/js/app.js"] {
            let (_, headers, _) = ask(path, None).await;
            let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(
                !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"),
                "{policy}"
            );
            for rule in
                ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
            {
                assert!(policy.split("; ").any(|found| found == rule), "{rule}: {policy}");
            }
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[REFERRER_POLICY], "no-referrer");
            assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        }
    }

    #[test]
    fn nothing_of_the_page_names_another_address_or_makes_markup_of_text() {
        let ours = FILES.iter().filter(|(path, _)| !path.starts_with("vendor/"));
        for (path, bytes) in ours {
            let text = std::str::from_utf8(bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
            for banned in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"]
            {
                assert!(!text.contains(banned), "{path} has {banned}");
            }
            let inline = ["style=\"", "onclick=", "javascript:", "<style", "eval("];
            assert!(!inline.iter().any(|inline| text.contains(inline)), "{path} has what the policy forbids");
        }
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let (_, headers, _) = ask("/", None).await;
        let etag = headers[ETAG].to_str().unwrap().to_string();
        for known in [etag.clone(), format!("\"x\", {etag}"), format!("W/{etag}")] {
            let (status, headers, body) = ask("/", Some(&known)).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
            assert_eq!(headers[ETAG], etag);
            assert_eq!(headers[CACHE_CONTROL], "no-cache");
        }
        assert_eq!(ask("/", Some("\"another\"")).await.0, StatusCode::OK);
    }
}
