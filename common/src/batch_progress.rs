//! How far a batch run of a view is, written down so that other processes can tell.
//!
//! ```text
//! views/<view>/<fingerprint>/run/progress.json     replaced while a run goes on, removed when it has ended
//! ```
//!
//! Nothing depends on it: a record that cannot be read is none, one that a killed run left behind is as old as its
//! [`at`](BatchProgress::at) says, and of two runs at once the last one to write is told.

use crate::batch_view::{BatchViews, view_dir};
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A batch run of one view that goes on, or was broken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchProgress {
    /// `incremental` or `full`.
    pub mode: String,
    /// When it began, in nanoseconds since the epoch, UTC.
    pub started: i64,
    /// When this was written, in nanoseconds since the epoch, UTC.
    pub at: i64,
    /// Segments folded.
    pub done: u64,
    /// Segments to fold.
    pub total: u64,
    /// Events folded.
    pub events: u64,
}

impl BatchViews {
    /// How far the run of a view's version is; `None` if none goes on.
    ///
    /// # Errors
    /// Those of reading from the store.
    pub async fn progress(&self, view: &str, fingerprint: &str) -> Result<Option<BatchProgress>> {
        match self.store.get(&path(view, fingerprint)).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes down how far a run is.
    ///
    /// # Errors
    /// Those of writing to the store.
    pub async fn tell_progress(&self, view: &str, fingerprint: &str, progress: &BatchProgress) -> Result<()> {
        let bytes = serde_json::to_vec(progress).map_err(|e| Error::Internal(e.to_string()))?;
        self.store.put(&path(view, fingerprint), Bytes::from(bytes)).await
    }

    /// Removes what was written of a run; there need not be anything.
    ///
    /// # Errors
    /// Those of deleting from the store.
    pub async fn end_progress(&self, view: &str, fingerprint: &str) -> Result<()> {
        self.store.delete(&path(view, fingerprint)).await
    }
}

fn path(view: &str, fingerprint: &str) -> String {
    format!("{}/run/progress.json", view_dir(view, fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::stores;

    #[tokio::test]
    async fn progress_is_told_until_it_ends_and_a_damaged_record_is_none() {
        for (store, _dir) in stores() {
            let views = BatchViews::new(store.clone());
            assert_eq!(views.progress("v", "f").await.unwrap(), None);
            let mode = "full".to_string();
            let progress = BatchProgress { mode, started: 1, at: 2, done: 3, total: 4, events: 5 };
            views.tell_progress("v", "f", &progress).await.unwrap();
            let later = BatchProgress { at: 3, done: 4, ..progress };
            views.tell_progress("v", "f", &later).await.unwrap();
            assert_eq!(views.progress("v", "f").await.unwrap(), Some(later));
            store.put(&path("v", "f"), Bytes::from_static(b"{\"mode\":")).await.unwrap();
            assert_eq!(views.progress("v", "f").await.unwrap(), None);
            views.end_progress("v", "f").await.unwrap();
            views.end_progress("v", "f").await.unwrap();
            assert_eq!(store.list("views").await.unwrap(), []);
        }
    }
}
