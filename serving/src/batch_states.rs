//! What serving holds of batch views: the newest manifests as they were read, and the states that they name.
//!
//! A manifest that is still the newest is not read again; whether it is, the store is asked each time, which takes two looks
//! at names. When there is a newer one with large states, those are read beside the queries, and queries are answered
//! from the batch view before it meanwhile: an answer is the same at any horizon, so nobody waits for the reading.

use crate::state_cache::StateCache;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::runtime::Handle;
use twofold_common::{BatchManifest, BatchViews, Digest, Error, Newest, Result, StateFile, Versioned, View};

/// Of how many versions of views manifests are kept.
const VIEWS: usize = 256;
/// How many bytes of decoded states are kept.
const CACHE_BYTES: usize = 512 << 20;
/// Files of more bytes are read and decoded apart from the threads that answer.
const LARGE: u64 = 1 << 20;
/// States with more bytes stay in the batches in which they are read: one array has no room for all text.
const MOST_AT_ONCE: usize = 1 << 30;

type Manifest = Arc<Versioned<BatchManifest>>;
type Key = (String, Digest);

/// Batch views, and what was read of them.
#[derive(Debug)]
pub(crate) struct BatchStates {
    views: BatchViews,
    cache: StateCache,
    known: Mutex<BTreeMap<Key, Known>>,
    /// Large files that are being read.
    reading: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// A manifest that was the newest when it was found.
#[derive(Debug, Clone)]
struct Known {
    manifest: Manifest,
    newest: Newest,
    /// Whether the states of a newer one are being read.
    is_replaced: bool,
}

/// Which batch view is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The newest whose states are at hand.
    AtHand,
    /// The newest there is.
    Newest,
}

impl BatchStates {
    pub(crate) fn new(views: BatchViews) -> Self {
        let cache = StateCache::new(CACHE_BYTES);
        Self { views, cache, known: Mutex::default(), reading: Mutex::default() }
    }

    /// The batch view of a view that queries are to be answered from; `None` before the first.
    ///
    /// # Errors
    /// Those of [`BatchViews::latest`].
    pub(crate) async fn latest(self: &Arc<Self>, view: &View, pick: Pick) -> Result<Option<Manifest>> {
        let fingerprint = view.fingerprint();
        let key = (view.name().to_string(), fingerprint);
        let known = self.known().get(&key).cloned();
        if let Some(known) = &known
            && (known.is_replaced && pick == Pick::AtHand || known.newest.is_still().await?)
        {
            return Ok(Some(Arc::clone(&known.manifest)));
        }
        let name = fingerprint.to_string();
        let Some(found) = self.views.latest(view.name(), &name).await?.map(Arc::new) else {
            return Ok(None);
        };
        let newest = self.views.newest(view.name(), &name, found.version)?;
        let found = Known { manifest: found, newest, is_replaced: false };
        if let Some(known) = known
            && pick == Pick::AtHand
            && self.is_far(&found.manifest.body)
        {
            self.replace(key, &known, found);
            return Ok(Some(known.manifest));
        }
        let manifest = Arc::clone(&found.manifest);
        self.keep(key, found);
        Ok(Some(manifest))
    }

    /// Puts a newer manifest in the place of one, when its states are read.
    fn replace(self: &Arc<Self>, key: Key, known: &Known, newer: Known) {
        {
            let mut all = self.known();
            // Others came here, too.
            match all.get_mut(&key) {
                Some(now) if now.manifest.version == known.manifest.version && !now.is_replaced => {
                    now.is_replaced = true;
                }
                _ => return,
            }
        }
        let states = Arc::clone(self);
        tokio::spawn(async move {
            for file in newer.manifest.body.cuts.iter().flatten() {
                // Whoever needs the file is told what is wrong with it.
                if let Err(error) = states.rows(file).await {
                    tracing::warn!(file = %file.path, %error, "a state of a new batch view was not read ahead");
                }
            }
            states.keep(key, newer);
        });
    }

    fn keep(&self, key: Key, found: Known) {
        let mut all = self.known();
        if all.len() >= VIEWS && !all.contains_key(&key) {
            all.clear();
        }
        // One that was found later may have been kept before.
        if all
            .get(&key)
            .is_none_or(|kept| kept.is_replaced || kept.manifest.version <= found.manifest.version)
        {
            all.insert(key, found);
        }
    }

    /// Whether states that are not here take long to read.
    fn is_far(&self, manifest: &BatchManifest) -> bool {
        let missing = manifest.cuts.iter().flatten().filter(|file| !self.cache.has(&file.digest));
        missing.map(|file| file.bytes).sum::<u64>() > LARGE
    }

    /// The rows of a state file: one batch, if that can hold them.
    ///
    /// # Errors
    /// Those of [`BatchViews::read_state`].
    pub(crate) async fn rows(&self, file: &StateFile) -> Result<Vec<RecordBatch>> {
        if let Some(batches) = self.cache.get(&file.digest) {
            return Ok(batches);
        }
        if file.bytes > LARGE {
            return self.large(file).await;
        }
        let batches = whole(self.views.read_state(file).await?);
        self.cache.put(file.digest, batches.clone());
        Ok(batches)
    }

    /// The same of a large file, which is read once for all who ask meanwhile, by a thread of its own.
    async fn large(&self, file: &StateFile) -> Result<Vec<RecordBatch>> {
        let turn = self.turn(file.digest);
        let _turn = turn.lock().await;
        if let Some(batches) = self.cache.get(&file.digest) {
            return Ok(batches);
        }
        let (views, of, runtime) = (self.views.clone(), file.clone(), Handle::current());
        let read = tokio::task::spawn_blocking(move || runtime.block_on(views.read_state(&of)).map(whole));
        let batches =
            read.await.map_err(|e| Error::Internal(format!("the thread that reads states: {e}")))??;
        self.cache.put(file.digest, batches.clone());
        Ok(batches)
    }

    fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = reading.get(&digest).and_then(Weak::upgrade) {
            return turn;
        }
        reading.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        reading.insert(digest, Arc::downgrade(&turn));
        turn
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The batches as one, so that each key is looked for once; as they are, if one cannot hold them.
fn whole(batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
    let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let Some(first) = batches.first().filter(|_| batches.len() > 1 && bytes < MOST_AT_ONCE) else {
        return batches;
    };
    match concat_batches(first.schema_ref(), &batches) {
        Ok(one) => vec![one],
        Err(_) => batches,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_newer_batch_view_is_seen_at_once_and_one_that_is_known_is_not_read_again() {
        let world = World::new().await;
        let states = Arc::new(BatchStates::new(world.batch_views.clone()));
        let view = Arc::clone(world.catalog.view("totals").unwrap());
        let latest = async || states.latest(&view, Pick::AtHand).await.unwrap();
        assert_eq!(latest().await, None);
        world.batch_to("totals", [8, 0]).await;
        let first = latest().await.unwrap();
        assert!(Arc::ptr_eq(&first, &latest().await.unwrap()));
        world.batch_to("totals", [10, 10]).await;
        let second = latest().await.unwrap();
        assert_eq!((first.version, second.version), (1, 2));
        let stored = world.batch_views.latest("totals", &view.fingerprint().to_string()).await.unwrap();
        assert_eq!(*second, stored.unwrap());
    }

    #[tokio::test]
    async fn while_large_states_are_read_the_batch_view_before_answers_unless_that_will_not_do() {
        let world = World::new().await;
        let states = Arc::new(BatchStates::new(world.batch_views.clone()));
        let view = Arc::clone(world.catalog.view("totals").unwrap());
        let latest = async |pick| states.latest(&view, pick).await.unwrap().unwrap().version;
        world.batch_to("totals", [8, 0]).await;
        assert_eq!(latest(Pick::AtHand).await, 1);
        world.batch_to("totals", [10, 10]).await;
        // As if its states were large: nothing else is done with the number.
        let name = view.fingerprint().to_string();
        let mut found = world.batch_views.latest("totals", &name).await.unwrap().unwrap();
        let newest = world.batch_views.newest("totals", &name, found.version).unwrap();
        found.body.cuts[0][0].bytes = LARGE + 1;
        let digest = found.body.cuts[0][0].digest;
        assert!(states.is_far(&found.body));
        let key = (view.name().to_string(), view.fingerprint());
        let known = states.known()[&key].clone();
        // Its reading waits for us.
        let turn = states.turn(digest);
        let held = turn.lock().await;
        states.replace(key, &known, Known { manifest: Arc::new(found), newest, is_replaced: false });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(latest(Pick::AtHand).await, 1, "nobody waits");
        assert_eq!(latest(Pick::Newest).await, 2, "who needs the newest gets it");
        drop(held);
        while latest(Pick::AtHand).await != 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
