use super::*;
use crate::testing::World;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// What takes long, and holds much while it does.
const HEAVY: &str = "SELECT value FROM generate_series(1, 400000000) ORDER BY -value";
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    world: World,
    serving: Arc<Serving>,
    address: SocketAddr,
}

impl Server {
    async fn start(startup_within: Duration) -> Self {
        let world = World::new().await;
        let serving = world.serving();
        let pg = Pg::new(Arc::clone(&serving), Gate::open(), None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection::serve(
                    Arc::clone(&pg),
                    socket,
                    startup_within,
                    std::future::pending(),
                ));
            }
        });
        Self { world, serving, address }
    }

    /// How many bytes running queries hold.
    fn held(&self) -> usize {
        self.world.catalog.session().runtime_env().memory_pool.reserved()
    }

    async fn wait_until(&self, what: &str, holds: impl Fn(usize) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !holds(self.held()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: {} bytes are held", self.held());
    }
}

/// A client that sends what it likes.
struct Client {
    socket: TcpStream,
    /// What it was told about itself, to cancel with.
    key: Vec<u8>,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let mut client = Self { socket: TcpStream::connect(server.address).await.unwrap(), key: Vec::new() };
        let parameters = b"\0\x03\0\0user\0ada\0\0";
        let mut message = (parameters.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend_from_slice(parameters);
        client.socket.write_all(&message).await.unwrap();
        loop {
            match client.read().await.unwrap() {
                (b'K', key) => client.key = key,
                (b'Z', _) => return client,
                (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    async fn send(&mut self, kind: u8, body: &[u8]) {
        let mut message = vec![kind];
        message.extend((body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        self.socket.write_all(&message).await.unwrap();
    }

    async fn query(&mut self, sql: &str) {
        self.send(b'Q', &[sql.as_bytes(), b"\0"].concat()).await;
    }

    /// The next message; none at the end.
    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        let read = timeout(PATIENCE, self.socket.read_exact(&mut head)).await.expect("an answer");
        read.ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; length as usize - 4];
        self.socket.read_exact(&mut body).await.unwrap();
        Some((head[0], body))
    }

    /// The SQLSTATE of the next error.
    async fn error(&mut self) -> String {
        loop {
            if let (b'E', body) = self.read().await.expect("an error") {
                let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C'));
                return String::from_utf8_lossy(&field.unwrap()[1..]).into_owned();
            }
        }
    }

    /// The kinds of all messages up to the next one that says that the server is ready.
    async fn until_ready(&mut self) -> String {
        let mut kinds = String::new();
        loop {
            let (kind, _) = self.read().await.expect("an answer");
            kinds.push(char::from(kind));
            if kind == b'Z' {
                return kinds;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_lets_go_of_its_memory_at_once() {
    let server = Server::start(PATIENCE).await;
    let mut client = Client::connect(&server).await;
    client.query(HEAVY).await;
    server.wait_until("a heavy query runs", |held| held > 1 << 20).await;
    let mut other = TcpStream::connect(server.address).await.unwrap();
    // With a key of its own it would be heard; with another it is not.
    let wrong = [&16u32.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &client.key[..4], b"none"].concat();
    other.write_all(&wrong).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.held() > 0, "somebody else's key ends nothing");
    let mut other = TcpStream::connect(server.address).await.unwrap();
    let cancel = [&16u32.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &client.key].concat();
    other.write_all(&cancel).await.unwrap();
    assert_eq!(client.error().await, "57014");
    server.wait_until("after it was cancelled", |held| held == 0).await;
    assert_eq!(client.until_ready().await, "Z");
    client.query("SELECT 1").await;
    assert_eq!(client.until_ready().await, "TDCZ", "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_nothing_with_it() {
    let server = Server::start(PATIENCE).await;
    let mut client = Client::connect(&server).await;
    client.query(HEAVY).await;
    server.wait_until("a heavy query runs", |held| held > 1 << 20).await;
    drop(client);
    server.wait_until("after its client left", |held| held == 0).await;
    assert!(server.serving.query("SELECT 1").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_may_be_given_a_time() {
    let server = Server::start(PATIENCE).await;
    let mut client = Client::connect(&server).await;
    client.query("SET statement_timeout = '300ms'").await;
    assert_eq!(client.until_ready().await, "CZ");
    client.query(HEAVY).await;
    assert_eq!(client.error().await, "57014");
    server.wait_until("after its time", |held| held == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_begin_is_not_waited_for() {
    let server = Server::start(Duration::from_millis(300)).await;
    // Nothing, half a head, half a message, and one that asks for encryption and then says no more.
    let ssl = [8u32.to_be_bytes(), 80_877_103u32.to_be_bytes()].concat();
    for sent in [&[][..], &[0, 0], &[0, 0, 0, 80, 0, 3, 0, 0, b'u'], &ssl] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "it is still open after {sent:?}");
        assert_eq!(answer, if sent.len() == 8 { &b"N"[..] } else { b"" });
    }
}

#[tokio::test]
async fn bytes_that_are_no_messages_end_their_own_connection_only() {
    let server = Server::start(PATIENCE).await;
    let mut other = Client::connect(&server).await;
    let huge = [&b"Q"[..], &(17u32 << 20).to_be_bytes()].concat();
    let negative = [&b"Q"[..], &(-1i32).to_be_bytes()].concat();
    for bytes in [
        &huge[..],
        &negative,
        b"B\0\0\0\x04",
        b"P\0\0\0\x05x",
        b"?\0\0\0\x04",
        b"D\0\0\0\x04",
        b"E\0\0\0\x04",
    ] {
        let mut client = Client::connect(&server).await;
        client.socket.write_all(bytes).await.unwrap();
        assert_eq!(client.error().await, "08P01", "{bytes:?}");
        while client.read().await.is_some() {}
    }
    other.query("SELECT 1").await;
    assert_eq!(other.until_ready().await, "TDCZ");
}

#[tokio::test]
async fn a_portal_gives_what_it_is_asked_for_however_much_that_is() {
    let server = Server::start(PATIENCE).await;
    let mut client = Client::connect(&server).await;
    client.send(b'P', b"\0SELECT carrier FROM flights ORDER BY _offset LIMIT 3\0\0\0").await;
    client.send(b'B', b"\0\0\0\0\0\0\0\0").await;
    client.send(b'E', &[&b"\0"[..], &2i32.to_be_bytes()].concat()).await;
    client.send(b'E', &[&b"\0"[..], &i32::MAX.to_be_bytes()].concat()).await;
    client.send(b'E', &[&b"\0"[..], &(-1i32).to_be_bytes()].concat()).await;
    client.send(b'S', b"").await;
    assert_eq!(client.until_ready().await, "12DDsDCCZ");
    // Formats for columns that are not there.
    client.send(b'B', b"\0\0\0\0\0\0\0\x02\0\x01\0\x01").await;
    client.send(b'S', b"").await;
    assert_eq!(client.error().await, "08P01");
    assert_eq!(client.until_ready().await, "Z");
}

#[tokio::test]
async fn statements_of_one_text_are_answered_one_after_the_other() {
    let server = Server::start(PATIENCE).await;
    let mut client = Client::connect(&server).await;
    client.query("BEGIN; SELECT n FROM totals; COMMIT").await;
    assert_eq!(client.until_ready().await, "CTDCCZ");
    client.query("SELECT 1; SELECT nothing; SELECT 2").await;
    assert_eq!(client.until_ready().await, "TDCEZ");
    client.query(" ; ").await;
    assert_eq!(client.until_ready().await, "IZ");
    client.query("BEGIN").await;
    client.until_ready().await;
    client.query("SELECT nothing").await;
    client.until_ready().await;
    client.query("SELECT 1").await;
    assert_eq!(client.error().await, "25P02");
    client.until_ready().await;
    client.query("COMMIT; SELECT 1").await;
    assert_eq!(client.until_ready().await, "CTDCZ");
}

#[tokio::test]
async fn the_system_catalogs_answer_without_the_speed_layer() {
    let server = Server::start(PATIENCE).await;
    server
        .world
        .speed
        .script(|script| script.instead = Some(twofold_common::Answer::Retired { relation: "x".into() }));
    let mut client = Client::connect(&server).await;
    client.query("SELECT relname FROM pg_class WHERE relkind = 'm' ORDER BY relname").await;
    assert_eq!(client.until_ready().await, "TDDDCZ", "delays, late, totals");
    client.query("SELECT n FROM totals").await;
    assert_eq!(client.error().await, "57P03");
}
