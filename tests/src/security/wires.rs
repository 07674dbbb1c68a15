//! The same guarantees over PostgreSQL's wire and Arrow Flight SQL: who gets in, over what, to what, and for how long.

use super::tls::{Authority, TLS};
use super::{Asker, EVENTS, project, token, up};
use crate::process::{Server, refuses, succeeds};
use arrow::array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, NoTls, Socket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use twofold_serving::Trust;

type Flight = FlightSqlServiceClient<Channel>;

/// Where a running server answers, as its run file says: PostgreSQL's host and port, and Flight's.
fn addresses(project: &Path) -> (String, String) {
    let file = std::fs::read(project.join("data/run/serve.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let authority = |name: &str| {
        let url = file[name].as_str().unwrap_or_else(|| panic!("no {name} in {file}"));
        let rest = url.split_once("://").unwrap().1;
        rest.split('/').next().unwrap().to_string()
    };
    (authority("pg"), authority("flight"))
}

async fn psql(address: &str, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
    let url = format!("postgresql://{user}:{password}@{address}/twofold?sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn code(e: &tokio_postgres::Error) -> &str {
    e.code().unwrap_or_else(|| panic!("no SQLSTATE: {e:?}")).code()
}

async fn flight(address: &str, token: Option<&str>) -> Flight {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    if let Some(token) = token {
        client.set_token(token.to_string());
    }
    client
}

/// The status in what the client makes of it.
fn status(e: arrow_flight::error::FlightError) -> Status {
    match e {
        arrow_flight::error::FlightError::Tonic(status) => *status,
        other => Status::unknown(other.to_string()),
    }
}

async fn ask(client: &mut Flight, sql: &str) -> Result<usize, Status> {
    let info = client.execute(sql.to_string(), None).await.map_err(status)?;
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stream = client.do_get(ticket).await.map_err(status)?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(status)?;
    Ok(batches.iter().map(RecordBatch::num_rows).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_wire_of_postgresql_a_token_is_the_password_and_opens_what_its_scopes_say() {
    let dir = project("", "", "");
    let server = up(dir.path());
    let (address, _) = addresses(dir.path());
    let open = psql(&address, "anybody", "anything").await.unwrap();
    assert_eq!(open.query("SELECT * FROM w", &[]).await.unwrap().len(), 0, "open without a token");
    let reader = token(dir.path(), &["board", "--read", "v"]);
    let admin = token(dir.path(), &["ops", "--admin"]);
    Asker::new(&server.url, None).until("/v1/status", 401).await;
    Asker::new(&server.url, Some(&admin)).post("/v1/streams/s", EVENTS).await;
    // Who came in before a token was needed does not stay in.
    assert!(open.query("SELECT * FROM w", &[]).await.is_err());

    for (user, password) in
        [("board", admin.as_str()), ("board", "nothing"), ("nobody", &reader), ("", &reader)]
    {
        let e = psql(&address, user, password).await.err().unwrap_or_else(|| panic!("{user} is in"));
        let said = e.as_db_error().map(|e| e.message().to_string()).unwrap_or_default();
        assert!(["28P01", "28000"].contains(&code(&e)), "{user}: {e:?}");
        assert!(!said.contains("twofold_"), "{said}");
    }
    let ada = psql(&address, "board", &reader).await.unwrap();
    assert_eq!(ada.query("SELECT * FROM v ORDER BY k", &[]).await.unwrap().len(), 2);
    for sql in [
        "SELECT * FROM w",
        "SELECT * FROM s",
        "SELECT * FROM public.w",
        "SELECT v.k FROM v JOIN twofold.public.w USING (k)",
        "SELECT k FROM v WHERE k IN (SELECT k FROM w)",
        "WITH x AS (SELECT * FROM w) SELECT * FROM x",
        "SELECT * FROM \"w\" -- pg_class",
        "SELECT (SELECT count(*) FROM w), current_schema()",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM w",
    ] {
        let refused = ada.simple_query(sql).await.unwrap_err();
        assert_eq!(code(&refused), "42501", "{sql}: {refused:?}");
        if !sql.starts_with("DECLARE") {
            assert_eq!(code(&ada.prepare(sql).await.unwrap_err()), "42501", "{sql}");
        }
    }
    let tables = ada.query("SELECT relname FROM pg_catalog.pg_class WHERE relname = 'w'", &[]).await.unwrap();
    assert_eq!(tables.len(), 1, "names are there for everybody");
    let ops = psql(&address, "ops", &admin).await.unwrap();
    assert_eq!(ops.query("SELECT * FROM w", &[]).await.unwrap().len(), 0);

    // A connection goes on as long as its token does.
    succeeds(dir.path(), &["token", "revoke", "board"]);
    let started = Instant::now();
    while !ada.is_closed() {
        assert!(started.elapsed() < super::SECONDS, "the connection is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(code(&psql(&address, "board", &reader).await.err().unwrap()), "28P01");
    assert!(!ops.is_closed());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_flight_a_token_opens_what_its_scopes_say() {
    let dir = project("", "", "");
    let reader = token(dir.path(), &["board", "--read", "v"]);
    let admin = token(dir.path(), &["ops", "--admin"]);
    let server = up(dir.path());
    Asker::new(&server.url, Some(&admin)).post("/v1/streams/s", EVENTS).await;
    let (_, address) = addresses(dir.path());
    for shown in [None, Some("nothing"), Some(&reader[..reader.len() - 1])] {
        let mut client = flight(&address, shown).await;
        let refused = ask(&mut client, "SELECT 1").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert_eq!(status(client.get_table_types().await.unwrap_err()).code(), Code::Unauthenticated);
    }
    let mut board = flight(&address, Some(&reader)).await;
    assert_eq!(ask(&mut board, "SELECT * FROM v").await.unwrap(), 2);
    for sql in ["SELECT * FROM w", "SELECT * FROM s", "SELECT k FROM v WHERE k IN (SELECT k FROM w)"] {
        assert_eq!(ask(&mut board, sql).await.unwrap_err().code(), Code::PermissionDenied, "{sql}");
        let prepared = board.prepare(sql.to_string(), None).await;
        assert_eq!(status(prepared.err().unwrap()).code(), Code::PermissionDenied, "{sql}");
    }
    // What another has prepared or planned is of no use to one who may not.
    let mut ops = flight(&address, Some(&admin)).await;
    let ticket =
        ops.execute("SELECT * FROM w".into(), None).await.unwrap().endpoint[0].ticket.clone().unwrap();
    assert_eq!(status(board.do_get(ticket).await.err().unwrap()).code(), Code::PermissionDenied);
    // A user and a password, as JDBC has them: the token is the password.
    let mut ada = flight(&address, None).await;
    assert!(ada.handshake("ada", "nothing").await.is_err());
    ada.handshake("ada", &reader).await.unwrap();
    assert_eq!(ask(&mut ada, "SELECT * FROM v").await.unwrap(), 2);

    succeeds(dir.path(), &["token", "revoke", "board"]);
    let started = Instant::now();
    while ask(&mut board, "SELECT * FROM v").await.is_ok() {
        assert!(started.elapsed() < super::SECONDS, "the token still opens");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(ask(&mut ops, "SELECT * FROM v").await.is_ok());
    server.stop();
}

#[test]
fn no_protocol_is_listened_to_elsewhere_without_tls_and_a_token() {
    let dir = project("", "", "");
    for flag in ["--pg-listen", "--flight-listen"] {
        let said = refuses(dir.path(), &["up", flag, "0.0.0.0:0"]);
        assert!(said.contains("without TLS") && said.contains("--insecure-listen"), "{flag}: {said}");
        assert!(!dir.path().join("data").exists(), "nothing is written");
        Server::start(dir.path(), &["up", flag, "0.0.0.0:0", "--insecure-listen"], "serve").stop();
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    }
}

/// TLS for the drivers.
#[derive(Clone)]
struct Secure(Arc<ClientConfig>);

impl Secure {
    fn new(dir: &Path, protocol: &str) -> Self {
        let mut config = Trust::Authorities(dir.join("ca.pem")).config().unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Self(Arc::new(config))
    }
}

struct SecureSocket<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SecureSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SecureSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for SecureSocket<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

type Connecting<T> = Pin<Box<dyn Future<Output = std::io::Result<T>> + Send>>;

impl MakeTlsConnect<Socket> for Secure {
    type Stream = SecureSocket<Socket>;
    type TlsConnect = Self;
    type Error = std::convert::Infallible;

    fn make_tls_connect(&mut self, _: &str) -> Result<Self, Self::Error> {
        Ok(self.clone())
    }
}

impl TlsConnect<Socket> for Secure {
    type Stream = SecureSocket<Socket>;
    type Error = std::io::Error;
    type Future = Connecting<Self::Stream>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let name = "localhost".try_into().unwrap();
            TlsConnector::from(self.0).connect(name, socket).await.map(SecureSocket)
        })
    }
}

impl Service<Uri> for Secure {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = Arc::clone(&self.0);
        Box::pin(async move {
            let socket = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
            let name = "localhost".try_into().unwrap();
            TlsConnector::from(config).connect(name, socket).await.map(TokioIo::new)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tls_is_spoken_the_other_protocols_speak_nothing_else() {
    let dir = project(TLS, "", "");
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.vouch(dir.path(), "tls");
    let elsewhere = tempfile::tempdir().unwrap();
    stranger.vouch(elsewhere.path(), "other");
    let admin = token(dir.path(), &["ops", "--admin"]);
    let server = up(dir.path());
    let (pg, grpc) = addresses(dir.path());
    let e = psql(&pg, "ops", &admin).await.err().unwrap();
    assert_eq!(code(&e), "28000", "{e:?}");
    assert!(e.as_db_error().unwrap().message().contains("sslmode=require"), "{e:?}");
    let url = format!("postgresql://ops:{admin}@{pg}/twofold?sslmode=require");
    let (client, connection) =
        tokio_postgres::connect(&url, Secure::new(dir.path(), "postgresql")).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
    assert!(tokio_postgres::connect(&url, Secure::new(elsewhere.path(), "postgresql")).await.is_err());

    let plain = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
    assert!(
        plain.connect().await.is_err()
            || ask(&mut flight(&grpc, Some(&admin)).await, "SELECT 1").await.is_err()
    );
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
    let channel = endpoint.connect_with_connector(Secure::new(dir.path(), "h2")).await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    client.set_token(admin.clone());
    assert_eq!(ask(&mut client, "SELECT 1").await.unwrap(), 1);
    let strange = endpoint.connect_with_connector(Secure::new(elsewhere.path(), "h2")).await;
    assert!(strange.is_err());

    // What is sent in clear before TLS begins does not count as sent within: the connection ends.
    let mut socket = TcpStream::connect(&pg).await.unwrap();
    let asks_for_tls = [0, 0, 0, 8, 4, 210, 22, 47];
    let startup = b"\0\0\0\x15\0\x03\0\0user\0ops\0\0\0\0\0";
    socket.write_all(&[&asks_for_tls[..], &startup[..]].concat()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await.unwrap().ok();
    assert!(answer == b"S" || answer.is_empty(), "{answer:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_gives_its_turn_back_when_its_time_is_over() {
    let more = "[limits]\nqueries = 1\nqueries_waiting = 1\nquery_timeout = \"1s\"\nmax_rows = 100000";
    let dir = project("", "", more);
    let server = up(dir.path());
    let asker = Asker::new(&server.url, None);
    let (pg, grpc) = addresses(dir.path());
    let until_free = async || {
        let started = Instant::now();
        while asker.metric("twofold_queries_running").await > 0 {
            assert!(started.elapsed() < super::SECONDS, "the turn is not given back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    const ENDLESS: &str = "SELECT a.value FROM generate_series(1, 1000000000) a";
    let client = psql(&pg, "ada", "x").await.unwrap();
    client.simple_query(&format!("BEGIN; DECLARE c CURSOR FOR {ENDLESS}")).await.unwrap();
    assert_eq!(asker.metric("twofold_queries_running").await, 1);
    until_free().await;
    let e = client.simple_query("FETCH ALL FROM c").await.unwrap_err();
    assert!(e.as_db_error().unwrap().message().contains("`query_timeout` in [limits]"), "{e:?}");
    client.simple_query("ROLLBACK").await.unwrap();

    let mut client_of_flight = flight(&grpc, None).await;
    let info = client_of_flight.execute(ENDLESS.into(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stream = client_of_flight.do_get(ticket).await.unwrap();
    until_free().await;
    let e = stream.try_collect::<Vec<_>>().await.map_err(status).unwrap_err();
    assert!(e.message().contains("in [limits]"), "{e}");

    // No more rows than an answer may have, however it comes.
    let many = "SELECT * FROM generate_series(1, 100001)";
    let e = client.query(many, &[]).await.unwrap_err();
    assert!(e.as_db_error().unwrap().message().contains("`max_rows` in [limits]"), "{e:?}");
    let e = ask(&mut client_of_flight, many).await.unwrap_err();
    assert!(e.message().contains("`max_rows` in [limits]"), "{e}");
    server.stop();
}
