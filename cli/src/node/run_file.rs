//! Run files: how the processes of one project find each other.
//!
//! A server that listens writes `<data>/run/serve.json` or `speed.json` with its process and URL, a secret by which
//! commands on this machine get in, and where its certificate is; and it holds a lock on that file for as long as it
//! lives. Only the owner of the file may read it (mode 0600): who may, may read and write all data anyway. So a file without a lock is one that a dead process left: it names nobody, even
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
use twofold_common::Token;
use twofold_serving::Trust;

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
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Where it answers, without a final `/`.
    pub url: String,
    /// Where it answers clients of PostgreSQL, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pg: Option<String>,
    /// Where it answers Arrow Flight SQL, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flight: Option<String>,
    /// What lets commands on this machine in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The file of the certificate that it shows, if it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("pid", &self.pid).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Running {
    /// This process, which answers at `url`, and lets in who shows `token`.
    pub fn at(url: &str, token: Option<&Token>) -> Self {
        let token = token.map(Token::reveal);
        Self {
            pid: std::process::id(),
            url: url.to_string(),
            pg: None,
            flight: None,
            token,
            certificate: None,
        }
    }

    /// Where it answers, for people.
    pub(crate) fn told(&self) -> String {
        let beside: Vec<&str> = [&self.pg, &self.flight].into_iter().flatten().map(String::as_str).collect();
        if beside.is_empty() { self.url.clone() } else { format!("{} ({})", self.url, beside.join(", ")) }
    }

    /// What lets commands on this machine in.
    pub(crate) fn token(&self) -> Option<Token> {
        Token::parse(self.token.as_deref()?).ok()
    }

    /// Whom to trust if it speaks TLS.
    pub(crate) fn trust(&self) -> Option<Trust> {
        self.certificate.clone().map(Trust::Exactly)
    }
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
    /// Says where this process answers; `None` if another server of the kind has said so first.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn publish(data: &Path, layer: Layer, running: &Running) -> Result<Option<Self>> {
        let path = layer.path(data);
        let about = || path.display().to_string();
        let dir = path.parent().unwrap_or(data);
        std::fs::create_dir_all(dir).with_context(about)?;
        let mut tries = 0;
        loop {
            let mut file = open_private(&path).with_context(about)?;
            match file.try_lock() {
                Ok(()) => {
                    let text = serde_json::to_string(running)? + "\n";
                    make_private(&file)
                        .and_then(|()| file.set_len(0))
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

#[cfg(unix)]
fn open_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// For a file that a dead process left with another mode.
#[cfg(unix)]
fn make_private(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn make_private(_: &File) -> std::io::Result<()> {
    Ok(())
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

    fn at(url: &str) -> Running {
        Running::at(url, None)
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_secret_is_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = Layer::Serve.path(dir.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "left by another").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let token = Token::random().unwrap();
        let running = Running::at("http://x", Some(&token));
        let _file = RunFile::publish(dir.path(), Layer::Serve, &running).await.unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let found = find(dir.path(), Layer::Serve).unwrap();
        assert!(token.hash().is_of(&found.token().unwrap()));
        assert!(!format!("{found:?}").contains("twofold_"));
    }

    #[tokio::test]
    async fn a_server_is_found_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path(), Layer::Serve), None);
        let file =
            RunFile::publish(dir.path(), Layer::Serve, &at("http://127.0.0.1:5")).await.unwrap().unwrap();
        assert_eq!(find(dir.path(), Layer::Serve), Some(at("http://127.0.0.1:5")));
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
        let file = RunFile::publish(dir.path(), Layer::Speed, &at("http://x")).await.unwrap();
        assert!(file.is_some());
        assert_eq!(find(dir.path(), Layer::Speed).unwrap().url, "http://x");
    }

    #[tokio::test]
    async fn the_first_of_two_servers_is_the_one_that_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let _first = RunFile::publish(dir.path(), Layer::Serve, &at("http://first")).await.unwrap().unwrap();
        assert!(RunFile::publish(dir.path(), Layer::Serve, &at("http://second")).await.unwrap().is_none());
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
