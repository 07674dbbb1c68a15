//! Connections of HTTP/2 that know from the start that they are ones: those of gRPC.
//!
//! A client that does not say so within the time that it has is not waited for. One that has gone without a word is
//! found out by pings, and what was answered on its connection is dropped, and so stopped.

use super::shutdown::Shutdown;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::io::{Cursor, Error, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

/// What each connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How many calls are answered on one connection at once; the next ones wait.
const CALLS: u32 = 64;
/// How many bytes the metadata of a call may have.
const METADATA_BYTES: u32 = 16 << 10;
/// How often a client is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// Answers what is asked on one connection, until it ends or the switch is flipped and all is answered.
pub(super) async fn serve<S>(socket: S, app: axum::Router, begun_within: Duration, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = tokio::select! {
        begun = timeout(begun_within, begin(socket)) => begun,
        () = shutdown.requested() => return,
    };
    let socket = match begun {
        Ok(Ok(socket)) => socket,
        Ok(Err(e)) => return tracing::debug!(error = %e, "a connection ended before it began"),
        Err(_) => return tracing::debug!("a connection did not begin in time"),
    };
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS)
        .max_header_list_size(METADATA_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return ended(done),
        () = shutdown.requested() => connection.as_mut().graceful_shutdown(),
    }
    ended(connection.await);
}

/// Reads what a connection begins with, and gives the connection with that still to be read.
async fn begin<S>(mut socket: S) -> std::io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut preface = [0; PREFACE.len()];
    // Byte by byte, for whoever speaks something shorter, and waits.
    for at in 0..preface.len() {
        preface[at] = socket.read_u8().await?;
        if preface[at] != PREFACE[at] {
            return Err(Error::new(ErrorKind::InvalidData, "it is not HTTP/2"));
        }
    }
    let (reader, writer) = tokio::io::split(socket);
    Ok(tokio::io::join(Cursor::new(preface).chain(reader), writer))
}

fn ended(done: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(e) = done {
        tracing::debug!(error = e, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Listener;
    use std::net::SocketAddr;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn who_does_not_say_that_it_speaks_http2_is_let_go_of() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stopper, shutdown) = Shutdown::new();
        // At once, if it says something else; in its time, if it says nothing, or half of it.
        for (sent, within) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Duration::from_secs(60)),
            (b"PRX", Duration::from_secs(60)),
            (b"", Duration::from_millis(100)),
            (&PREFACE[..23], Duration::from_millis(100)),
        ] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(sent).await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let served = serve(socket, axum::Router::new(), within, shutdown.clone());
            timeout(Duration::from_secs(10), served).await.expect("it is still waited for");
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_not_begun_ends_when_the_switch_is_flipped() {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "").await.unwrap().http2();
        let address = listener.url().replace("http://", "");
        let (stopper, shutdown) = Shutdown::new();
        let server = listener.answer(axum::Router::new(), shutdown);
        let mut silent = TcpStream::connect(&address).await.unwrap();
        tokio::task::yield_now().await;
        stopper.stop();
        timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
        let ended = timeout(Duration::from_secs(5), silent.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "it is still open");
    }
}
