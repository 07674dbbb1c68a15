//! The gate before ingest: how much of what clients send is held in memory at once.
//!
//! ```text
//! bytes of bodies held   <= waiting              from a body's first byte until its receipt
//! requests that wait     <= waiting_requests     from a body's last byte until its receipt
//! ```
//!
//! Beyond either, a request is refused as [`Busy`](crate::Kind::Busy), and the client sends it again. A body takes room
//! as it comes, so a client that says much and sends nothing takes none, and a request counts only when all of its body
//! is there. A body that stalls, or comes at less than [`SLOWEST`], is given up.
//!
//! It does not bound what decoding makes of a body, which is proportional to it, nor the number of connections.

use crate::config::IngestConfig;
use crate::error::{Error, Kind};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Room is counted in units of so many bytes.
const UNIT: usize = 1024;
/// How many bytes of a body must come in a second, on the average, after the first [`IngestConfig::body_timeout`].
const SLOWEST: u32 = 64 << 10;

/// What is left of the room for requests.
#[derive(Debug)]
pub struct Intake {
    room: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    units: usize,
    body_timeout: Duration,
}

/// A whole body, and its share of the room: that is free again when this is dropped.
#[derive(Debug)]
pub struct Taken {
    /// The body.
    pub body: Bytes,
    _room: OwnedSemaphorePermit,
    _request: OwnedSemaphorePermit,
}

/// Why a body was not taken.
#[derive(Debug)]
pub enum Interrupted {
    /// It has more than so many bytes.
    TooLarge(usize),
    /// It did not come in time.
    TooSlow,
    /// The client broke off, or sent what is no body.
    Broken(String),
    /// There is no room.
    Busy,
}

impl Default for Intake {
    fn default() -> Self {
        Self::new(&IngestConfig::default())
    }
}

impl Intake {
    /// What `Retry-After` says to those who are refused, in seconds.
    pub const RETRY_AFTER_S: u64 = 1;

    /// The gate that a project asks for.
    pub fn new(config: &IngestConfig) -> Self {
        let units = usize::try_from(config.waiting / UNIT as u64).unwrap_or(usize::MAX).max(1);
        let units = units.min(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(units)),
            requests: Arc::new(Semaphore::new(config.waiting_requests as usize)),
            units,
            body_timeout: config.body_timeout,
        }
    }

    /// Reads a body of at most `limit` bytes; `announced` is how many it says that it has, if it does.
    ///
    /// # Errors
    /// Why it was given up; then it takes no room any more.
    pub async fn read<E: Display>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>>,
        announced: Option<u64>,
        limit: usize,
    ) -> Result<Taken, Interrupted> {
        let limit = limit.min(self.units * UNIT);
        if announced.is_some_and(|bytes| bytes > limit as u64) {
            return Err(Interrupted::TooLarge(limit));
        }
        let start = Instant::now();
        let mut body = pin!(body);
        let mut room = self.take(1);
        let (mut bytes, mut came) = (BytesMut::new(), 0);
        loop {
            let whole = start + self.body_timeout + Duration::from_secs(1) * (came as u32) / SLOWEST;
            let deadline = whole.min(Instant::now() + self.body_timeout);
            let chunk = match timeout_at(deadline, body.next()).await {
                Err(_) => return Err(Interrupted::TooSlow),
                Ok(None) => break,
                Ok(Some(Err(e))) => return Err(Interrupted::Broken(e.to_string())),
                Ok(Some(Ok(chunk))) => chunk,
            };
            came += chunk.len();
            if came > limit {
                return Err(Interrupted::TooLarge(limit));
            }
            let Some(held) = &mut room else { continue };
            match self.take(came.div_ceil(UNIT).saturating_sub(held.num_permits())) {
                Some(more) => {
                    held.merge(more);
                    bytes.extend_from_slice(&chunk);
                }
                // The rest is read and not held: a client that still sends would not see the answer.
                None => (room, bytes) = (None, BytesMut::new()),
            }
        }
        let room = room.ok_or(Interrupted::Busy)?;
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Interrupted::Busy)?;
        Ok(Taken { body: bytes.freeze(), _room: room, _request: request })
    }

    /// How many bytes of bodies are held now, rounded up.
    pub fn held(&self) -> usize {
        (self.units - self.room.available_permits()) * UNIT
    }

    fn take(&self, units: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(units).ok()?).ok()
    }
}

impl Taken {
    /// Does `work` to its end, also if nobody waits for it any more: what came whole is taken in whole. The room is
    /// free after that.
    ///
    /// # Errors
    /// Those of `work`; `Internal` if it panics.
    pub async fn hold<T: Send + 'static>(
        self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let work = tokio::spawn(async move {
            let done = work.await;
            drop(self);
            done
        });
        work.await.map_err(|e| Error::Internal(format!("taking events in: {e}")))?
    }
}

impl Interrupted {
    /// What the client should do.
    pub fn kind(&self) -> Kind {
        if matches!(self, Interrupted::Busy) { Kind::Busy } else { Kind::Invalid }
    }

    /// The HTTP status that tells of it.
    pub fn status(&self) -> u16 {
        match self {
            Interrupted::TooLarge(_) => 413,
            Interrupted::TooSlow => 408,
            Interrupted::Broken(_) => 400,
            Interrupted::Busy => 429,
        }
    }
}

impl From<Interrupted> for Error {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::TooLarge(limit) if limit >> 20 > 0 => Error::Invalid(format!(
                "the body is larger than {} MiB: send the events in several requests, cut at the ends of lines",
                limit >> 20
            )),
            Interrupted::TooLarge(limit) => Error::Invalid(format!("the body is larger than {limit} bytes")),
            Interrupted::TooSlow => {
                Error::Invalid("the body did not come in time: nothing was taken in; send it again".into())
            }
            Interrupted::Broken(reason) => {
                Error::Invalid(format!("the body broke off, and nothing was taken in: {reason}"))
            }
            Interrupted::Busy => Error::Busy(
                "more events are waiting than there is room for: nothing was taken in; wait a moment and send them again"
                    .into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    const MIB: usize = 1 << 20;

    fn intake(mib: u64, waiting_requests: u32) -> Intake {
        let body_timeout = Duration::from_secs(10);
        Intake::new(&IngestConfig {
            waiting: mib << 20,
            waiting_requests,
            body_timeout,
            ..IngestConfig::default()
        })
    }

    fn body(bytes: usize) -> impl Stream<Item = Result<Bytes, String>> {
        let chunks =
            (0..bytes).step_by(1000).map(move |at| Ok(Bytes::from(vec![b'x'; 1000.min(bytes - at)])));
        stream::iter(chunks.collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn the_bytes_held_are_bounded_and_come_free_again() {
        let intake = intake(2, 100);
        let first = intake.read(body(MIB), None, 64 * MIB).await.unwrap();
        assert_eq!((first.body.len(), intake.held()), (MIB, MIB));
        let second = intake.read(body(MIB - 5000), None, 64 * MIB).await.unwrap();
        assert!(matches!(intake.read(body(6000), None, 64 * MIB).await, Err(Interrupted::Busy)));
        assert!(intake.held() <= 2 * MIB);
        drop(second);
        assert!(intake.read(body(6000), None, 64 * MIB).await.is_ok());
        drop(first);
        assert_eq!(intake.held(), 0);
    }

    #[tokio::test]
    async fn the_requests_that_wait_are_bounded() {
        let intake = intake(2, 2);
        let waiting =
            [intake.read(body(1), None, 10).await.unwrap(), intake.read(body(0), None, 10).await.unwrap()];
        let refused = intake.read(body(1), None, 10).await.unwrap_err();
        assert_eq!((refused.status(), Error::from(refused).kind()), (429, Kind::Busy));
        drop(waiting);
        assert!(intake.read(body(1), None, 10).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_given_up_at_the_limit() {
        let intake = intake(1, 1);
        assert!(matches!(intake.read(body(11), None, 10).await, Err(Interrupted::TooLarge(10))));
        assert!(intake.read(body(10), None, 10).await.is_ok());
        // Before it comes, if it says so.
        let silent = stream::pending::<Result<Bytes, String>>();
        assert!(matches!(intake.read(silent, Some(11), 10).await, Err(Interrupted::TooLarge(10))));
        // More than there ever is room for is too large, and not busy for ever.
        assert!(matches!(intake.read(body(MIB + 1), None, 64 * MIB).await, Err(Interrupted::TooLarge(MIB))));
        assert_eq!(intake.held(), 0);
    }

    #[tokio::test]
    async fn a_body_that_stalls_or_trickles_is_given_up() {
        let body_timeout = Duration::from_millis(300);
        let intake = Intake::new(&IngestConfig { body_timeout, waiting: 1 << 20, ..IngestConfig::default() });
        let stalled = stream::iter([Ok::<_, String>(Bytes::from_static(b"{"))]).chain(stream::pending());
        assert!(matches!(intake.read(stalled, None, MIB).await, Err(Interrupted::TooSlow)));
        let drops = |bytes: usize| {
            stream::unfold((), move |()| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok::<_, String>(Bytes::from(vec![b' '; bytes])), ()))
            })
        };
        assert!(matches!(intake.read(drops(1), None, MIB).await, Err(Interrupted::TooSlow)));
        // Slower than the timeout as a whole, but it comes steadily.
        assert!(intake.read(drops(8 << 10).take(30), None, MIB).await.is_ok());
        assert_eq!(intake.held(), 0);
    }

    #[tokio::test]
    async fn work_is_done_to_its_end_and_holds_its_room_until_then() {
        let intake = intake(1, 1);
        let taken = intake.read(body(1), None, MIB).await.unwrap();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, end) = tokio::sync::oneshot::channel::<()>();
        let work = taken.hold(async move {
            drop(wait.await);
            done.send(()).unwrap();
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), work).await.is_err(), "nobody waits");
        assert!(matches!(intake.read(body(1), None, MIB).await, Err(Interrupted::Busy)));
        go.send(()).unwrap();
        end.await.unwrap();
        while intake.held() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(intake.read(body(1), None, MIB).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_takes_no_room() {
        let intake = intake(1, 1);
        let broken = stream::iter([Ok(Bytes::from_static(b"{}\n")), Err("the connection was lost")]);
        let e = intake.read(broken, None, MIB).await.unwrap_err();
        assert_eq!(e.status(), 400);
        assert!(Error::from(e).to_string().contains("nothing was taken in: the connection was lost"));
        assert_eq!(intake.held(), 0);
    }
}
