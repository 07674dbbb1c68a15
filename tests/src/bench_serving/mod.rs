//! `scripts/bench-serving`: how fast serving answers while events come in.
//!
//! Everything is measured from outside, over keep-alive HTTP on loopback. Requests are sent by a schedule, and the time
//! of each counts from when it was due, so that one that holds up others counts for all of them.

mod client;
mod load;

use crate::process::{Server, succeeds};
use client::Connection;
use load::{Load, Times};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SQL: &str =
    "CREATE STREAM s (k TEXT NOT NULL, n BIGINT, g TEXT) WITH (partitions = 2, partition_by = 'k');
    CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c, sum(n) AS total, max(n) AS top FROM s GROUP BY k;";
const TOML: &str = "[speed]\nlisten = \"127.0.0.1:0\"\n[serve]\nlisten = \"127.0.0.1:0\"\n\
                    [archive]\nsegment_age = \"1h\"\n[batch]\nschedule = \"off\"\n";

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// One event of key number `i`.
fn event(i: u64, n: u64) -> String {
    format!("{{\"k\":\"key-{i:08}\",\"n\":{n},\"g\":\"some text that nobody asks for\"}}\n")
}

fn fill(connection: &mut Connection, keys: std::ops::Range<u64>) {
    let mut at = keys.start;
    while at < keys.end {
        let to = (at + 20_000).min(keys.end);
        let body: String = (at..to).map(|i| event(i, i)).collect();
        connection.post("/v1/streams/s", &body);
        at = to;
    }
}

/// Sends events of random keys at a rate until it is told to stop.
fn ingest(address: &str, per_second: u64, keys: u64, stop: &AtomicBool) -> u64 {
    let mut connection = Connection::open(address);
    let (started, mut sent, mut random) = (Instant::now(), 0, load::Random(7));
    while !stop.load(Ordering::SeqCst) {
        let due = (started.elapsed().as_secs_f64() * per_second as f64) as u64;
        if due < sent + per_second / 100 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let body: String = (sent..due).map(|n| event(random.below(keys), n)).collect();
        connection.post("/v1/streams/s", &body);
        sent = due;
    }
    (sent as f64 / started.elapsed().as_secs_f64()) as u64
}

/// Runs `measure` while events come in, and prints how many did.
fn while_events_come<T>(address: &str, per_second: u64, keys: u64, measure: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ingest = scope.spawn(|| ingest(address, per_second, keys, &stop));
        std::thread::sleep(Duration::from_secs(1));
        let measured = measure();
        stop.store(true, Ordering::SeqCst);
        println!("    (with {} events/s coming in, of {per_second} wanted)", ingest.join().unwrap());
        measured
    })
}

fn lookups(address: &str, seconds: u64, keys: u64, rate: u64, parameters: &str) -> Times {
    let load = Load { address, connections: 4, per_second: rate, time: Duration::from_secs(seconds) };
    load.run(|random| format!("/v1/views/v?k=key-{:08}{parameters}", random.below(keys)))
}

/// From sending an event to having seen it in an answer.
fn freshness(address: &str, seconds: u64) -> Times {
    let (mut writer, mut reader) = (Connection::open(address), Connection::open(address));
    let (started, mut times, mut n) = (Instant::now(), Times::default(), 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        n += 1;
        let sent = Instant::now();
        writer.post("/v1/streams/s", &format!("{{\"k\":\"marker\",\"n\":{n}}}\n"));
        let seen = format!("\"top\":{n}}}");
        while !reader.get("/v1/views/v?k=marker").contains(&seen) {}
        times.add(sent.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    times
}

fn project(dir: &Path) {
    std::fs::write(dir.join("twofold.toml"), TOML).unwrap();
    std::fs::write(dir.join("views.sql"), SQL).unwrap();
}

#[test]
#[ignore = "a benchmark: scripts/bench-serving"]
fn serving_under_load() {
    let (keys, speed_keys) = (setting("BENCH_KEYS", 1_000_000), setting("BENCH_SPEED_KEYS", 100_000));
    let (rate, seconds) = (setting("BENCH_INGEST", 50_000), setting("BENCH_SECONDS", 20));
    let dir = tempfile::tempdir().unwrap();
    project(dir.path());
    let server = Server::start(dir.path(), &["up"], "serve");
    let address = server.url.strip_prefix("http://").unwrap();
    let mut connection = Connection::open(address);
    println!("{keys} keys in the batch view, {speed_keys} in the speed view:");
    fill(&mut connection, 0..keys);
    succeeds(dir.path(), &["batch"]);
    fill(&mut connection, 0..speed_keys);
    connection.get("/v1/views/v?k=key-00000001");

    println!("one key, nothing coming in      {}", lookups(address, seconds, keys, 5_000, ""));
    let times = while_events_come(address, rate, speed_keys, || lookups(address, seconds, keys, 5_000, ""));
    println!("one key                         {times}");
    let stale = "&max_staleness=50ms";
    let times =
        while_events_come(address, rate, speed_keys, || lookups(address, seconds, keys, 5_000, stale));
    println!("one key, max_staleness=50ms     {times}");

    let scan = r#"{"sql": "SELECT k, c, total FROM v WHERE total > 1000 ORDER BY total DESC LIMIT 10"}"#;
    let times = while_events_come(address, rate, speed_keys, || {
        let mut times = Times::default();
        for _ in 0..seconds {
            let started = Instant::now();
            connection.post("/v1/sql", scan);
            times.add(started.elapsed());
        }
        times
    });
    println!("scan, filter, ORDER BY LIMIT 10 {times}");

    let times = while_events_come(address, 20_000, speed_keys, || freshness(address, seconds));
    println!("freshness at 20,000 events/s    {times}");

    let times = while_events_come(address, rate, speed_keys, || {
        std::thread::scope(|scope| {
            let batch = scope.spawn(|| succeeds(dir.path(), &["batch"]));
            let times = lookups(address, seconds, keys, 5_000, stale);
            batch.join().unwrap();
            times
        })
    });
    println!("one key, during a batch run     {times}");
    server.stop();
}
