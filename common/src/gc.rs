//! Garbage: stored files that nothing names any more.
//!
//! ```text
//! garbage = listed and older than the cutoff, and one of
//!     a segment that its stream's newest manifest does not name
//!     a state file that no kept manifest of its view's version names, or what a batch run that was killed had finished
//!     a manifest below the newest 16
//!     everything of a view's version that is not live, once all of it is older than the cutoff
//!     findings of audits that were written again as one file; never the states of differences
//!     a file of a project that the newest manifest of projects does not name
//!     what a writer left half-written
//!     what a collector left half-collected
//! ```
//!
//! The cutoff must lie further back than any batch run takes: a writer may be between writing a file and naming it.
//! Files are listed before manifests are read, so that what is named in between is seen as named. Not touched: files
//! outside this layout, and files of a stream that has no manifest at all, since that looks like a lost manifest, and
//! its events cannot be made again. A manifest that cannot be read stops everything.
//!
//! However long a collector sleeps between looking and deleting, an archiver may name the same file in the meantime.
//! So a segment is first copied aside, then deleted, and put back if a manifest names it by then. The copy goes last:
//! a collector that dies in between leaves it, and the next one decides; meanwhile the segment is read from it.

use crate::archive::{ARCHIVE, ASIDE_SUFFIX, STREAM_MANIFEST, set_aside};
use crate::audits;
use crate::batch_view::{BATCH_MANIFEST, BatchManifest, VIEWS, view_dir};
use crate::durable::STAGED_SUFFIX;
use crate::error::Result;
use crate::manifest::Manifests;
use crate::projects::{self, PROJECTS};
use crate::store::{Object, Store};
use crate::stream_manifest::StreamManifest;
use crate::unit::UNIT_SUFFIX;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// How many versions of each manifest are kept.
const KEPT_MANIFESTS: usize = 16;
/// `views/<view>/<fingerprint>`
const VIEW_DIR_PARTS: usize = 3;

/// A stored file that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The file, relative to the store.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: DateTime<Utc>,
    /// Why it may go.
    pub why: &'static str,
}

/// The garbage collector of a project's store.
#[derive(Debug, Clone)]
pub struct Gc {
    store: Store,
}

impl Gc {
    /// The collector for `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The garbage older than `cutoff`, where `live` has the name and fingerprint of each version of a view that
    /// must stay. In the order in which it must be deleted.
    ///
    /// # Errors
    /// `Corrupt` if a manifest cannot be read: what it names is then not known.
    pub async fn orphans(
        &self,
        live: &BTreeSet<(String, String)>,
        cutoff: DateTime<Utc>,
    ) -> Result<Vec<Orphan>> {
        let live: BTreeSet<String> =
            live.iter().map(|(view, fingerprint)| view_dir(view, fingerprint)).collect();
        let mut found = Vec::new();
        for (dir, objects) in directories(self.store.list(ARCHIVE).await?) {
            found.extend(self.in_stream(&dir, objects, cutoff).await?);
        }
        for (dir, objects) in directories(self.store.list(VIEWS).await?) {
            if dir.split('/').count() != VIEW_DIR_PARTS {
                continue;
            }
            if live.contains(&dir) {
                found.extend(self.in_live_view(&dir, objects, cutoff).await?);
            } else if objects.iter().all(|object| object.modified < cutoff) {
                found.extend(objects.into_iter().map(orphan("of a view that is no longer declared so")));
            }
        }
        found.extend(self.in_projects(cutoff).await?);
        let of_audits = audits::orphans(&self.store, KEPT_MANIFESTS, cutoff).await?;
        found.extend(of_audits.into_iter().map(|(object, why)| orphan(why)(object)));
        // Manifests before what they name, oldest first, and the hint after them: so their names sort.
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Deletes `orphans` in their order, except those that were written again, or named, since they were found: the
    /// paths of what was deleted.
    pub async fn delete(&self, orphans: &[Orphan]) -> Result<Vec<String>> {
        let mut deleted = Vec::new();
        for orphan in orphans {
            if self.store.head(&orphan.path).await?.is_none_or(|object| object.modified != orphan.modified) {
                continue;
            }
            let gone = match orphan.path.strip_suffix(ASIDE_SUFFIX) {
                Some(of) => self.finish(of, &orphan.path).await?,
                None if is_segment(&orphan.path) => self.collect(&orphan.path).await?,
                None => {
                    self.store.delete(&orphan.path).await?;
                    true
                }
            };
            if gone {
                deleted.push(orphan.path.clone());
            }
        }
        Ok(deleted)
    }

    /// Deletes a segment that no manifest named when it was found: whether it is gone.
    async fn collect(&self, path: &str) -> Result<bool> {
        let aside = set_aside(path);
        self.store.put(&aside, self.store.get(path).await?).await?;
        self.store.delete(path).await?;
        self.finish(path, &aside).await
    }

    /// Puts a segment back from its copy if a manifest names it, and deletes the copy: whether the segment is gone.
    async fn finish(&self, path: &str, aside: &str) -> Result<bool> {
        let named = self.names(path).await?;
        if named && !self.store.exists(path).await? {
            self.store.put(path, self.store.get(aside).await?).await?;
        }
        self.store.delete(aside).await?;
        Ok(!named)
    }

    /// Whether the newest manifest of its stream names a segment.
    async fn names(&self, segment: &str) -> Result<bool> {
        let Some(dir) = segment.rsplitn(3, '/').nth(2) else { return Ok(false) };
        let newest = stream_manifests(&self.store, dir).latest().await?;
        let mut named = newest.into_iter().flat_map(|m| m.body.segments.into_values().flatten());
        Ok(named.any(|named| named.path == segment))
    }

    async fn in_stream(&self, dir: &str, objects: Vec<Object>, cutoff: DateTime<Utc>) -> Result<Vec<Orphan>> {
        let manifests = stream_manifests(&self.store, dir);
        let mut found: Vec<Orphan> = staged(&objects, cutoff);
        let aside =
            objects.iter().filter(|object| object.path.ends_with(ASIDE_SUFFIX) && object.modified < cutoff);
        found.extend(aside.cloned().map(orphan("half-collected")));
        // Each manifest names all that the ones before it named, so the newest is enough.
        let Some(newest) = manifests.latest().await? else { return Ok(found) };
        let segments = newest.body.segments.into_values().flatten();
        let named: BTreeSet<String> = segments.map(|segment| segment.path).collect();
        let old = manifests.prunable(KEPT_MANIFESTS, cutoff).await?;
        found.extend(old.into_iter().map(orphan("an old manifest")));
        found.extend(unnamed(dir, objects, &named, cutoff, "a segment that no manifest names"));
        Ok(found)
    }

    async fn in_projects(&self, cutoff: DateTime<Utc>) -> Result<Vec<Orphan>> {
        let objects = self.store.list(PROJECTS).await?;
        let manifests = projects::manifests(self.store.clone());
        let mut found: Vec<Orphan> = staged(&objects, cutoff);
        let old = manifests.prunable(KEPT_MANIFESTS, cutoff).await?;
        // Whose files are needed at the next start. Those of older ones are in their owner's version control.
        let Some(newest) = manifests.latest().await? else { return Ok(found) };
        let named: BTreeSet<String> = newest.body.files().collect();
        found.extend(old.into_iter().map(orphan("an old manifest")));
        let files = format!("{PROJECTS}/files/");
        let garbage = objects.into_iter().filter(|object| {
            object.path.starts_with(&files)
                && !object.path.ends_with(STAGED_SUFFIX)
                && !named.contains(&object.path)
                && object.modified < cutoff
        });
        found.extend(garbage.map(orphan("of a project that is no longer so")));
        Ok(found)
    }

    async fn in_live_view(
        &self,
        dir: &str,
        objects: Vec<Object>,
        cutoff: DateTime<Utc>,
    ) -> Result<Vec<Orphan>> {
        let manifests =
            Manifests::<BatchManifest>::new(self.store.clone(), manifest_dir(dir), BATCH_MANIFEST);
        let mut found: Vec<Orphan> = staged(&objects, cutoff);
        let old = manifests.prunable(KEPT_MANIFESTS, cutoff).await?;
        let gone: BTreeSet<&str> = old.iter().map(|object| object.path.as_str()).collect();
        let mut kept: Vec<BatchManifest> =
            manifests.latest().await?.map(|newest| newest.body).into_iter().collect();
        for (version, object) in manifests.versions().await? {
            if !gone.contains(object.path.as_str()) {
                kept.extend(manifests.read(version).await?);
            }
        }
        let files = kept.into_iter().flat_map(|manifest| manifest.cuts).flatten();
        let named: BTreeSet<String> = files.map(|file| file.path).collect();
        found.extend(old.into_iter().map(orphan("an old manifest")));
        found.extend(unnamed(dir, objects, &named, cutoff, "a state that no manifest names"));
        Ok(found)
    }
}

/// The objects by the directory of the stream or view's version that they belong to; without those of none.
fn directories(objects: Vec<Object>) -> BTreeMap<String, Vec<Object>> {
    let mut found: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for object in objects {
        // <directory>/<manifest, state or partition>/<file>
        let directory = object.path.rsplitn(3, '/').nth(2).filter(|dir| dir.contains('/'));
        if let Some(directory) = directory {
            found.entry(directory.to_string()).or_default().push(object);
        }
    }
    found
}

fn stream_manifests(store: &Store, dir: &str) -> Manifests<StreamManifest> {
    Manifests::new(store.clone(), manifest_dir(dir), STREAM_MANIFEST)
}

fn is_segment(path: &str) -> bool {
    path.starts_with(ARCHIVE) && path.ends_with(".parquet")
}

fn manifest_dir(dir: &str) -> String {
    format!("{dir}/manifest")
}

fn orphan(why: &'static str) -> impl Fn(Object) -> Orphan {
    move |Object { path, bytes, modified }| Orphan { path, bytes, modified, why }
}

fn staged(objects: &[Object], cutoff: DateTime<Utc>) -> Vec<Orphan> {
    let left =
        objects.iter().filter(|object| object.path.ends_with(STAGED_SUFFIX) && object.modified < cutoff);
    left.cloned().map(orphan("half-written")).collect()
}

/// The Parquet files and units in `dir` that are not `named`.
fn unnamed(
    dir: &str,
    objects: Vec<Object>,
    named: &BTreeSet<String>,
    cutoff: DateTime<Utc>,
    why: &'static str,
) -> Vec<Orphan> {
    let manifests = manifest_dir(dir) + "/";
    let garbage = objects.into_iter().filter(|object| {
        (object.path.ends_with(".parquet") || object.path.ends_with(UNIT_SUFFIX))
            && !object.path.starts_with(&manifests)
            && !named.contains(&object.path)
            && object.modified < cutoff
    });
    garbage.map(orphan(why)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;
    use crate::archive::tests::{flights, new_segment};
    use crate::batch_view::BatchViews;
    use crate::batch_view::tests::{manifest, state};
    use crate::error::Kind;
    use crate::offset::Partition;
    use crate::store::tests::stores;
    use bytes::Bytes;

    fn live(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        pairs.iter().map(|(v, f)| (v.to_string(), f.to_string())).collect()
    }

    const LATER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;
    const BEFORE: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;

    async fn paths(gc: &Gc, alive: &[(&str, &str)]) -> Vec<String> {
        assert!(gc.orphans(&live(alive), BEFORE).await.unwrap().is_empty(), "too young");
        gc.orphans(&live(alive), LATER).await.unwrap().into_iter().map(|o| o.path).collect()
    }

    #[tokio::test]
    async fn of_an_archive_only_what_no_manifest_names_goes() {
        for (store, _dir) in stores() {
            let (archive, gc) = (Archive::new(store.clone()), Gc::new(store.clone()));
            archive.declare(&flights().rejected()).await.unwrap();
            let mut version = archive.declare(&flights()).await.unwrap().version;
            for start in 0..20 {
                let new = new_segment(start, start + 1, &[&[start as i64]]);
                let segment = archive.write_segment("flights", new).await.unwrap();
                let segments = vec![(Partition(1), segment)];
                version = archive.append("flights", version, segments).await.unwrap().version;
            }
            let lost = archive.write_segment("flights", new_segment(20, 30, &[])).await.unwrap();
            let staged = "archive/flights/manifest/00000000000000000030.json.7-1.tmp";
            store.put(staged, Bytes::new()).await.unwrap();
            store.put("archive/notes.txt", Bytes::new()).await.unwrap();
            store.put("archive/without/0/manifest.parquet", Bytes::new()).await.unwrap();

            let found = paths(&gc, &[]).await;
            let mut expected: Vec<String> =
                (1..=5).map(|v| format!("archive/flights/manifest/{v:020}.json")).collect();
            expected.extend([staged.to_string(), lost.path]);
            expected.sort();
            assert_eq!(found, expected);

            let deleted = gc.delete(&gc.orphans(&live(&[]), LATER).await.unwrap()).await.unwrap();
            assert_eq!(deleted, expected);
            assert!(paths(&gc, &[]).await.is_empty());
            let newest = archive.manifest("flights").await.unwrap().unwrap();
            assert_eq!((newest.version, newest.body.segments[&Partition(1)].len()), (version, 20));
            for segment in &newest.body.segments[&Partition(1)] {
                assert!(store.exists(&segment.path).await.unwrap());
            }
        }
    }

    #[tokio::test]
    async fn of_views_the_kept_manifests_decide_and_what_is_not_live_goes_whole() {
        for (store, _dir) in stores() {
            let (views, gc) = (BatchViews::new(store.clone()), Gc::new(store.clone()));
            let key = |n: u64| state(&[&n.to_string()]);
            let mut files = Vec::new();
            for n in 0..20 {
                let file = views.write_state("v", "new", 0, 0, &key(n)).await.unwrap();
                files.push(file.path.clone());
                views.publish((n > 0).then_some(n), &manifest("v", "new", vec![vec![file]])).await.unwrap();
            }
            let lost = views.write_state("v", "new", 0, 0, &key(99)).await.unwrap().path;
            let old = views.write_state("v", "old", 0, 0, &key(0)).await.unwrap();
            views.publish(None, &manifest("v", "old", vec![vec![old.clone()]])).await.unwrap();

            let mut expected: Vec<String> =
                (1..=4).map(|v| format!("views/v/new/manifest/{v:020}.json")).collect();
            expected.extend(files.drain(..4).chain([lost]));
            expected.sort();
            assert_eq!(paths(&gc, &[("v", "new"), ("v", "old")]).await, expected);

            let with_old = paths(&gc, &[("v", "new")]).await;
            let dead = ["manifest/00000000000000000001.json", "manifest/_latest"]
                .map(|f| format!("views/v/old/{f}"));
            assert_eq!(with_old[expected.len()..], [dead[0].clone(), dead[1].clone(), old.path]);
            assert_eq!(with_old[..expected.len()], expected);
        }
    }

    #[tokio::test]
    async fn a_view_that_is_not_live_stays_while_any_of_it_is_young() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(".", dir.path()).unwrap();
        let views = BatchViews::new(store.clone());
        let file = views.write_state("v", "f", 0, 0, &state(&["a"])).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let published = views.publish(None, &manifest("v", "f", vec![vec![file.clone()]])).await.unwrap();
        let path = format!("views/v/f/manifest/{:020}.json", published.version);
        let cutoff = store.head(&path).await.unwrap().unwrap().modified;
        assert!(store.head(&file.path).await.unwrap().unwrap().modified < cutoff);
        assert!(Gc::new(store).orphans(&live(&[]), cutoff).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn of_projects_the_files_of_the_newest_stay() {
        use crate::{Catalog, Project, Projects};
        for (store, _dir) in stores() {
            let (projects, gc) = (Projects::new(store.clone()), Gc::new(store.clone()));
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
            let texts = ["CREATE STREAM a (k TEXT)", "CREATE STREAM b (k TEXT)"];
            for text in texts {
                std::fs::write(dir.path().join("a.sql"), text).unwrap();
                let project = Project::load(dir.path()).unwrap();
                let catalog = Catalog::new(&project).await.unwrap();
                assert!(projects.settle(&project.definition, &catalog, 1).await.unwrap());
            }
            let old = format!("projects/files/{}", crate::Digest::of(texts[0].as_bytes()));
            assert_eq!(paths(&gc, &[]).await, [old]);
        }
    }

    #[tokio::test]
    async fn what_was_written_again_meanwhile_stays() {
        for (store, _dir) in stores() {
            let (views, gc) = (BatchViews::new(store.clone()), Gc::new(store.clone()));
            views.write_state("v", "f", 0, 0, &state(&["a"])).await.unwrap();
            let found = gc.orphans(&live(&[("v", "f")]), LATER).await.unwrap();
            assert_eq!(found.len(), 1);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let again = views.write_state("v", "f", 0, 0, &state(&["a"])).await.unwrap();
            assert_eq!(gc.delete(&found).await.unwrap(), Vec::<String>::new());
            assert!(store.exists(&again.path).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_segment_that_is_named_while_it_is_being_deleted_is_put_back() {
        for (store, _dir) in stores() {
            let (archive, gc) = (Archive::new(store.clone()), Gc::new(store.clone()));
            let version = archive.declare(&flights()).await.unwrap().version;
            let segment = archive.write_segment("flights", new_segment(0, 3, &[&[1]])).await.unwrap();
            let found = gc.orphans(&live(&[]), LATER).await.unwrap();
            assert_eq!(found.len(), 1);
            // The collector sleeps, and the archiver names the file that it wrote long ago.
            archive.append("flights", version, vec![(Partition(1), segment.clone())]).await.unwrap();
            assert_eq!(gc.delete(&found).await.unwrap(), Vec::<String>::new());
            let schema = flights().event_schema();
            assert_eq!(archive.read_segment(&segment, &schema, None).await.unwrap()[0].num_rows(), 1);
            assert!(paths(&gc, &[]).await.is_empty(), "no copy is left");

            // A collector that died between deleting the file and looking again.
            let aside = set_aside(&segment.path);
            store.put(&aside, store.get(&segment.path).await.unwrap()).await.unwrap();
            store.delete(&segment.path).await.unwrap();
            let read = archive.read_segment(&segment, &schema, None).await.unwrap();
            assert_eq!(read[0].num_rows(), 1, "it is read from its copy meanwhile");
            let found = gc.orphans(&live(&[]), LATER).await.unwrap();
            assert_eq!(found.iter().map(|o| o.path.as_str()).collect::<Vec<_>>(), [&aside]);
            assert!(gc.delete(&found).await.unwrap().is_empty());
            assert_eq!(archive.read_segment(&segment, &schema, None).await.unwrap()[0].num_rows(), 1);
            assert!(!store.exists(&aside).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_manifest_that_cannot_be_read_stops_the_collector() {
        for (store, _dir) in stores() {
            let views = BatchViews::new(store.clone());
            views.write_state("v", "f", 0, 0, &state(&["a"])).await.unwrap();
            views.publish(None, &manifest("v", "f", vec![])).await.unwrap();
            store.put("views/v/f/manifest/00000000000000000001.json", Bytes::from("{")).await.unwrap();
            let e = Gc::new(store).orphans(&live(&[("v", "f")]), LATER).await.unwrap_err();
            assert_eq!(e.kind(), Kind::Corrupt);
        }
    }
}
