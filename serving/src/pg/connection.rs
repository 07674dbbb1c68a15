//! One connection, from its first byte to its last.
//!
//! Messages are taken one after the other, each with a bound: [`STARTUP_WITHIN`] until the connection has begun,
//! [`MESSAGE_LIMIT`] bytes, and the client's own `statement_timeout`. While one is answered, the client may cancel it from
//! another connection, or go away: then all that was held for it is let go of at once. When the server stops, what is
//! being answered is finished.

use super::Pg;
use super::failure::{Failure, state};
use super::query::Prepared;
use super::service::{Service, session};
use super::startup::{Registered, Startup};
use super::wire::Wire;
use crate::access::Access;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, DefaultClient, NoopHandler, PgWireConnectionState,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::response::{GssEncResponse, SslResponse, TransactionStatus};
use datafusion_postgres::pgwire::messages::{
    PgWireBackendMessage, PgWireFrontendMessage, SslNegotiationMetaMessage,
};
use datafusion_postgres::pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use futures::SinkExt;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{Decoder, Framed};
use tokio_util::either::Either;
use twofold_common::foreign::guard;

/// How long a client may take until its connection has begun.
pub(super) const STARTUP_WITHIN: Duration = Duration::from_secs(30);
/// How many bytes a message may have.
const MESSAGE_LIMIT: usize = 16 << 20;
/// How many the message may have that starts a connection.
const STARTUP_LIMIT: usize = 10_000;
/// How much is read at once.
const CHUNK: usize = 16 << 10;
/// How long a client that is told that its connection ends may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);

type Socket = Framed<Stream, PgWireMessageServerCodec<Prepared>>;
type Stream = Either<Wire, Box<TlsStream<Wire>>>;

/// What ends a connection without a word.
struct Ended;

/// Answers on one connection until it ends, or `stop` does and nothing is being answered.
pub(super) async fn serve(
    pg: Arc<Pg>,
    socket: TcpStream,
    startup_within: Duration,
    stop: impl Future<Output = ()>,
) {
    let Ok(address) = socket.peer_addr() else { return };
    let Ok(wire) = Wire::new(socket) else { return };
    let connection = Connection::new(pg, address);
    let deadline = Instant::now() + startup_within;
    let begun = tokio::select! {
        begun = timeout_at(deadline, connection.begin(wire.clone())) => begun.unwrap_or(Err(Ended)),
        () = wire.clone().gone() => Err(Ended),
    };
    let Ok(mut socket) = begun else { return };
    let Some(access) = connection.startup.access().cloned() else { return };
    let mut shut_out = std::pin::pin!(connection.startup.gate.shut_out(&access));
    let mut stop = std::pin::pin!(stop);
    // Between a query's first message and its last one nothing is stopped.
    let mut between = true;
    loop {
        let next = tokio::select! {
            biased;
            () = stop.as_mut(), if between => Err(Failure::fatal(state::STOPPING, "the server is being stopped").into()),
            () = shut_out.as_mut() => Err(shut_out_now().into()),
            next = next(&mut socket) => next,
        };
        if let Ok(Some(message)) = &next {
            between = matches!(message, PgWireFrontendMessage::Query(_) | PgWireFrontendMessage::Sync(_));
        }
        let ended = match next {
            Ok(None) | Ok(Some(PgWireFrontendMessage::Terminate(_))) => Err(Ended),
            Ok(Some(message)) => {
                let answer = connection.answer(&mut socket, message, &wire, &access);
                access.clone().scope(answer).await
            }
            Err(e) => tell(&mut socket, e, false).await,
        };
        if ended.is_err() {
            return;
        }
    }
}

fn shut_out_now() -> Failure {
    Failure::fatal(state::STOPPING, "the token that this connection came with has expired or was revoked")
}

/// What answers on a connection.
struct Connection {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    startup: Arc<Startup>,
    service: Arc<Service>,
    nothing: Arc<NoopHandler>,
}

impl Connection {
    fn new(pg: Arc<Pg>, address: SocketAddr) -> Self {
        let (connections, gate, tls) = (Arc::clone(&pg.connections), Arc::clone(&pg.gate), pg.tls.clone());
        let startup = Arc::new(Startup::new(connections, gate, tls.is_none()));
        let service = Arc::new(Service { pg });
        Self { address, tls, startup, service, nothing: Arc::new(NoopHandler) }
    }

    fn framed(&self, stream: Stream) -> Socket {
        let client = DefaultClient::new(self.address, matches!(stream, Either::Right(_)));
        Framed::new(stream, PgWireMessageServerCodec::new(client))
    }

    /// Everything up to the moment at which queries may be sent. A connection that cancels another one has no more.
    async fn begin(&self, wire: Wire) -> Result<Socket, Ended> {
        let mut socket = self.framed(Either::Left(wire));
        while !matches!(socket.state(), PgWireConnectionState::ReadyForQuery) {
            let message = match next(&mut socket).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(Ended),
                Err(e) => {
                    drop(tell(&mut socket, e, false).await);
                    return Err(Ended);
                }
            };
            match message {
                PgWireFrontendMessage::SslNegotiation(asked) => {
                    socket = self.negotiate(socket, &asked).await?
                }
                PgWireFrontendMessage::CancelRequest(request) => {
                    self.startup.connections.cancel(request.pid, &request.secret_key);
                    return Err(Ended);
                }
                message => {
                    if let Err(e) = self.process(&mut socket, message).await {
                        let e = match e {
                            PgWireError::UserError(mut info) => {
                                info.severity = "FATAL".into();
                                info.severity_nonlocalized = Some("FATAL".into());
                                PgWireError::UserError(info)
                            }
                            e => e,
                        };
                        drop(tell(&mut socket, e, false).await);
                        return Err(Ended);
                    }
                }
            }
        }
        Ok(socket)
    }

    /// A client that asks for TLS gets it, if it is spoken here; else it goes on without, or leaves.
    async fn negotiate(
        &self,
        mut socket: Socket,
        asked: &SslNegotiationMetaMessage,
    ) -> Result<Socket, Ended> {
        let refused = match (asked, &self.tls) {
            (SslNegotiationMetaMessage::PostgresSsl(_), Some(tls)) if !socket.is_secure() => {
                let accepted = PgWireBackendMessage::SslResponse(SslResponse::Accept);
                socket.send(accepted).await.map_err(|_| Ended)?;
                let parts = socket.into_parts();
                // What was sent in clear before must not count as sent within.
                let Either::Left(wire) = parts.io else { return Err(Ended) };
                if !parts.read_buf.is_empty() {
                    return Err(Ended);
                }
                let stream = tls.accept(wire).await.map_err(|error| {
                    tracing::debug!(%error, "a connection did not come to speak TLS");
                    Ended
                })?;
                return Ok(self.framed(Either::Right(Box::new(stream))));
            }
            (SslNegotiationMetaMessage::PostgresSsl(_), _) => {
                PgWireBackendMessage::SslResponse(SslResponse::Refuse)
            }
            (SslNegotiationMetaMessage::PostgresGss(_), _) => {
                PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse)
            }
            (SslNegotiationMetaMessage::None, _) => {
                socket.set_state(PgWireConnectionState::AwaitingStartup);
                return Ok(socket);
            }
        };
        socket.send(refused).await.map_err(|_| Ended)?;
        Ok(socket)
    }

    async fn process(&self, socket: &mut Socket, message: PgWireFrontendMessage) -> PgWireResult<()> {
        let (startup, service) = (Arc::clone(&self.startup), &self.service);
        let (simple, extended) = (Arc::clone(service), Arc::clone(service));
        let (copy, cancel) = (Arc::clone(&self.nothing), Arc::clone(&self.nothing));
        process_message(message, socket, startup, simple, extended, copy, cancel).await
    }

    /// Answers one message, unless the client cancels it, takes it back by leaving, or said that it is not to take so long.
    async fn answer(
        &self,
        socket: &mut Socket,
        message: PgWireFrontendMessage,
        wire: &Wire,
        access: &Access,
    ) -> Result<(), Ended> {
        let extended = message.is_extended_query();
        let registered = socket.session_extensions().get::<Registered>().ok_or(Ended)?;
        let limit = session(socket).settings().statement_timeout();
        let deadline = limit.map(|limit| Instant::now() + limit);
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        let mut cancelled = std::pin::pin!(registered.cancelled.notified());
        cancelled.as_mut().enable();
        let answered = tokio::select! {
            answered = self.process(socket, message) => answered,
            () = cancelled => Err(PgWireError::QueryCanceled),
            () = late => {
                let message = "canceling statement due to statement timeout";
                Err(Failure::new(state::CANCELLED, message.into()).into())
            }
            () = self.startup.gate.shut_out(access) => Err(shut_out_now().into()),
            () = wire.clone().gone() => return Err(Ended),
        };
        match answered {
            Ok(()) => Ok(()),
            Err(e) => tell(socket, e, extended).await,
        }
    }
}

/// Tells a client what went wrong, and lets go of what the connection held for the transaction that this ends.
async fn tell(socket: &mut Socket, error: PgWireError, extended: bool) -> Result<(), Ended> {
    socket.portal_store().clear_portals();
    if socket.transaction_status() != TransactionStatus::Idle {
        session(socket).end_transaction();
    }
    let info = ErrorInfo::from(error);
    let fatal = info.is_fatal();
    let told = process_error(socket, PgWireError::UserError(Box::new(info)), extended);
    if !fatal {
        return told.await.map_err(|_| Ended);
    }
    // Whether it is heard or not.
    drop(timeout(FAREWELL, told).await);
    Err(Ended)
}

/// The next message, read no further than its end is known to come.
async fn next(socket: &mut Socket) -> PgWireResult<Option<PgWireFrontendMessage>> {
    loop {
        if let Some(length) = length(socket.read_buffer(), socket.state())? {
            // A decoder that has only this message cannot read beyond it.
            let mut message = socket.read_buffer_mut().split_to(length);
            let whole = message.len();
            let decoded = guard(|| socket.codec_mut().decode(&mut message));
            let broken =
                |why: String| Failure::fatal(state::PROTOCOL, &format!("a message cannot be read: {why}"));
            match decoded.map_err(broken)?? {
                Some(decoded) => {
                    // One that only looked what there is has taken nothing.
                    if message.len() == whole {
                        message.unsplit(socket.read_buffer_mut().split());
                        *socket.read_buffer_mut() = message;
                    }
                    return Ok(Some(decoded));
                }
                None => return Err(broken("it is cut short".into()).into()),
            }
        }
        let mut chunk = vec![0; CHUNK];
        let read = socket.get_mut().read(&mut chunk).await?;
        if read == 0 {
            return Ok(None);
        }
        socket.read_buffer_mut().extend_from_slice(&chunk[..read]);
    }
}

/// The length of the message that stands at the beginning, if all of it is there.
fn length(buffer: &[u8], at: PgWireConnectionState) -> Result<Option<usize>, Failure> {
    let (kind, least, most) = match at {
        PgWireConnectionState::AwaitingSslRequest | PgWireConnectionState::AwaitingStartup => {
            (0, 8, STARTUP_LIMIT)
        }
        PgWireConnectionState::AuthenticationInProgress => (1, 4, STARTUP_LIMIT),
        _ => (1, 4, MESSAGE_LIMIT),
    };
    let Some(length) =
        buffer.get(kind..kind + 4).and_then(|four| four.try_into().ok()).map(i32::from_be_bytes)
    else {
        return Ok(None);
    };
    let length = usize::try_from(length).ok().filter(|length| (least..=most).contains(length));
    let length = length.ok_or_else(|| {
        Failure::fatal(state::PROTOCOL, &format!("a message has {least} to {most} bytes: send less at once"))
    })?;
    Ok((buffer.len() >= kind + length).then_some(kind + length))
}
