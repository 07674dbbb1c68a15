//! The audit from end to end: a speed state is corrupted on purpose, and everybody is told.

use super::audit::{Audited, audit};
use super::batch::{alert, batch};
use crate::alert::Patience;
use crate::args::{AuditArgs, BatchArgs};
use crate::client::Client;
use crate::node::{Listen, Shutdown, Site, SpeedNode, Up, test_server};
use crate::outcome::Outcome;
use axum::Router;
use axum::routing::post;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use twofold_common::{Functions, IngestRequest, State, template};

type RunKey = (&'static str, &'static str, u32, u64, u32, u64);

/// The table of states in `state.redb`.
const RUNS: TableDefinition<'_, RunKey, &[u8]> = TableDefinition::new("runs");

const COMMAND: &str = "twofold test";

/// A project of which `/home` was clicked by two users, and `/help` by one of them, all in one partition, whose events the
/// speed layer has folded.
async fn project(toml: &str) -> (tempfile::TempDir, Site) {
    project_with(toml, "sum(duration_ms)").await
}

/// The same, with this call in the place of the sum.
async fn project_with(toml: &str, call: &str) -> (tempfile::TempDir, Site) {
    let dir = tempfile::tempdir().unwrap();
    for (file, contents) in template("test") {
        let contents = contents.replace("sum(duration_ms)", call);
        std::fs::write(dir.path().join(file), contents).unwrap();
    }
    let toml = format!("[batch]\nschedule = \"off\"\n[speed]\nretire_grace = \"1h\"\n{toml}");
    std::fs::write(dir.path().join("twofold.toml"), toml).unwrap();
    let site = load(dir.path()).await;
    let node = node(&site).await;
    for (user, page, duration) in [("ada", "/home", 5), ("ada", "/help", 7), ("bob", "/home", 9)] {
        let event = format!(
            r#"{{"event_time": "2024-05-01T12:00:00", "user_id": "{user}", "page": "{page}", "duration_ms": {duration}}}"#
        );
        let request = IngestRequest::new("clicks", "application/x-ndjson", event);
        node.layer().ingest(request).await.unwrap();
    }
    node.catch_up().await.unwrap();
    (dir, site)
}

async fn load(dir: &Path) -> Site {
    Site::load(dir, &Functions::new()).await.unwrap()
}

async fn node(site: &Site) -> SpeedNode {
    SpeedNode::open(site, &site.stores().await.unwrap(), COMMAND).await.unwrap()
}

/// Makes the speed layer's state wrong, as if it had counted the events of each page for the other one.
fn corrupt(site: &Site) {
    let database = Database::open(site.data_dir().join("state.redb")).unwrap();
    let (key, state) = {
        let read = database.begin_read().unwrap();
        let runs = read.open_table(RUNS).unwrap();
        let found = runs.iter().unwrap().map(|entry| entry.unwrap()).find_map(|(key, value)| {
            let state = State::from_bytes(value.value(), "state.redb").unwrap();
            let (fingerprint, stream, partition, start, cut, number) = key.value();
            let key = (fingerprint.to_string(), stream.to_string(), partition, start, cut, number);
            (state.rows() == 2).then_some((key, state))
        });
        found.expect("the state of two pages")
    };
    // The rows of the two keys are exchanged: each page has the other one's values.
    let batch = state.batch();
    let indices = arrow::array::UInt32Array::from(vec![1, 0]);
    let mut columns = batch.columns().to_vec();
    for column in &mut columns[state.keys()..] {
        *column = arrow::compute::take(column, &indices, None).unwrap();
    }
    let wrong = arrow::array::RecordBatch::try_new(batch.schema(), columns).unwrap();
    let wrong = State::from_rows(&batch.schema(), state.keys(), &[wrong]).unwrap().to_bytes().unwrap();
    let write = database.begin_write().unwrap();
    {
        let key = (key.0.as_str(), key.1.as_str(), key.2, key.3, key.4, key.5);
        write.open_table(RUNS).unwrap().insert(key, wrong.as_slice()).unwrap();
    }
    write.commit().unwrap();
}

/// A server that keeps what is posted to it: its address.
async fn receiver() -> (String, Arc<Mutex<Vec<Value>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&received);
    let take = move |body: axum::Json<Value>| async move { into.lock().unwrap().push(body.0) };
    (test_server(Router::new().route("/hook", post(take))).await + "/hook", received)
}

fn all(explain: bool) -> AuditArgs {
    AuditArgs { all: true, explain, ..AuditArgs::default() }
}

async fn explained(site: &Site) -> String {
    let audited = audit(site, &all(true), COMMAND).await.unwrap();
    assert_eq!(audited.outcome, Outcome::Different);
    audited.text
}

const BOTH: [&str; 4] = ["/help", "/home", "speed", "batch"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_speed_state_is_told_to_everybody() {
    let (hook, received) = receiver().await;
    let (dir, site) = project(&format!("[alerts]\nwebhook = \"{hook}\"\n")).await;
    corrupt(&site);
    let (stopper, shutdown) = Shutdown::new();
    let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listen = Listen { serve: free, speed: free, ..Listen::quiet() };
    let up = Up::start(site, listen, COMMAND, &shutdown).await.unwrap();
    let site = load(dir.path()).await;

    // The batch run says so, and who is named in the project is told.
    let reports = batch(&site, &BatchArgs::default(), COMMAND).await.unwrap();
    assert!(!reports[0].agrees() && reports[0].differences.len() == 1, "{reports:?}");
    alert(&site, &BatchArgs::default(), &reports).unwrap().deliver(Patience::default()).await;
    let told = received.lock().unwrap().remove(0);
    assert_eq!(
        (&told["alert"], &told["run"], &told["count"]),
        (&"states_differ".into(), &"incremental".into(), &1.into())
    );
    let difference = &told["differences"][0];
    assert_eq!((&difference["view"], &difference["stream"]), (&"clicks_by_page".into(), &"clicks".into()));
    assert_ne!(difference["speed_digest"], difference["batch_digest"]);
    assert_eq!(difference["end_offset"], 3);

    // Queries, status and metrics know it.
    let client = Client::new(up.url()).unwrap();
    let sql = "SELECT a.view, stream, start_offset, end_offset, speed_digest = batch_digest AS same, equal, explainable, run
               FROM twofold_audit a ORDER BY equal";
    let rows = crate::format::render(&client.query(sql).await.unwrap(), crate::Output::Csv).unwrap();
    let rows = String::from_utf8(rows).unwrap();
    let expected = "view,stream,start_offset,end_offset,same,equal,explainable,run\n\
                    clicks_by_page,clicks,0,3,false,false,true,incremental\n";
    assert_eq!(rows, expected);
    let status = client.status().await.unwrap();
    let known = status.views[0].audit.as_ref().unwrap();
    assert_eq!((known.equal, known.unequal), (0, 1));
    let metrics = reqwest::get(format!("{}/metrics", up.url())).await.unwrap().text().await.unwrap();
    let line = |result: &str, n: u64| {
        let fingerprint = &status.views[0].fingerprint[..16];
        let labels = format!("view=\"clicks_by_page\",fingerprint=\"{fingerprint}\",result=\"{result}\"");
        format!("twofold_audit_states{{{labels}}} {n}\n")
    };
    assert!(metrics.contains(&line("unequal", 1)) && metrics.contains(&line("equal", 0)), "{metrics}");

    // Batch wins: before, the pages had each other's clicks.
    let rows = client.query("SELECT page, total_ms FROM clicks_by_page ORDER BY page").await.unwrap();
    let rows = String::from_utf8(crate::format::render(&rows, crate::Output::Csv).unwrap()).unwrap();
    assert_eq!(rows, "page,total_ms\n/help,7\n/home,14\n");

    // It is explained key by key, also when the speed layer has nothing any more.
    let text = explained(&site).await;
    assert!(BOTH.iter().all(|word| text.contains(word)), "{text}");
    assert!(text.contains("2 keys differ"), "{text}");
    stopper.stop();
    up.wait().await.unwrap();
    std::fs::remove_file(site.data_dir().join("state.redb")).unwrap();
    assert_eq!(explained(&site).await.split_once("\n\n").unwrap().1, text.split_once("\n\n").unwrap().1);
    // A full run finds it again; the batch view itself is right.
    let full = batch(&site, &BatchArgs { full: true, view: None }, COMMAND).await.unwrap();
    assert_eq!((full[0].equals_incremental, full[0].differences.len()), (Some(true), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_the_speed_layers_store_explains() {
    let (_dir, site) = project("").await;
    corrupt(&site);
    let reports = batch(&site, &BatchArgs::default(), COMMAND).await.unwrap();
    assert!(reports[0].differences[0].kept.found.is_some(), "{reports:?}");
    assert!(alert(&site, &BatchArgs::default(), &reports).is_none(), "nobody is to be told");
    let text = explained(&site).await;
    insta::assert_snapshot!(text.split_once("\n\n").unwrap().1, @r"
    clicks_by_page: stream clicks, partition 0, offsets [0, 3), cut 0: 2 keys differ
      state  clicks.page  count(*)  sum(clicks.duration_ms)  max(clicks.event_time)
      speed  /help        2         14                       2024-05-01T12:00:00
      batch  /help        1         7                        2024-05-01T12:00:00
      speed  /home        1         7                        2024-05-01T12:00:00
      batch  /home        2         14                       2024-05-01T12:00:00
    ");
}

/// What is kept of floats is bytes: what they come to is shown, and the bytes only where that is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_calls_come_to_is_shown() {
    let (_dir, site) = project_with("", "avg(duration_ms / 8.0) AS mean, sum(duration_ms / 8.0)").await;
    corrupt(&site);
    batch(&site, &BatchArgs::default(), COMMAND).await.unwrap();
    insta::assert_snapshot!(explained(&site).await.split_once("\n\n").unwrap().1, @r"
    clicks_by_page: stream clicks, partition 0, offsets [0, 3), cut 0: 2 keys differ
      state  clicks.page  count(*)  avg(CAST(clicks.duration_ms AS Float64) / 8)  sum(CAST(clicks.duration_ms AS Float64) / 8)  max(clicks.event_time)
      speed  /help        2         0.875 of {avg.1.0: 00feff07, avg.1.1: 2}      1.75                                          2024-05-01T12:00:00
      batch  /help        1         0.875 of {avg.1.0: 00fdff07, avg.1.1: 1}      0.875                                         2024-05-01T12:00:00
      speed  /home        1         0.875 of {avg.1.0: 00fdff07, avg.1.1: 1}      0.875                                         2024-05-01T12:00:00
      batch  /home        2         0.875 of {avg.1.0: 00feff07, avg.1.1: 2}      1.75                                          2024-05-01T12:00:00
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_the_digest_is_known_it_is_said() {
    let (_dir, site) = project("").await;
    corrupt(&site);
    let speed = node(&site).await;
    speed.seal().await.unwrap();
    drop(speed);
    // Let go of, before anybody looked.
    std::fs::remove_file(site.data_dir().join("state.redb")).unwrap();
    let text = explained(&site).await;
    assert!(
        text.contains("the speed state was let go of before it was kept: only the digests are known"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_of_what_is_right_finds_nothing_and_tells_nobody() {
    let (hook, received) = receiver().await;
    let (_dir, site) = project(&format!("[alerts]\nwebhook = \"{hook}\"\n")).await;
    node(&site).await.seal().await.unwrap();
    let Audited { text, outcome, alert, .. } = audit(&site, &all(true), COMMAND).await.unwrap();
    assert!(outcome == Outcome::Done && alert.is_none() && received.lock().unwrap().is_empty());
    insta::assert_snapshot!(text, @r"
    view            segments  events  not comparable  audit
    clicks_by_page    1 of 1       3               -  1 equal
    clicks_by_page: no difference is known
    ");
    let none = AuditArgs { sample: Some(0), seed: Some(7), ..AuditArgs::default() };
    let Audited { text, outcome, .. } = audit(&site, &none, COMMAND).await.unwrap();
    assert!(
        outcome == Outcome::Done && text.contains("a sample: --all takes all segments, --seed 7"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_dead_changes_nothing_of_the_run() {
    let (_dir, site) = project("[alerts]\nwebhook = \"http://127.0.0.1:1/hook\"\n").await;
    corrupt(&site);
    let reports = batch(&site, &BatchArgs::default(), COMMAND).await.unwrap();
    assert!(matches!(reports[0].outcome, twofold_batch::Outcome::Published(1)));
    let patience = Patience { wait: std::time::Duration::from_millis(1), ..Patience::default() };
    alert(&site, &BatchArgs::default(), &reports).unwrap().deliver(patience).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_commands_at_once_without_a_server_one_publishes_and_none_fails() {
    let (_dir, site) = project("").await;
    let args = BatchArgs::default();
    let (first, second) = tokio::join!(batch(&site, &args, COMMAND), batch(&site, &args, COMMAND));
    let outcomes = [first.unwrap().remove(0).outcome, second.unwrap().remove(0).outcome];
    let published =
        outcomes.iter().filter(|outcome| **outcome == twofold_batch::Outcome::Published(1)).count();
    assert_eq!(published, 1, "{outcomes:?}");
}
