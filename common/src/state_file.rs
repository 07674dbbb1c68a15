//! One stored file of a state, as manifests and findings name it.

use crate::digest::Digest;
use crate::parquet_file::ParquetFile;
use serde::{Deserialize, Serialize};

/// One Parquet file of a batch view's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// The file, relative to the store.
    pub path: String,
    /// How many keys it holds.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl StateFile {
    /// What the file must be.
    pub(crate) fn file(&self) -> ParquetFile {
        let StateFile { rows, bytes, digest, ref path } = *self;
        ParquetFile { path: path.clone(), rows, bytes, digest, footer: None }
    }
}
