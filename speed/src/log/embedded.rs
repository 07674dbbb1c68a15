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
//! Reads take a snapshot of the file, on tokio's threads for blocking work: a cold read waits for the disk, and a
//! warm one checks and copies the batch, up to some milliseconds that should not hold up an async worker.
//!
//! It fails with `Conflict` if another process holds the file, `Corrupt` if the file is damaged or newer, and
//! `Unavailable` if the disk fails; after that the log answers nothing until it is opened anew. If the disk fails
//! in the very act of committing, what was told to be lost may turn up when it is opened again.

use super::failure::Worked;
use super::stored::{self, Place};
use super::tables::{EVENTS, META, PARTITIONS};
use super::writer::{Command, Part, Writer};
use super::{Declared, Partitions, find_bounds, no_partition, trimmed};
use arrow::error::ArrowError;
use async_trait::async_trait;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use twofold_common::{
    Append, Error, Log, LogBounds, LogChunk, Offset, OffsetRange, Partition, Result, StreamDef,
};

/// The format of the file that is written, and the newest that is read.
const FORMAT: u32 = 1;
/// How much of the file is held in memory.
const CACHE_BYTES: usize = 128 << 20;
/// How many encoded bytes may wait to be written.
const ROOM_BYTES: usize = 64 << 20;
/// How many appends may wait to be written.
const ROOM_APPENDS: usize = 1024;
/// Appends of more rows are encoded on a thread for blocking work.
const INLINE_ROWS: usize = 4096;

/// The log of a project, in one file.
pub struct EmbeddedLog {
    path: String,
    db: Arc<Database>,
    declared: Declared,
    bounds: Arc<RwLock<Partitions>>,
    /// In units of 1 KiB.
    room: Arc<Semaphore>,
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
    appended: watch::Receiver<u64>,
}

impl EmbeddedLog {
    /// Opens the log at `path`, or makes one there, for `streams` (with those of rejected events, see
    /// [`StreamDef::rejected`]). Streams and partitions that are new to it are added; those that it has and
    /// `streams` has not are kept, and can be read.
    ///
    /// # Errors
    /// `Conflict` if another process holds the file; `Corrupt` if it is damaged, no log, or of a newer version.
    pub fn open(path: &Path, streams: &[StreamDef]) -> Result<EmbeddedLog> {
        let is_new = !path.exists();
        let name = path.display().to_string();
        let db = guarded(&name, || Ok(Builder::new().set_cache_size(CACHE_BYTES).create(path)?))?;
        let bounds = guarded(&name, || prepare(&db, &name, streams))?;
        if is_new {
            sync_directory(path)?;
        }
        let (db, bounds) = (Arc::new(db), Arc::new(RwLock::new(bounds)));
        let (commands, receiver) = mpsc::channel(ROOM_APPENDS);
        let (changed, appended) = watch::channel(0);
        let writer = Writer {
            path: name.clone(),
            db: Arc::clone(&db),
            commands: receiver,
            bounds: Arc::clone(&bounds),
            appended: changed,
        };
        let thread = std::thread::Builder::new().name("twofold-log".into());
        let writer = thread.spawn(move || writer.run()).map_err(|e| Error::io(path, e))?;
        Ok(EmbeddedLog {
            path: name,
            db,
            declared: Declared::new(streams),
            bounds,
            room: Arc::new(Semaphore::new(ROOM_BYTES / 1024)),
            commands: Some(commands),
            writer: Some(writer),
            appended,
        })
    }

    async fn send<T>(&self, command: Command, reply: oneshot::Receiver<Result<T>>) -> Result<T> {
        let stopped = || Error::Unavailable(format!("{}: the log's writer has stopped: restart", self.path));
        self.commands.as_ref().ok_or_else(stopped)?.send(command).await.map_err(|_| stopped())?;
        reply.await.map_err(|_| stopped())?
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn append(&self, appends: Vec<Append>, ingest_time: i64) -> Result<Vec<OffsetRange>> {
        appends.iter().try_for_each(|append| self.declared.check(append))?;
        let rows: usize = appends.iter().map(|append| append.rows.num_rows()).sum();
        let parts = if rows <= INLINE_ROWS {
            encode(appends, ingest_time)?
        } else {
            let encoded = tokio::task::spawn_blocking(move || encode(appends, ingest_time)).await;
            encoded.map_err(|e| Error::Internal(format!("encoding events: {e}")))??
        };
        let bytes: usize = parts.iter().map(Part::bytes).sum();
        let units = (bytes / 1024 + 1).min(ROOM_BYTES / 1024) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        let room = room.map_err(|e| Error::Internal(e.to_string()))?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Append { parts, reply, room }, answer).await
    }

    async fn read(
        &self,
        stream: &str,
        partition: Partition,
        from: Offset,
        max_rows: usize,
    ) -> Result<LogChunk> {
        let (db, path, name) = (Arc::clone(&self.db), self.path.clone(), stream.to_string());
        let read =
            move || guarded(&path, || read(&db, &path, Place { stream: &name, partition }, from, max_rows));
        let done = tokio::task::spawn_blocking(read).await;
        done.map_err(|e| Error::Unavailable(format!("{}: {e}", self.path)))?
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
            tracing::error!(path = self.path, "the log's writer panicked");
        }
    }
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedLog").field("path", &self.path).finish_non_exhaustive()
    }
}

fn encode(appends: Vec<Append>, ingest_time: i64) -> Result<Vec<Part>> {
    let part = |append: Append| -> Result<Part, ArrowError> {
        let Append { stream, partition, rows } = append;
        let batches = stored::encode(Place { stream: &stream, partition }, &rows, ingest_time)?;
        Ok(Part { stream, partition, batches })
    };
    Ok(appends.into_iter().map(part).collect::<Result<_, _>>()?)
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

/// Checks the format, adds what is new, and reads the bounds.
fn prepare(db: &Database, name: &str, streams: &[StreamDef]) -> Worked<Partitions> {
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
    txn.commit()?;
    Ok(bounds)
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

/// The store asserts some of what it reads: on a damaged file that is an error, not the end of the program.
fn guarded<T>(path: &str, work: impl FnOnce() -> Worked<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(worked) => worked.map_err(|failure| failure.at(path)),
        Err(_) => Err(Error::corrupt(path, "the file is damaged: restore it from a backup")),
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
