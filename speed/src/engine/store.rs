//! The state store: speed states and the offsets up to which they reach, in one redb file.
//!
//! | table       | key                                                     | value                             |
//! | ----------- | ------------------------------------------------------- | --------------------------------- |
//! | `meta`      | name                                                    | text: `format`                    |
//! | `segments`  | stream, partition, first offset                         | [`SegmentRecord`] as JSON         |
//! | `positions` | fingerprint, stream, partition                          | first and last offset of the view |
//! | `units`     | fingerprint, stream, partition, first offset of segment | end of what is folded of it       |
//! | `runs`      | …, first offset of segment, cut, number                 | bytes of a state                  |
//! | `wholes`    | …, first offset of segment, cut                         | a number, and which runs count    |
//!
//! Late events have tables of their own, see [`late_store`].
//!
//! What one epoch changes is one transaction: states and offsets agree after any crash. Nothing here is the only
//! copy of anything: all of it can be folded again from archive and log.

use super::late::{LateChange, LateId};
use super::late_store;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use twofold_common::{Digest, Error, Failpoint, Kind, Offset, Partition, Result, State};

/// The version of the file's layout.
const FORMAT: &str = "2";
/// The one before, which had no wholes: it is taken over as it is.
const WITHOUT_WHOLES: &str = "1";
const OTHER_FORMAT: &str = "written by another version of Twofold";

type UnitKey = (&'static str, &'static str, u32, u64);
type WholeKey = (&'static str, &'static str, u32, u64, u32);
type RunKey = (&'static str, &'static str, u32, u64, u32, u64);

pub(super) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const SEGMENTS: TableDefinition<'_, (&str, u32, u64), &[u8]> = TableDefinition::new("segments");
const POSITIONS: TableDefinition<'_, (&str, &str, u32), (u64, u64)> = TableDefinition::new("positions");
const UNITS: TableDefinition<'_, UnitKey, u64> = TableDefinition::new("units");
const RUNS: TableDefinition<'_, RunKey, &[u8]> = TableDefinition::new("runs");
/// The first number of the pieces of a whole, and whether these count, or else the runs numbered below.
pub(super) const WHOLES: TableDefinition<'_, WholeKey, (u64, bool)> = TableDefinition::new("wholes");

/// A segment as its owner keeps it until it is archived and covered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    pub(crate) end: Offset,
    pub(crate) rows: u64,
    /// The watermark of the partition at `end`.
    pub(crate) watermark: Option<i64>,
    /// When its first event was taken in.
    pub(crate) opened_at: i64,
    /// Whether it takes no more events.
    pub(crate) sealed: bool,
    /// Whether its states are not summed up yet, so that the archiver is not to have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unsummed: bool,
    /// Digests of the states of the views that had folded all of it when it was sealed.
    pub(crate) states: BTreeMap<String, Digest>,
}

/// A place in the state of a view: the part of one segment that it has folded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnitId {
    pub(crate) fingerprint: Digest,
    pub(crate) stream: String,
    pub(crate) partition: Partition,
    pub(crate) start: Offset,
}

/// One change of the store.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Segment {
        stream: String,
        partition: Partition,
        start: Offset,
        record: SegmentRecord,
    },
    DropSegment {
        stream: String,
        partition: Partition,
        start: Offset,
    },
    Position {
        fingerprint: Digest,
        stream: String,
        partition: Partition,
        from: Offset,
        to: Offset,
    },
    Unit {
        id: UnitId,
        end: Offset,
    },
    DropUnit {
        id: UnitId,
    },
    Run {
        id: UnitId,
        cut: usize,
        number: u64,
        state: State,
    },
    DropRun {
        id: UnitId,
        cut: usize,
        number: u64,
    },
    /// From this number on come pieces of a state that is to take the place of the runs numbered below.
    Stage {
        id: UnitId,
        cut: usize,
        first: u64,
    },
    /// A piece of that state.
    Piece {
        id: UnitId,
        cut: usize,
        number: u64,
        state: State,
    },
    /// These pieces count now, in the place of the runs numbered below.
    Whole {
        id: UnitId,
        cut: usize,
        numbers: Vec<u64>,
    },
    /// What is counted of late events.
    Late {
        id: LateId,
        change: LateChange,
    },
    /// All of a view.
    DropView {
        fingerprint: Digest,
    },
}

impl Write {
    /// The view that it is about, if it is about one.
    pub(crate) fn fingerprint(&self) -> Option<Digest> {
        match self {
            Write::Segment { .. } | Write::DropSegment { .. } => None,
            Write::Position { fingerprint, .. } | Write::DropView { fingerprint } => Some(*fingerprint),
            Write::Unit { id, .. }
            | Write::DropUnit { id }
            | Write::Run { id, .. }
            | Write::Stage { id, .. }
            | Write::Piece { id, .. }
            | Write::Whole { id, .. }
            | Write::DropRun { id, .. } => Some(id.fingerprint),
            Write::Late { id, .. } => Some(id.fingerprint),
        }
    }
}

/// What the store holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) segments: Vec<(String, Partition, Offset, SegmentRecord)>,
    pub(crate) positions: Vec<(Digest, String, Partition, Offset, Offset)>,
    pub(crate) units: Vec<(UnitId, Offset)>,
    pub(crate) runs: Vec<(UnitId, usize, u64, State)>,
    pub(crate) late: Vec<(LateId, LateChange)>,
}

impl Contents {
    /// A number that no run has yet.
    pub(crate) fn next_number(&self) -> u64 {
        self.runs.iter().map(|(_, _, number, _)| number + 1).max().unwrap_or(0)
    }

    /// What is stored, as the changes that lead to it.
    pub(crate) fn into_writes(self) -> Vec<Write> {
        let segments = self.segments.into_iter().map(|(stream, partition, start, record)| Write::Segment {
            stream,
            partition,
            start,
            record,
        });
        let positions = self.positions.into_iter().map(|(fingerprint, stream, partition, from, to)| {
            Write::Position { fingerprint, stream, partition, from, to }
        });
        let units = self.units.into_iter().map(|(id, end)| Write::Unit { id, end });
        let runs =
            self.runs.into_iter().map(|(id, cut, number, state)| Write::Run { id, cut, number, state });
        let late = self.late.into_iter().map(|(id, change)| Write::Late { id, change });
        segments.chain(positions).chain(units).chain(runs).chain(late).collect()
    }
}

/// What opens the file, or makes it.
pub(crate) type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::DatabaseError> + Send + Sync>;

/// After an error the file is in an unknown state, and answers nothing until it is [opened again](Self::reopen): what
/// was being committed is there or not.
pub(crate) struct StateStore {
    /// `None` while it is being opened again.
    db: RwLock<Option<Database>>,
    path: PathBuf,
    opener: Opener,
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl StateStore {
    /// Opens or creates the store, and reads what it holds. A damaged file is moved aside, since all of it can be made
    /// again.
    ///
    /// # Errors
    /// `Conflict` if another process has it open; `Corrupt` if it is of another format; `Unavailable` if the disk
    /// fails.
    pub(crate) fn open(path: &Path) -> Result<(Self, Contents)> {
        Self::open_with(path, Box::new(|path| Database::create(path)))
    }

    pub(crate) fn open_with(path: &Path, opener: Opener) -> Result<(Self, Contents)> {
        let store = Self { db: RwLock::new(None), path: path.to_path_buf(), opener };
        match store.reopen() {
            Err(e) if e.kind() == Kind::Corrupt && !is_other_format(&e) => {
                let aside = set_aside(path).map_err(|io| Error::io(path, io))?;
                tracing::error!(
                    error = %e,
                    aside = %aside.display(),
                    "the states are damaged: the file is set aside, and they are folded again from archive and log"
                );
                let contents = store.reopen()?;
                Ok((store, contents))
            }
            contents => contents.map(|contents| (store, contents)),
        }
    }

    /// Opens the file anew, and reads what it holds.
    pub(crate) fn reopen(&self) -> Result<Contents> {
        {
            let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
            // It must be closed before it can be opened.
            drop(db.take());
            *db = Some(self.guarded(|| {
                let mut opened = (self.opener)(&self.path).map_err(|e| self.error(e))?;
                // Not all that is stored has a digest of ours: all pages are checked, which costs reading them once.
                match opened.check_integrity().map_err(|e| self.error(e))? {
                    true => Ok(opened),
                    false => Err(self.corrupt("its pages are not what was written".to_string())),
                }
            })?);
        }
        self.check_format()?;
        self.load()
    }

    /// Works on the file. The embedded store asserts some of what it reads: on a damaged file that is an error.
    fn work<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db =
            db.as_ref().ok_or_else(|| Error::Unavailable(format!("{} is closed", self.path.display())))?;
        self.guarded(|| work(db))
    }

    fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = catch_unwind(AssertUnwindSafe(work));
        done.unwrap_or_else(|_| Err(self.corrupt("the file is damaged".to_string())))
    }

    fn check_format(&self) -> Result<()> {
        self.work(|db| self.check_format_of(db))
    }

    fn check_format_of(&self, db: &Database) -> Result<()> {
        let txn = db.begin_write().map_err(|e| self.error(e))?;
        {
            let mut meta = txn.open_table(META).map_err(|e| self.error(e))?;
            let format = meta.get("format").map_err(|e| self.error(e))?.map(|f| f.value().to_string());
            match format.as_deref() {
                Some(FORMAT) => {}
                None | Some(WITHOUT_WHOLES) => {
                    meta.insert("format", FORMAT).map_err(|e| self.error(e))?;
                }
                Some(other) => {
                    return Err(self.corrupt(format!(
                        "{OTHER_FORMAT} (format {other}, this one reads {FORMAT}): use that \
                         version, or delete the file, and it is built again from archive and log"
                    )));
                }
            }
            txn.open_table(SEGMENTS).map_err(|e| self.error(e))?;
            txn.open_table(POSITIONS).map_err(|e| self.error(e))?;
            txn.open_table(UNITS).map_err(|e| self.error(e))?;
            tidy(&txn).map_err(|e| self.error(e))?;
            late_store::create(&txn).map_err(|e| self.error(e))?;
        }
        txn.commit().map_err(|e| self.error(e))
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Contents> {
        self.work(|db| self.load_from(db))
    }

    fn load_from(&self, db: &Database) -> Result<Contents> {
        let txn = db.begin_read().map_err(|e| self.error(e))?;
        let mut contents = Contents::default();
        for entry in txn.open_table(SEGMENTS).map_err(|e| self.error(e))?.iter().map_err(|e| self.error(e))? {
            let (key, value) = entry.map_err(|e| self.error(e))?;
            let (stream, partition, start) = key.value();
            let record = serde_json::from_slice(value.value()).map_err(|e| {
                self.corrupt(format!("segment {start} of {stream}, partition {partition}: {e}"))
            })?;
            contents.segments.push((stream.to_string(), Partition(partition), Offset(start), record));
        }
        for entry in
            txn.open_table(POSITIONS).map_err(|e| self.error(e))?.iter().map_err(|e| self.error(e))?
        {
            let (key, value) = entry.map_err(|e| self.error(e))?;
            let (fingerprint, stream, partition) = key.value();
            let (from, to) = value.value();
            contents.positions.push((
                self.digest(fingerprint)?,
                stream.to_string(),
                Partition(partition),
                Offset(from),
                Offset(to),
            ));
        }
        for entry in txn.open_table(UNITS).map_err(|e| self.error(e))?.iter().map_err(|e| self.error(e))? {
            let (key, value) = entry.map_err(|e| self.error(e))?;
            let (fingerprint, stream, partition, start) = key.value();
            let id = self.unit(fingerprint, stream, partition, start)?;
            contents.units.push((id, Offset(value.value())));
        }
        for entry in txn.open_table(RUNS).map_err(|e| self.error(e))?.iter().map_err(|e| self.error(e))? {
            let (key, value) = entry.map_err(|e| self.error(e))?;
            let (fingerprint, stream, partition, start, cut, number) = key.value();
            let id = self.unit(fingerprint, stream, partition, start)?;
            let origin =
                format!("{}: state of {stream}, partition {partition}, segment {start}", self.path.display());
            let state = State::from_bytes(value.value(), &origin)?;
            contents.runs.push((id, cut as usize, number, state));
        }
        for ((fingerprint, stream, partition), change) in late_store::load(&txn).map_err(|e| self.error(e))? {
            let fingerprint = self.digest(&fingerprint)?;
            contents.late.push((LateId { fingerprint, stream, partition: Partition(partition) }, change));
        }
        Ok(contents)
    }

    /// Makes all of `writes` durable, or none.
    ///
    /// # Errors
    /// After one it is not known which, until the store is [opened again](Self::reopen).
    pub(crate) fn commit(&self, writes: &[Write]) -> Result<()> {
        self.work(|db| self.commit_to(db, writes))
    }

    fn commit_to(&self, db: &Database, writes: &[Write]) -> Result<()> {
        let txn = db.begin_write().map_err(|e| self.error(e))?;
        {
            let mut segments = txn.open_table(SEGMENTS).map_err(|e| self.error(e))?;
            let mut positions = txn.open_table(POSITIONS).map_err(|e| self.error(e))?;
            let mut units = txn.open_table(UNITS).map_err(|e| self.error(e))?;
            let mut runs = txn.open_table(RUNS).map_err(|e| self.error(e))?;
            let mut wholes = txn.open_table(WHOLES).map_err(|e| self.error(e))?;
            for write in writes {
                match write {
                    Write::Segment { stream, partition, start, record } => {
                        let bytes = serde_json::to_vec(record).map_err(|e| Error::Internal(e.to_string()))?;
                        let key = (stream.as_str(), partition.0, start.0);
                        segments.insert(key, bytes.as_slice()).map_err(|e| self.error(e))?;
                    }
                    Write::DropSegment { stream, partition, start } => {
                        let key = (stream.as_str(), partition.0, start.0);
                        segments.remove(key).map_err(|e| self.error(e))?;
                    }
                    Write::Position { fingerprint, stream, partition, from, to } => {
                        let key = (&*fingerprint.to_string(), stream.as_str(), partition.0);
                        positions.insert(key, (from.0, to.0)).map_err(|e| self.error(e))?;
                    }
                    Write::Unit { id, end } => {
                        let fingerprint = id.fingerprint.to_string();
                        let key = (fingerprint.as_str(), id.stream.as_str(), id.partition.0, id.start.0);
                        units.insert(key, end.0).map_err(|e| self.error(e))?;
                    }
                    Write::DropUnit { id } => {
                        let fingerprint = id.fingerprint.to_string();
                        let key = (fingerprint.as_str(), id.stream.as_str(), id.partition.0, id.start.0);
                        units.remove(key).map_err(|e| self.error(e))?;
                        let (f, s, p, o) = key;
                        runs.retain_in((f, s, p, o, 0, 0)..=(f, s, p, o, u32::MAX, u64::MAX), |_, _| false)
                            .map_err(|e| self.error(e))?;
                        wholes
                            .retain_in((f, s, p, o, 0)..=(f, s, p, o, u32::MAX), |_, _| false)
                            .map_err(|e| self.error(e))?;
                    }
                    Write::Stage { id, cut, first } => {
                        let fingerprint = id.fingerprint.to_string();
                        let key = whole_key(&fingerprint, id, *cut);
                        wholes.insert(key, (*first, false)).map_err(|e| self.error(e))?;
                    }
                    Write::Whole { id, cut, numbers } => {
                        let fingerprint = id.fingerprint.to_string();
                        let key = whole_key(&fingerprint, id, *cut);
                        let first = numbers.first().copied().unwrap_or_default();
                        wholes.insert(key, (first, true)).map_err(|e| self.error(e))?;
                    }
                    Write::Run { id, cut, number, state } | Write::Piece { id, cut, number, state } => {
                        let fingerprint = id.fingerprint.to_string();
                        let key = run_key(&fingerprint, id, *cut, *number);
                        runs.insert(key, state.to_bytes()?.as_slice()).map_err(|e| self.error(e))?;
                    }
                    Write::DropRun { id, cut, number } => {
                        let fingerprint = id.fingerprint.to_string();
                        runs.remove(run_key(&fingerprint, id, *cut, *number)).map_err(|e| self.error(e))?;
                    }
                    Write::Late { id, change } => {
                        late_store::write(&txn, id, change).map_err(|e| self.error(e))?;
                    }
                    Write::DropView { fingerprint } => {
                        let fingerprint = fingerprint.to_string();
                        late_store::drop_view(&txn, &fingerprint).map_err(|e| self.error(e))?;
                        positions.retain(|key, _| key.0 != fingerprint).map_err(|e| self.error(e))?;
                        units.retain(|key, _| key.0 != fingerprint).map_err(|e| self.error(e))?;
                        runs.retain(|key, _| key.0 != fingerprint).map_err(|e| self.error(e))?;
                        wholes.retain(|key, _| key.0 != fingerprint).map_err(|e| self.error(e))?;
                    }
                }
            }
        }
        Failpoint::StatesWritten.reach();
        txn.commit().map_err(|e| self.error(e))?;
        Failpoint::StatesDurable.reach();
        Ok(())
    }

    fn unit(&self, fingerprint: &str, stream: &str, partition: u32, start: u64) -> Result<UnitId> {
        Ok(UnitId {
            fingerprint: self.digest(fingerprint)?,
            stream: stream.to_string(),
            partition: Partition(partition),
            start: Offset(start),
        })
    }

    fn digest(&self, hex: &str) -> Result<Digest> {
        Digest::from_hex(hex).ok_or_else(|| self.corrupt(format!("{hex:?} is no fingerprint")))
    }

    fn corrupt(&self, reason: String) -> Error {
        Error::corrupt(self.path.display().to_string(), reason)
    }

    fn error(&self, e: impl Into<redb::Error>) -> Error {
        store_error(&self.path, e.into())
    }
}

fn run_key<'a>(
    fingerprint: &'a str,
    id: &'a UnitId,
    cut: usize,
    number: u64,
) -> (&'a str, &'a str, u32, u64, u32, u64) {
    (fingerprint, &id.stream, id.partition.0, id.start.0, u32::try_from(cut).unwrap_or(u32::MAX), number)
}

fn whole_key<'a>(fingerprint: &'a str, id: &'a UnitId, cut: usize) -> (&'a str, &'a str, u32, u64, u32) {
    (fingerprint, &id.stream, id.partition.0, id.start.0, u32::try_from(cut).unwrap_or(u32::MAX))
}

/// Lets go of the runs that do not count.
fn tidy(txn: &WriteTransaction) -> Result<(), redb::Error> {
    let mut runs = txn.open_table(RUNS)?;
    let mut wholes = txn.open_table(WHOLES)?;
    for entry in wholes.iter()? {
        let (key, value) = entry?;
        let ((f, s, p, o, cut), (first, counts)) = (key.value(), value.value());
        let gone = if counts { 0..first } else { first..u64::MAX };
        runs.retain_in((f, s, p, o, cut, gone.start)..(f, s, p, o, cut, gone.end), |_, _| false)?;
    }
    wholes.retain(|_, _| false)?;
    Ok(())
}

fn is_other_format(e: &Error) -> bool {
    matches!(e, Error::Corrupt { reason, .. } if reason.starts_with(OTHER_FORMAT))
}

/// Moves a file to a name beside its own that nothing has yet: that name.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let mut n = 0;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{n}"));
        let aside = PathBuf::from(name);
        if !aside.exists() {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
        n += 1;
    }
}

fn store_error(path: &Path, e: redb::Error) -> Error {
    match e {
        redb::Error::DatabaseAlreadyOpen => {
            Error::Conflict(format!("{} is open in another process: stop that one first", path.display()))
        }
        redb::Error::Io(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => {
            Error::corrupt(path.display().to_string(), e.to_string())
        }
        redb::Error::Io(source) => Error::io(path, source),
        // An error before this one: only opening it again tells what is there.
        e @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed) => {
            Error::Unavailable(format!("{}: {e}", path.display()))
        }
        other => Error::corrupt(path.display().to_string(), other.to_string()),
    }
}
