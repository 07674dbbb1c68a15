//! What one who asks can take: time, memory, rows, turns, and nothing once they are gone.

use super::{Asker, project, says, token, up};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Goes on for hours, and holds memory.
const HOARDS: &str = "SELECT count(*) FROM (SELECT a.value % 1000003 AS k, b.value % 1009 AS l, count(*) AS n \
                      FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b GROUP BY 1, 2)";
const MEMORY: &str = "twofold_query_memory_bytes";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_query_and_its_memory_with_it() {
    let dir = project("", "", "");
    let server = up(dir.path());
    let asker = Asker::new(&server.url, None);
    let address = server.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let body = json!({ "sql": HOARDS }).to_string();
    write!(
        socket,
        "POST /v1/sql HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let wait = async |until: &dyn Fn(i64) -> bool| {
        let started = Instant::now();
        loop {
            let memory = asker.metric(MEMORY).await;
            if until(memory) {
                return started.elapsed();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{MEMORY} is {memory}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    wait(&|bytes| bytes > 1 << 20).await;
    assert_eq!(asker.metric("twofold_queries_running").await, 1);
    drop(socket);
    let freed = wait(&|bytes| bytes == 0).await;
    assert!(freed < Duration::from_secs(2), "{freed:?}");
    assert_eq!(asker.metric("twofold_queries_running").await, 0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn time_memory_and_rows_are_bounded_and_the_server_goes_on() {
    let more = "[limits]\nquery_timeout = \"500ms\"\nquery_memory = \"4 MiB\"\nmax_rows = 100";
    let dir = project("", "", more);
    let server = up(dir.path());
    let asker = Asker::new(&server.url, None);
    for (sql, status, setting) in [
        (
            "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
            503,
            "query_timeout",
        ),
        ("SELECT array_length(array_agg(value)) FROM generate_series(1, 2000000)", 503, "query_memory"),
        ("SELECT * FROM generate_series(1, 101)", 400, "max_rows"),
    ] {
        let started = Instant::now();
        let (found, body) = asker.sql(sql).await;
        assert_eq!(found, status, "{sql}: {body}");
        assert!(says(&body).contains(&format!("`{setting}` in [limits]")), "{body}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(asker.metric(MEMORY).await, 0);
    }
    assert_eq!(asker.sql("SELECT * FROM generate_series(1, 100)").await.0, 200);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_queries_at_once_are_told_to_come_back() {
    let more = "[limits]\nqueries = 2\nqueries_waiting = 1\ntoken_queries = 1\nquery_timeout = \"3s\"";
    let dir = project("", "", more);
    let server = up(dir.path());
    let asker = Asker::new(&server.url, None);
    let ask = |asker: &Asker| {
        let asker = asker.clone();
        tokio::spawn(async move { asker.sql(HOARDS).await })
    };
    let running = [ask(&asker), ask(&asker), ask(&asker)];
    let started = Instant::now();
    while asker.metric("twofold_queries_waiting").await < 1 {
        assert!(started.elapsed() < Duration::from_secs(2), "none waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let response =
        asker.post_request("/v1/sql", json!({ "sql": "SELECT 1" }).to_string()).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    for query in running {
        assert_eq!(query.await.unwrap().0, 503, "stopped by the time");
    }
    let (a, b) = (token(dir.path(), &["a", "--read", "*"]), token(dir.path(), &["b", "--read", "*"]));
    let [a, b] = [&a, &b].map(|token| Asker::new(&server.url, Some(token)));
    b.until("/v1/views/v", 200).await;
    let first = ask(&a);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (status, body) = a.sql("SELECT 1").await;
    assert!(status == 429 && says(&body).contains("queries of the token a"), "{status} {body}");
    assert_eq!(b.sql("SELECT 1").await.0, 200, "another token has its own");
    assert_eq!(first.await.unwrap().0, 503);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_made_to_break_the_server_is_refused_or_answered() {
    let dir = project("", "", "[limits]\nquery_timeout = \"20s\"");
    let mut server = up(dir.path());
    let asker = Asker::new(&server.url, None);
    let many = |n: usize, what: &str| what.repeat(n);
    let statements = [
        format!("SELECT 1{}", many(500_000, "+1")),
        format!("SELECT 1{}", many(2_400, "+1")),
        format!("SELECT 1{}", many(500, "+1")),
        format!("SELECT 1 WHERE true{}", many(250, " OR 1=1")),
        format!("SELECT {}1{}", many(400_000, "("), many(400_000, ")")),
        format!("SELECT {}true", many(900, "NOT ")),
        format!("SELECT {}1", many(900, "- ")),
        format!("SELECT 1{}", many(500, "::int")),
        format!("SELECT {}1{}", many(1_200, "CASE WHEN true THEN "), many(1_200, " END")),
        format!("{}SELECT 1{}", many(90, "SELECT * FROM ("), many(90, ")")),
        format!("SELECT 1{}", many(1_200, " UNION ALL SELECT 1")),
        format!("SELECT 1{}", many(99, " UNION ALL SELECT 1")),
        format!("SELECT 1 FROM v{}", many(1_000, " CROSS JOIN v")),
        format!("SELECT 1 FROM v{}", many(2_000, ", v")),
        format!("SELECT 1 FROM v{}", many(99, ", v")),
        format!("SELECT 1 WHERE 1 IN ({}1)", many(200_000, "1,")),
        format!("SELECT {}1{}", many(2_000, "abs("), many(2_000, ")")),
        format!("SELECT {}1{}", many(2_000, "["), many(2_000, "]")),
        format!("SELECT '{}'", many(900_000, "x")),
        format!(
            "WITH {} SELECT 1",
            (0..500).map(|n| format!("c{n} AS (SELECT {n})")).collect::<Vec<_>>().join(",")
        ),
        format!("EXPLAIN {}", many(400, "EXPLAIN ")),
        format!("/*{}*/ SELECT 1", many(200_000, "/*")),
        "SELECT \u{0}".into(),
    ];
    for sql in statements {
        let (start, started) = (sql.chars().take(60).collect::<String>(), Instant::now());
        let sent = asker.post_request("/v1/sql", json!({ "sql": sql }).to_string()).send().await;
        assert!(sent.is_ok() && server.ended().is_none(), "{start}… ({} bytes) ended the server", sql.len());
        let status = sent.unwrap().status().as_u16();
        assert!([200, 400, 404].contains(&status), "{start}…: {status}");
        assert!(started.elapsed() < Duration::from_secs(30), "{start}… took {:?}", started.elapsed());
    }
    assert_eq!(asker.sql("SELECT 1").await.0, 200);
    server.stop();
}
