//! Batch views: the state of a view over everything below a horizon, published as Parquet.
//!
//! ```text
//! views/<view>/<fingerprint>/manifest/…                               see [`Manifests`]
//! views/<view>/<fingerprint>/state/<cut>-<bucket>-<digest>.parquet    4 and 5 digits, 16 of the digest
//! views/<view>/<fingerprint>/unit/<id>.unit                           what unfinished runs have done, see [`unit`](crate::Unit)
//! ```
//!
//! A manifest is one batch view, whole: what it names is immutable, and belongs to one horizon. Files are written
//! first and named after. A fingerprint has its own sequence of manifests, so that a changed view is built beside the
//! old one. It does not say which fingerprint a query should use.

use crate::audits::Audits;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::failpoint::Failpoint;
use crate::manifest::{Manifests, Newest, Versioned};
use crate::offset::{Offset, OffsetRange, Partition};
use crate::parquet_file::{self, ParquetFile};
use crate::state_file::StateFile;
use crate::store::{Store, path_part};
use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The directory of all views.
pub(crate) const VIEWS: &str = "views";
/// What the envelope of a batch view's manifest says.
pub(crate) const BATCH_MANIFEST: &str = "batch-manifest";

/// A batch view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchManifest {
    /// The view.
    pub view: String,
    /// The view's fingerprint: 64 hexadecimal digits.
    pub fingerprint: String,
    /// The exclusive upper end of what it covers, by stream and partition.
    pub horizon: BTreeMap<String, BTreeMap<Partition, Offset>>,
    /// The files of each of the view's cuts.
    pub cuts: Vec<Vec<StateFile>>,
    /// The digest of each cut's whole merged state.
    pub state_digests: Vec<Digest>,
    /// When it was made, in nanoseconds since the epoch, UTC.
    pub created: i64,
    /// When the run of this view began, in nanoseconds since the epoch, UTC; `None` where it was not written down yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// How it was made: `incremental` or `full`.
    pub mode: String,
    /// How its states compare with the speed layer's, of all segments up to the horizon.
    pub audit: AuditSummary,
}

/// How a batch view's states compare with the speed layer's, segment by segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSummary {
    /// How many states of segments, counted by cut, are equal in both layers.
    pub equal: u64,
    /// For how many of them the speed layer left no digest.
    pub unaudited: u64,
    /// Where the layers differ.
    pub unequal: Vec<AuditMismatch>,
}

impl AuditSummary {
    /// The comparison of these segments and of others.
    pub fn and(mut self, other: AuditSummary) -> AuditSummary {
        self.equal += other.equal;
        self.unaudited += other.unaudited;
        self.unequal.extend(other.unequal);
        self
    }
}

/// A segment of which the layers have different states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditMismatch {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: Partition,
    /// The segment.
    pub range: OffsetRange,
    /// The number of the view's cut.
    pub cut: usize,
    /// The speed layer's state digest.
    pub speed: Digest,
    /// The batch layer's state digest.
    pub batch: Digest,
}

/// The batch views of a project.
#[derive(Debug, Clone)]
pub struct BatchViews {
    pub(crate) store: Store,
}

impl BatchViews {
    /// The batch views in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// What audits have found about the views, in the same store.
    pub fn audits(&self) -> Audits {
        Audits::new(self.store.clone())
    }

    /// The newest batch view of a view's version; `None` before the first.
    ///
    /// # Errors
    /// `Corrupt` if its manifest is damaged, of a newer format, or of another view.
    pub async fn latest(&self, view: &str, fingerprint: &str) -> Result<Option<Versioned<BatchManifest>>> {
        let Some(found) = self.manifests(view, fingerprint).latest().await? else { return Ok(None) };
        check(&found.body, view, fingerprint)
            .map_err(|reason| Error::corrupt(view_dir(view, fingerprint), reason))?;
        Ok(Some(found))
    }

    /// A batch view that was the newest when it was found, to see whether it still is.
    ///
    /// # Errors
    /// If the store has no such names.
    pub fn newest(&self, view: &str, fingerprint: &str, version: u64) -> Result<Newest> {
        self.manifests(view, fingerprint).newest(version)
    }

    /// The newest batch views of a view's version, newest first: at most `newest`, and none below one that was pruned.
    ///
    /// # Errors
    /// Those of [`latest`](Self::latest).
    pub async fn history(
        &self,
        view: &str,
        fingerprint: &str,
        newest: usize,
    ) -> Result<Vec<Versioned<BatchManifest>>> {
        let mut found: Vec<_> = self.latest(view, fingerprint).await?.into_iter().collect();
        let manifests = self.manifests(view, fingerprint);
        while let Some(last) = found.last()
            && found.len() < newest
            && last.version > 1
        {
            let version = last.version - 1;
            let Some(body) = manifests.read(version).await? else { break };
            found.push(Versioned { version, body });
        }
        Ok(found)
    }

    /// Writes one file of a cut's state; it belongs to no batch view before [`publish`](Self::publish).
    pub async fn write_state(
        &self,
        view: &str,
        fingerprint: &str,
        cut: usize,
        bucket: usize,
        batch: &RecordBatch,
    ) -> Result<StateFile> {
        let about = vec![
            ("twofold.file.kind", "state".to_string()),
            ("twofold.file.view", view.to_string()),
            ("twofold.file.fingerprint", fingerprint.to_string()),
            ("twofold.file.cut", cut.to_string()),
        ];
        let dir = view_dir(view, fingerprint);
        let file = parquet_file::write(&self.store, batch.schema(), vec![batch.clone()], about, |digest| {
            format!("{dir}/state/{cut:04}-{bucket:05}-{}.parquet", digest.short())
        })
        .await?;
        Failpoint::BatchStateWritten.reach();
        let ParquetFile { path, rows, bytes, digest, .. } = file;
        Ok(StateFile { path, rows, bytes, digest })
    }

    /// The rows of a state file as they were written, in the schema that they were written with: batches of 8192
    /// rows, at least one, which is empty if the state is.
    ///
    /// # Errors
    /// `Corrupt` if the file is not what the manifest says; `NotFound` if it is gone.
    pub async fn read_state(&self, file: &StateFile) -> Result<Vec<RecordBatch>> {
        let (schema, mut batches) = parquet_file::read(&self.store, &file.file(), None).await?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        Ok(batches)
    }

    /// Checks that a state file is there, and what it was when it was written.
    ///
    /// # Errors
    /// `Corrupt` if it is not; `NotFound` if it is gone.
    pub async fn verify(&self, file: &StateFile) -> Result<()> {
        parquet_file::verify(&self.store, &file.file()).await
    }

    /// Moves a damaged state file out of the way, to `quarantine/`.
    pub async fn set_aside(&self, file: &StateFile) -> Result<()> {
        self.store.set_aside(&file.path).await
    }

    /// Publishes a batch view as the version after `after` (`None`: as the first).
    ///
    /// # Errors
    /// `Conflict` if somebody else published that version first.
    pub async fn publish(
        &self,
        after: Option<u64>,
        manifest: &BatchManifest,
    ) -> Result<Versioned<BatchManifest>> {
        check(manifest, &manifest.view, &manifest.fingerprint).map_err(Error::Internal)?;
        self.manifests(&manifest.view, &manifest.fingerprint).publish(after, manifest.clone()).await
    }

    fn manifests(&self, view: &str, fingerprint: &str) -> Manifests<BatchManifest> {
        let dir = format!("{}/manifest", view_dir(view, fingerprint));
        Manifests::new(self.store.clone(), dir, BATCH_MANIFEST)
    }
}

/// Where a view's version has its files.
pub(crate) fn view_dir(view: &str, fingerprint: &str) -> String {
    format!("{VIEWS}/{}/{}", path_part(view), path_part(fingerprint))
}

/// Whether this is a batch view of `view` and `fingerprint`; if not, why.
fn check(found: &BatchManifest, view: &str, fingerprint: &str) -> Result<(), String> {
    if (found.view.as_str(), found.fingerprint.as_str()) != (view, fingerprint) {
        let (v, f) = (&found.view, &found.fingerprint);
        return Err(format!(
            "expected a batch view of {view}, fingerprint {fingerprint}, found one of {v}, {f}"
        ));
    }
    if found.cuts.len() != found.state_digests.len() {
        let (cuts, digests) = (found.cuts.len(), found.state_digests.len());
        return Err(format!("batch view of {view}: {cuts} cuts, but {digests} state digests"));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::tests::stores;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    pub(crate) fn state(keys: &[&str]) -> RecordBatch {
        let counts = Int64Array::from_iter_values(0..keys.len() as i64);
        let columns: [(&str, ArrayRef); 2] =
            [("key", Arc::new(StringArray::from(keys.to_vec()))), ("count", Arc::new(counts))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    pub(crate) fn manifest(view: &str, fingerprint: &str, cuts: Vec<Vec<StateFile>>) -> BatchManifest {
        BatchManifest {
            view: view.to_string(),
            fingerprint: fingerprint.to_string(),
            horizon: BTreeMap::from([(
                "flights".to_string(),
                BTreeMap::from([(Partition(0), Offset(7)), (Partition(10), Offset(u64::MAX))]),
            )]),
            state_digests: cuts.iter().map(|_| Digest::of(b"state")).collect(),
            cuts,
            created: -1,
            started: Some(-2),
            mode: "full".to_string(),
            audit: AuditSummary {
                equal: 1,
                unaudited: 2,
                unequal: vec![AuditMismatch {
                    stream: "flights".to_string(),
                    partition: Partition(1),
                    range: OffsetRange::new(Offset(3), Offset(4)),
                    cut: 0,
                    speed: Digest::of(b"a"),
                    batch: Digest::of(b"b"),
                }],
            },
        }
    }

    #[tokio::test]
    async fn what_is_published_is_read_back() {
        for (store, _dir) in stores() {
            let views = BatchViews::new(store);
            assert!(views.latest("v", "f").await.unwrap().is_none());
            let full = views.write_state("v", "f", 0, 3, &state(&["a", "b"])).await.unwrap();
            let empty = views.write_state("v", "f", 1, 0, &state(&[])).await.unwrap();
            assert_eq!(full.path, format!("views/v/f/state/0000-00003-{}.parquet", full.digest.short()));

            let manifest = manifest("v", "f", vec![vec![full], vec![empty]]);
            let published = views.publish(None, &manifest).await.unwrap();
            let latest = views.latest("v", "f").await.unwrap().unwrap();
            assert_eq!((&latest, &latest.body), (&published, &manifest));
            let read = |cut: usize| views.read_state(&latest.body.cuts[cut][0]);
            assert_eq!(read(0).await.unwrap(), [state(&["a", "b"])]);
            assert_eq!(read(1).await.unwrap(), [state(&[])]);
            assert!(views.latest("v", "another").await.unwrap().is_none());
            assert_eq!(
                views.publish(None, &self::manifest("v", "f", vec![])).await.unwrap_err().kind(),
                Kind::Conflict
            );
        }
    }

    #[tokio::test]
    async fn a_damaged_state_or_another_views_manifest_is_corrupt() {
        let store = Store::memory();
        let views = BatchViews::new(store.clone());
        let file = views.write_state("v", "f", 0, 0, &state(&["a"])).await.unwrap();
        store.put(&file.path, vec![0; file.bytes as usize].into()).await.unwrap();
        let e = views.read_state(&file).await.unwrap_err();
        assert!(e.kind() == Kind::Corrupt && e.to_string().contains(&file.path), "{e}");

        views.manifests("v", "f").publish(None, manifest("w", "f", vec![])).await.unwrap();
        assert_eq!(views.latest("v", "f").await.unwrap_err().kind(), Kind::Corrupt);
    }
}
