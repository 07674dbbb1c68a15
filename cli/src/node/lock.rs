//! The lock of a data directory: one process at a time owns its log and states.
//!
//! The operating system holds the lock on `<data>/speed.lock` for as long as the process lives, so a process that
//! died leaves none behind, whatever the file says. What the file says, process and command, is for messages only.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "speed.lock";

/// The ownership of a data directory, until it is dropped.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes a data directory for `command`, creating it if it is not there.
    ///
    /// # Errors
    /// If another process owns it: which.
    pub fn take(data: &Path, command: &str) -> Result<Self> {
        std::fs::create_dir_all(data).with_context(|| format!("data directory {}", data.display()))?;
        let path = data.join(FILE);
        let mut file = open(&path, true)?;
        lock(&file, data)?;
        let about = format!("{} {command}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(about.as_bytes()))
            .with_context(|| path.display().to_string())?;
        Ok(Self { _file: file })
    }

    /// Whether [`take`](Self::take) would fail now; writes nothing.
    ///
    /// # Errors
    /// If another process owns the directory: which.
    pub fn check(data: &Path) -> Result<()> {
        let path = data.join(FILE);
        if !path.exists() {
            return Ok(());
        }
        lock(&open(&path, false)?, data)
    }
}

fn open(path: &PathBuf, create: bool) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path);
    file.with_context(|| path.display().to_string())
}

fn lock(file: &File, data: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("{}", held(data)),
        Err(TryLockError::Error(e)) => {
            Err(e).with_context(|| format!("locking {}", data.join(FILE).display()))
        }
    }
}

fn held(data: &Path) -> String {
    let about = std::fs::read_to_string(data.join(FILE)).unwrap_or_default();
    let holder = match about.trim().split_once(' ') {
        Some((pid, command)) => format!("process {pid} ({command})"),
        None => "another process".to_string(),
    };
    format!(
        "the data directory {} is held by {holder}: stop it, or wait until it is done; one process at a time owns a \
         data directory",
        data.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        DataLock::check(&data).unwrap();
        assert!(!data.exists(), "checking writes nothing");
        let owner = DataLock::take(&data, "twofold up").unwrap();
        for result in [DataLock::check(&data), DataLock::take(&data, "twofold speed").map(drop)] {
            let message = result.unwrap_err().to_string();
            let expected = format!("is held by process {} (twofold up)", std::process::id());
            assert!(message.contains(&expected), "{message}");
        }
        drop(owner);
        DataLock::take(&data, "twofold speed").unwrap();
    }

    #[test]
    fn what_a_dead_process_left_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "1 twofold up with a longer line than ours\n").unwrap();
        let owner = DataLock::take(dir.path(), "twofold gc").unwrap();
        let about = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(about, format!("{} twofold gc\n", std::process::id()));
        drop(owner);
    }
}
