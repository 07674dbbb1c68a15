//! What audits have found, kept.
//!
//! ```text
//! audit/<view>/<fingerprint>/manifest/…                  see [`Manifests`]
//! audit/<view>/<fingerprint>/findings/<digest>.parquet   [`Finding`]s, in the order in which they were made
//! audit/<view>/<fingerprint>/state/<cut>-<digest>.parquet   states of differences
//! ```
//!
//! Findings are only ever added: a finding is about stored bytes that do not change, so that it is true whether or not
//! the run that made it published anything. Several who find at once all get theirs in. Nothing that is found
//! different is ever removed, also when the view is no longer declared; the directory as a whole may be, by hand.

use crate::audit::{AuditTotals, Finding, newest, totals};
use crate::cut::Cut;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifests, Versioned};
use crate::parquet_file::{self, About, ParquetFile};
use crate::state::State;
use crate::state_file::StateFile;
use crate::store::{Object, Store, path_part};
use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The directory of all findings.
const AUDITS: &str = "audit";
const AUDIT_MANIFEST: &str = "audit-manifest";
/// So many files of findings are written again as one.
const FILES: usize = 32;
/// How often somebody else may be first.
const ATTEMPTS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AuditManifest {
    view: String,
    fingerprint: String,
    /// From the oldest to the newest.
    findings: Vec<StateFile>,
    totals: AuditTotals,
}

/// The findings about a project's views.
#[derive(Debug, Clone)]
pub struct Audits {
    store: Store,
}

impl Audits {
    /// The findings in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// How many findings there are about a view's version; `None` before the first.
    ///
    /// # Errors
    /// `Corrupt` if the manifest is damaged.
    pub async fn totals(&self, view: &str, fingerprint: &str) -> Result<Option<AuditTotals>> {
        Ok(self.latest(view, fingerprint).await?.map(|found| found.body.totals))
    }

    /// What is told about a view's version: see [`newest`].
    ///
    /// # Errors
    /// `Corrupt` if manifest or files are damaged; `NotFound` if a file is gone.
    pub async fn findings(&self, view: &str, fingerprint: &str) -> Result<Vec<Finding>> {
        match self.latest(view, fingerprint).await? {
            Some(found) => Ok(newest(self.read(&found.body.findings).await?)),
            None => Ok(Vec::new()),
        }
    }

    /// Adds findings about a view's version.
    ///
    /// # Errors
    /// `Corrupt` if what is there is damaged.
    pub async fn add(&self, view: &str, fingerprint: &str, new: &[Finding]) -> Result<AuditTotals> {
        let mut lost = None;
        for _ in 0..ATTEMPTS {
            let last = self.latest(view, fingerprint).await?;
            let after = last.as_ref().map(|found| found.version);
            let mut files = last.map(|found| found.body.findings).unwrap_or_default();
            let told = newest(self.read(&files).await?.into_iter().chain(new.iter().cloned()));
            let totals = totals(&told);
            if new.is_empty() {
                return Ok(totals);
            }
            if files.len() + 1 < FILES {
                files.push(self.write(view, fingerprint, new).await?);
            } else {
                files = vec![self.write(view, fingerprint, &told).await?];
            }
            let (view, fingerprint) = (view.to_string(), fingerprint.to_string());
            let body = AuditManifest {
                view: view.clone(),
                fingerprint: fingerprint.clone(),
                findings: files,
                totals,
            };
            match self.manifests(&view, &fingerprint).publish(after, body).await {
                Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
                published => return published.map(|_| totals),
            }
        }
        Err(lost.unwrap_or_else(|| Error::Internal("no try was made".into())))
    }

    /// Keeps a state, or some rows of one, for a finding to name.
    pub async fn keep(&self, view: &str, fingerprint: &str, cut: usize, rows: &State) -> Result<StateFile> {
        let mut about = about("state", view, fingerprint);
        about.push(("twofold.file.cut", cut.to_string()));
        let dir = dir(view, fingerprint);
        let name = move |digest: &crate::Digest| format!("{dir}/state/{cut:04}-{}.parquet", digest.short());
        self.put(rows.batch().clone(), about, name).await
    }

    /// A state that was kept, of a cut of the view as it is.
    ///
    /// # Errors
    /// `Corrupt` if the file is damaged or of other columns; `NotFound` if it is gone.
    pub async fn kept(&self, file: &StateFile, cut: &Cut) -> Result<State> {
        let (_, rows) = parquet_file::read(&self.store, &file.file(), None).await?;
        let rows = rows.iter().map(|batch| crate::state::conform(batch, cut.schema(), || file.path.clone()));
        State::from_rows(cut.schema(), cut.keys(), &rows.collect::<Result<Vec<_>>>()?)
    }

    async fn latest(&self, view: &str, fingerprint: &str) -> Result<Option<Versioned<AuditManifest>>> {
        let Some(found) = self.manifests(view, fingerprint).latest().await? else { return Ok(None) };
        if (found.body.view.as_str(), found.body.fingerprint.as_str()) != (view, fingerprint) {
            let (v, f) = (&found.body.view, &found.body.fingerprint);
            let reason = format!(
                "expected findings about {view}, fingerprint {fingerprint}, found some about {v}, {f}"
            );
            return Err(Error::corrupt(dir(view, fingerprint), reason));
        }
        Ok(Some(found))
    }

    async fn read(&self, files: &[StateFile]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for file in files {
            let (_, batches) = parquet_file::read(&self.store, &file.file(), None).await?;
            for batch in &batches {
                let read = Finding::from_stored(batch).map_err(|reason| Error::corrupt(&file.path, reason));
                findings.extend(read?);
            }
        }
        Ok(findings)
    }

    async fn write(&self, view: &str, fingerprint: &str, findings: &[Finding]) -> Result<StateFile> {
        let dir = dir(view, fingerprint);
        let name = move |digest: &crate::Digest| format!("{dir}/findings/{}.parquet", digest.short());
        self.put(Finding::to_stored(findings)?, about("findings", view, fingerprint), name).await
    }

    async fn put(
        &self,
        batch: RecordBatch,
        about: About,
        name: impl FnOnce(&crate::Digest) -> String,
    ) -> Result<StateFile> {
        let file = parquet_file::write(&self.store, batch.schema(), vec![batch], about, name).await?;
        let ParquetFile { path, rows, bytes, digest, .. } = file;
        Ok(StateFile { path, rows, bytes, digest })
    }

    fn manifests(&self, view: &str, fingerprint: &str) -> Manifests<AuditManifest> {
        manifests(self.store.clone(), &dir(view, fingerprint))
    }
}

fn manifests(store: Store, dir: &str) -> Manifests<AuditManifest> {
    Manifests::new(store, format!("{dir}/manifest"), AUDIT_MANIFEST)
}

fn dir(view: &str, fingerprint: &str) -> String {
    format!("{AUDITS}/{}/{}", path_part(view), path_part(fingerprint))
}

fn about(kind: &str, view: &str, fingerprint: &str) -> About {
    vec![
        ("twofold.file.kind", kind.to_string()),
        ("twofold.file.view", view.to_string()),
        ("twofold.file.fingerprint", fingerprint.to_string()),
    ]
}

/// What may go of findings: old manifests, and files of findings that the newest does not name, because they were
/// written again as one. States of differences stay.
pub(crate) async fn orphans(
    store: &Store,
    keep: usize,
    cutoff: DateTime<Utc>,
) -> Result<Vec<(Object, &'static str)>> {
    let objects = store.list(AUDITS).await?;
    let dirs = objects.iter().filter_map(|object| Some(object.path.split_once("/manifest/")?.0.to_string()));
    let dirs: BTreeSet<String> = dirs.collect();
    let mut found = Vec::new();
    for dir in dirs {
        let manifests = manifests(store.clone(), &dir);
        let Some(newest) = manifests.latest().await? else { continue };
        let named: BTreeSet<String> = newest.body.findings.into_iter().map(|file| file.path).collect();
        let old = manifests.prunable(keep, cutoff).await?;
        found.extend(old.into_iter().map(|object| (object, "an old manifest")));
        let files = format!("{dir}/findings/");
        let unnamed = objects.iter().filter(|object| {
            object.path.starts_with(&files) && !named.contains(&object.path) && object.modified < cutoff
        });
        found.extend(unnamed.cloned().map(|object| (object, "findings that were written again")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::finding;
    use crate::gc::Gc;
    use crate::store::tests::stores;

    #[tokio::test]
    async fn what_was_found_is_kept_and_counted() {
        for (store, _dir) in stores() {
            let audits = Audits::new(store.clone());
            assert_eq!(audits.totals("v", "f").await.unwrap(), None);
            assert_eq!(audits.findings("v", "f").await.unwrap(), []);
            for n in 0..40 {
                let found = if n == 7 { "another" } else { "a" };
                audits.add("v", "f", &[finding(n * 10, Some(found), "a", n as i64)]).await.unwrap();
            }
            let findings = audits.findings("v", "f").await.unwrap();
            let unequal = findings.iter().filter(|f| f.equal() == Some(false)).count();
            assert_eq!((findings.len(), unequal), (40, 1));
            let totals = audits.totals("v", "f").await.unwrap().unwrap();
            assert_eq!(totals, AuditTotals { equal: 39, unaudited: 0, unequal: 1, at: 39 });
            assert_eq!(audits.findings("v", "another").await.unwrap(), []);

            // Files that were written again as one, and old manifests, are garbage; what is told is not.
            let live = [("v".to_string(), "f".to_string())].into();
            for live in [live, BTreeSet::new()] {
                let gc = Gc::new(store.clone());
                let orphans = gc.orphans(&live, DateTime::<Utc>::MAX_UTC).await.unwrap();
                gc.delete(&orphans).await.unwrap();
                assert_eq!(audits.findings("v", "f").await.unwrap(), findings);
            }
            let left = store.list("audit/v/f/findings").await.unwrap().len();
            assert!(left < 40, "{left} files are left");
        }
    }

    #[tokio::test]
    async fn those_who_find_at_once_all_get_theirs_in() {
        let audits = Audits::new(Store::memory());
        let add = |n: u64| {
            let audits = audits.clone();
            tokio::spawn(async move { audits.add("v", "f", &[finding(n * 10, None, "a", 0)]).await.unwrap() })
        };
        let tasks: Vec<_> = (0..8).map(add).collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(audits.totals("v", "f").await.unwrap().unwrap().unaudited, 8);
    }

    #[tokio::test]
    async fn damage_is_told_and_not_taken_for_findings() {
        let store = Store::memory();
        let audits = Audits::new(store.clone());
        audits.add("v", "f", &[finding(0, None, "a", 0)]).await.unwrap();
        let file = store.list("audit/v/f/findings").await.unwrap().remove(0);
        store.put(&file.path, vec![0; file.bytes as usize].into()).await.unwrap();
        assert_eq!(audits.findings("v", "f").await.unwrap_err().kind(), Kind::Corrupt);
    }
}
