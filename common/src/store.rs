//! The object store: the only way in which Twofold touches archive and views.
//!
//! Objects are named by `/`-separated paths below one location (a directory, a bucket with a prefix, memory).
//!
//! ```text
//! put_new(p, bytes)   succeeds for exactly one of any number of writers of p
//! ```
//!
//! What a put has answered is durable, on a local disk too. It does not promise that a listing is complete: nothing
//! may be concluded from the absence of a name in one. A put whose answer is an error may yet have happened.

use crate::durable;
use crate::error::{Error, Kind, Result};
use crate::off_thread::off_thread;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::{Path, PathPart};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use url::Url;

/// The URL schemes that this build can open; the features of `object_store` in `Cargo.toml` decide.
const SCHEMES: &str = "file, memory";

/// Where damaged objects are kept.
pub(crate) const QUARANTINE: &str = "quarantine";

/// A place for objects. Cheap to clone; clones share what they hold.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    /// For stores on a local disk, which are written durably: see [`durable`].
    local: Option<Arc<LocalFileSystem>>,
    location: Arc<str>,
}

/// The name of an object that may be there.
#[derive(Debug, Clone)]
pub struct Name(Place);

#[derive(Debug, Clone)]
enum Place {
    File(std::path::PathBuf),
    Object(Arc<dyn ObjectStore>, Path),
}

impl Name {
    /// Whether the object is there now.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn exists(&self) -> Result<bool> {
        match &self.0 {
            // A look at a name is sooner done than handed to another thread.
            Place::File(file) => match std::fs::metadata(file) {
                Ok(found) => Ok(found.is_file()),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
                Err(e) => Err(Error::io(file, e)),
            },
            Place::Object(store, path) => match store.head(path).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(e) => Err(e.into()),
            },
        }
    }
}

/// What is known of a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its path in the store.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: DateTime<Utc>,
}

impl Store {
    /// The store at `location`: a path (relative to `base_dir`, created if it is missing) or a URL.
    ///
    /// Each `memory://` is a new, empty store. Credentials of remote stores come from the environment, in the
    /// variables that `object_store` names.
    ///
    /// # Errors
    /// `Invalid` for a URL that this build cannot open, or a directory that may not be created.
    pub fn open(location: &str, base_dir: &std::path::Path) -> Result<Store> {
        if !location.contains("://") {
            return Self::open_directory(&base_dir.join(location));
        }
        let bad = |e: &dyn std::fmt::Display| Error::Invalid(format!("store {location}: {e}"));
        let url = Url::parse(location).map_err(|e| bad(&e))?;
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| bad(&"not an absolute path: write file:///…"))?;
            return Self::open_directory(&path);
        }
        let options =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let (inner, prefix) = object_store::parse_url_opts(&url, options)
            .map_err(|e| bad(&format!("this build opens directories and the schemes {SCHEMES} ({e})")))?;
        Ok(Self { inner: Arc::from(inner), prefix, local: None, location: location.into() })
    }

    /// A new, empty store in memory.
    pub fn memory() -> Store {
        Self::over(Arc::new(InMemory::new()), "memory")
    }

    /// A store over `inner`, as messages call it `location`: for decorators that inject faults or limits.
    pub fn over(inner: Arc<dyn ObjectStore>, location: &str) -> Store {
        Self { inner, prefix: Path::default(), local: None, location: location.into() }
    }

    fn open_directory(directory: &std::path::Path) -> Result<Store> {
        durable::create_directories(directory).map_err(|e| denied(directory, e))?;
        let local = LocalFileSystem::new_with_prefix(directory)?;
        let mut store = Self::over(Arc::new(local.clone()), &directory.display().to_string());
        store.local = Some(Arc::new(local));
        Ok(store)
    }

    /// Where this is, as messages call it.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        let located = self.locate(path)?;
        let found = self.inner.get(&located).await.map_err(|e| self.lost(path, e))?;
        found.bytes().await.map_err(|e| self.lost(path, e))
    }

    /// These ranges of an object's bytes.
    ///
    /// # Errors
    /// `NotFound` if there is no object.
    pub(crate) async fn get_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let located = self.locate(path)?;
        self.inner.get_ranges(&located, ranges).await.map_err(|e| self.lost(path, e))
    }

    /// What is known of an object; `None` if there is none.
    pub async fn head(&self, path: &str) -> Result<Option<Object>> {
        match self.inner.head(&self.locate(path)?).await {
            Ok(meta) => Ok(self.object(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether an object exists.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        self.name(path)?.exists().await
    }

    /// The name of an object, to look often whether there is one.
    ///
    /// # Errors
    /// `Invalid` if no object can be called so.
    pub fn name(&self, path: &str) -> Result<Name> {
        let located = self.locate(path)?;
        Ok(match self.local_path(&located)? {
            Some(file) => Name(Place::File(file)),
            None => Name(Place::Object(Arc::clone(&self.inner), located)),
        })
    }

    /// Writes an object, over what may be there.
    ///
    /// # Errors
    /// `Invalid` where writing is not permitted; `Unavailable` if it may succeed later.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let located = self.locate(path)?;
        match self.local_path(&located)? {
            Some(file) => write_local(file, move |file| durable::replace(file, &bytes)).await,
            None => Ok(self.inner.put(&located, PutPayload::from(bytes)).await.map(drop)?),
        }
    }

    /// Writes an object if there is none: of any number of writers, one succeeds.
    ///
    /// # Errors
    /// `Conflict` if there is one already; otherwise as [`put`](Self::put).
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        let located = self.locate(path)?;
        let created = match self.local_path(&located)? {
            Some(file) => write_local(file, move |file| durable::create(file, &bytes)).await?,
            None => match self.inner.put_opts(&located, bytes.into(), PutMode::Create.into()).await {
                Ok(_) => true,
                Err(e) => match Error::from(e) {
                    e if e.kind() == Kind::Conflict => false,
                    e => return Err(e),
                },
            },
        };
        match created {
            true => Ok(()),
            false => Err(Error::Conflict(format!("{path} in {} exists already", self.location))),
        }
    }

    /// Removes an object; it need not exist.
    pub async fn delete(&self, path: &str) -> Result<()> {
        match self.inner.delete(&self.locate(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Moves an object to `quarantine/`, where nothing looks for it; it need not exist. Of what is there already under
    /// this name, the new one takes the place.
    pub(crate) async fn set_aside(&self, path: &str) -> Result<()> {
        let bytes = match self.get(path).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            bytes => bytes?,
        };
        self.put(&format!("{QUARANTINE}/{path}"), bytes).await?;
        self.delete(path).await
    }

    /// The objects below `prefix` (whole path parts), sorted by path. May lag behind what was written.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let located = self.locate(prefix)?;
        let mut found: Vec<Object> = self
            .inner
            .list(Some(&located))
            .try_filter_map(async |m| Ok(self.object(m)))
            .try_collect()
            .await?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn locate(&self, path: &str) -> Result<Path> {
        let path = Path::parse(path)
            .map_err(|e| Error::Invalid(format!("{path:?} does not name an object: {e}")))?;
        Ok(self.prefix.parts().chain(path.parts()).collect())
    }

    fn object(&self, meta: ObjectMeta) -> Option<Object> {
        let parts: Vec<_> = meta.location.prefix_match(&self.prefix)?.collect();
        let path = parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
        Some(Object { path, bytes: meta.size, modified: meta.last_modified })
    }

    fn local_path(&self, located: &Path) -> Result<Option<std::path::PathBuf>> {
        Ok(self.local.as_ref().map(|local| local.path_to_filesystem(located)).transpose()?)
    }

    fn lost(&self, path: &str, e: object_store::Error) -> Error {
        match e {
            object_store::Error::NotFound { .. } => {
                Error::NotFound(format!("{path} does not exist in {}", self.location))
            }
            e => e.into(),
        }
    }
}

/// `name` as one part of a path, whatever characters it has.
pub(crate) fn path_part(name: &str) -> String {
    match name {
        // An empty part would shift those behind it.
        "" => "%".to_string(),
        name => PathPart::from(name).as_ref().to_string(),
    }
}

async fn write_local<T: Send + 'static>(
    file: std::path::PathBuf,
    write: impl FnOnce(&std::path::Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    off_thread(move || write(&file).map_err(|e| denied(&file, e))).await
}

/// What the operating system said, and what to do where it says that this will never work.
fn denied(path: &std::path::Path, e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::Invalid(format!(
            "{}: writing is not permitted ({e}): allow it to the user that runs Twofold, or choose another directory",
            path.display()
        )),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Error::Invalid(format!(
            "{}: a directory is needed, and a file is in its place: move it, or choose another directory",
            path.display()
        )),
        _ => Error::io(path, e),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The stores that every conformance test runs on; the directory lives as long as the second value.
    pub(crate) fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
        let dir = tempfile::tempdir().unwrap();
        let local = Store::open("data/store", dir.path()).unwrap();
        let url = Url::from_directory_path(dir.path().join("by url")).unwrap();
        let by_url = Store::open(url.as_str(), dir.path()).unwrap();
        let prefixed = Store::open("memory:///some/where", dir.path()).unwrap();
        vec![(Store::memory(), None), (prefixed, None), (by_url, None), (local, Some(dir))]
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn conformance() {
        for (store, _dir) in stores() {
            assert_eq!(store.get("a/b").await.unwrap_err().kind(), Kind::NotFound);
            assert!(store.list("a").await.unwrap().is_empty());
            store.put("a/b", bytes("one")).await.unwrap();
            store.put("a/b", bytes("two")).await.unwrap();
            assert_eq!(store.put_new("a/b", bytes("no")).await.unwrap_err().kind(), Kind::Conflict);
            store.put_new("a/c/d", bytes("three")).await.unwrap();
            store.put("ab", bytes("not below a")).await.unwrap();
            assert_eq!(store.get("a/b").await.unwrap(), "two");
            assert_eq!(store.head("a/b").await.unwrap().unwrap().bytes, 3);

            let listed: Vec<_> = store.list("a").await.unwrap().into_iter().map(|o| o.path).collect();
            assert_eq!(listed, ["a/b", "a/c/d"]);
            store.delete("a/b").await.unwrap();
            store.delete("a/b").await.unwrap();
            assert!(!store.exists("a/b").await.unwrap());
            assert_eq!(store.get("../x").await.unwrap_err().kind(), Kind::Invalid);
        }
    }

    #[tokio::test]
    async fn of_many_writers_one_creates() {
        for (store, _dir) in stores() {
            let puts = (0..8).map(|n| {
                let store = store.clone();
                tokio::spawn(async move { store.put_new("x/y", Bytes::from(vec![n])).await })
            });
            let answers = futures::future::join_all(puts.collect::<Vec<_>>()).await;
            assert_eq!(answers.into_iter().filter(|a| a.as_ref().unwrap().is_ok()).count(), 1);
        }
    }

    #[tokio::test]
    async fn any_name_is_one_part() {
        for (store, _dir) in stores() {
            for name in ["", ".", "..", "a/b", "ä €", "50%", "x#1"] {
                let path = format!("p/{}/q", path_part(name));
                store.put(&path, bytes("")).await.unwrap();
                assert!(store.list("p").await.unwrap().iter().any(|o| o.path == path), "{name}");
            }
            assert_eq!(store.list("p").await.unwrap().len(), 7);
        }
    }

    #[test]
    fn a_scheme_that_is_not_built_in_names_those_that_are() {
        for location in ["s3://bucket/x", "ftp://host/x"] {
            let e = Store::open(location, std::path::Path::new(".")).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid);
            assert!(e.to_string().contains(location) && e.to_string().contains(SCHEMES), "{e}");
        }
    }

    #[test]
    fn where_writing_cannot_work_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let e = Store::open("file/store", dir.path()).unwrap_err();
        assert!(e.kind() == Kind::Invalid && e.to_string().contains("file is in its place"), "{e}");
        let e = denied(std::path::Path::new("/data"), ErrorKind::PermissionDenied.into());
        assert!(
            e.kind() == Kind::Invalid && e.to_string().contains("/data: writing is not permitted"),
            "{e}"
        );
    }
}
