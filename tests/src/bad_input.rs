//! Bad input: one clear line, exit code 2, nothing written; and bad events are kept, counted and queryable.

use crate::process::{Client, Server, refuses, succeeds, twofold};
use crate::three_processes::write_project;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const SQL: &str = "CREATE STREAM s (k TEXT NOT NULL, n BIGINT);
    CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c, sum(n) AS n FROM s GROUP BY k;";

pub fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_project(dir.path(), SQL);
    dir
}

pub fn ingest(project: &Path, bytes: &[u8]) -> String {
    let mut child = std::process::Command::new(crate::process::binary())
        .args(["-p", project.to_str().unwrap(), "ingest", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

pub fn csv(project: &Path, sql: &str) -> String {
    succeeds(project, &["query", "--format", "csv", sql])
}

#[test]
fn bad_events_are_rejected_one_by_one_and_kept() {
    let long = format!("{{\"k\":\"{}\"}}", "x".repeat(1 << 20));
    let mut lines: Vec<Vec<u8>> = [
        "{\"k\":\"a\",\"n\":1}",
        "not json",
        "{\"k\":\"a\",\"n\":\"one\"}",
        "{\"n\":1}",
        "{\"k\":null}",
        "{\"k\":\"a\",\"n\":1.5}",
        "[1,2]",
        "{\"k\":\"a\",\"n\":2}",
        &long,
    ]
    .iter()
    .map(|line| line.as_bytes().to_vec())
    .collect();
    lines.push(b"{\"k\":\"\xff\"}".to_vec());
    for embedded in [true, false] {
        let dir = project();
        let server = (!embedded).then(|| Server::start(dir.path(), &["up"], "serve"));
        let said = ingest(dir.path(), &lines.join(&b'\n'));
        assert!(said.contains("accepted 2") && said.contains("rejected 8"), "{said}");
        assert_eq!(csv(dir.path(), "SELECT * FROM v"), "k,c,n\na,2,3\n");
        assert_eq!(csv(dir.path(), "SELECT count(*) AS c FROM s_rejected"), "c\n8\n");
        let reasons =
            csv(dir.path(), "SELECT reason FROM s_rejected WHERE reason LIKE 'column n%' ORDER BY 1");
        assert_eq!(reasons.lines().count(), 3, "{reasons}");
        assert!(reasons.contains("expected BIGINT") && reasons.contains("one"), "{reasons}");
        let raw = csv(
            dir.path(),
            "SELECT arrow_cast(raw, 'Utf8') AS raw FROM s_rejected WHERE reason LIKE '%NOT NULL%' ORDER BY 1",
        );
        assert!(raw.contains("null") && raw.lines().count() == 3, "{raw}");
        assert_eq!(
            csv(
                dir.path(),
                "SELECT length(encode(raw, 'hex')) >= 2097152 AS long FROM s_rejected ORDER BY 1 DESC LIMIT 1"
            ),
            "long\ntrue\n"
        );
        let status = succeeds(dir.path(), &["status"]);
        assert!(status.contains("s_rejected") || status.contains("rejected"), "{status}");
        // They are archived like all events, and queryable from there.
        succeeds(dir.path(), &["batch"]);
        assert_eq!(csv(dir.path(), "SELECT count(*) AS c FROM s_rejected"), "c\n8\n");
        drop(server);
    }
}

#[test]
fn http_rejects_bad_events_and_names_bad_requests() {
    let dir = project();
    let server = Server::start(dir.path(), &["up"], "serve");
    let client = Client::new(&server.url);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (status, receipt) = client
            .post("/v1/streams/s", "application/x-ndjson", "{\"k\":\"a\"}\nnope\n{\"k\":\"b\"}\n")
            .await;
        assert_eq!(
            (status, &receipt["accepted"], &receipt["rejected"]),
            (200, &2.into(), &1.into()),
            "{receipt}"
        );
        for (path, body, status, part) in [
            ("/v1/streams/t", "{}", 404, "there is no stream t"),
            ("/v1/sql", "{\"sql\": \"SELECT nope FROM v\"}", 400, "nope"),
            ("/v1/sql", "{\"sql\": \"SELEC\"}", 400, "SELEC"),
            ("/v1/sql", "{\"sql\": \"DROP TABLE s\"}", 400, "DROP"),
            ("/v1/sql", "{\"query\": 1}", 400, "sql"),
            ("/v1/sql", "nope", 400, "the body is not"),
        ] {
            let (found, answer) = client.post(path, "application/json", body).await;
            assert_eq!(found, status, "{path} {body}: {answer}");
            let error = answer["error"].as_str().unwrap_or_default().to_lowercase();
            assert!(error.contains(&part.to_lowercase()), "{path} {body}: {answer}");
        }
        let (status, answer) = client.get("/v1/views/w").await;
        assert_eq!(status, 404, "{answer}");
        let (status, answer) = client.get("/v1/views/v?nope=1").await;
        assert_eq!(status, 400, "{answer}");
        let (status, answer) = client.get("/v1/views/v?k=a").await;
        assert_eq!((status, answer["rows"].as_array().map(Vec::len)), (200, Some(1)), "{answer}");
        let (status, metrics) = client.get("/metrics").await;
        assert!(status == 200 && metrics.as_str().is_some_and(|m| m.contains("rejected")), "{metrics}");
        assert_eq!(client.get("/healthz").await.0, 200);
    });
    server.stop();
}

#[test]
fn wrong_commands_say_what_is_wrong_and_write_nothing() {
    let dir = project();
    let file = dir.path().join("e.ndjson");
    std::fs::write(&file, "{\"k\":\"a\"}\n").unwrap();
    let file = file.to_str().unwrap();
    for (args, part) in [
        (&["ingest", "t", file][..], "no stream t"),
        (&["ingest", "s", "nope.ndjson"], "nope.ndjson"),
        (&["ingest", "s", "x.unknown"], "x.unknown"),
        (&["query", "SELECT nope FROM v"], "nope"),
        (&["query", "SELECT * FROM w"], "w"),
        (&["query", "SELEC"], "SELEC"),
        (&["batch", "--view", "w"], "no view w"),
    ] {
        let message = refuses(dir.path(), args);
        assert!(message.contains(part), "{args:?}: {message}");
    }
    assert_eq!(csv(dir.path(), "SELECT count(*) AS c FROM s"), "c\n0\n");
    let empty = tempfile::tempdir().unwrap();
    assert!(refuses(empty.path(), &["check"]).contains("twofold init"));
    std::fs::write(dir.path().join("twofold.toml"), "[archive]\nsegment_row = 5\n").unwrap();
    let message = refuses(dir.path(), &["check"]);
    assert!(message.contains("segment_row") && message.contains("did you mean `segment_rows`"), "{message}");
    write_project(dir.path(), "CREATE STREAM s (k TEXT) WITH (partition = 2)");
    assert!(refuses(dir.path(), &["check"]).contains("views.sql:1:"));
}

#[test]
fn what_would_lose_or_miss_events_is_refused() {
    let dir = project();
    let toml = dir.path().join("twofold.toml");
    let good = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, format!("store = \"memory:///\"\n{good}")).unwrap();
    assert!(refuses(dir.path(), &["query", "SELECT * FROM v"]).contains("would be gone"));
    // The log is elsewhere: without it there is no answer, and no event goes into a log of our own.
    std::fs::write(&toml, good.replace("[speed]\n", "[speed]\nurl = \"http://127.0.0.1:9\"\n")).unwrap();
    assert!(refuses(dir.path(), &["query", "SELECT * FROM v"]).contains("127.0.0.1:9"));
    let file = dir.path().join("e.ndjson");
    std::fs::write(&file, "{\"k\":\"a\"}\n").unwrap();
    assert!(refuses(dir.path(), &["ingest", "s", file.to_str().unwrap()]).contains("127.0.0.1:9"));
    assert!(!dir.path().join("data/log.redb").exists());
}

#[test]
fn a_port_or_a_directory_in_use_is_named_with_its_holder() {
    let dir = project();
    let server = Server::start(dir.path(), &["up"], "serve");
    let address = server.url.strip_prefix("http://").unwrap().to_string();
    let other = project();
    let message = refuses(other.path(), &["up", "--listen", &address]);
    assert!(message.contains(&address), "{message}");
    let message = refuses(dir.path(), &["up"]);
    let pid = std::fs::read_to_string(dir.path().join("data/run/serve.json")).unwrap();
    let pid: serde_json::Value = serde_json::from_str(&pid).unwrap();
    assert!(message.contains(&pid["pid"].to_string()), "{message}");
    server.stop();
    Server::start(dir.path(), &["up"], "serve").stop();
}

/// The files below `dir` whose name ends with `suffix`.
pub fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn damaged_and_newer_files_are_named_and_nothing_is_answered_from_them() {
    let dir = project();
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2}\n");
    succeeds(dir.path(), &["batch"]);
    let store = dir.path().join("data/store");
    let flip = |path: &Path| {
        let good = std::fs::read(path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(path, bad).unwrap();
        good
    };
    let segment = files(&store.join("archive/s/0"), ".parquet").remove(0);
    let state = files(&store.join("views/v"), ".parquet").remove(0);
    for (path, args) in [
        (&segment, &["query", "SELECT count(*) FROM s"][..]),
        (&segment, &["batch", "--full"]),
        (&state, &["query", "SELECT * FROM v"]),
    ] {
        let name = path.file_name().unwrap().to_str().unwrap();
        let good = flip(path);
        let message = refuses(dir.path(), args);
        assert!(message.contains(name), "{message}");
        std::fs::write(path, &good[..good.len() - 1]).unwrap();
        assert!(refuses(dir.path(), args).contains(name));
        std::fs::write(path, good).unwrap();
        assert!(twofold(dir.path(), args).status.success(), "{args:?} after the file is whole again");
    }
    let manifest = files(&store.join("archive/s/manifest"), ".json").pop().unwrap();
    let good = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, good.replace("\"format\":1", "\"format\":2")).unwrap();
    let message = refuses(dir.path(), &["query", "SELECT count(*) FROM s"]);
    assert!(message.contains("newer version"), "{message}");
    std::fs::write(&manifest, &good[..good.len() / 2]).unwrap();
    let name = manifest.file_name().unwrap().to_str().unwrap();
    assert!(refuses(dir.path(), &["query", "SELECT count(*) FROM s"]).contains(name));
    std::fs::write(&manifest, &good).unwrap();

    let path = dir.path().join("data/log.redb");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() / 3]).unwrap();
    assert!(refuses(dir.path(), &["query", "SELECT * FROM v"]).contains("log.redb"));
    std::fs::write(&path, good).unwrap();
    // States can be made again.
    let path = dir.path().join("data/state.redb");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() / 3]).unwrap();
    assert_eq!(csv(dir.path(), "SELECT * FROM v ORDER BY k"), "k,c,n\na,1,1\nb,1,2\n");
    let aside = std::fs::read(dir.path().join("data/state.redb.damaged-0")).unwrap();
    assert_eq!(aside.len(), good.len() / 3);
}
