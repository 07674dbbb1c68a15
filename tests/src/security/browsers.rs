//! What a page of another site can make a browser do, and requests that are too large.

use super::{Asker, EVENTS, project, says, token, up};
use crate::bad_input::csv;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_form_and_scripts_send_nothing_and_read_nothing() {
    let dir = project("allow_origins = [\"https://app.example\"]", "", "");
    let server = up(dir.path());
    let asker = Asker::new(&server.url, None);
    let sql = json!({ "sql": "SELECT 1 AS one" }).to_string();
    for (path, body) in [("/v1/streams/s", EVENTS), ("/v1/sql", sql.as_str())] {
        for headers in [
            [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")].as_slice(),
            &[("origin", "null"), ("content-type", "text/plain")],
            &[("sec-fetch-site", "cross-site"), ("content-type", "application/x-www-form-urlencoded")],
            &[("origin", "http://127.0.0.1:1")],
        ] {
            let mut request = asker.post_request(path, body.to_string());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (status, answer) = super::answer(request.send().await.unwrap()).await;
            assert!(status == 403 && says(&answer).contains("allow_origins"), "{path} {headers:?}: {answer}");
        }
        let own = asker.post_request(path, body.to_string()).header("origin", &server.url);
        assert_eq!(own.send().await.unwrap().status().as_u16(), 200, "its own page");
    }
    assert_eq!(csv(dir.path(), "SELECT count(*) AS n FROM s"), "n\n2\n");
    for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false)] {
        let preflight = reqwest::Client::new()
            .request(reqwest::Method::OPTIONS, format!("{}/v1/sql", server.url))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        let preflight = preflight.send().await.unwrap();
        assert_eq!(preflight.headers().get("access-control-allow-origin").is_some(), allowed, "{origin}");
        let post = asker.post_request("/v1/sql", sql.clone()).header("origin", origin).send().await.unwrap();
        assert_eq!(post.status().as_u16(), if allowed { 200 } else { 403 });
        let get = asker.get_request("/v1/views/v").header("origin", origin).send().await.unwrap();
        let may = get.headers().get("access-control-allow-origin").map(|v| v.to_str().unwrap().to_string());
        assert_eq!(may, allowed.then(|| origin.to_string()), "the browser keeps the answer from the page");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_made_to_lead_here_opens_nothing() {
    let dir = project("", "", "");
    let server = up(dir.path());
    let ask = async |token: Option<&str>| {
        let asker = Asker::new(&server.url, token);
        let request = asker.get_request("/v1/views/v").header("host", "rebound.evil.example:8660");
        super::answer(request.send().await.unwrap()).await
    };
    let (status, body) = ask(None).await;
    assert!(status == 403 && says(&body).contains("rebound.evil.example"), "{status} {body}");
    let reader = token(dir.path(), &["a", "--read", "v"]);
    Asker::new(&server.url, Some(&reader)).until("/v1/views/v", 200).await;
    assert_eq!(ask(Some(&reader)).await.0, 200, "behind a proxy of any name");
    assert_eq!(ask(None).await.0, 401);
    server.stop();
}

#[test]
fn heads_and_bodies_have_an_end() {
    let dir = project("", "", "");
    let server = up(dir.path());
    let address = server.url.strip_prefix("http://").unwrap();
    let ask = |head: &str| {
        let mut socket = TcpStream::connect(address).unwrap();
        // It may be answered, and closed, before all is sent.
        let _ = socket.write_all(format!("{head}\r\n\r\n").as_bytes());
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        answer.lines().next().unwrap_or_default().to_string()
    };
    let get = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close");
    assert_eq!(ask(&get), "HTTP/1.1 200 OK");
    let many: String = (0..101).map(|n| format!("\r\nx-{n}: y")).collect();
    assert!(ask(&format!("{get}{many}")).contains(" 431 "));
    let long = "y".repeat(200 << 10);
    assert!(ask(&format!("{get}\r\nx: {long}")).contains(" 431 "));
    let path = format!("GET /{long} HTTP/1.1\r\nHost: {address}");
    assert!([" 414 ", " 431 "].iter().any(|status| ask(&path).contains(status)));
    let post = |path: &str, bytes: u64| {
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {bytes}")
    };
    assert!(ask(&post("/v1/streams/s", 65 << 20)).contains(" 413 "));
    let started = Instant::now();
    assert!(ask(&post("/v1/sql", 100)).contains(" 400 "), "a body that does not come is not waited for");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    server.stop();
}
