//! Sockets: taking an address, and answering on it until the switch is flipped.
//!
//! Each connection is served on its own, and holds nothing that another one needs but a file handle. One that has not
//! sent the whole head of a request within [`HEADERS_WITHIN`], counted from when it could, is closed; so are those on
//! which nothing is asked, and one that does not come to speak TLS where it is spoken. There are at most [`CONNECTIONS`] at once, and the next ones wait until others go: so that
//! there are file handles left for what is stored. If the system has none left, it is asked again a little later.

use super::http2;
use super::shutdown::Shutdown;
use anyhow::{Context, Result, anyhow};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How long a client may take to send the head of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// How many headers a request may have, and how many bytes its head.
const MAX_HEADERS: usize = 100;
const MAX_HEAD: usize = 64 << 10;
/// How many connections are served at once, at each address.
const CONNECTIONS: usize = 384;
/// How long to wait if the system gives no connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// How long open requests may take to end after the switch was flipped.
const GRACE: Duration = Duration::from_secs(10);

/// A taken address.
pub(crate) struct Listener {
    inner: TcpListener,
    address: SocketAddr,
    /// The address that was to be taken, if that was in use.
    gave_way: Option<SocketAddr>,
    headers_within: Duration,
    tls: Option<TlsAcceptor>,
    version: Version,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    async fn serve<S>(self, socket: S, app: axum::Router, within: Duration, shutdown: Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Version::Http1 => serve(socket, app, within, shutdown).await,
            Version::Http2 => http2::serve(socket, app, within, shutdown).await,
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Listener {
    /// Takes an address; `setting` says where another can be chosen.
    pub(crate) async fn bind(address: SocketAddr, setting: &str) -> Result<Self> {
        Self::of(TcpListener::bind(address).await, address, setting)
    }

    /// The same at an address that nobody asked for: if it is in use, at a free port.
    pub(crate) async fn bind_or_free(address: SocketAddr, setting: &str) -> Result<Self> {
        match TcpListener::bind(address).await {
            Err(e) if e.kind() == ErrorKind::AddrInUse => {
                let bound = TcpListener::bind(SocketAddr::new(address.ip(), 0)).await;
                Ok(Self { gave_way: Some(address), ..Self::of(bound, address, setting)? })
            }
            bound => Self::of(bound, address, setting),
        }
    }

    fn of(bound: std::io::Result<TcpListener>, address: SocketAddr, setting: &str) -> Result<Self> {
        let inner = bound.map_err(|e| refused(address, setting, &e))?;
        let address = inner.local_addr().context("the address that was taken")?;
        let version = Version::Http1;
        Ok(Self { inner, address, gave_way: None, headers_within: HEADERS_WITHIN, tls: None, version })
    }

    /// The address that was to be taken, if that was in use.
    pub(crate) fn gave_way(&self) -> Option<SocketAddr> {
        self.gave_way
    }

    /// The same for HTTP/2 in the place of HTTP/1, as gRPC needs it.
    pub(crate) fn http2(self) -> Self {
        Self { version: Version::Http2, ..self }
    }

    /// The same, which speaks TLS.
    pub(crate) fn with_tls(self, tls: TlsAcceptor) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Where this is from the same machine, as an address and a port.
    pub(crate) fn authority(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        address.to_string()
    }

    /// The same as a URL, where HTTP is spoken without TLS.
    #[cfg(test)]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.authority())
    }

    /// Answers until the switch is flipped, and then what is still being asked.
    pub(crate) fn answer(self, app: axum::Router, shutdown: Shutdown) -> JoinHandle<Result<()>> {
        let (within, version) = (self.headers_within, self.version);
        let (tls, stop) = (self.tls.clone(), shutdown.clone());
        self.answer_each(shutdown, move |socket| {
            let (app, tls, stop) = (app.clone(), tls.clone(), stop.clone());
            async move {
                let Some(tls) = tls else { return version.serve(socket, app, within, stop).await };
                match tokio::time::timeout(within, tls.accept(socket)).await {
                    Ok(Ok(socket)) => version.serve(socket, app, within, stop).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a connection did not come to speak TLS"),
                    Err(_) => tracing::debug!("a connection took too long to speak TLS"),
                }
            }
        })
    }

    /// The same, with `serve` for each connection; that is to end soon after the switch is flipped.
    pub(crate) fn answer_each<S, F>(self, shutdown: Shutdown, serve: S) -> JoinHandle<Result<()>>
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(async move {
            let connections = Arc::new(Semaphore::new(CONNECTIONS));
            loop {
                let next = async {
                    let room = Arc::clone(&connections).acquire_owned().await;
                    (self.inner.accept().await, room)
                };
                let (accepted, room) = tokio::select! {
                    next = next => next,
                    () = shutdown.requested() => break,
                };
                match accepted {
                    Ok((socket, _)) => {
                        let served = serve(socket);
                        tokio::spawn(async move {
                            served.await;
                            drop(room);
                        });
                    }
                    Err(e) if is_of_the_client(&e) => {}
                    Err(e) => {
                        tracing::error!(error = %e, "no connection can be accepted now");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                }
            }
            drop(self.inner);
            let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
            // After the grace those that are left are cut off when the process ends.
            drop(tokio::time::timeout(GRACE, connections.acquire_many(all)).await);
            Ok(())
        })
    }
}

/// Answers what is asked on one connection.
async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: axum::Router,
    headers_within: Duration,
    shutdown: Shutdown,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(headers_within);
    builder.http1().max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let mut stop = std::pin::pin!(shutdown.requested());
    let mut stopping = false;
    loop {
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(e) = done {
                    tracing::debug!(error = e, "a connection ended");
                }
                return;
            }
            () = stop.as_mut(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Whether a connection was lost before it was accepted: that is no trouble of ours.
fn is_of_the_client(e: &std::io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

fn refused(address: SocketAddr, setting: &str, e: &std::io::Error) -> anyhow::Error {
    match e.kind() {
        ErrorKind::AddrInUse => {
            anyhow!(
                "the address {address} is in use: stop what listens there, or choose another with {setting}"
            )
        }
        ErrorKind::PermissionDenied | ErrorKind::AddrNotAvailable => {
            anyhow!("the address {address} cannot be listened on ({e}): choose another with {setting}")
        }
        _ => anyhow!("listening on {address}: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn an_address_in_use_is_named_with_the_way_out() {
        let first = Listener::bind(ANY, "--listen").await.unwrap();
        let message = Listener::bind(first.address, "--listen").await.unwrap_err().to_string();
        let expected = format!("the address {} is in use", first.address);
        assert!(message.starts_with(&expected) && message.ends_with("--listen"), "{message}");
    }

    #[tokio::test]
    async fn an_address_that_nobody_asked_for_gives_way_to_a_free_one() {
        let first = Listener::bind(ANY, "").await.unwrap();
        let second = Listener::bind_or_free(first.address, "").await.unwrap();
        assert!(second.address != first.address && second.address.port() != 0);
        let third = Listener::bind_or_free(ANY, "").await.unwrap();
        assert_eq!(third.authority(), third.address.to_string());
    }

    #[tokio::test]
    async fn it_answers_until_the_switch_is_flipped() {
        let listener = Listener::bind(ANY, "--listen").await.unwrap();
        let url = listener.url();
        let (stopper, shutdown) = Shutdown::new();
        let app = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
        let server = listener.answer(app, shutdown);
        assert_eq!(reqwest::get(&url).await.unwrap().text().await.unwrap(), "here");
        stopper.stop();
        server.await.unwrap().unwrap();
        assert!(reqwest::get(&url).await.is_err());
    }

    #[tokio::test]
    async fn an_address_for_everybody_is_found_on_loopback() {
        let listener = Listener::bind("0.0.0.0:0".parse().unwrap(), "").await.unwrap();
        assert_eq!(listener.url(), format!("http://127.0.0.1:{}", listener.address.port()));
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_is_not_waited_for() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut listener = Listener::bind(ANY, "--listen").await.unwrap();
        listener.headers_within = Duration::from_millis(200);
        let (address, url) = (listener.address, listener.url());
        let (_stopper, shutdown) = Shutdown::new();
        let app = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
        let _server = listener.answer(app, shutdown);
        // Nothing at all, half a head, and a head that drips.
        let mut waiting = Vec::new();
        for sent in ["", "GET / HTTP/1.1\r\nHost: x\r\n", "POST / HT"] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(sent.as_bytes()).await.unwrap();
            waiting.push(socket);
        }
        assert_eq!(reqwest::get(&url).await.unwrap().text().await.unwrap(), "here");
        for mut socket in waiting {
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
            assert!(closed.is_ok(), "it is still open");
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn connections_that_end_make_room_for_others() {
        let listener = Listener::bind(ANY, "--listen").await.unwrap();
        let (address, url) = (listener.address, listener.url());
        let (_stopper, shutdown) = Shutdown::new();
        let app = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
        let _server = listener.answer(app, shutdown);
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let asked = tokio::spawn(reqwest::get(url));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!asked.is_finished(), "there is no room yet");
        held.truncate(1);
        assert_eq!(asked.await.unwrap().unwrap().text().await.unwrap(), "here");
    }
}
