//! The log's file, and how it is opened anew after the disk has failed.
//!
//! The store answers nothing any more after its first failure, until it is opened anew. So the file is a slot: closed by
//! the writer when the store has failed, as soon as no read uses it, and opened again by the writer alone. It is never
//! made anew then: a log that has gone is an error, and not an empty log.

use super::failure::{Failure, Worked};
use redb::{Builder, Database, DatabaseError};
use std::fs::{File, remove_file};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use twofold_common::{Error, Result};

/// How much of the file is held in memory.
pub(super) const CACHE_BYTES: usize = 128 << 20;

/// Where the file is.
pub(super) trait Disk: std::fmt::Debug + Send + Sync {
    /// Opens the store, and makes it if there is none and `create` says so.
    fn open(&self, create: bool) -> Result<Database, DatabaseError>;

    /// Tries whether there is room for so many bytes more.
    fn probe(&self, bytes: usize) -> std::io::Result<()>;
}

/// A file of the operating system.
#[derive(Debug)]
pub(super) struct RealDisk(pub(super) PathBuf);

impl Disk for RealDisk {
    fn open(&self, create: bool) -> Result<Database, DatabaseError> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        if create { builder.create(&self.0) } else { builder.open(&self.0) }
    }

    /// Writes a file beside it, and removes it.
    fn probe(&self, bytes: usize) -> std::io::Result<()> {
        let path = self.0.with_extension("probe");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&path)?;
            let chunk = vec![0; 64 << 10];
            for _ in 0..bytes.div_ceil(chunk.len()) {
                file.write_all(&chunk)?;
            }
            file.sync_data()
        };
        let written = write();
        let removed = remove_file(&path);
        written.and(removed)
    }
}

/// The slot.
#[derive(Debug)]
pub(super) struct LogFile {
    path: String,
    disk: Box<dyn Disk>,
    slot: RwLock<Slot>,
    /// Changes each time the slot does.
    turns: watch::Sender<u64>,
}

enum Slot {
    Open(Arc<Database>),
    Closed(String),
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Slot::Open(_) => f.write_str("Open"),
            Slot::Closed(reason) => write!(f, "Closed({reason:?})"),
        }
    }
}

impl LogFile {
    /// Opens the file, or makes it.
    pub(super) fn create(path: &Path, disk: Box<dyn Disk>) -> Result<LogFile> {
        let path = path.display().to_string();
        let db = guarded(&path, || Ok(disk.open(true)?))?;
        Ok(LogFile { path, disk, slot: RwLock::new(Slot::Open(Arc::new(db))), turns: watch::Sender::new(0) })
    }

    /// The file's path, as messages name it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The store, and which turn of the slot it is.
    ///
    /// # Errors
    /// `Unavailable` while the file is closed.
    pub(super) fn db(&self) -> Result<(Arc<Database>, u64)> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Slot::Open(db) => Ok((Arc::clone(db), *self.turns.borrow())),
            Slot::Closed(reason) => Err(Error::Unavailable(reason.clone())),
        }
    }

    /// Whether the file is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.slot.read().unwrap_or_else(PoisonError::into_inner), Slot::Open(_))
    }

    /// Tells of turns of the slot.
    pub(super) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// Takes the store out of the slot; the caller drops it when nobody else has it.
    pub(super) fn close(&self, reason: String) -> Option<Arc<Database>> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Closed(reason)) {
            Slot::Open(db) => Some(db),
            Slot::Closed(_) => None,
        }
    }

    /// Opens the file again, looks at it, and then lets everybody use it.
    ///
    /// # Errors
    /// Those of opening and of `look`; the slot stays closed.
    pub(super) fn reopen<T>(&self, look: impl FnOnce(&Database) -> Worked<T>) -> Result<T> {
        let (db, seen) = guarded(&self.path, || {
            let db = self.disk.open(false)?;
            let seen = look(&db)?;
            Ok((db, seen))
        })?;
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        *slot = Slot::Open(Arc::new(db));
        self.turns.send_modify(|turn| *turn += 1);
        Ok(seen)
    }

    /// Tries whether there is room for so many bytes more.
    pub(super) fn probe(&self, bytes: usize) -> Result<()> {
        self.disk.probe(bytes).map_err(|e| Error::Unavailable(format!("{}: {e}", self.path)))
    }
}

/// The store asserts some of what it reads: on a damaged file that is an error, not the end of the program.
pub(super) fn guarded<T>(path: &str, work: impl FnOnce() -> Worked<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(worked) => worked.map_err(|failure: Failure| failure.at(path)),
        Err(_) => Err(Error::corrupt(path, "the file is damaged: restore it from a backup")),
    }
}
