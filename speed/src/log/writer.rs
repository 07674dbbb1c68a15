//! The thread that writes the log's file: group commit.
//!
//! A commit with `fsync` costs the same for one append as for a hundred. So this thread takes whatever waits, up
//! to [`GROUP_BYTES`], writes it in one transaction, and answers all of it after that is durable. Whoever comes in
//! the meantime is the next group.
//!
//! Either all of a group becomes durable or nothing does; if nothing does, each of its callers is told so.

use super::failure::Worked;
use super::stored::Place;
use super::tables::{EVENTS, PARTITIONS};
use super::{Partitions, find_bounds};
use redb::{Database, Durability, ReadableTable, WriteTransaction};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use twofold_common::{Error, Failpoint, LogBounds, Offset, OffsetRange, Partition, Result};

/// How many bytes one transaction takes in before it is committed.
const GROUP_BYTES: usize = 32 << 20;

/// What the thread is asked to do.
pub(super) enum Command {
    /// Store batches.
    Append { parts: Vec<Part>, reply: oneshot::Sender<Result<Vec<OffsetRange>>>, room: OwnedSemaphorePermit },
    /// Forget events.
    Trim { stream: String, partition: Partition, below: Offset, reply: oneshot::Sender<Result<()>> },
}

/// The batches of one partition in an append, encoded.
pub(super) struct Part {
    pub(super) stream: String,
    pub(super) partition: Partition,
    pub(super) batches: Vec<(u64, Vec<u8>)>,
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) path: String,
    pub(super) db: Arc<Database>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What is durable, for everybody to read; only this thread changes it.
    pub(super) bounds: Arc<RwLock<Partitions>>,
    pub(super) appended: watch::Sender<u64>,
}

impl Writer {
    /// Serves commands until nobody can send any more.
    pub(super) fn run(mut self) {
        while let Some(first) = self.commands.blocking_recv() {
            let mut bytes = first.bytes();
            let mut group = vec![first];
            while bytes < GROUP_BYTES
                && let Ok(next) = self.commands.try_recv()
            {
                bytes += next.bytes();
                group.push(next);
            }
            self.serve(group);
        }
    }

    fn serve(&self, group: Vec<Command>) {
        match self.commit(&group) {
            Ok((bounds, ranges)) => {
                *self.bounds.write().unwrap_or_else(PoisonError::into_inner) = bounds;
                let appends = group.iter().filter(|c| matches!(c, Command::Append { .. })).count();
                if appends > 0 {
                    self.appended.send_modify(|n| *n += appends as u64);
                }
                group.into_iter().zip(ranges).for_each(|(command, ranges)| command.done(ranges));
            }
            Err(failure) => {
                let error = failure.at(&self.path);
                tracing::error!(path = self.path, %error, commands = group.len(), "log commit failed");
                group.into_iter().for_each(|command| command.failed(&error));
            }
        }
    }

    /// Does all of `group` in one transaction: the bounds that are then durable, and the offsets of each append.
    fn commit(&self, group: &[Command]) -> Worked<(Partitions, Vec<Vec<OffsetRange>>)> {
        let mut bounds = self.bounds.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let mut work = |command: &Command| match command {
            Command::Append { parts, .. } => append(&txn, &mut bounds, parts),
            Command::Trim { stream, partition, below, .. } => {
                trim(&txn, &mut bounds, Place { stream, partition: *partition }, *below).map(|()| Vec::new())
            }
        };
        let ranges = group.iter().map(&mut work).collect::<Worked<Vec<_>>>()?;
        Failpoint::AppendWritten.reach();
        txn.commit()?;
        Failpoint::AppendDurable.reach();
        Ok((bounds, ranges))
    }
}

fn append(txn: &WriteTransaction, bounds: &mut Partitions, parts: &[Part]) -> Worked<Vec<OffsetRange>> {
    let mut events = txn.open_table(EVENTS)?;
    let mut ranges = Vec::with_capacity(parts.len());
    for part in parts {
        let place = Place { stream: &part.stream, partition: part.partition };
        let mut now = find_bounds(bounds, place.stream, place.partition)?;
        let start = now.end;
        for (rows, value) in &part.batches {
            events.insert((place.stream, place.partition.0, now.end.0), value.as_slice())?;
            now.end.0 += rows;
        }
        ranges.push(OffsetRange::new(start, now.end));
        set_bounds(txn, bounds, place, now)?;
    }
    Ok(ranges)
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

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Command::Append { parts, .. } => parts.iter().map(Part::bytes).sum(),
            Command::Trim { .. } => 0,
        }
    }

    /// Answers after the commit, when there is room for others. Whoever does not wait any more needs no answer.
    fn done(self, ranges: Vec<OffsetRange>) {
        match self {
            Command::Append { reply, room, .. } => {
                drop(room);
                drop(reply.send(Ok(ranges)));
            }
            Command::Trim { reply, .. } => drop(reply.send(Ok(()))),
        }
    }

    fn failed(self, e: &Error) {
        let error = match e {
            Error::Corrupt { path, reason } => Error::corrupt(path, reason),
            other => Error::Unavailable(format!("nothing was written: {other}")),
        };
        match self {
            Command::Append { reply, room, .. } => {
                drop(room);
                drop(reply.send(Err(error)));
            }
            Command::Trim { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

impl Part {
    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(|(_, value)| value.len()).sum()
    }
}
