//! Manifests: an append-only sequence of versions, each published by one conditional put.
//!
//! ```text
//! <dir>/00000000000000000001.json, …2.json, …3.json, …      <dir>/_latest   (a hint)
//!
//! publish(after v) succeeds for exactly one writer          latest = the v whose v + 1 does not exist
//! ```
//!
//! Invariants: versions are created in order, each after the one before; they are pruned from the oldest on, so that
//! those present are `first..=newest` without a hole; the newest two are never pruned. The hint only says where to
//! begin to look: stale, missing or damaged, it costs requests, never truth. A listing is used for the same purpose.
//!
//! A put whose answer was lost counts as published if the object holds our very bytes. So two writers that publish
//! equal bodies after the same version may both be told that they succeeded: what both wanted is there. And a writer
//! that was overtaken by so many others that the version it built on has been pruned is told `Conflict`, even if its
//! own version stood for a while: it has to read again in any case.
//!
//! A damaged version makes [`Manifests::latest`] fail with `Corrupt`; it never falls back to an older one.

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::failpoint::Failpoint;
use crate::store::{Name, Object, Store};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::marker::PhantomData;

/// The newest format of manifests that this version reads, and the one that it writes.
const FORMAT: u64 = 1;
/// How often a reader starts again because what it found was pruned meanwhile.
const ATTEMPTS: usize = 16;
const HINT: &str = "_latest";

/// A manifest and its version.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// The version, from 1.
    pub version: u64,
    /// What it says.
    pub body: T,
}

/// A version that was the newest when it was found.
#[derive(Debug, Clone)]
pub struct Newest {
    this: Name,
    next: Name,
}

impl Newest {
    /// Whether it still is. Nothing is read.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn is_still(&self) -> Result<bool> {
        // Versions go from the oldest on: as long as this one stands, none can have come and gone after it. So it is looked
        // for last.
        Ok(!self.next.exists().await? && self.this.exists().await?)
    }
}

/// The versions of one manifest.
#[derive(Debug, Clone)]
pub struct Manifests<T> {
    store: Store,
    dir: String,
    kind: &'static str,
    body: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Manifests<T> {
    /// The manifest in directory `dir`, whose envelope says `kind`.
    pub fn new(store: Store, dir: impl Into<String>, kind: &'static str) -> Self {
        Self { store, dir: dir.into(), kind, body: PhantomData }
    }

    /// The newest version; `None` before the first.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged or of a newer format.
    pub async fn latest(&self) -> Result<Option<Versioned<T>>> {
        if let Some(hint) = self.hint().await?
            && let Some(found) = self.latest_from(hint).await?
        {
            return Ok(Some(found));
        }
        for _ in 0..ATTEMPTS {
            let listed = self.versions().await?.last().map_or(0, |(version, _)| *version);
            match self.probe(listed).await? {
                0 => return Ok(None),
                newest => match self.read(newest).await? {
                    Some(body) => return Ok(Some(Versioned { version: newest, body })),
                    None => continue,
                },
            }
        }
        Err(Error::Unavailable(format!("{}: pruned faster than it can be read: try again", self.dir)))
    }

    /// A version that was the newest when it was found.
    ///
    /// # Errors
    /// If the store has no such names.
    pub fn newest(&self, version: u64) -> Result<Newest> {
        let next = self.store.name(&self.path(version.saturating_add(1)))?;
        Ok(Newest { this: self.store.name(&self.path(version))?, next })
    }

    /// Publishes `body` as the version after `after` (`None`: as the first).
    ///
    /// # Errors
    /// `Conflict` if somebody else published that version first.
    pub async fn publish(&self, after: Option<u64>, body: T) -> Result<Versioned<T>> {
        let version = after.unwrap_or(0).saturating_add(1);
        let bytes = encode(self.kind, &body)?;
        // Where the version has been published and pruned again, its name is free: both checks look for that.
        self.check_successor(after).await?;
        Failpoint::ManifestUnpublished.reach();
        self.put_exactly(version, bytes).await?;
        Failpoint::ManifestPublished.reach();
        self.check_successor(after).await?;
        if let Err(error) = self.store.put(&self.hint_path(), Bytes::from(version.to_string())).await {
            tracing::debug!(dir = %self.dir, %error, "the hint to the newest version was not written");
        }
        Ok(Versioned { version, body })
    }

    /// A version; `None` if it does not exist.
    pub(crate) async fn read(&self, version: u64) -> Result<Option<T>> {
        let path = self.path(version);
        match self.store.get(&path).await {
            Ok(bytes) => decode(&path, self.kind, &bytes).map(Some),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The versions that a listing shows, oldest first.
    pub(crate) async fn versions(&self) -> Result<Vec<(u64, Object)>> {
        let mut found: Vec<_> = (self.store.list(&self.dir).await?.into_iter())
            .filter_map(|object| Some((version_of(object.path.strip_prefix(&self.dir)?)?, object)))
            .collect();
        found.sort_by_key(|(version, _)| *version);
        Ok(found)
    }

    /// The versions that may go, oldest first: all but the newest `keep` (at least 2), none at or above the hint, none
    /// written at or after `cutoff`, and none above one that stays. They must be deleted in this order.
    pub async fn prunable(&self, keep: usize, cutoff: DateTime<Utc>) -> Result<Vec<Object>> {
        let Some(hint) = self.hint().await? else { return Ok(Vec::new()) };
        let mut versions = self.versions().await?;
        versions.truncate(versions.len().saturating_sub(keep.max(2)));
        let old = versions.into_iter().take_while(|(v, object)| *v < hint && object.modified < cutoff);
        Ok(old.map(|(_, object)| object).collect())
    }

    /// Deletes what is [`prunable`](Self::prunable): how many versions that were.
    pub async fn prune(&self, keep: usize, cutoff: DateTime<Utc>) -> Result<usize> {
        let old = self.prunable(keep, cutoff).await?;
        for object in &old {
            self.store.delete(&object.path).await?;
        }
        Ok(old.len())
    }

    /// The newest version as seen from `start`; `None` if it cannot be told from there.
    async fn latest_from(&self, start: u64) -> Result<Option<Versioned<T>>> {
        let version = self.probe(start).await?;
        // What stands alone was pruned before a late writer put it there again, or is the very first: listing tells.
        if version < 2 || !self.store.exists(&self.path(version - 1)).await? {
            return Ok(None);
        }
        // Read after the successor was missed: since pruning goes upwards, the successor was not pruned either.
        Ok(self.read(version).await?.map(|body| Versioned { version, body }))
    }

    /// The last version from `version` on whose successor does not exist.
    async fn probe(&self, mut version: u64) -> Result<u64> {
        while let Some(next) = version.checked_add(1)
            && self.store.exists(&self.path(next)).await?
        {
            version = next;
        }
        Ok(version)
    }

    async fn check_successor(&self, after: Option<u64>) -> Result<()> {
        let current = match after {
            Some(version) => self.store.exists(&self.path(version)).await?,
            None => self.versions().await?.last().is_none_or(|(newest, _)| *newest <= 1),
        };
        if current { Ok(()) } else { Err(self.lost(after.unwrap_or(0).saturating_add(1))) }
    }

    async fn put_exactly(&self, version: u64, bytes: Bytes) -> Result<()> {
        let path = self.path(version);
        let Err(failure) = self.store.put_new(&path, bytes.clone()).await else { return Ok(()) };
        match self.store.get(&path).await {
            Ok(found) if found == bytes => Ok(()),
            Ok(_) => Err(self.lost(version)),
            Err(_) if failure.kind() == Kind::Conflict => Err(self.lost(version)),
            Err(_) => Err(failure),
        }
    }

    async fn hint(&self) -> Result<Option<u64>> {
        match self.store.get(&self.hint_path()).await {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok())),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn lost(&self, version: u64) -> Error {
        Error::Conflict(format!(
            "{}: somebody else published version {version} first: read the manifest again and decide anew",
            self.path(version)
        ))
    }

    fn path(&self, version: u64) -> String {
        format!("{}/{version:020}.json", self.dir)
    }

    fn hint_path(&self) -> String {
        format!("{}/{HINT}", self.dir)
    }
}

/// Refuses a format above `supported`.
pub(crate) fn check_format(path: &str, found: u64, supported: u64) -> Result<()> {
    if (1..=supported).contains(&found) {
        return Ok(());
    }
    let writer = if found > supported { "a newer version of Twofold" } else { "something else" };
    Err(Error::corrupt(
        path,
        format!(
            "written by {writer} (format {found}, this one reads up to {supported}): upgrade, or use other data"
        ),
    ))
}

fn version_of(file: &str) -> Option<u64> {
    let digits = file.strip_prefix('/')?.strip_suffix(".json")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u64,
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    digest: Digest,
    #[serde(borrow)]
    body: &'a RawValue,
}

fn encode<T: Serialize>(kind: &str, body: &T) -> Result<Bytes> {
    let defect = |e: serde_json::Error| Error::Internal(format!("a {kind} cannot be written: {e}"));
    let body = serde_json::value::to_raw_value(body).map_err(defect)?;
    let digest = Digest::of(body.get().as_bytes());
    let envelope = Envelope { format: FORMAT, kind: kind.into(), digest, body: &body };
    Ok(serde_json::to_vec(&envelope).map_err(defect)?.into())
}

fn decode<T: DeserializeOwned>(path: &str, kind: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |e: serde_json::Error| Error::corrupt(path, format!("not a {kind}: {e}"));
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    check_format(path, format, FORMAT)?;
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(damaged)?;
    if envelope.kind != kind {
        return Err(Error::corrupt(path, format!("expected a {kind}, found a {}", envelope.kind)));
    }
    let found = Digest::of(envelope.body.get().as_bytes());
    if found != envelope.digest {
        return Err(Error::corrupt(
            path,
            format!("damaged: expected digest {}, found {found}: restore the file", envelope.digest),
        ));
    }
    serde_json::from_str(envelope.body.get()).map_err(damaged)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
