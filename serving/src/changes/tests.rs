use super::*;
use crate::testing::{EVENTS, World};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::time::timeout;
use twofold_common::{Answer, Kind};

/// What a client of the events has: each key with its rows, as it is told to keep them.
#[derive(Debug, Default)]
struct Client {
    key: Vec<String>,
    columns: usize,
    rows: BTreeMap<String, Vec<Value>>,
    end: u64,
}

impl Client {
    fn key_of(&self, row: &Value) -> String {
        self.key.iter().map(|column| format!("{},", row[column])).collect()
    }

    /// Takes an event, and tells which it was.
    fn take(&mut self, event: &[u8]) -> String {
        let text = std::str::from_utf8(event).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let data: Value = serde_json::from_str(field("data: ")).unwrap_or_default();
        let list = |name: &str| data[name].as_array().cloned().unwrap_or_default();
        match field("event: ") {
            "rows" => {
                self.key = list("key").iter().map(|name| name.as_str().unwrap().to_string()).collect();
                self.columns = list("columns").len();
                self.rows.clear();
                for row in list("rows") {
                    self.rows.entry(self.key_of(&row)).or_default().push(row);
                }
            }
            "changes" => {
                for key in list("removed") {
                    self.rows.get_mut(&self.key_of(&key)).map(Vec::pop);
                }
                for row in list("changed") {
                    let known = self.rows.entry(self.key_of(&row)).or_default();
                    if self.key.len() < self.columns {
                        known.clear();
                    }
                    known.push(row);
                }
            }
            _ => {}
        }
        if let Some(end) = data["coverage"][0]["speed"][1].as_u64() {
            self.end = end;
        }
        self.rows.retain(|_, rows| !rows.is_empty());
        field("event: ").to_string()
    }

    fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.rows.values().flatten().map(Value::to_string).collect();
        texts.sort();
        texts
    }
}

/// The rows of one plain query over the events below an end.
async fn plain(world: &World, sql: &str, end: u64) -> Vec<String> {
    let before = world.speed.script(|s| std::mem::replace(&mut s.end, end));
    let batches = world.plain(sql).await;
    world.speed.script(|s| s.end = before);
    let mut texts = Vec::new();
    if let Some(first) = batches.first() {
        let schema = first.schema();
        let rows = crate::Rows { schema, batches, coverage: vec![], previous: false };
        let lines = String::from_utf8(rows.encode(crate::Format::Ndjson).unwrap()).unwrap();
        texts.extend(lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap().to_string()));
    }
    texts.sort();
    texts
}

async fn next(subscription: &mut Subscription) -> bytes::Bytes {
    timeout(Duration::from_secs(20), subscription.next()).await.unwrap().unwrap()
}

/// A serving layer that waits for less.
fn serving(world: &World) -> Arc<Serving> {
    let mut serving = world.serving();
    let ms = Duration::from_millis;
    let pace = Pace { least_pause: ms(5), tick: ms(20), again: ms(20), look: ms(1), heartbeat: ms(400) };
    Arc::get_mut(&mut serving).unwrap().changes.pace = pace;
    serving
}

const NONE: &[(String, String)] = &[];

#[tokio::test]
async fn at_each_event_a_client_has_the_rows_of_its_coverage() {
    for (view, sql) in [
        ("delays", "SELECT * FROM delays"),
        ("totals", "SELECT * FROM totals"),
        ("late", "SELECT * FROM late"),
        ("worst", "SELECT * FROM worst"),
    ] {
        let world = World::new().await;
        world.speed.script(|s| s.end = 3);
        let serving = serving(&world);
        let mut subscription = serving.watch(view, NONE).unwrap();
        subscription.started().await.unwrap();
        let (mut client, mut kinds) = (Client::default(), Vec::new());
        for end in [3, 4, 4, 9, 10, 25, EVENTS] {
            world.speed.script(|s| s.end = end);
            while client.end < end || kinds.is_empty() {
                kinds.push(client.take(&next(&mut subscription).await));
                assert_eq!(client.texts(), plain(&world, sql, client.end).await, "{view} at {}", client.end);
            }
        }
        assert_eq!(kinds[0], "rows", "{kinds:?}");
        assert!(kinds[1..].iter().all(|kind| kind == "changes") && kinds.len() > 3, "{view}: {kinds:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_and_no_backlog() {
    let world = World::new().await;
    world.speed.script(|s| s.end = 1);
    let serving = serving(&world);
    let (mut fast, mut slow) = (serving.watch("late", NONE).unwrap(), serving.watch("late", NONE).unwrap());
    let (mut fast_client, mut slow_client) = (Client::default(), Client::default());
    fast_client.take(&next(&mut fast).await);
    slow_client.take(&next(&mut slow).await);
    let mut events = 0;
    for end in 2..=EVENTS {
        world.speed.script(|s| s.end = end);
        while fast_client.end < end {
            fast_client.take(&next(&mut fast).await);
            events += 1;
        }
    }
    assert!(events > 10, "{events}");
    assert_eq!(slow_client.take(&next(&mut slow).await), "changes");
    assert_eq!((slow_client.end, slow_client.texts()), (EVENTS, fast_client.texts()));
}

#[tokio::test]
async fn one_computation_serves_all_and_none_is_made_for_nobody() {
    let world = World::new().await;
    let serving = serving(&world);
    let asked = || world.speed.script(|s| s.asked.len());
    let mut all: Vec<_> = (0..50).map(|_| serving.watch("delays", NONE).unwrap()).collect();
    for subscription in &mut all {
        next(subscription).await;
    }
    assert_eq!((asked(), serving.changes.subscribers()), (1, 50));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(asked(), 1, "nothing has moved");
    drop(all);
    sleep(Duration::from_millis(200)).await;
    world.speed.script(|s| s.end = 3);
    sleep(Duration::from_millis(200)).await;
    assert_eq!((asked(), serving.changes.subscribers()), (1, 0));
    assert!(serving.changes.lock().is_empty() && serving.changes.movement.lock().unwrap().is_none());
    // Who comes later begins anew.
    let mut client = Client::default();
    let mut late = serving.watch("delays", NONE).unwrap();
    assert_eq!(client.take(&next(&mut late).await), "rows");
    assert_eq!(client.end, 3);
}

#[tokio::test]
async fn computations_keep_their_distance() {
    let world = World::new().await;
    world.speed.script(|s| s.end = 1);
    // At the usual pace.
    let serving = world.serving();
    let mut subscription = serving.watch("totals", NONE).unwrap();
    next(&mut subscription).await;
    let before = world.speed.script(|s| s.asked.len());
    for end in 2..=EVENTS {
        world.speed.script(|s| s.end = end);
        sleep(Duration::from_millis(10)).await;
    }
    let asked = world.speed.script(|s| s.asked.len()) - before;
    assert!(asked < EVENTS as usize / 2, "{asked} times in 400 ms or a little more");
}

#[tokio::test]
async fn filters_are_watched_apart() {
    let world = World::new().await;
    let serving = serving(&world);
    let filter = |value: &str| vec![("name".to_string(), value.to_string())];
    let mut client = Client::default();
    for name in ["United", "JetBlue"] {
        let mut subscription = serving.watch("delays", &filter(name)).unwrap();
        client.take(&next(&mut subscription).await);
        let all = plain(&world, &format!("SELECT * FROM delays WHERE name = '{name}'"), EVENTS).await;
        assert_eq!((client.texts(), client.rows.len(), &client.key[..]), (all, 1, &["name".to_string()][..]));
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_question_is_told_first() {
    let world = World::new().await;
    let serving = serving(&world);
    let refused = async |view: &str, filters: &[(String, String)]| {
        serving.watch(view, filters).unwrap().started().await.unwrap_err()
    };
    assert_eq!(refused("none", NONE).await.kind(), Kind::NotFound);
    let e = refused("delays", &[("nome".into(), "x".into())]).await;
    assert!(e.kind() == Kind::Invalid && e.to_string().contains("no column nome"), "{e}");
    world.speed.script(|s| s.instead = Some(Answer::Building { view: "delays".into(), done: 1, total: 4 }));
    assert_eq!(refused("delays", NONE).await.kind(), Kind::Unavailable);
    sleep(Duration::from_millis(200)).await;
    assert!(serving.changes.lock().is_empty());
}

#[tokio::test]
async fn after_a_failure_it_goes_on_where_it_was() {
    let world = World::new().await;
    world.speed.script(|s| s.end = 5);
    let serving = serving(&world);
    let mut subscription = serving.watch("totals", NONE).unwrap();
    let mut client = Client::default();
    client.take(&next(&mut subscription).await);
    let retired = Answer::Building { view: "totals".into(), done: 1, total: 4 };
    world.speed.script(|s| (s.instead, s.end) = (Some(retired), 6));
    let failure = next(&mut subscription).await;
    let text = String::from_utf8(failure.to_vec()).unwrap();
    assert!(text.starts_with("event: failure\ndata: {") && text.contains("25 %"), "{text}");
    // Who comes now gets the rows that are known, and then the reason too.
    let mut late = serving.watch("totals", NONE).unwrap();
    late.started().await.unwrap();
    assert_eq!(Client::default().take(&next(&mut late).await), "rows");
    assert_eq!(next(&mut late).await, failure);
    // It is told once, however often it fails.
    sleep(Duration::from_millis(200)).await;
    world.speed.script(|s| s.instead = None);
    assert_eq!(client.take(&next(&mut subscription).await), "changes");
    assert_eq!((client.end, client.texts()), (6, plain(&world, "SELECT * FROM totals", 6).await));
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats_and_ended_by_closing() {
    let world = World::new().await;
    let serving = serving(&world);
    let mut subscription = serving.watch("totals", NONE).unwrap();
    next(&mut subscription).await;
    let started = tokio::time::Instant::now();
    assert!(next(&mut subscription).await.starts_with(b":"));
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(Pace::default().heartbeat, Duration::from_secs(15));
    let waiting = tokio::spawn(async move { subscription.next().await });
    tokio::task::yield_now().await;
    serving.close();
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(serving.watch("totals", NONE).unwrap().next().await, None);
}

#[tokio::test]
async fn there_is_a_bound_to_what_is_watched() {
    let world = World::new().await;
    let serving = serving(&world);
    let watch = |n: usize| serving.watch("delays", &[("flights".to_string(), n.to_string())]);
    let held: Vec<_> = (0..MAX_WATCHED).map(|n| watch(n).unwrap()).collect();
    assert_eq!(watch(MAX_WATCHED).unwrap_err().kind(), Kind::Busy);
    assert!(watch(7).is_ok(), "which somebody watches already");
    drop(held);
}

#[tokio::test]
async fn another_project_is_looked_at_at_once() {
    let world = World::new().await;
    let serving = serving(&world);
    let mut subscription = serving.watch("delays", NONE).unwrap();
    next(&mut subscription).await;
    let asked = || world.speed.script(|s| s.asked.len());
    let before = asked();
    serving.adopt(twofold_common::Versions::new(Arc::clone(&world.catalog), None));
    while asked() == before {
        sleep(Duration::from_millis(1)).await;
    }
}
