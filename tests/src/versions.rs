//! A changed project is built beside the one before it: each query is answered wholly in one of the two, equal to a
//! plain query over what it covers, until all views are built; then all answer anew.

use crate::events::Event;
use crate::oracle::{answer, assert_same};
use crate::parity::{Platform, Sizes, Step};
use crate::process::{Client, Server, succeeds};
use crate::three_processes::write_project;
use crate::views::{NAMES, STREAMS};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use twofold_common::{Catalog, Kind, Project, SpeedLayer};
use twofold_serving::Rows;

/// A project over the streams of [`STREAMS`], with these views and this table.
async fn project(views: &[(&str, &str)], names: &str) -> (TempDir, Project, Arc<Catalog>) {
    let mut sql = STREAMS.to_string();
    for (name, query) in views {
        sql += &format!("CREATE MATERIALIZED VIEW {name} AS {query};\n");
    }
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [("twofold.toml", ""), ("names.csv", names), ("views.sql", &sql)] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    let project = Project::load(dir.path()).unwrap();
    let catalog = Arc::new(Catalog::new(&project).await.unwrap());
    (dir, project, catalog)
}

const COUNTS: (&str, &str) = ("counts", "SELECT k, count(*) AS c FROM clicks GROUP BY k");
const NAMED: (&str, &str) =
    ("named", "SELECT t.name, sum(c.n * t.weight) AS s FROM clicks c JOIN names t USING (k) GROUP BY t.name");
const SUMS: (&str, &str) = ("sums", "SELECT k, sum(n) AS x FROM orders GROUP BY k");
const MAXES: (&str, &str) = ("sums", "SELECT k, max(n) + 1 AS x FROM orders GROUP BY k");
const GONE: (&str, &str) = ("gone", "SELECT ok, count(*) AS c FROM clicks GROUP BY ok");
const ADDED: (&str, &str) = ("added", "SELECT min(n) AS lo FROM clicks");
const BEFORE: [(&str, &str); 4] = [COUNTS, NAMED, SUMS, GONE];
const AFTER: [(&str, &str); 4] = [COUNTS, NAMED, MAXES, ADDED];
const OTHER_NAMES: &str = "k,name,weight\na,Ada,10\nb,Ben,20\nc,Cleo,5\n";

/// What both projects can be asked.
const QUERIES: [&str; 6] = [
    "SELECT * FROM counts",
    "SELECT * FROM named",
    "SELECT * FROM sums",
    "SELECT c.k, c.c, s.x, t.name, t.weight FROM counts c JOIN names t USING (k) LEFT JOIN sums s ON s.k = c.k",
    "SELECT n.name, n.s, t.weight FROM named n JOIN names t ON t.name = n.name",
    "SELECT count(*) AS c, sum(n) AS s FROM clicks",
];

fn events(from: i64) -> Vec<Event> {
    let event = |i: i64| {
        let k = ["a", "b", "c"][(i % 3) as usize];
        Event {
            second: i % 40,
            k: Some(k),
            n: Some(i),
            x: None,
            ok: Some(i % 2 == 0),
            partition: (i % 2) as u32,
            gap: 0,
        }
    };
    (from..from + 24).map(event).collect()
}

async fn ingest(platform: &mut Platform, from: i64) {
    for stream in ["clicks", "orders"] {
        platform.take(&Step::Ingest(stream, events(from))).await;
    }
}

/// A platform that has folded the events of the first rounds under the project before, and then has the one after it.
async fn changed(archived: bool) -> Platform {
    let mut platform =
        Platform::of(project(&BEFORE, NAMES).await, Sizes { epoch_rows: 5, segment_rows: 7 }).await;
    for round in 0..3 {
        ingest(&mut platform, round * 24).await;
        platform.take(&Step::Epochs).await;
        if archived && round < 2 {
            for step in [Step::Seal, Step::Archive, Step::Batch { full: false }, Step::Retire] {
                platform.take(&step).await;
            }
        }
    }
    let (_dir, now, catalog) = project(&AFTER, OTHER_NAMES).await;
    platform.change_beside(now, catalog).await;
    platform
}

/// The answer equals the plain query of the project that it says it is of.
async fn check(platform: &Platform, sql: &str) -> Rows {
    let rows = platform.serving().query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let project = match rows.previous {
        true => &platform.before.as_ref().unwrap().0,
        false => &platform.project,
    };
    let oracle = platform.oracle_of(project, &rows.coverage).await;
    assert_same(&format!("{sql}, previous: {}", rows.previous), &rows.batches, &answer(&oracle, sql).await);
    rows
}

/// The answers to all queries are of the same project.
async fn check_all(platform: &Platform) -> bool {
    let mut previous = Vec::new();
    for sql in QUERIES {
        previous.push(check(platform, sql).await.previous);
    }
    previous.dedup();
    assert_eq!(previous.len(), 1, "all queries are answered by one project");
    previous[0]
}

/// Builds step by step; between any two steps all is answered. Gives how often the previous project answered.
async fn build(platform: &mut Platform) -> usize {
    let mut of_previous = 0;
    loop {
        let previous = check_all(platform).await;
        assert!(previous || of_previous > 0, "it is not built yet");
        of_previous += usize::from(previous);
        if !previous {
            return of_previous;
        }
        platform.engine().turn().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_project_answers_until_all_views_are_built() {
    for archived in [false, true] {
        let mut platform = changed(archived).await;
        let gone = check(&platform, "SELECT * FROM gone").await;
        assert!(gone.previous && gone.num_rows() > 0);
        let added = platform.serving().query("SELECT * FROM added").await.unwrap_err();
        assert!(added.kind() == Kind::Unavailable && added.to_string().contains("being built"), "{added}");
        // What comes meanwhile is in the answers of both.
        ingest(&mut platform, 72).await;
        let steps = build(&mut platform).await;
        assert!(steps > 3, "it is built in steps, not in {steps}");
        assert!(!check_all(&platform).await, "once");
        platform.take(&Step::Epochs).await;
        let covered: Vec<_> = check(&platform, "SELECT * FROM added").await.coverage;
        let ends: Vec<_> = covered.iter().map(|part| part.speed.end).collect();
        assert_eq!(ends, platform.ends("clicks").await);
        let error = platform.serving().query("SELECT * FROM gone").await.unwrap_err().to_string();
        assert!(error.contains("there is no view, stream or table gone"), "{error}");

        assert!(platform.engine().let_go_of_previous().await);
        assert_eq!(platform.engine().removed_views().len(), 3, "they wait for gc");
        assert!(!check_all(&platform).await);
        // What was carried meanwhile is the state that batch folds.
        for step in [Step::Seal, Step::Archive, Step::Batch { full: true }, Step::Retire] {
            platform.take(&step).await;
            assert!(!check_all(&platform).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_building_goes_on_with_both() {
    for lost in [false, true] {
        let mut platform = changed(true).await;
        for _ in 0..3 {
            platform.engine().turn().await.unwrap();
        }
        ingest(&mut platform, 72).await;
        if lost {
            // Archived and in no batch view: both versions have to be built from there.
            for step in [Step::Epochs, Step::Seal, Step::Archive] {
                platform.take(&step).await;
            }
        }
        platform.take(&if lost { Step::LoseStates } else { Step::Restart }).await;
        if lost {
            assert!(platform.serving().query("SELECT * FROM named").await.is_err(), "neither is there");
            // Those of the previous project are built first, so that it answers soon.
            for sql in QUERIES {
                while let Err(e) = platform.serving().query(sql).await {
                    assert_eq!(e.kind(), Kind::Unavailable, "{e}");
                    platform.engine().turn().await.unwrap();
                }
            }
        }
        assert!(check_all(&platform).await, "the previous project answers");
        build(&mut platform).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_comes_back_answers_at_once() {
    let mut platform = changed(true).await;
    ingest(&mut platform, 72).await;
    build(&mut platform).await;
    platform.take(&Step::Epochs).await;
    platform.engine().let_go_of_previous().await;
    let (before, catalog) = platform.before.take().unwrap();
    platform.change_beside(before, catalog).await;
    assert!(*platform.engine().built().borrow(), "its states were kept, and nothing came since");
    assert!(!check_all(&platform).await);
    check(&platform, "SELECT * FROM gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_fails_on_an_event_is_not_swapped_in() {
    let before = [COUNTS, SUMS];
    let mut platform =
        Platform::of(project(&before, NAMES).await, Sizes { epoch_rows: 5, segment_rows: 7 }).await;
    ingest(&mut platform, 0).await;
    platform.take(&Step::Epochs).await;
    let bad = ("sums", "SELECT k, sum(CAST(k AS BIGINT)) AS x FROM orders GROUP BY k");
    let (_dir, now, catalog) = project(&[COUNTS, bad], OTHER_NAMES).await;
    platform.change_beside(now, catalog).await;
    ingest(&mut platform, 24).await;
    platform.take(&Step::Epochs).await;
    for sql in ["SELECT * FROM sums", "SELECT * FROM counts", "SELECT * FROM names"] {
        assert!(check(&platform, sql).await.previous, "{sql}");
    }
    assert!(!platform.engine().let_go_of_previous().await);
    let status = platform.serving().status().await.unwrap();
    let sums = status.views.iter().find(|view| view.name == "sums").unwrap();
    assert!(sums.failed.is_some() && sums.previous.is_some(), "{sums:?}");
}

/// There and back again while all goes on, with events and batch runs in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_taken_over_without_a_restart() {
    let parts = project(&BEFORE, NAMES).await;
    let mut platform = Platform::of(parts, Sizes { epoch_rows: 5, segment_rows: 7 }).await;
    for round in 0..4 {
        ingest(&mut platform, round * 24).await;
        platform.take(&Step::Epochs).await;
        for step in [Step::Seal, Step::Archive, Step::Batch { full: false }, Step::Retire] {
            platform.take(&step).await;
        }
        let there = round % 2 == 0;
        let (_dir, now, catalog) =
            if there { project(&AFTER, OTHER_NAMES).await } else { project(&BEFORE, NAMES).await };
        platform.adopt(now, catalog).await;
        ingest(&mut platform, 100 + round * 24).await;
        if round == 0 {
            assert!(build(&mut platform).await > 3);
        } else {
            while check_all(&platform).await {
                platform.engine().turn().await.unwrap();
            }
        }
        platform.take(&Step::Epochs).await;
        check(&platform, if there { "SELECT * FROM added" } else { "SELECT * FROM gone" }).await;
        assert!(platform.engine().let_go_of_previous().await);
        assert_eq!(platform.engine().removed_views().len(), 3);
        check_all(&platform).await;
    }
    // What memory came to is what the store has.
    platform.before = None;
    platform.take(&Step::Restart).await;
    assert!(*platform.engine().built().borrow());
    check_all(&platform).await;
}

/// A project that is not built yet is followed by another: the last one that was built answers all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_taken_over_in_the_middle_of_building_keeps_the_one_that_answers() {
    let mut platform = changed(false).await;
    platform.engine().turn().await.unwrap();
    let built = platform.before.take();
    let (_dir, now, catalog) = project(&[COUNTS, NAMED, SUMS], OTHER_NAMES).await;
    platform.adopt(now, catalog).await;
    platform.before = built;
    assert_eq!(platform.engine().removed_views().len(), 2, "those that were half built, and are in neither");
    assert!(build(&mut platform).await > 1);
    let (_dir, streams) = (tempfile::tempdir().unwrap(), "CREATE STREAM clicks (k TEXT);");
    std::fs::write(_dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(_dir.path().join("a.sql"), streams).unwrap();
    let other = Catalog::new(&Project::load(_dir.path()).unwrap()).await.unwrap();
    let error = platform.engine().adopt(Arc::new(other)).await.unwrap_err().to_string();
    assert!(error.contains("restart"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_events_are_answered_while_they_are_counted_anew() {
    let mut platform = changed(true).await;
    let sql = "SELECT view, sum(count) AS c FROM twofold_late_events GROUP BY view";
    for _ in 0..3 {
        let rows = platform.serving().query(sql).await.unwrap();
        assert!(rows.previous && rows.num_rows() > 0, "the streams have late events");
        platform.engine().turn().await.unwrap();
    }
    platform.take(&Step::Epochs).await;
    let rows = platform.serving().query(sql).await.unwrap();
    assert!(!rows.previous && rows.num_rows() > 0);
    let late = platform.engine().status().await.unwrap().late;
    assert!(late.iter().all(|total| total.view != "gone"), "{late:?}");
}

const SQL: &str = "CREATE STREAM s (k TEXT NOT NULL, n BIGINT);
    CREATE TABLE names (k TEXT, name TEXT) WITH (path = 'names.csv');
    CREATE MATERIALIZED VIEW named AS SELECT name, count(*) AS c FROM s JOIN names USING (k) GROUP BY name;
    CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS x FROM s GROUP BY k;";

fn query(project: &Path, sql: &str) -> String {
    succeeds(project, &["query", "--format", "csv", sql])
}

/// Asks until the answer is `is`; before that it must be `was`, and say so.
async fn switched(client: &Client, sql: &str, was: &str, is: &str) {
    let started = Instant::now();
    loop {
        let (status, body) = client.sql(sql).await;
        assert_eq!(status, 200, "{body}");
        let rows = body["rows"].to_string();
        if rows == is {
            assert!(body.get("version").is_none(), "{body}");
            return;
        }
        assert_eq!((rows.as_str(), body["version"].as_str()), (was, Some("previous")), "{body}");
        assert!(started.elapsed() < Duration::from_secs(60), "{body}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_answers_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(project, SQL);
    let lines: String =
        (0..3000).map(|i| format!("{{\"k\":\"{}\",\"n\":{i}}}\n", ["a", "b"][i % 2])).collect();
    std::fs::write(project.join("e.ndjson"), lines).unwrap();
    // So many epochs that building takes a while.
    let toml = std::fs::read_to_string(project.join("twofold.toml")).unwrap();
    std::fs::write(project.join("twofold.toml"), toml.replace("[speed]", "[speed]\nepoch_rows = 5")).unwrap();
    let up = Server::start(project, &["up"], "serve");
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    let sql = "SELECT name, c FROM named ORDER BY name";
    let was = "[{\"c\":1500,\"name\":\"A\"},{\"c\":1500,\"name\":\"B\"}]";
    let is = "[{\"c\":1500,\"name\":\"Ada\"},{\"c\":1500,\"name\":\"B\"}]";
    // So many epochs may take longer than a query waits for them.
    let started = Instant::now();
    loop {
        let rows = Client::new(&up.url).sql(sql).await.1["rows"].to_string();
        if rows == was {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the events are not folded: {rows}");
    }
    up.stop();

    std::fs::write(project.join("names.csv"), "k,name\na,Ada\nb,B\n").unwrap();
    let up = Server::start(project, &["up"], "serve");
    let (_, first) = Client::new(&up.url).sql(sql).await;
    assert_eq!(
        (first["rows"].to_string().as_str(), first["version"].as_str()),
        (was, Some("previous")),
        "{first}"
    );
    let status = succeeds(project, &["status"]);
    assert!(status.contains("answers"), "{status}");
    let (_, all) = Client::new(&up.url).get("/v1/status").await;
    let sums = all["views"].as_array().unwrap().iter().find(|view| view["name"] == "sums").unwrap();
    assert!(sums.get("previous").is_none(), "an unchanged view is the same in both: {sums}");
    up.kill();
    // In another process than the one that builds, after a crash in the middle.
    let (speed, serve) =
        (Server::start(project, &["speed"], "speed"), Server::start(project, &["serve"], "serve"));
    switched(&Client::new(&serve.url), sql, was, is).await;
    serve.stop();
    speed.stop();

    // Back again: the states are there still, and nothing has to be built.
    write_project(project, SQL);
    assert_eq!(query(project, sql), "name,c\nA,1500\nB,1500\n");
    // A definition that was lost is told, and all goes on without it.
    std::fs::remove_dir_all(project.join("data/store/projects/files")).unwrap();
    std::fs::write(project.join("names.csv"), "k,name\na,Ann\n").unwrap();
    let up = Server::start(project, &["up"], "serve");
    up.stop();
    let log = std::fs::read_to_string(project.join("up.log")).unwrap();
    assert!(log.contains("cannot answer while this one is being built"), "{log}");
    assert_eq!(query(project, sql), "name,c\nAnn,1500\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_changed_tables_over() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    write_project(project, SQL);
    let toml = std::fs::read_to_string(project.join("twofold.toml")).unwrap() + "[tables]\nreload = '20ms'\n";
    std::fs::write(project.join("twofold.toml"), toml).unwrap();
    let lines: String =
        (0..100).map(|i| format!("{{\"k\":\"{}\",\"n\":{i}}}\n", ["a", "b"][i % 2])).collect();
    std::fs::write(project.join("e.ndjson"), lines).unwrap();
    let sql = "SELECT name, c FROM named ORDER BY name";
    let rows = |a: &str| format!("[{{\"c\":50,\"name\":\"{a}\"}},{{\"c\":50,\"name\":\"B\"}}]");
    let table = |a: &str| std::fs::write(project.join("names.csv"), format!("k,name\na,{a}\nb,B\n")).unwrap();
    let settles = async |url: &str, was: &str, is: &str| {
        let started = Instant::now();
        loop {
            let (status, body) = Client::new(url).sql(sql).await;
            assert_eq!(status, 200, "{body}");
            let found = body["rows"].to_string();
            if found == rows(is) {
                break;
            }
            assert_eq!(found, rows(was));
            assert!(started.elapsed() < Duration::from_secs(60), "{body}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let up = Server::start(project, &["up"], "serve");
    succeeds(project, &["ingest", "s", project.join("e.ndjson").to_str().unwrap()]);
    for (was, is) in [("A", "Ada"), ("Ada", "Anna"), ("Anna", "A")] {
        table(is);
        settles(&up.url, was, is).await;
    }
    // What cannot be read as the table changes nothing.
    std::fs::write(project.join("names.csv"), "nothing\n").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    settles(&up.url, "A", "A").await;
    table("A");
    up.stop();
    assert!(std::fs::read_to_string(project.join("up.log")).unwrap().contains("is not taken over"));

    // Each of two processes finds out by itself.
    let (speed, serve) =
        (Server::start(project, &["speed"], "speed"), Server::start(project, &["serve"], "serve"));
    for (was, is) in [("A", "Ada"), ("Ada", "Anna")] {
        table(is);
        settles(&serve.url, was, is).await;
    }
    serve.stop();
    speed.stop();
}
