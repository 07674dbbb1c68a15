//! Browsers: whose pages may ask.
//!
//! A page of another site can make a browser on this machine send requests here. So of what changes something, or
//! carries a cookie, nothing is taken from another site's page unless `allow_origins` names the site; and reading the
//! answers is left to the browser's own rule, which takes a word from us that only those sites get (CORS).
//!
//! While no token is needed, a request must also name the server by an address, by a name without a dot such as
//! `localhost`, or by one of those sites: a site that lets its own name lead to this machine (DNS rebinding) is to the browser the same site as we are.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use std::net::IpAddr;
use twofold_common::{Error, Result};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, idempotency-key, accept");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("twofold-coverage, twofold-watermark, twofold-version, retry-after");
const AN_HOUR: HeaderValue = HeaderValue::from_static("3600");

/// The sites whose pages may ask, beside the server's own.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// These, as `https://app.example.com`.
    pub fn new(origins: &[String]) -> Self {
        Self(origins.to_vec())
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    /// Refuses what another site's page has made a browser send.
    ///
    /// # Errors
    /// `Forbidden`, naming the site and the setting.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        if method.is_safe() {
            return Ok(());
        }
        let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
        let refused = |who: &str| {
            Error::Forbidden(format!(
                "a page of {who} made the browser send this: name that site in `allow_origins` in [serve] of twofold.toml \
                 if it may"
            ))
        };
        match headers.get(ORIGIN) {
            Some(origin) if self.allows(origin) => Ok(()),
            Some(origin) => {
                let text = origin.to_str().unwrap_or("another site");
                let own = text.split_once("://").is_some_and(|(_, host)| Some(host) == host_of(uri, headers));
                let cross = site.is_some_and(|site| site != b"same-origin");
                if own && !cross { Ok(()) } else { Err(refused(text)) }
            }
            None => match site {
                None | Some(b"same-origin" | b"none") => Ok(()),
                Some(_) => Err(refused("another site")),
            },
        }
    }

    /// Refuses a request that names the server by a name that it does not know, while no token is needed.
    ///
    /// # Errors
    /// `Forbidden`, naming the name and the ways out.
    pub(super) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let Some(host) = host_of(uri, headers) else { return Ok(()) };
        let name = without_port(host);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        // A name without a dot is nobody's on the internet.
        let local = !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost");
        let of = |origin: &String| origin.split_once("://").is_some_and(|(_, of)| without_port(of) == name);
        if address || local || self.0.iter().any(of) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "this server is asked for as {name}, which may be another site's trick: make a token with `twofold token \
             create`, or name the site in `allow_origins` in [serve] of twofold.toml"
        )))
    }

    /// The answer to a browser that asks whether it may ask, if it may.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<HeaderMap> {
        let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let mut answer = self.headers(headers).filter(|_| asks)?;
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        answer.insert(ACCESS_CONTROL_MAX_AGE, AN_HOUR);
        Some(answer)
    }

    /// What lets the page of an allowed site read the answer.
    pub(super) fn headers(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        let origin = headers.get(ORIGIN).filter(|origin| self.allows(origin))?;
        Some(HeaderMap::from_iter([
            (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
            (VARY, HeaderValue::from_static("origin")),
        ]))
    }
}

fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let named = || uri.authority().map(|authority| authority.as_str());
    headers.get(HOST).and_then(|host| host.to_str().ok()).or_else(named)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        of.iter().map(pair).collect()
    }

    fn allowed(method: &Method, of: &[(&'static str, &'static str)]) -> bool {
        let origins = Origins::new(&["https://app.example".into()]);
        origins.check(method, &Uri::from_static("/v1/sql"), &headers(of)).is_ok()
    }

    #[test]
    fn another_sites_page_sends_nothing() {
        let post = |of: &[_]| allowed(&Method::POST, of);
        let host = ("host", "127.0.0.1:8660");
        assert!(post(&[host]), "curl");
        assert!(post(&[host, ("origin", "http://127.0.0.1:8660"), ("sec-fetch-site", "same-origin")]));
        assert!(post(&[host, ("origin", "https://app.example"), ("sec-fetch-site", "cross-site")]));
        for of in [
            [host, ("origin", "https://evil.example")].as_slice(),
            &[host, ("origin", "null")],
            &[host, ("origin", "http://127.0.0.1:9999")],
            &[host, ("origin", "https://app.example.evil")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("origin", "http://127.0.0.1:8660"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!post(of), "{of:?}");
            assert!(allowed(&Method::GET, of), "what changes nothing is left to the browser: {of:?}");
        }
    }

    #[test]
    fn a_name_that_leads_here_is_not_enough() {
        let origins = Origins::new(&["https://data.example:8443".into()]);
        let known = |host| origins.check_host(&Uri::from_static("/"), &headers(&[("host", host)])).is_ok();
        for host in [
            "127.0.0.1",
            "127.0.0.1:8660",
            "[::1]:8660",
            "localhost:1",
            "LOCALHOST",
            "data.example",
            "x.localhost",
            "twofold:8660",
        ] {
            assert!(known(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8660", "localhost.evil.example", "127.0.0.1.evil.example"]
        {
            assert!(!known(host), "{host}");
        }
    }

    #[test]
    fn only_allowed_sites_are_told_that_they_may_read() {
        let origins = Origins::new(&["https://app.example".into()]);
        let asks = |origin| headers(&[("origin", origin), ("access-control-request-method", "POST")]);
        let answer = origins.preflight(&Method::OPTIONS, &asks("https://app.example")).unwrap();
        assert_eq!(answer["access-control-allow-origin"], "https://app.example");
        assert!(answer["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
        assert!(origins.preflight(&Method::OPTIONS, &asks("https://evil.example")).is_none());
        assert!(Origins::default().headers(&asks("https://app.example")).is_none());
    }
}
