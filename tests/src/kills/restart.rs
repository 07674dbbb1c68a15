//! How long it takes from a restart to a fresh answer, with a million events in the tail.

use super::load::event;
use super::site::Site;
use crate::process::{Client, Server};
use std::time::{Duration, Instant};

const EVENTS: u64 = 1_000_000;
/// Events of one request.
const REQUEST: u64 = 20_000;
const TOML: &str = "[speed]\nlisten = \"127.0.0.1:0\"\n[serve]\nlisten = \"127.0.0.1:0\"\n\
                    [archive]\nsegment_rows = 10000000\n[batch]\nschedule = \"off\"\n";

/// `TWOFOLD_BINARY` names a release build: a debug build says nothing about time.
#[test]
#[ignore = "a measurement: prints how long a restart takes"]
fn a_restart_with_a_million_events_in_the_tail() {
    let site = Site::new();
    std::fs::write(site.dir().join("twofold.toml"), TOML).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = site.start(&[]);
    let client = Client::new(&server.url);
    runtime.block_on(async {
        for first in (0..EVENTS).step_by(REQUEST as usize) {
            let body: String = (first..first + REQUEST).map(event).collect();
            let (status, receipt) = client.post("/v1/streams/clicks", "application/x-ndjson", body).await;
            assert_eq!(status, 200, "{receipt}");
        }
    });
    let took = until_fresh(&runtime, &server);
    println!("folded all {EVENTS} events {took:?} after the last was acknowledged");
    server.kill();
    for states in ["kept", "kept", "lost"] {
        if states == "lost" {
            std::fs::remove_file(site.dir().join("data/state.redb")).unwrap();
        }
        let started = Instant::now();
        let server = site.start(&[]);
        let listens = started.elapsed();
        until_fresh(&runtime, &server);
        println!("states {states}: listens after {listens:?}, a fresh answer after {:?}", started.elapsed());
        server.kill();
    }
}

/// How long it takes until an answer covers all events.
fn until_fresh(runtime: &tokio::runtime::Runtime, server: &Server) -> Duration {
    let started = Instant::now();
    let client = Client::new(&server.url);
    runtime.block_on(async {
        loop {
            let (status, answer) = client.sql("SELECT sum(c) AS c FROM counts").await;
            if status == 200 && answer["rows"][0]["c"] == EVENTS {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    started.elapsed()
}
