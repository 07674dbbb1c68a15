//! Watching views in real processes: rows first, then what changes of them, and nobody is held up.

use crate::bad_input::{csv, ingest, project};
use crate::process::{Client, Server, binary};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use twofold_common::{Catalog, Project};

/// `twofold watch` as a program reads it.
struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
    rows: BTreeMap<String, Value>,
    end: u64,
}

impl Watch {
    fn start(project: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.arg("-p").arg(project).args(["watch", "--format", "json"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, rows: BTreeMap::new(), end: 0 }
    }

    /// Takes the next event, and tells which it is. The key is `k`.
    fn take(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "it has ended");
        let event: Value = serde_json::from_str(&line).unwrap();
        let list = |name: &str| event[name].as_array().cloned().unwrap_or_default();
        let name = event["event"].as_str().unwrap().to_string();
        if name == "rows" {
            assert_eq!(event["key"], serde_json::json!(["k"]));
            self.rows.clear();
        }
        for key in list("removed") {
            assert!(self.rows.remove(key["k"].as_str().unwrap()).is_some());
        }
        for row in list("rows").into_iter().chain(list("changed")) {
            self.rows.insert(row["k"].as_str().unwrap().to_string(), row);
        }
        self.end = list("coverage").iter().map(|part| part["speed"][1].as_u64().unwrap()).sum();
        name
    }

    fn csv(&self) -> String {
        let lines =
            self.rows.values().map(|r| format!("{},{},{}\n", r["k"].as_str().unwrap(), r["c"], r["n"]));
        format!("k,c,n\n{}", lines.collect::<String>())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn events(from: usize, to: usize) -> String {
    (from..to).map(|i| format!("{{\"k\":\"k{:02}\",\"n\":{i}}}\n", i % 30)).collect()
}

const QUERY: &str = "SELECT * FROM v ORDER BY k";

/// Watches while events come, and checks what is seen of each request.
fn watch_while_events_come(dir: &Path) {
    let mut watch = Watch::start(dir, &["v"]);
    assert_eq!((watch.take().as_str(), watch.csv().as_str()), ("rows", "k,c,n\n"));
    let mut sent = 0;
    for size in [1, 1, 50, 3, 200, 1] {
        ingest(dir, events(sent, sent + size).as_bytes());
        sent += size;
        while watch.end < sent as u64 {
            assert_eq!(watch.take(), "changes");
        }
        assert_eq!(watch.csv(), csv(dir, QUERY));
    }
    // Who comes later has the same, and one who filters a part of it.
    let mut late = Watch::start(dir, &["v", "--where", "k[gte]=k20"]);
    assert_eq!((late.take().as_str(), late.rows.len()), ("rows", 10));
    let first = watch.rows.split_off("k20");
    assert_eq!(late.rows, first);
}

#[test]
fn changes_are_watched_in_one_process_and_the_server_stops_at_once() {
    let dir = project();
    let server = Server::start(dir.path(), &["up"], "serve");
    watch_while_events_come(dir.path());
    let mut watch = Watch::start(dir.path(), &["v"]);
    watch.take();
    let started = Instant::now();
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // It waits for the server, and begins with the rows.
    let again = Server::start(dir.path(), &["up"], "serve");
    let before = watch.csv();
    assert_eq!((watch.take().as_str(), watch.csv()), ("rows", before));
    again.stop();
}

#[test]
fn changes_are_watched_in_three_processes() {
    let dir = project();
    let speed = Server::start(dir.path(), &["speed"], "speed");
    let serve = Server::start(dir.path(), &["serve"], "serve");
    watch_while_events_come(dir.path());
    serve.stop();
    speed.stop();
}

#[test]
fn watching_needs_a_server_and_a_view() {
    let dir = project();
    let refused = crate::process::refuses(dir.path(), &["watch", "v"]);
    assert!(refused.contains("no server of this project is running: start `twofold up`"), "{refused}");
    let server = Server::start(dir.path(), &["up"], "serve");
    let refused = crate::process::refuses(dir.path(), &["watch", "w"]);
    assert!(refused.contains("there is no view w; there are: v"), "{refused}");
    let refused = crate::process::refuses(dir.path(), &["watch", "v", "--where", "x=1"]);
    assert!(refused.contains("view v has no column x"), "{refused}");
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n");
    let text = crate::process::succeeds(dir.path(), &["watch", "v", "--events", "1"]);
    assert_eq!(text, "k  c  n\na  1  1\n1 row; what changes follows\n");
    server.stop();
}

/// Reads what is there of a stream of events: how many of each name, and the coverage of the last one.
fn read_events(socket: &mut TcpStream, until: u64) -> (BTreeMap<String, usize>, u64) {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut lines, mut names, mut end) = (BufReader::new(socket), BTreeMap::new(), 0);
    while end < until {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it has ended at {end}");
        if let Some(name) = line.trim_end().strip_prefix("event: ") {
            *names.entry(name.to_string()).or_default() += 1;
        }
        if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            let parts = data["coverage"].as_array().unwrap().iter();
            end = parts.map(|part| part["speed"][1].as_u64().unwrap()).sum();
        }
    }
    (names, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_holds_nobody_up_and_gets_the_latest() {
    let dir = project();
    let server = Server::start(dir.path(), &["up"], "serve");
    let address = server.url.strip_prefix("http://").unwrap().to_string();
    let client = Client::new(&server.url);
    // Long rows, so that what the kernel holds of a connection is full after a few.
    let long = |i: u64| format!("{{\"k\":\"{}{}\",\"n\":{i}}}\n", "x".repeat(4000), i % 500);
    let mut stalled = TcpStream::connect(&address).unwrap();
    stalled.write_all(b"GET /v1/views/v/changes HTTP/1.0\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stalled.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.0 200");
    let requests = 120;
    for request in 0..requests {
        let body: String = (request * 250..(request + 1) * 250).map(long).collect();
        let (status, answer) = client.post("/v1/streams/s", "application/x-ndjson", body).await;
        assert_eq!(status, 200, "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sent = requests * 250;
    let (_, others) = client.get("/v1/views/v?limit=1").await;
    assert!(others["rows"].is_array());
    let read = tokio::task::spawn_blocking(move || read_events(&mut stalled, sent)).await.unwrap();
    let (names, end) = read;
    assert_eq!(end, sent);
    let told: usize = names.values().sum();
    assert!(told < requests as usize / 2, "a backlog of {names:?}");
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
}

const VIEWS: &str = "
CREATE STREAM e (ts TIMESTAMP NOT NULL, a TEXT, b TEXT, n BIGINT, WATERMARK FOR ts AS ts);
CREATE MATERIALIZED VIEW one AS SELECT a, count(*) AS c FROM e GROUP BY a;
CREATE MATERIALIZED VIEW two AS SELECT count(*) AS c, b AS y, upper(a) AS x FROM e GROUP BY upper(a), b;
CREATE MATERIALIZED VIEW none AS SELECT count(*) AS c, sum(n) AS n FROM e;
CREATE MATERIALIZED VIEW part AS SELECT b, count(*) AS c FROM e GROUP BY a, b;
CREATE MATERIALIZED VIEW raw AS SELECT a, n FROM e WHERE n > 3;
CREATE MATERIALIZED VIEW exact AS SELECT a, count(DISTINCT b) AS d, sum(n) AS n FROM e GROUP BY a;
CREATE MATERIALIZED VIEW hopped AS
  SELECT hop(ts, INTERVAL '1 minute', INTERVAL '5 minutes') AS w, a, count(*) AS c FROM e GROUP BY 1, 2;
CREATE MATERIALIZED VIEW visits AS SELECT a, session(ts, INTERVAL '1 minute') AS w, count(*) AS c FROM e GROUP BY 1, 2;
CREATE MATERIALIZED VIEW rolled AS SELECT a, b, count(*) AS c FROM e GROUP BY ROLLUP (a, b);
CREATE MATERIALIZED VIEW known AS SELECT DISTINCT b, a FROM e;
CREATE VIEW above AS SELECT c, a FROM one WHERE c > 1 ORDER BY c DESC LIMIT 5;
CREATE VIEW ranked AS SELECT a, rank() OVER (ORDER BY c) AS r FROM one;
CREATE VIEW joined AS SELECT l.a, r.c FROM one l JOIN part r ON l.c = r.c;
CREATE VIEW windows AS SELECT hop(ts, INTERVAL '1 minute', INTERVAL '2 minutes') AS w, a FROM
  (SELECT to_timestamp(c) AS ts, a FROM one);
";

#[tokio::test]
async fn the_key_of_a_view_is_what_its_query_groups_by() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("views.sql"), VIEWS).unwrap();
    let catalog = Catalog::new(&Project::load(dir.path()).unwrap()).await.unwrap();
    for (view, key) in [
        ("one", Some(&[0][..])),
        ("two", Some(&[2, 1])),
        ("none", Some(&[])),
        ("part", None),
        ("raw", None),
        ("exact", Some(&[0])),
        ("hopped", Some(&[0, 1])),
        ("visits", Some(&[0, 1])),
        ("rolled", None),
        ("known", Some(&[0, 1])),
        ("above", Some(&[1])),
        ("ranked", Some(&[0])),
        ("joined", None),
        ("windows", None),
    ] {
        assert_eq!(catalog.row_key(view).await.unwrap().as_deref(), key, "{view}");
    }
}
