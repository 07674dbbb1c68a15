//! Producers, each with one request at a time, and the ledger of what they sent and heard.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whether a request that was not answered is sent again, under its idempotency key.
const RETRIES: bool = true;
/// How long a producer waits for an answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// How long it waits while there is no server, or after a request.
const PAUSE: Duration = Duration::from_millis(20);

/// Each event that was sent, by its number, and whether it was acknowledged.
pub type Ledger = BTreeMap<u64, bool>;

/// Producers at work.
pub struct Load {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Runtime,
    producers: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    url: Mutex<Option<String>>,
    done: AtomicBool,
    next: AtomicU64,
    requests: AtomicU64,
    again: AtomicU64,
    ledger: Mutex<Ledger>,
}

/// The event with a number: all else follows from it.
pub fn event(n: u64) -> String {
    let k = ["a", "b", "c", "é", ""][(n % 5) as usize];
    let (minute, second) = (n / 60 % 60, n % 60);
    format!(
        "{{\"ts\":\"2026-01-01T00:{minute:02}:{second:02}Z\",\"k\":\"{k}\",\"n\":{n},\"x\":{}.1}}\n",
        n % 97
    )
}

impl Load {
    /// Starts producers, which wait for a server.
    pub fn start(producers: usize) -> Load {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared::default());
        let producers = (0..producers).map(|_| runtime.spawn(produce(Arc::clone(&shared)))).collect();
        Load { shared, runtime, producers }
    }

    pub fn send_to(&self, url: &str) {
        *self.shared.url.lock().unwrap() = Some(url.to_string());
    }

    pub fn send_nowhere(&self) {
        *self.shared.url.lock().unwrap() = None;
    }

    /// Waits until so many more events were acknowledged.
    pub fn await_more(&self, events: usize) {
        let acknowledged = || self.shared.ledger.lock().unwrap().values().filter(|acked| **acked).count();
        let enough = acknowledged() + events;
        while acknowledged() < enough {
            std::thread::sleep(PAUSE);
        }
    }

    /// Stops the producers: what they sent.
    pub fn stop(self) -> Ledger {
        self.shared.done.store(true, Ordering::SeqCst);
        self.runtime.block_on(async {
            for producer in self.producers {
                producer.await.unwrap();
            }
        });
        let ledger = std::mem::take(&mut *self.shared.ledger.lock().unwrap());
        let unknown = ledger.values().filter(|acked| !**acked).count();
        println!(
            "{} requests, {} of them sent again; {} events were acknowledged, and {unknown} not",
            self.shared.requests.load(Ordering::SeqCst),
            self.shared.again.load(Ordering::SeqCst),
            ledger.len() - unknown
        );
        ledger
    }
}

async fn produce(shared: Arc<Shared>) {
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWERED_WITHIN).build().unwrap();
    while !shared.done.load(Ordering::SeqCst) {
        let Some(url) = shared.url.lock().unwrap().clone() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let events = 1 + shared.requests.fetch_add(1, Ordering::SeqCst) % 40;
        let first = shared.next.fetch_add(events, Ordering::SeqCst);
        let mut body = String::new();
        for n in first..first + events {
            let _ = write!(body, "{}", event(n));
            shared.ledger.lock().unwrap().insert(n, false);
        }
        let mut acknowledged = send(&http, &url, first, &body).await;
        while RETRIES && !acknowledged && !shared.done.load(Ordering::SeqCst) {
            tokio::time::sleep(PAUSE).await;
            let Some(url) = shared.url.lock().unwrap().clone() else { continue };
            shared.again.fetch_add(1, Ordering::SeqCst);
            acknowledged = send(&http, &url, first, &body).await;
        }
        if acknowledged {
            let mut ledger = shared.ledger.lock().unwrap();
            ledger.extend((first..first + events).map(|n| (n, true)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the events were acknowledged.
async fn send(http: &reqwest::Client, url: &str, key: u64, body: &str) -> bool {
    let request = http
        .post(format!("{url}/v1/streams/clicks"))
        .header("content-type", "application/x-ndjson")
        .header("idempotency-key", format!("request-{key}"))
        .body(body.to_string());
    let Ok(response) = request.send().await else { return false };
    let status = response.status().as_u16();
    let Ok(text) = response.text().await else { return false };
    assert!([200, 409, 429, 503].contains(&status), "{status}: {text}");
    if status == 200 {
        let receipt: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&receipt["accepted"], &receipt["rejected"]), (&body.lines().count().into(), &0.into()));
    }
    status == 200
}
