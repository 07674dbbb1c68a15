//! An object store that fails, over one in memory.
//!
//! It keeps what the API promises: a put is all or nothing, and of many conditional puts one succeeds. But an answer may
//! be lost, a listing may be old, and a new object (no conditional put, and over nothing) may be left half-written, as a
//! file system without atomic renames leaves it. Objects were modified at the time of the simulation.

use super::gate::{Fault, Gate};
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use Fault::{CutBody, LostAnswer, Slow, StaleListing, Timeout, Torn};

/// How long a listing may lag behind, in seconds.
const LAG: u64 = 30;

/// The faulty store.
#[derive(Debug, Clone)]
pub struct FaultyStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: InMemory,
    gate: Arc<Gate>,
    times: Mutex<Times>,
}

/// What the store in memory does not know in the time of the simulation.
#[derive(Debug, Default)]
struct Times {
    modified: BTreeMap<Path, i64>,
    deleted: BTreeMap<Path, (i64, ObjectMeta)>,
}

impl FaultyStore {
    pub fn new(gate: Arc<Gate>) -> Self {
        Self(Arc::new(Shared { inner: InMemory::new(), gate, times: Mutex::default() }))
    }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let io = if options.mode == PutMode::Create { "put new" } else { "put" };
        let possible = [Fault::Error, Timeout, LostAnswer, Torn, Slow];
        let fault = self.0.gate.enter(io, path.as_ref(), &possible).await;
        let torn = fault == Some(Torn) && io == "put" && self.0.inner.head(path).await.is_err();
        let happens = match fault {
            Some(Fault::Error) => false,
            Some(Torn) => torn,
            Some(Timeout) => self.0.gate.coin(),
            _ => true,
        };
        if !happens {
            // What cannot be torn fails.
            return Err(self.0.failure(io, fault.filter(|fault| *fault != Torn).unwrap_or(Fault::Error)));
        }
        let payload = if torn { half(payload) } else { payload };
        let done = self.0.inner.put_opts(path, payload, options).await;
        if done.is_ok() {
            self.0.times.lock().unwrap().written(path, self.0.gate.now());
        }
        self.0.gate.leave(io, path.as_ref()).await;
        match fault {
            Some(Torn) if self.0.gate.coin() => {
                self.0.gate.count(io, Torn);
                done
            }
            Some(fault) => Err(self.0.failure(io, fault)),
            None => done,
        }
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let io = if head { "head" } else { "get" };
        let possible: &[Fault] =
            if head { &[Fault::Error, Timeout, Slow] } else { &[Fault::Error, Timeout, CutBody, Slow] };
        let fault = self.0.gate.enter(io, path.as_ref(), possible).await;
        if let Some(fault @ (Fault::Error | Timeout)) = fault {
            return Err(self.0.failure(io, fault));
        }
        let mut found = self.0.inner.get_opts(path, options).await?;
        found.meta = self.0.times.lock().unwrap().told(found.meta);
        if fault == Some(CutBody) {
            let meta = found.meta.clone();
            let (range, attributes) = (found.range.clone(), found.attributes.clone());
            let bytes = found.bytes().await?;
            let pieces = vec![Ok(bytes.slice(..bytes.len() / 2)), Err(self.0.failure(io, CutBody))];
            let payload = GetResultPayload::Stream(stream::iter(pieces).boxed());
            return Ok(GetResult { payload, meta, range, attributes });
        }
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let shared = Arc::clone(&self.0);
        let delete = move |path: Path| {
            let shared = Arc::clone(&shared);
            async move { shared.delete(path).await }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (shared, prefix) = (Arc::clone(&self.0), prefix.cloned());
        let listed = async move { shared.listed(prefix).await.map(|found| stream::iter(found).map(Ok)) };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(path, options).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, options).await
    }
}

impl Shared {
    fn failure(&self, io: &'static str, fault: Fault) -> Error {
        self.gate.count(io, fault);
        Error::Generic { store: "faulty", source: format!("{io}: {fault:?}").into() }
    }

    async fn delete(&self, path: Path) -> Result<Path> {
        let fault = self.gate.enter("delete", path.as_ref(), &[Fault::Error, LostAnswer, Slow]).await;
        if fault == Some(Fault::Error) {
            return Err(self.failure("delete", Fault::Error));
        }
        if let Ok(meta) = self.inner.head(&path).await {
            self.inner.delete(&path).await?;
            self.times.lock().unwrap().removed(meta, self.gate.now());
        }
        self.gate.leave("delete", path.as_ref()).await;
        match fault {
            Some(fault) => Err(self.failure("delete", fault)),
            None => Ok(path),
        }
    }

    async fn listed(&self, prefix: Option<Path>) -> Result<Vec<ObjectMeta>> {
        let below = prefix.clone().unwrap_or_default();
        let fault = self.gate.enter("list", below.as_ref(), &[Fault::Error, StaleListing, Slow]).await;
        if fault == Some(Fault::Error) {
            return Err(self.failure("list", Fault::Error));
        }
        let found: Vec<ObjectMeta> = self.inner.list(prefix.as_ref()).try_collect().await?;
        let times = self.times.lock().unwrap();
        let mut found: Vec<ObjectMeta> = found.into_iter().map(|meta| times.told(meta)).collect();
        if fault == Some(StaleListing) {
            self.gate.count("list", StaleListing);
            let lag = 1_000_000_000 * self.gate.below(LAG) as i64;
            let seen = self.gate.now() - lag;
            found.retain(|meta| times.modified.get(&meta.location).is_none_or(|at| *at <= seen));
            let ghosts = times.deleted.values().filter(|(at, meta)| {
                *at > seen && meta.location.prefix_match(&below).is_some() && meta.location != below
            });
            found.extend(ghosts.map(|(_, meta)| times.told(meta.clone())));
        }
        Ok(found)
    }
}

impl Times {
    fn written(&mut self, path: &Path, now: i64) {
        self.modified.insert(path.clone(), now);
        self.deleted.remove(path);
    }

    fn removed(&mut self, meta: ObjectMeta, now: i64) {
        self.deleted.insert(meta.location.clone(), (now, meta));
    }

    fn told(&self, meta: ObjectMeta) -> ObjectMeta {
        let modified = self.modified.get(&meta.location).copied().unwrap_or_default();
        ObjectMeta { last_modified: DateTime::from_timestamp_nanos(modified), ..meta }
    }
}

fn half(payload: PutPayload) -> PutPayload {
    let bytes: Bytes = payload.into();
    bytes.slice(..bytes.len() / 2).into()
}
