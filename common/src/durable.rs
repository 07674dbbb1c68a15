//! Puts on a local disk that survive power loss.
//!
//! `object_store`'s own local store does not sync: after a power loss a file that it wrote may be there by name and
//! empty inside, when the log that held the same events has already been trimmed. So local puts go this way:
//!
//! ```text
//! write <name>.<process>-<n>.tmp   sync it   link or rename to <name>   sync the directory
//! ```
//!
//! After a crash at any point `<name>` holds all of the bytes or does not exist (or, when it is replaced, still holds
//! what it held). It does not promise that a `.tmp` file is not left behind: `gc` removes those.

use crate::failpoint::Failpoint;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What the names of half-written files end in.
pub(crate) const STAGED_SUFFIX: &str = ".tmp";

/// Writes `bytes` to `path`, over what may be there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = parent(path)?;
    create_directories(directory)?;
    let staged = stage(path, bytes)?;
    Failpoint::FileStaged.reach();
    fs::rename(&staged, path).inspect_err(|_| discard(&staged))?;
    Failpoint::FileNamed.reach();
    sync_directory(directory)
}

/// Writes `bytes` to `path` if nothing is there: whether it did.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let directory = parent(path)?;
    create_directories(directory)?;
    let staged = stage(path, bytes)?;
    // A link, unlike a rename, fails if the name is taken: it is the conditional put.
    Failpoint::FileStaged.reach();
    let linked = fs::hard_link(&staged, path);
    Failpoint::FileNamed.reach();
    discard(&staged);
    match linked {
        Ok(()) => sync_directory(directory).map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Creates `directory` and those above it, each synced into its parent.
pub(crate) fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_directories(above)?;
    }
    match fs::create_dir(directory) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(e) => Err(e),
        Ok(()) => directory.parent().map_or(Ok(()), sync_directory),
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a file name is missing"))
}

/// Writes `bytes` to a new file beside `path`, synced: its name.
fn stage(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let (mut file, staged) = new_staged(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| discard(&staged))?;
    Ok(staged)
}

fn new_staged(path: &Path) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut name = path.as_os_str().to_owned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".{}-{number}{STAGED_SUFFIX}", std::process::id()));
        let staged = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            // Left by an earlier process of the same number.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
            opened => return Ok((opened?, staged)),
        }
    }
}

fn discard(staged: &Path) {
    if let Err(error) = fs::remove_file(staged) {
        tracing::debug!(path = %staged.display(), %error, "a staged file stays behind until gc");
    }
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_only_once_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        assert!(create(&path, b"one").unwrap());
        assert!(!create(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_an_error_not_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"").unwrap();
        assert!(create(&dir.path().join("a/b"), b"").is_err());
    }
}
