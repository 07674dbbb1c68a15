//! The log in one file of the embedded store (redb): see `docs/log-format.md`.
//!
//! ```text
//! end(partition) - start(partition) = the rows of its stored batches, less those below start
//! ```
//!
//! Offsets count from 0 without gaps. One thread writes ([`writer`](super::writer)); batches are encoded where
//! they come from, in parallel. What waits to be written is bounded: beyond [`ROOM_BYTES`], `append` waits. An
//! `append` whose future is dropped may still become durable.
//!
//! What was just appended is read from memory ([`tail`](super::tail)). Other reads take a snapshot of the file, on tokio's
//! threads for blocking work: a cold read waits for the disk, and a warm one checks and copies the batch, up to some
//! milliseconds that should not hold up an async worker.
//!
//! It fails with `Conflict` if another process holds the file, `Corrupt` if the file is damaged or newer, and
//! `Unavailable` if the disk fails. Then the file is opened anew by itself, at once and again and again; what was durable
//! can be read meanwhile if the disk gives it, and appends go in again when the disk takes them. If the disk fails in
//! the very act of committing, what was being written may turn up afterwards: the error says when that is so.

use super::failure::Worked;
use super::file::{Disk, LogFile, RealDisk, guarded};
use super::ids::{self, Ids};
use super::stored::{self, Place};
use super::tables::{EVENTS, ID_TIMES, IDS, META, PARTITIONS, REQUEST_TIMES, REQUESTS};
use super::tail::{TAIL_BYTES, Tail};
use super::writer::{Command, Entry, Part, Writer};
use super::{Declared, Partitions, find_bounds, no_partition, trimmed};
use crate::ingest::ids_of;
use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, TableError};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use twofold_common::{
    AppendRequest, Appended, Error, Kind, Log, LogBounds, LogChunk, Offset, OffsetRange, Partition,
    REMEMBER_KEYS, Result, StreamDef,
};

/// The format of the file that is written, and the newest that is read.
const FORMAT: u32 = 1;
/// How many encoded bytes may wait to be written.
const ROOM_BYTES: usize = 64 << 20;
/// How many appends may wait to be written.
const ROOM_APPENDS: usize = 1024;
/// Appends of more rows are encoded on a thread for blocking work.
const INLINE_ROWS: usize = 4096;
/// How long a read waits for a file that is being opened anew.
const REOPENED_WITHIN: Duration = Duration::from_secs(2);

/// The log of a project, in one file.
pub struct EmbeddedLog {
    file: Arc<LogFile>,
    declared: Arc<Declared>,
    bounds: Arc<RwLock<Partitions>>,
    tail: Arc<Tail>,
    /// In units of 1 KiB.
    room: Arc<Semaphore>,
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
    appended: watch::Receiver<u64>,
}

impl EmbeddedLog {
    /// Opens the log at `path`, or makes one there, for `streams` (with those of rejected events, see
    /// [`StreamDef::rejected`]). Streams and partitions that are new to it are added; those that it has and
    /// `streams` has not are kept, and can be read. Keys of requests are remembered for [`REMEMBER_KEYS`].
    ///
    /// # Errors
    /// `Conflict` if another process holds the file; `Corrupt` if it is damaged, no log, or of a newer version.
    pub fn open(path: &Path, streams: &[StreamDef]) -> Result<EmbeddedLog> {
        Self::open_with(path, streams, REMEMBER_KEYS)
    }

    /// The same; keys of requests are remembered for `remember`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(path: &Path, streams: &[StreamDef], remember: Duration) -> Result<EmbeddedLog> {
        let is_new = !path.exists();
        let log = Self::open_on(Box::new(RealDisk(path.to_path_buf())), path, streams, remember, TAIL_BYTES)?;
        if is_new {
            sync_directory(path)?;
        }
        Ok(log)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        path: &Path,
        streams: &[StreamDef],
        remember: Duration,
        tail_bytes: usize,
    ) -> Result<EmbeddedLog> {
        let file = Arc::new(LogFile::create(path, disk)?);
        let (db, _) = file.db()?;
        let (bounds, with_ids) = guarded(file.path(), || prepare(&db, file.path(), streams))?;
        drop(db);
        let declares = |name: &str| streams.iter().any(|s| s.name == name && s.deduplicate.is_some());
        let without_ids = with_ids.into_iter().filter(|name| !declares(name)).collect();
        let bounds = Arc::new(RwLock::new(bounds));
        let tail = Arc::new(Tail::new(tail_bytes));
        let (commands, receiver) = mpsc::channel(ROOM_APPENDS);
        let (changed, appended) = watch::channel(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let writer = Writer {
            file: Arc::clone(&file),
            commands: receiver,
            bounds: Arc::clone(&bounds),
            tail: Arc::clone(&tail),
            appended: changed,
            remember: i64::try_from(remember.as_nanos()).unwrap_or(i64::MAX),
            without_ids,
            runtime: runtime.map_err(|e| Error::io(path, e))?,
            trouble: None,
        };
        let thread = std::thread::Builder::new().name("twofold-log".into());
        let writer = thread.spawn(move || writer.run()).map_err(|e| Error::io(path, e))?;
        Ok(EmbeddedLog {
            file,
            declared: Arc::new(Declared::new(streams)),
            bounds,
            tail,
            room: Arc::new(Semaphore::new(ROOM_BYTES / 1024)),
            commands: Some(commands),
            writer: Some(writer),
            appended,
        })
    }

    async fn send<T>(&self, command: Command, reply: oneshot::Receiver<Result<T>>) -> Result<T> {
        self.commands()?.send(command).await.map_err(|_| self.stopped())?;
        reply.await.map_err(|_| self.stopped())?
    }

    fn commands(&self) -> Result<&mpsc::Sender<Command>> {
        self.commands.as_ref().ok_or_else(|| self.stopped())
    }

    fn stopped(&self) -> Error {
        Error::Unavailable(format!("{}: the log's writer has stopped: restart", self.file.path()))
    }

    /// A read, and if the store has failed, the same once more when the file is open again.
    async fn read_again<T: Send + 'static>(
        &self,
        read: impl Fn(&Database, &str) -> Worked<T> + Clone + Send + 'static,
    ) -> Result<T> {
        let mut turns = self.file.turns();
        let failed = match self.read_once(read.clone()).await {
            Err((e, turn)) if e.kind() == Kind::Unavailable => {
                if let Some(turn) = turn {
                    let reason = e.to_string();
                    drop(self.commands()?.try_send(Command::Reopen { turn, reason }));
                }
                e
            }
            other => return other.map_err(|(e, _)| e),
        };
        match timeout(REOPENED_WITHIN, turns.changed()).await {
            Ok(Ok(())) => self.read_once(read).await.map_err(|(e, _)| e),
            _ => Err(failed),
        }
    }

    /// A read; an error has the turn of the file in which it was tried.
    async fn read_once<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database, &str) -> Worked<T> + Send + 'static,
    ) -> Result<T, (Error, Option<u64>)> {
        let (db, turn) = self.file.db().map_err(|e| (e, None))?;
        let path = self.file.path().to_string();
        let done = tokio::task::spawn_blocking(move || guarded(&path, || read(&db, &path))).await;
        match done {
            Ok(done) => done.map_err(|e| (e, Some(turn))),
            Err(e) => Err((Error::Internal(format!("{}: {e}", self.file.path())), None)),
        }
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn append_request(&self, request: AppendRequest) -> Result<Appended> {
        request.appends.iter().try_for_each(|append| self.declared.check(append))?;
        let rows: usize = request.appends.iter().map(|append| append.rows.num_rows()).sum();
        let declared = Arc::clone(&self.declared);
        let entry = if rows <= INLINE_ROWS {
            encode(request, &declared)?
        } else {
            let encoded = tokio::task::spawn_blocking(move || encode(request, &declared)).await;
            encoded.map_err(|e| Error::Internal(format!("encoding events: {e}")))??
        };
        let units = (entry.bytes() / 1024 + 1).min(ROOM_BYTES / 1024) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        let room = room.map_err(|e| Error::Internal(e.to_string()))?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Append { entry, reply, room }, answer).await
    }

    async fn read(
        &self,
        stream: &str,
        partition: Partition,
        from: Offset,
        max_rows: usize,
    ) -> Result<LogChunk> {
        let bounds = self.bounds(stream, partition).await?;
        if from < bounds.start {
            return Err(trimmed(stream, partition, bounds.start.0, from.0));
        }
        if from >= bounds.end {
            return Ok(LogChunk { range: OffsetRange::new(from, from), batches: Vec::new() });
        }
        if let Some(recent) = self.tail.read(stream, partition, from, max_rows)? {
            return Ok(recent);
        }
        let name = stream.to_string();
        let read = move |db: &Database, path: &str| {
            self::read(db, path, Place { stream: &name, partition }, from, max_rows)
        };
        self.read_again(read).await
    }

    async fn bounds(&self, stream: &str, partition: Partition) -> Result<LogBounds> {
        find_bounds(&self.bounds.read().unwrap_or_else(PoisonError::into_inner), stream, partition)
    }

    async fn trim(&self, stream: &str, partition: Partition, below: Offset) -> Result<()> {
        self.bounds(stream, partition).await?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Trim { stream: stream.to_string(), partition, below, reply }, answer).await
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }
}

/// Everything that was accepted is written before the file is closed.
impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = self.file.path(), "the log's writer panicked");
        }
    }
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedLog").field("path", &self.file.path()).finish_non_exhaustive()
    }
}

fn encode(request: AppendRequest, declared: &Declared) -> Result<Entry> {
    let AppendRequest { appends, ingest_time, note, once } = request;
    let mut parts = Vec::with_capacity(appends.len());
    for twofold_common::Append { stream, partition, rows } in appends {
        let batches = stored::encode(Place { stream: &stream, partition }, &rows, ingest_time)?;
        let ids = match declared.ids(&stream) {
            Some((column, within)) => Some(Ids { within, ids: ids_of(rows.column(column))? }),
            None => None,
        };
        parts.push(Part { stream, partition, batches, rows, ids });
    }
    Ok(Entry { parts, ingest_time, note, once })
}

fn read(db: &Database, path: &str, place: Place<'_>, from: Offset, max_rows: usize) -> Worked<LogChunk> {
    let Place { stream, partition } = place;
    let txn = db.begin_read()?;
    let partitions = txn.open_table(PARTITIONS)?;
    let Some(bounds) = partitions.get((stream, partition.0))? else {
        return Err(no_partition(stream, partition).into());
    };
    let (start, end) = bounds.value();
    if from.0 < start {
        return Err(trimmed(stream, partition, start, from.0).into());
    }
    let mut chunk = LogChunk { range: OffsetRange::new(from, from), batches: Vec::new() };
    if from.0 >= end {
        return Ok(chunk);
    }
    let events = txn.open_table(EVENTS)?;
    let key = |offset: u64| (stream, partition.0, offset);
    // The batch that holds `from` is the last one that starts at or below it.
    let base = {
        let mut before = events.range(key(0)..=key(from.0))?;
        before.next_back().transpose()?.map_or(from.0, |(key, _)| key.value().2)
    };
    let (mut at, mut left) = (from.0, max_rows.max(1) as u64);
    for entry in events.range(key(base)..key(end))? {
        let (key, value) = entry?;
        let (base, value) = (key.value().2, value.value());
        let damaged = |reason| damaged(path, place, base, reason);
        let rows = stored::row_count(value).map_err(damaged)?;
        if base > at || base + rows <= at {
            return Err(
                damaged(format!("expected the event at offset {at}, found {rows} rows from {base}")).into()
            );
        }
        let skipped = at - base;
        let taken = (rows - skipped).min(left);
        let range = skipped as usize..(skipped + taken) as usize;
        chunk.batches.push(stored::decode(place, value, base, range).map_err(damaged)?);
        (at, left) = (at + taken, left - taken);
        if left == 0 {
            break;
        }
    }
    if left > 0 && at != end {
        let reason = format!("expected events up to offset {end}, found none from {at}");
        return Err(damaged(path, place, at, reason).into());
    }
    chunk.range.end = Offset(at);
    Ok(chunk)
}

fn damaged(path: &str, place: Place<'_>, base: u64, reason: String) -> Error {
    let Place { stream, partition } = place;
    Error::corrupt(path, format!("stream {stream}, partition {partition}, batch at offset {base}: {reason}"))
}

/// Checks the format, adds what is new, and reads the bounds, and of which streams ids are stored.
fn prepare(db: &Database, name: &str, streams: &[StreamDef]) -> Worked<(Partitions, Vec<String>)> {
    let found = format_of(db, name)?;
    if let Some(found) = found
        && found != FORMAT
    {
        let reason = format!("log format {found}, expected {FORMAT}: upgrade this program");
        return Err(Error::corrupt(name, reason).into());
    }
    let txn = db.begin_write()?;
    let mut bounds = Partitions::new();
    {
        let mut meta = txn.open_table(META)?;
        meta.insert("format", FORMAT)?;
        txn.open_table(EVENTS)?;
        // Files of versions that remembered nothing do not have these.
        txn.open_table(REQUESTS)?;
        txn.open_table(REQUEST_TIMES)?;
        txn.open_table(IDS)?;
        txn.open_table(ID_TIMES)?;
        let mut table = txn.open_table(PARTITIONS)?;
        for (stream, partition) in streams.iter().flat_map(|s| s.partitions().map(|p| (s.name.as_str(), p.0)))
        {
            if table.get((stream, partition))?.is_none() {
                table.insert((stream, partition), (0, 0))?;
            }
        }
        // In key order, so that each partition's place is its number.
        for entry in table.iter()? {
            let (key, value) = entry?;
            let ((stream, partition), (start, end)) = (key.value(), value.value());
            let all = bounds.entry(stream.to_string()).or_default();
            if all.len() != partition as usize || start > end || end > i64::MAX as u64 {
                let reason =
                    format!("stream {stream}, partition {partition}: impossible bounds {start}..{end}");
                return Err(Error::corrupt(name, reason).into());
            }
            all.push(LogBounds { start: Offset(start), end: Offset(end) });
        }
    }
    let with_ids = ids::streams(&txn)?;
    txn.commit()?;
    Ok((bounds, with_ids))
}

/// The format of the file; `None` if it is new.
fn format_of(db: &Database, name: &str) -> Worked<Option<u32>> {
    let txn = db.begin_read()?;
    match txn.open_table(META) {
        Ok(meta) => {
            let format = meta.get("format")?.map(|found| found.value());
            Ok(Some(format.ok_or_else(|| Error::corrupt(name, "no format is stored: is this a log?"))?))
        }
        Err(TableError::TableDoesNotExist(_)) => match txn.list_tables()?.next() {
            None => Ok(None),
            Some(_) => Err(Error::corrupt(name, "a database, but not a log").into()),
        },
        Err(e) => Err(e.into()),
    }
}

/// Makes the name of a new file as durable as what will be in it.
fn sync_directory(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    #[cfg(unix)]
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| Error::io(parent, e))?;
    Ok(())
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "fault_tests.rs"]
mod fault_tests;
