//! A changed project: new views are built from archive and log while the others answer; removed ones are dropped by
//! `gc` only; a stream may gain nullable columns.

use crate::events::Event;
use crate::parity::{Platform, Step};
use crate::process::{Server, refuses, succeeds};
use crate::three_processes::write_project;

fn events(from: i64) -> Vec<Event> {
    let event = |i: i64| {
        let partition = (i % 2) as u32;
        let k = if partition == 0 { Some("a") } else { Some("b") };
        Event { second: i % 40, k, n: Some(i), x: None, ok: Some(i % 3 == 0), partition, gap: 0 }
    };
    (from..from + 30).map(event).collect()
}

/// A view that is added is built from batch view, archive and log, wherever those stand.
#[tokio::test(flavor = "multi_thread")]
async fn an_added_view_is_built_while_the_others_answer() {
    for (trimmed, batch_first) in [(false, false), (true, false), (true, true)] {
        let mut platform = Platform::new(&["counts"], 7).await;
        for round in 0..3 {
            platform.take(&Step::Ingest("clicks", events(round * 30))).await;
            platform.take(&Step::Epochs).await;
            if trimmed {
                for step in [Step::Archive, Step::Batch { full: false }, Step::Retire] {
                    platform.take(&step).await;
                }
            }
        }
        platform.change(&["counts", "named", "kept"]).await;
        if trimmed {
            let bounds =
                twofold_common::Log::bounds(&*platform.log, "clicks", twofold_common::Partition(0)).await;
            assert!(bounds.unwrap().start.0 > 0, "the log alone is not enough");
        }
        platform.check(&["counts"]).await;
        let error = platform.serving().query("SELECT * FROM named").await.unwrap_err();
        assert_eq!(error.kind(), twofold_common::Kind::Unavailable);
        assert!(error.to_string().contains("view named is being built: 0 %"), "{error}");
        if batch_first {
            platform.take(&Step::Batch { full: false }).await;
            platform.take(&Step::Retire).await;
        }
        platform.take(&Step::Ingest("clicks", events(90))).await;
        platform.take(&Step::Epochs).await;
        for view in ["counts", "named", "kept"] {
            assert!(
                platform.serving().query(&format!("SELECT * FROM {view}")).await.is_ok(),
                "{view} is built"
            );
        }
        platform.check(&["counts", "named", "kept"]).await;
        // Sealed and archived states of the built view are those that batch folds.
        for step in [Step::Seal, Step::Archive, Step::Batch { full: true }] {
            platform.take(&step).await;
        }
        platform.check(&["counts", "named", "kept"]).await;
    }
}

/// A view that is removed and comes back goes on from where it was, in the middle of a segment, though that was
/// archived and trimmed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_view_keeps_its_states_until_gc() {
    let mut platform = Platform::new(&["counts", "named"], 20).await;
    platform.take(&Step::Ingest("clicks", events(0))).await;
    platform.take(&Step::Epochs).await;
    platform.change(&["counts"]).await;
    assert_eq!(platform.engine().removed_views().len(), 1);
    platform.take(&Step::Ingest("clicks", events(30))).await;
    for step in [Step::Epochs, Step::Seal, Step::Archive, Step::Batch { full: false }, Step::Retire] {
        platform.take(&step).await;
    }
    platform.change(&["counts", "named"]).await;
    assert_eq!(platform.engine().removed_views().len(), 0);
    platform.take(&Step::Epochs).await;
    platform.check(&["counts", "named"]).await;

    platform.change(&["counts"]).await;
    assert_eq!(platform.engine().drop_removed_views().await.unwrap().len(), 1);
    platform.take(&Step::Restart).await;
    assert_eq!(platform.engine().removed_views().len(), 0);
    platform.check(&["counts"]).await;
}

/// Who asks for what was let go is told so, and does not get half of it.
#[tokio::test(flavor = "multi_thread")]
async fn states_that_were_let_go_are_not_given() {
    use twofold_common::{Answer, SnapshotRequest, SpeedLayer, StreamRequest, ViewRequest};
    let mut platform = Platform::new(&["counts"], 7).await;
    platform.take(&Step::Ingest("clicks", events(0))).await;
    for step in [Step::Epochs, Step::Seal, Step::Archive, Step::Batch { full: false }, Step::Retire] {
        platform.take(&step).await;
    }
    let fingerprint = platform.catalog.view("counts").unwrap().fingerprint();
    let view = ViewRequest { view: "counts".into(), fingerprint, from: Default::default() };
    let stream = StreamRequest { stream: "clicks".into(), from: Default::default() };
    for (views, streams) in [(vec![view], vec![]), (vec![], vec![stream])] {
        let answer = platform
            .engine()
            .snapshot(&SnapshotRequest { views, streams, ..Default::default() })
            .await
            .unwrap();
        assert!(matches!(answer, Answer::Retired { .. }), "{answer:?}");
    }
}

/// A view whose query fails on an event stops by itself; the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_fails_on_an_event_harms_no_other() {
    let mut platform = Platform::new(&["counts", "fragile"], 100).await;
    platform.take(&Step::Ingest("clicks", events(0))).await;
    platform.take(&Step::Epochs).await;
    platform.check(&["counts"]).await;
    let error = platform.serving().query("SELECT * FROM fragile").await.unwrap_err().to_string();
    assert!(error.contains("fragile") && error.contains("stream clicks, partition"), "{error}");
}

const FIRST: &str = "CREATE STREAM s (k TEXT NOT NULL, n BIGINT);
    CREATE MATERIALIZED VIEW kept AS SELECT k, count(*) AS c FROM s GROUP BY k;
    CREATE MATERIALIZED VIEW dropped AS SELECT count(*) AS c FROM s;";

#[test]
fn streams_gain_nullable_columns_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(project, FIRST);
    std::fs::write(project.join("e.ndjson"), "{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\"}\n").unwrap();
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    succeeds(project, &["batch"]);

    let changes = [
        ("k TEXT NOT NULL, n BIGINT", "k TEXT NOT NULL", "n"),
        ("n BIGINT", "n DOUBLE", "n"),
        ("k TEXT NOT NULL", "k TEXT", "k"),
        ("n BIGINT", "n BIGINT, m BIGINT NOT NULL", "m"),
    ];
    for (was, is, column) in changes {
        write_project(project, &FIRST.replace(was, is));
        let message = refuses(project, &["query", "SELECT count(*) FROM s"]);
        assert!(message.contains("stream s") && message.contains(&format!("column {column}")), "{message}");
    }
    write_project(
        project,
        &FIRST.replace("NOT NULL, n BIGINT)", "NOT NULL, n BIGINT) WITH (partitions = 3)"),
    );
    assert!(refuses(project, &["query", "SELECT 1"]).contains("partitions"));

    let views = "CREATE MATERIALIZED VIEW extras AS SELECT extra, count(*) AS c FROM s GROUP BY extra;";
    write_project(project, &(FIRST.replace("n BIGINT)", "n BIGINT, extra TEXT)") + views));
    std::fs::write(project.join("e.ndjson"), "{\"k\":\"a\",\"extra\":\"x\"}\n").unwrap();
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    let rows = succeeds(project, &["query", "--format", "csv", "SELECT * FROM extras ORDER BY c DESC"]);
    assert_eq!(rows, "extra,c\n,2\nx,1\n");
    let rows = succeeds(
        project,
        &["query", "--format", "csv", "SELECT k, n, extra FROM s ORDER BY k, n NULLS LAST"],
    );
    assert_eq!(rows, "k,n,extra\na,1,\na,,x\nb,,\n");
}

#[test]
fn a_stream_without_events_may_change_as_it_likes() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(project, FIRST);
    succeeds(project, &["speed", "--once"]);
    write_project(project, &FIRST.replace("n BIGINT)", "n DOUBLE NOT NULL, m TEXT) WITH (partitions = 3)"));
    std::fs::write(project.join("e.ndjson"), "{\"k\":\"a\",\"n\":1.5}\n").unwrap();
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    assert_eq!(succeeds(project, &["query", "--format", "csv", "SELECT k, n FROM s"]), "k,n\na,1.5\n");
    // From the first event on, archived or not, it may not.
    write_project(project, FIRST);
    let message = refuses(project, &["query", "SELECT * FROM s"]);
    assert!(message.contains("stream s"), "{message}");
}

#[test]
fn a_view_that_fails_stops_no_other_in_batch() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(
        project,
        &(FIRST.to_string() + "CREATE MATERIALIZED VIEW bad AS SELECT CAST(k AS BIGINT) AS n FROM s;"),
    );
    std::fs::write(project.join("e.ndjson"), "{\"k\":\"a\"}\n").unwrap();
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    let output = crate::process::twofold(project, &["batch"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert!(err.contains("view bad") && err.trim_end().lines().count() == 1, "{err}");
    assert!(out.contains("kept") && out.contains("version 1"), "{out}");
    assert!(refuses(project, &["query", "SELECT * FROM bad"]).contains("view bad"));
    assert_eq!(succeeds(project, &["query", "--format", "csv", "SELECT * FROM kept"]), "k,c\na,1\n");
}

#[test]
fn gc_drops_what_the_project_does_not_have_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(project, FIRST);
    std::fs::write(project.join("e.ndjson"), "{\"k\":\"a\",\"n\":1}\n").unwrap();
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    succeeds(project, &["batch"]);
    assert!(project.join("data/store/views/dropped").exists());
    let without: String = FIRST.lines().filter(|line| !line.contains("dropped")).collect();
    write_project(project, &without);
    let listed = succeeds(project, &["gc", "--dry-run", "--older-than", "0s"]);
    assert!(listed.contains("views/dropped/"), "{listed}");
    assert!(!listed.contains("views/kept/") && !listed.contains("archive/"), "{listed}");
    let dropped = || {
        let mut files = vec![project.join("data/store/views/dropped")];
        let mut found = 0;
        while let Some(path) = files.pop() {
            match std::fs::read_dir(&path) {
                Ok(dir) => files.extend(dir.map(|entry| entry.unwrap().path())),
                Err(_) => found += usize::from(path.is_file()),
            }
        }
        found
    };
    assert!(dropped() > 0, "a dry run removes nothing");
    succeeds(project, &["gc", "--older-than", "0s"]);
    assert_eq!(dropped(), 0);
    assert_eq!(succeeds(project, &["query", "--format", "csv", "SELECT * FROM kept"]), "k,c\na,1\n");
    assert!(!succeeds(project, &["gc", "--dry-run", "--older-than", "0s"]).contains("views/dropped/"));
}

#[test]
fn gc_reaches_the_states_of_a_running_speed_layer() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(project, FIRST);
    std::fs::write(project.join("e.ndjson"), "{\"k\":\"a\",\"n\":1}\n").unwrap();
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    succeeds(project, &["speed", "--once"]);
    let without: String = FIRST.lines().filter(|line| !line.contains("dropped")).collect();
    write_project(project, &without);
    let speed = Server::start(project, &["speed"], "speed");
    assert!(succeeds(project, &["gc", "--dry-run"]).contains("speed states of 1 removed view would go"));
    assert!(succeeds(project, &["gc"]).contains("dropped the speed states of 1 removed view"));
    assert!(succeeds(project, &["gc", "--dry-run"]).contains("speed states of 0 removed views would go"));
    speed.stop();
}

#[test]
fn a_running_server_serves_a_changed_view_after_its_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(project, FIRST);
    std::fs::write(project.join("e.ndjson"), "{\"k\":\"a\",\"n\":1}\n{\"k\":\"a\",\"n\":5}\n").unwrap();
    let up = Server::start(project, &["up"], "serve");
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    assert_eq!(succeeds(project, &["query", "--format", "csv", "SELECT * FROM kept"]), "k,c\na,2\n");
    write_project(project, &FIRST.replace("count(*) AS c FROM s GROUP", "sum(n) AS c FROM s GROUP"));
    assert_eq!(succeeds(project, &["query", "--format", "csv", "SELECT * FROM kept"]), "k,c\na,2\n");
    up.stop();
    let up = Server::start(project, &["up"], "serve");
    let started = std::time::Instant::now();
    loop {
        let output = crate::process::twofold(project, &["query", "--format", "csv", "SELECT * FROM kept"]);
        let rows = String::from_utf8_lossy(&output.stdout).into_owned();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        // Until the view is built, the project before answers, and says so.
        match output.status.success() {
            true if rows == "k,c\na,6\n" => break,
            true => assert!(
                rows == "k,c\na,2\n" && message.contains("the answer of the one before"),
                "{rows}{message}"
            ),
            false => assert!(message.contains("being built"), "{message}"),
        }
        assert!(started.elapsed().as_secs() < 30, "{message}");
    }
    up.stop();
}
