//! The thread that writes the log's file: group commit, and going on after the disk has failed.
//!
//! A commit with `fsync` costs the same for one append as for a hundred. So this thread takes whatever waits, up
//! to [`GROUP_BYTES`], writes it in one transaction, and answers all of it after that is durable. Whoever comes in
//! the meantime is the next group.
//!
//! Either all of a group becomes durable or nothing does; if nothing does, each of its callers is told so. If the disk
//! failed in the very act of committing, it is known only when the file is opened anew, which is done before callers
//! are answered; they are told what is not known even then.
//!
//! After a failure ([`trouble`](super::trouble)) appends are refused for a while, and then tried again.

use super::failure::{Failure, Worked};
use super::file::LogFile;
use super::ids::{self, Ids};
use super::stored::{self, Place};
use super::tables::{EVENTS, PARTITIONS};
use super::tail::{Recent, Tail};
use super::trouble::Trouble;
use super::{Partitions, find_bounds, requests};
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout_at};
use twofold_common::{Appended, Error, Failpoint, LogBounds, Offset, OffsetRange, Once, Partition, Result};

/// How many bytes one transaction takes in before it is committed.
const GROUP_BYTES: usize = 32 << 20;

/// What the thread is asked to do.
pub(super) enum Command {
    /// Store batches.
    Append { entry: Entry, reply: oneshot::Sender<Result<Appended>>, room: OwnedSemaphorePermit },
    /// Forget events.
    Trim { stream: String, partition: Partition, below: Offset, reply: oneshot::Sender<Result<()>> },
    /// A read failed in that turn of the file: open it anew.
    Reopen { turn: u64, reason: String },
}

/// A request, encoded.
pub(super) struct Entry {
    pub(super) parts: Vec<Part>,
    pub(super) ingest_time: i64,
    pub(super) note: String,
    pub(super) once: Option<Once>,
}

/// The batches of one partition in an append, encoded.
pub(super) struct Part {
    pub(super) stream: String,
    pub(super) partition: Partition,
    pub(super) batches: Vec<(u64, Vec<u8>)>,
    /// The same, not encoded.
    pub(super) rows: RecordBatch,
    /// If repetitions are left out.
    pub(super) ids: Option<Ids>,
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) file: Arc<LogFile>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What is durable, for everybody to read; only this thread changes it.
    pub(super) bounds: Arc<RwLock<Partitions>>,
    /// The newest of it.
    pub(super) tail: Arc<Tail>,
    pub(super) appended: watch::Sender<u64>,
    /// How long requests are remembered, in nanoseconds.
    pub(super) remember: i64,
    /// Streams that declare no ids any more, of which ids are still stored.
    pub(super) without_ids: Vec<String>,
    /// What the thread waits with.
    pub(super) runtime: Runtime,
    pub(super) trouble: Option<Trouble>,
}

/// What a transaction did.
struct Done {
    /// The bounds that are then durable.
    bounds: Partitions,
    /// For each command what it is answered.
    answers: Vec<Result<Appended>>,
    /// The events that are new.
    events: Vec<Recent>,
}

impl Writer {
    /// Serves commands until nobody can send any more.
    pub(super) fn run(mut self) {
        while let Some(first) = self.next() {
            let mut bytes = first.bytes();
            let mut group = vec![first];
            while bytes < GROUP_BYTES
                && let Ok(next) = self.commands.try_recv()
            {
                bytes += next.bytes();
                group.push(next);
            }
            self.serve(group, bytes);
        }
    }

    /// The next command; while the file is closed, it is opened again between them.
    fn next(&mut self) -> Option<Command> {
        loop {
            let until = self.trouble.as_ref().filter(|_| !self.file.is_open()).map(Trouble::until);
            let Some(until) = until else { return self.commands.blocking_recv() };
            let commands = &mut self.commands;
            match self.runtime.block_on(async { timeout_at(until, commands.recv()).await }) {
                Ok(next) => return next,
                Err(_) => drop(self.reopen()),
            }
        }
    }

    fn serve(&mut self, group: Vec<Command>, bytes: usize) {
        let (reads, group): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|command| matches!(command, Command::Reopen { .. }));
        for read in reads {
            self.read_failed(read);
        }
        if group.is_empty() {
            return;
        }
        if let Err(refusal) = self.may_write(bytes) {
            return group.into_iter().for_each(|command| command.failed(&refusal, NOTHING));
        }
        match self.commit(&group) {
            Ok(Done { bounds, answers, events }) => {
                if let Some(trouble) = self.trouble.take() {
                    tracing::info!(
                        path = self.file.path(),
                        failures = trouble.failures(),
                        "log writes again"
                    );
                }
                self.tail.push(events);
                self.publish(bounds);
                group.into_iter().zip(answers).for_each(|(command, answer)| command.done(answer));
            }
            Err(failure) => {
                let error = failure.at(self.file.path());
                tracing::error!(path = self.file.path(), %error, commands = group.len(), "log commit failed");
                let written = self.failed(&error);
                let told = if written { UNKNOWN } else { NOTHING };
                group.into_iter().for_each(|command| command.failed(&error, told));
            }
        }
    }

    /// Whether writing is worth a try now.
    fn may_write(&mut self, bytes: usize) -> Result<()> {
        let Some(trouble) = &mut self.trouble else { return Ok(()) };
        trouble.may_try()?;
        if let Err(e) = self.file.probe(bytes) {
            trouble.again(e.to_string());
            return Err(e);
        }
        if self.file.is_open() { Ok(()) } else { self.reopen().map(drop) }
    }

    /// Notes that the store has failed, and opens it anew: whether what was being written may be durable.
    fn failed(&mut self, error: &Error) -> bool {
        match &mut self.trouble {
            Some(trouble) => trouble.again(error.to_string()),
            None => self.trouble = Some(Trouble::new(error.to_string())),
        }
        if let Some(mut db) = self.file.close(error.to_string()) {
            // A read may still be at it, for as long as that takes.
            while Arc::get_mut(&mut db).is_none() {
                self.runtime.block_on(async { sleep(READS).await });
            }
        }
        self.reopen().unwrap_or(true)
    }

    /// Opens the file again: whether more is in it than was known.
    fn reopen(&mut self) -> Result<bool> {
        let known = self.bounds.read().unwrap_or_else(PoisonError::into_inner).clone();
        let path = self.file.path().to_string();
        match self.file.reopen(|db| bounds_again(db, &path, &known)) {
            Ok(found) => {
                let more = found != known;
                self.tail.clear();
                self.publish(found);
                Ok(more)
            }
            Err(e) => {
                tracing::debug!(path, error = %e, "log cannot be opened yet");
                if let Some(trouble) = &mut self.trouble {
                    trouble.again(e.to_string());
                }
                Err(e)
            }
        }
    }

    fn read_failed(&mut self, command: Command) {
        let Command::Reopen { turn, reason } = command else { return };
        if self.file.db().is_ok_and(|(_, now)| now == turn) {
            tracing::error!(path = self.file.path(), error = reason, "log read failed");
            self.failed(&Error::Unavailable(reason));
        }
    }

    fn publish(&self, bounds: Partitions) {
        let mut known = self.bounds.write().unwrap_or_else(PoisonError::into_inner);
        let grown = *known != bounds;
        *known = bounds;
        drop(known);
        if grown {
            self.appended.send_modify(|n| *n += 1);
        }
    }

    /// Does all of `group` in one transaction.
    fn commit(&mut self, group: &[Command]) -> Worked<Done> {
        let mut bounds = self.bounds.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (db, _) = self.file.db()?;
        let mut txn = db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let (mut answers, mut events) = (Vec::with_capacity(group.len()), Vec::new());
        let (mut now, mut remembered) = (None, 0);
        for command in group {
            answers.push(match command {
                Command::Append { entry, .. } => {
                    now = now.max(Some(entry.ingest_time));
                    remembered += usize::from(entry.once.is_some());
                    self.append(&txn, &mut bounds, entry, &mut events)?
                }
                Command::Trim { stream, partition, below, .. } => {
                    trim(&txn, &mut bounds, Place { stream, partition: *partition }, *below)?;
                    Ok(Appended::default())
                }
                Command::Reopen { .. } => Ok(Appended::default()),
            });
        }
        if let Some(now) = now {
            requests::forget(&txn, now, self.remember, remembered)?;
            if let Some(stream) = self.without_ids.last() {
                ids::forget(&txn, stream, Some(i64::MAX), 0)?;
                if !ids::streams(&txn)?.contains(stream) {
                    self.without_ids.pop();
                }
            }
        }
        Failpoint::AppendWritten.reach();
        txn.commit()?;
        Failpoint::AppendDurable.reach();
        Ok(Done { bounds, answers, events })
    }

    fn append(
        &self,
        txn: &WriteTransaction,
        bounds: &mut Partitions,
        entry: &Entry,
        events: &mut Vec<Recent>,
    ) -> Worked<Result<Appended>> {
        let Entry { parts, ingest_time, note, once } = entry;
        if let Some(once) = once {
            match requests::find(txn, self.file.path(), once, *ingest_time, self.remember)? {
                Ok(None) => {}
                Ok(Some(appended)) => return Ok(Ok(appended)),
                Err(e) => return Ok(Err(e)),
            }
        }
        let mut appended = Appended { note: note.clone(), ..Appended::default() };
        for part in parts {
            let (added, range) = append_part(txn, bounds, part, *ingest_time)?;
            appended.ranges.push(range);
            appended.duplicates.push((part.rows.num_rows() - added.rows.num_rows()) as u64);
            events.push(added);
        }
        if let Some(once) = once {
            requests::keep(txn, once, *ingest_time, &appended)?;
        }
        Ok(Ok(appended))
    }
}

/// What is said of a request that was refused or failed.
const NOTHING: &str = "nothing was taken in; it goes on by itself when the disk does";
const UNKNOWN: &str =
    "it is not known whether this was taken in: send it again with the same Idempotency-Key, or look";
/// How long to wait for reads to end, again and again.
const READS: std::time::Duration = std::time::Duration::from_millis(5);

/// Writes one part: what is left of it without repetitions, and its offsets.
fn append_part(
    txn: &WriteTransaction,
    bounds: &mut Partitions,
    part: &Part,
    ingest_time: i64,
) -> Worked<(Recent, OffsetRange)> {
    let place = Place { stream: &part.stream, partition: part.partition };
    let mut now = find_bounds(bounds, place.stream, place.partition)?;
    let (start, mut batches, mut rows) = (now.end, Cow::Borrowed(&part.batches), part.rows.clone());
    if let Some(ids) = &part.ids
        && let Some(fresh) = ids.fresh(txn, place.stream, ingest_time)?
    {
        rows = filter_record_batch(&rows, &fresh).map_err(Error::from)?;
        batches = Cow::Owned(stored::encode(place, &rows, ingest_time).map_err(Error::from)?);
    }
    let mut events = txn.open_table(EVENTS)?;
    for (rows, value) in batches.iter() {
        events.insert((place.stream, place.partition.0, now.end.0), value.as_slice())?;
        now.end.0 += rows;
    }
    set_bounds(txn, bounds, place, now)?;
    let (stream, partition) = (part.stream.clone(), part.partition);
    let added = Recent { stream, partition, base: start.0, rows, ingest_time };
    Ok((added, OffsetRange::new(start, now.end)))
}

/// A batch goes when all of it lies below; the start is exact.
fn trim(txn: &WriteTransaction, bounds: &mut Partitions, place: Place<'_>, below: Offset) -> Worked {
    let mut now = find_bounds(bounds, place.stream, place.partition)?;
    let below = below.min(now.end);
    if below <= now.start {
        return Ok(());
    }
    now.start = below;
    let mut events = txn.open_table(EVENTS)?;
    let key = |offset: u64| (place.stream, place.partition.0, offset);
    // The last batch that starts below ends there too if another starts there, or if the partition ends there.
    let ends_below = below == now.end || events.get(key(below.0))?.is_some();
    let last = events.range(key(0)..key(below.0))?.next_back().transpose()?.map(|(key, _)| key.value().2);
    let kept_from = if ends_below { below.0 } else { last.unwrap_or(0) };
    events.retain_in(key(0)..key(kept_from), |_, _| false)?;
    set_bounds(txn, bounds, place, now)
}

fn set_bounds(txn: &WriteTransaction, bounds: &mut Partitions, place: Place<'_>, now: LogBounds) -> Worked {
    let mut table = txn.open_table(PARTITIONS)?;
    table.insert((place.stream, place.partition.0), (now.start.0, now.end.0))?;
    if let Some(known) = bounds.get_mut(place.stream).and_then(|all| all.get_mut(place.partition.0 as usize))
    {
        *known = now;
    }
    Ok(())
}

/// The bounds in a file that was opened again, which holds at least what was `known`.
fn bounds_again(db: &Database, path: &str, known: &Partitions) -> Worked<Partitions> {
    let table = db.begin_read()?.open_table(PARTITIONS)?;
    let mut found = known.clone();
    for (stream, partitions) in &mut found {
        for (partition, bounds) in partitions.iter_mut().enumerate() {
            let stored = table.get((stream.as_str(), partition as u32))?.map(|found| found.value());
            let (start, end) = stored.unwrap_or_default();
            if start < bounds.start.0 || end < bounds.end.0 {
                let reason = format!(
                    "stream {stream}, partition {partition}: expected events up to offset {}, found {end}: this is not \
                     the file that was open before; put that back",
                    bounds.end
                );
                return Err(Failure::from(Error::corrupt(path, reason)));
            }
            *bounds = LogBounds { start: Offset(start), end: Offset(end) };
        }
    }
    Ok(found)
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Command::Append { entry, .. } => entry.bytes(),
            Command::Trim { .. } | Command::Reopen { .. } => 0,
        }
    }

    /// Answers after the commit, when there is room for others. Whoever does not wait any more needs no answer.
    fn done(self, answer: Result<Appended>) {
        match self {
            Command::Append { reply, room, .. } => {
                drop(room);
                drop(reply.send(answer));
            }
            Command::Trim { reply, .. } => drop(reply.send(answer.map(drop))),
            Command::Reopen { .. } => {}
        }
    }

    fn failed(self, e: &Error, told: &str) {
        let error = match e {
            Error::Corrupt { path, reason } => Error::corrupt(path, reason),
            other => Error::Unavailable(format!("{other}: {told}")),
        };
        self.done(Err(error));
    }
}

impl Entry {
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().flat_map(|part| &part.batches).map(|(_, value)| value.len()).sum()
    }
}
