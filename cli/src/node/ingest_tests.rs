//! Ingest over real sockets: repetitions, and clients that stall, lie and break off.

use super::{Listen, Shutdown, Site, Stopper, Up};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use twofold_common::{Functions, template};

const EVENT: &str = "{\"event_time\": \"2024-05-01T12:00:00\", \"user_id\": \"ada\", \"page\": \"/home\"}\n";

struct Server {
    up: Option<Up>,
    stopper: Stopper,
    http: reqwest::Client,
}

fn project(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, contents) in template("test") {
        std::fs::write(dir.path().join(file), contents).unwrap();
    }
    std::fs::write(dir.path().join("twofold.toml"), config).unwrap();
    let ids = "CREATE STREAM orders (id TEXT, n BIGINT)
               WITH (partitions = 3, partition_by = 'n', deduplicate_by = 'id', deduplicate_within = '1 hour');";
    std::fs::write(dir.path().join("orders.sql"), ids).unwrap();
    dir
}

impl Server {
    async fn start(dir: &Path) -> Server {
        let (stopper, shutdown) = Shutdown::new();
        let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let site = Site::load(dir, &Functions::new()).await.unwrap();
        let listen = Listen { serve: free, speed: free, ..Listen::quiet() };
        let up = Up::start(site, listen, "twofold up", &shutdown).await.unwrap();
        Server { up: Some(up), stopper, http: reqwest::Client::new() }
    }

    async fn stop(mut self) {
        self.stopper.stop();
        drop(self.http);
        self.up.take().unwrap().wait().await.unwrap();
    }

    fn url(&self) -> &str {
        self.up.as_ref().unwrap().url()
    }

    async fn post(&self, stream: &str, key: Option<&str>, body: &str) -> (u16, Value) {
        let mut request =
            self.http.post(format!("{}/v1/streams/{stream}", self.url())).body(body.to_string());
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn count(&self, stream: &str) -> u64 {
        let sql = json!({ "sql": format!("SELECT count(*) AS n FROM {stream}") });
        let answer = self.http.post(format!("{}/v1/sql", self.url())).json(&sql).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["rows"][0]["n"].as_u64().unwrap()
    }

    /// A connection on which a request for so many bytes was begun.
    async fn begin(&self, content_length: usize) -> TcpStream {
        let mut socket = TcpStream::connect(self.url().trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST /v1/streams/clicks HTTP/1.1\r\nHost: x\r\nContent-Length: {content_length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
    }
}

/// What comes on a connection until it is closed, or a while nothing does.
async fn read(socket: &mut TcpStream, within: Duration) -> String {
    let mut answer = Vec::new();
    drop(timeout(within, socket.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_with_its_key_adds_nothing() {
    let dir = project("");
    let server = Server::start(dir.path()).await;
    let body = format!("{EVENT}{EVENT}not json\n");
    let first = server.post("clicks", Some("order-1"), &body).await;
    assert_eq!((first.0, &first.1["accepted"], &first.1["rejected"]), (200, &json!(2), &json!(1)));
    assert_eq!(server.post("clicks", Some("order-1"), &body).await, first, "the same receipt");
    let (one, two) = tokio::join!(
        server.post("clicks", Some("order-2"), EVENT),
        server.post("clicks", Some("order-2"), EVENT)
    );
    assert_eq!(one, two);
    assert_eq!((server.count("clicks").await, server.count("clicks_rejected").await), (3, 1));

    let (status, error) = server.post("clicks", Some("order-1"), EVENT).await;
    assert_eq!((status, &error["kind"]), (409, &json!("conflict")));
    assert!(error["error"].to_string().contains("order-1"), "{error}");
    assert_eq!(server.post("clicks", Some("a b"), EVENT).await.0, 400);
    assert_eq!(server.count("clicks").await, 3);

    server.stop().await;
    let server = Server::start(dir.path()).await;
    assert_eq!(server.post("clicks", Some("order-1"), &body).await, first, "also after a restart");
    assert_eq!(server.post("clicks", None, EVENT).await.0, 200);
    assert_eq!(server.count("clicks").await, 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_known_id_are_left_out_and_counted() {
    let dir = project("");
    let server = Server::start(dir.path()).await;
    let (_, receipt) = server.post("orders", None, "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":2}\n").await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(2), &json!(0)));
    let again =
        "{\"id\":\"b\",\"n\":2}\n{\"id\":\"a\",\"n\":77}\n{\"id\":\"c\",\"n\":3}\n{\"n\":4}\n{\"n\":4}\n";
    let (_, receipt) = server.post("orders", None, again).await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(3), &json!(2)));
    assert_eq!(server.count("orders").await, 5);
    server.stop().await;
    let server = Server::start(dir.path()).await;
    let (_, receipt) = server.post("orders", None, again).await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(2), &json!(3)), "after a restart");
    let metrics = server.http.get(format!("{}/metrics", server.url())).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("twofold_ingest_duplicate_events_total{stream=\"orders\"} 3"), "{metrics}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_bodies_add_nothing_and_harm_nobody() {
    let dir = project("[ingest]\nbody_timeout = '500ms'\nwaiting = '1 MiB'\nwaiting_requests = 2");
    let server = Server::start(dir.path()).await;
    // One breaks off in the middle of its second event, one between events, one stalls, one never sends anything.
    for half in [EVENT.len() + 10, EVENT.len()] {
        let mut socket = server.begin(2 * EVENT.len()).await;
        socket.write_all(&format!("{EVENT}{EVENT}").as_bytes()[..half]).await.unwrap();
        socket.shutdown().await.unwrap();
        drop(socket);
    }
    let mut stalled = Vec::new();
    for n in 0..40 {
        let mut socket = server.begin(900_000).await;
        if n % 2 == 0 {
            socket.write_all(EVENT.repeat(100).as_bytes()).await.unwrap();
        }
        stalled.push(socket);
    }
    // More of them than may wait: they do not, as they are not whole. Others are served meanwhile.
    for _ in 0..20 {
        assert_eq!(server.post("clicks", None, EVENT).await.0, 200);
    }
    for mut socket in stalled {
        let answer = read(&mut socket, Duration::from_secs(3)).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("nothing was taken in"), "{answer}");
    }
    assert_eq!((server.count("clicks").await, server.count("clicks_rejected").await), (20, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_its_receipt_is_served_whole_or_not_at_all() {
    let dir = project("");
    let server = Server::start(dir.path()).await;
    let body = EVENT.repeat(2000);
    for _ in 0..10 {
        let mut socket = server.begin(body.len()).await;
        socket.write_all(body.as_bytes()).await.unwrap();
        drop(socket);
    }
    let mut counts = Vec::new();
    for _ in 0..20 {
        counts.push(server.count("clicks").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(counts.iter().all(|n| n % 2000 == 0), "a request is all there or not at all: {counts:?}");
    assert_eq!(server.post("clicks", None, &body).await.0, 200);
    assert_eq!(server.count("clicks").await, counts.last().unwrap() + 2000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() {
    let dir = project("[ingest]\nwaiting = '1 MiB'");
    let server = Server::start(dir.path()).await;
    let mut socket = server.begin(100 << 20).await;
    let answer = read(&mut socket, Duration::from_secs(3)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let url = format!("{}/v1/streams/clicks", server.url());
    // Whoever goes on writing after the refusal may find the connection closed before it is read.
    let sent = server.http.post(url).body(EVENT.repeat(20_000)).send().await;
    assert!(sent.as_ref().map_or(true, |answer| answer.status() == 413), "{sent:?}");
    assert_eq!(server.post("clicks", None, EVENT).await.0, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_there_is_room_for_is_told_to_come_back() {
    let dir = project("[ingest]\nwaiting = '1 MiB'");
    let server = Server::start(dir.path()).await;
    let mut large = server.begin(900 << 10).await;
    let body = EVENT.repeat((900 << 10) / EVENT.len());
    let rest = (900 << 10) - body.len();
    large.write_all(body.as_bytes()).await.unwrap();
    // Long enough for all of that to arrive: it is the first.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let post = || {
        let url = format!("{}/v1/streams/clicks", server.url());
        server.http.post(url).body(EVENT.repeat(2000)).send()
    };
    let mut answer = post().await.unwrap();
    for _ in 0..50 {
        if answer.status() == 429 {
            break;
        }
        // The large one had not come that far.
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = post().await.unwrap();
    }
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.json::<Value>().await.unwrap()["kind"], "busy");
    let before = server.count("clicks").await;
    large.write_all(" ".repeat(rest).as_bytes()).await.unwrap();
    let mut first = [0; 12];
    large.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(server.count("clicks").await, before + (body.len() / EVENT.len()) as u64);
    assert_eq!(post().await.unwrap().status(), 200, "there is room again");
    server.stop().await;
}
