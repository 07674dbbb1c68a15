//! A disk that fails on demand, for tests: each write, sync or read of a file of the embedded store may.

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Before it did anything.
    Before,
    /// With half of it done.
    Torn,
    /// When all of it was done: its answer is lost.
    After,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The file cannot grow beyond this.
    pub(crate) full_at: Option<u64>,
    /// Writes and syncs that will go well, and how the next one fails.
    pub(crate) next: Option<(u32, How)>,
    /// Syncs that will go well, until one is done and fails all the same.
    pub(crate) lost_sync: Option<u32>,
    /// The next read fails.
    pub(crate) read: bool,
    /// How many operations have failed.
    pub(crate) failed: u32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// Looks at the plan, or changes it.
    pub(crate) fn plan<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// After so many writes and syncs the next one fails like this.
    pub(crate) fn fail(&self, after: u32, how: How) {
        self.plan(|plan| plan.next = Some((after, how)));
    }

    /// How many operations have failed.
    pub(crate) fn failed(&self) -> u32 {
        self.plan(|plan| plan.failed)
    }

    fn loses_sync(&self) -> bool {
        self.plan(|plan| match plan.lost_sync.take() {
            Some(0) => true,
            left => {
                plan.lost_sync = left.map(|left| left - 1);
                false
            }
        })
    }

    /// How this write or sync fails, if it does.
    fn next(&self, end: u64) -> Option<(How, io::Error)> {
        self.plan(|plan| {
            let full = plan.full_at.is_some_and(|full| end > full);
            let how = match &mut plan.next {
                _ if full => Some((How::Before, io::Error::from_raw_os_error(28))),
                Some((0, how)) => Some((*how, io::Error::from_raw_os_error(5))),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            if how.is_some() {
                plan.failed += 1;
                plan.next = None;
            }
            how
        })
    }
}

#[derive(Debug)]
pub(crate) struct FaultyDisk {
    pub(crate) path: PathBuf,
    pub(crate) faults: Faults,
}

impl FaultyDisk {
    /// Opens the store, and makes it if there is none and `create` says so.
    pub(crate) fn open(&self, create: bool) -> Result<Database, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&self.path);
        let file = file.map_err(redb::StorageError::from)?;
        let backend = FaultyBackend { inner: FileBackend::new(file)?, faults: self.faults.clone() };
        // A small cache, so that reads reach the disk.
        Builder::new().set_cache_size(64 << 10).create_with_backend(backend)
    }

    /// Whether there is room.
    pub(crate) fn probe(&self) -> io::Result<()> {
        match self.faults.plan(|plan| plan.full_at) {
            Some(_) => Err(io::Error::from_raw_os_error(28)),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct FaultyBackend {
    inner: FileBackend,
    faults: Faults,
}

impl StorageBackend for FaultyBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.faults.plan(|plan| std::mem::take(&mut plan.read)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // As on a real disk, growing costs no room yet.
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.faults.loses_sync() {
            return self.inner.sync_data().and(Err(io::Error::from_raw_os_error(5)));
        }
        match self.faults.next(0) {
            None => self.inner.sync_data(),
            Some((How::After, e)) => self.inner.sync_data().and(Err(e)),
            Some((_, e)) => Err(e),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.faults.next(offset + data.len() as u64) {
            None => self.inner.write(offset, data),
            Some((How::Before, e)) => Err(e),
            Some((How::Torn, e)) => self.inner.write(offset, &data[..data.len() / 2]).and(Err(e)),
            Some((How::After, e)) => self.inner.write(offset, data).and(Err(e)),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
