//! Work that takes long, or waits for a disk, away from the threads that answer.

use crate::error::{Error, Result};

/// What `work` gives, done on a thread of its own.
///
/// # Errors
/// Those of `work`; `Internal` if it panics.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::Internal(format!("work on a thread of its own did not finish: {e}")))?
}
