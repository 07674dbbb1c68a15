//! Run files: how the processes of one project find each other.
//!
//! A server that listens writes `<data>/run/serve.json` or `speed.json` with its process and URL, and holds a lock on
//! that file for as long as it lives. So a file without a lock is one that a dead process left: it names nobody, even
//! if another server has taken that port since.
//!
//! Of several servers of one kind the first is found. A server on another machine is found by its URL in
//! `twofold.toml`, not here.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a server tries to take its run file, while others may be looking whether it is held.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Answers users.
    Serve,
    /// Answers the other layers.
    Speed,
}

/// A server as its run file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Where it answers, without a final `/`.
    pub url: String,
    /// Where it answers Arrow Flight SQL, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flight: Option<String>,
}

/// The advertisement of a running server, until it is dropped.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    _file: File,
}

impl Layer {
    fn path(self, data: &Path) -> PathBuf {
        let name = match self {
            Layer::Serve => "serve.json",
            Layer::Speed => "speed.json",
        };
        data.join("run").join(name)
    }
}

impl RunFile {
    /// Says that this process answers at `url`; `None` if another server of the kind has said so first.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn publish(data: &Path, layer: Layer, url: &str) -> Result<Option<Self>> {
        Self::publish_with(data, layer, url, None).await
    }

    /// The same of a process that answers Arrow Flight SQL at `flight` too.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn publish_with(
        data: &Path,
        layer: Layer,
        url: &str,
        flight: Option<&str>,
    ) -> Result<Option<Self>> {
        let path = layer.path(data);
        let about = || path.display().to_string();
        let dir = path.parent().unwrap_or(data);
        std::fs::create_dir_all(dir).with_context(about)?;
        let mut tries = 0;
        loop {
            let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = open.with_context(about)?;
            match file.try_lock() {
                Ok(()) => {
                    let (url, flight) = (url.to_string(), flight.map(str::to_string));
                    let running = Running { pid: std::process::id(), url, flight };
                    let text = serde_json::to_string(&running)? + "\n";
                    file.set_len(0)
                        .and_then(|()| file.rewind())
                        .and_then(|()| file.write_all(text.as_bytes()))
                        .with_context(about)?;
                    return Ok(Some(Self { path, _file: file }));
                }
                Err(TryLockError::WouldBlock) if tries == TRIES => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(TryLockError::Error(e)) => return Err(e).with_context(about),
            }
        }
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // Left behind, it names nobody: the lock goes with the process.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The running server of a kind, if there is one that has said where it is.
pub fn find(data: &Path, layer: Layer) -> Option<Running> {
    let path = layer.path(data);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => serde_json::from_slice(&std::fs::read(&path).ok()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_found_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path(), Layer::Serve), None);
        let (url, flight) = ("http://127.0.0.1:5", Some("grpc://127.0.0.1:6"));
        let file = RunFile::publish_with(dir.path(), Layer::Serve, url, flight).await.unwrap().unwrap();
        let expected =
            Running { pid: std::process::id(), url: url.into(), flight: flight.map(str::to_string) };
        assert_eq!(find(dir.path(), Layer::Serve), Some(expected));
        assert_eq!(find(dir.path(), Layer::Speed), None);
        drop(file);
        assert_eq!(find(dir.path(), Layer::Serve), None);
        assert!(!Layer::Serve.path(dir.path()).exists());
    }

    #[tokio::test]
    async fn what_a_dead_server_left_is_not_found_and_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = Layer::Speed.path(dir.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, r#"{"pid":1,"url":"http://127.0.0.1:1234567890-long"}"#).unwrap();
        assert_eq!(find(dir.path(), Layer::Speed), None);
        let file = RunFile::publish(dir.path(), Layer::Speed, "http://x").await.unwrap();
        assert!(file.is_some());
        assert_eq!(find(dir.path(), Layer::Speed).unwrap().url, "http://x");
    }

    #[tokio::test]
    async fn the_first_of_two_servers_is_the_one_that_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let _first = RunFile::publish(dir.path(), Layer::Serve, "http://first").await.unwrap().unwrap();
        assert!(RunFile::publish(dir.path(), Layer::Serve, "http://second").await.unwrap().is_none());
        assert_eq!(find(dir.path(), Layer::Serve).unwrap().url, "http://first");
    }

    #[test]
    fn a_run_file_that_is_no_json_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = Layer::Serve.path(dir.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "{").unwrap();
        let held = File::open(&path).unwrap();
        held.try_lock().unwrap();
        assert_eq!(find(dir.path(), Layer::Serve), None);
    }
}
