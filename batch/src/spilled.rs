//! States on disk, while they are merged: in a file of the system's temporary directory that goes with its handle.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use twofold_common::{Digest, Error, Result, State, StateDigest, StatePieces};

/// A state in a file.
#[derive(Debug, Clone)]
pub(crate) struct Spilled {
    file: Arc<Mutex<File>>,
    /// Where each piece lies, and its length.
    pieces: Arc<Vec<(u64, usize)>>,
    pub(crate) rows: usize,
    pub(crate) digest: Digest,
}

impl Spilled {
    /// Writes all pieces of a state; `digest` is that of none.
    ///
    /// # Errors
    /// `Unavailable` if there is no room for them.
    pub(crate) async fn write(mut digest: StateDigest, pieces: &mut dyn StatePieces) -> Result<Self> {
        let file = tempfile::tempfile().map_err(no_room)?;
        let file = Arc::new(Mutex::new(file));
        let (mut places, mut rows, mut end) = (Vec::new(), 0, 0);
        while let Some(piece) = pieces.next().await? {
            digest.add(&piece)?;
            rows += piece.rows();
            let bytes = piece.to_bytes()?;
            places.push((end, bytes.len()));
            end += bytes.len() as u64;
            on_disk(&file, move |file| file.write_all(&bytes)).await?;
        }
        Ok(Self { file, pieces: Arc::new(places), rows, digest: digest.finish() })
    }

    /// Its pieces, from the first one on.
    pub(crate) fn pieces(&self) -> SpilledPieces {
        SpilledPieces { of: self.clone(), next: 0 }
    }
}

/// The pieces of a state in a file.
#[derive(Debug)]
pub(crate) struct SpilledPieces {
    of: Spilled,
    next: usize,
}

#[async_trait::async_trait]
impl StatePieces for SpilledPieces {
    async fn next(&mut self) -> Result<Option<State>> {
        let Some(&(at, length)) = self.of.pieces.get(self.next) else { return Ok(None) };
        self.next += 1;
        let read = move |file: &mut File| {
            let mut bytes = vec![0; length];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = on_disk(&self.of.file, read).await?;
        State::from_bytes(&bytes, "a temporary file").map(Some)
    }
}

async fn on_disk<T: Send + 'static>(
    file: &Arc<Mutex<File>>,
    work: impl FnOnce(&mut File) -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let file = Arc::clone(file);
    let done = tokio::task::spawn_blocking(move || {
        work(&mut file.lock().unwrap_or_else(PoisonError::into_inner)).map_err(no_room)
    });
    done.await.map_err(|e| Error::Internal(format!("states on disk: {e}")))?
}

fn no_room(e: std::io::Error) -> Error {
    Error::Unavailable(format!(
        "states that have no room in memory go to {}: {e}: make room there, set TMPDIR, or raise limit in [memory]",
        std::env::temp_dir().display()
    ))
}
