//! Decoded batch states, kept so that a repeated query does not read Parquet again.
//!
//! The key is the digest of the file: the same digest is the same rows, so an entry is never stale. What was
//! used longest ago leaves first when the budget is exceeded. A budget of 0 keeps nothing.

use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use twofold_common::Digest;

/// A bounded cache of decoded state files.
pub(crate) struct StateCache {
    budget: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<Digest, Entry>,
    /// Which entry was used when, the oldest first.
    uses: BTreeMap<u64, Digest>,
    clock: u64,
    bytes: usize,
}

struct Entry {
    batches: Vec<RecordBatch>,
    bytes: usize,
    used: u64,
}

impl StateCache {
    /// A cache of up to `budget` bytes, as they are in memory.
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, inner: Mutex::default() }
    }

    /// The rows of a file, if they are here.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<RecordBatch>> {
        let mut inner = self.lock();
        let Inner { entries, uses, clock, .. } = &mut *inner;
        let entry = entries.get_mut(digest)?;
        *clock += 1;
        uses.remove(&entry.used);
        uses.insert(*clock, *digest);
        entry.used = *clock;
        Some(entry.batches.clone())
    }

    /// Whether the rows of a file are here.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.lock().entries.contains_key(digest)
    }

    /// Keeps the rows of a file, unless they alone exceed the budget.
    pub(crate) fn put(&self, digest: Digest, batches: Vec<RecordBatch>) {
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let mut inner = self.lock();
        if bytes > self.budget || inner.entries.contains_key(&digest) {
            return;
        }
        while inner.bytes + bytes > self.budget && inner.drop_oldest() {}
        inner.clock += 1;
        inner.bytes += bytes;
        let used = inner.clock;
        inner.uses.insert(used, digest);
        inner.entries.insert(digest, Entry { batches, bytes, used });
    }

    /// How many bytes are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn drop_oldest(&mut self) -> bool {
        let Some((_, digest)) = self.uses.pop_first() else { return false };
        if let Some(entry) = self.entries.remove(&digest) {
            self.bytes -= entry.bytes;
        }
        true
    }
}

impl fmt::Debug for StateCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateCache").field("budget", &self.budget).field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::Arc;

    fn rows(rows: usize) -> Vec<RecordBatch> {
        let column = Arc::new(Int64Array::from(vec![7; rows])) as _;
        vec![RecordBatch::try_from_iter([("a", column)]).unwrap()]
    }

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    #[test]
    fn what_was_used_longest_ago_leaves_first() {
        let one = rows(100)[0].get_array_memory_size();
        let cache = StateCache::new(2 * one);
        cache.put(digest("a"), rows(100));
        cache.put(digest("b"), rows(100));
        assert!(cache.get(&digest("a")).is_some());
        cache.put(digest("c"), rows(100));
        assert!(cache.get(&digest("b")).is_none());
        assert_eq!(cache.get(&digest("a")).unwrap(), rows(100));
        assert_eq!(cache.bytes(), 2 * one);
    }

    #[test]
    fn what_exceeds_the_budget_alone_is_not_kept() {
        let cache = StateCache::new(rows(100)[0].get_array_memory_size());
        cache.put(digest("a"), rows(100));
        cache.put(digest("b"), rows(10_000));
        assert!(cache.get(&digest("b")).is_none() && cache.get(&digest("a")).is_some());
    }

    #[test]
    fn the_same_file_counts_once() {
        let cache = StateCache::new(1 << 20);
        cache.put(digest("a"), rows(100));
        let bytes = cache.bytes();
        cache.put(digest("a"), rows(100));
        assert_eq!(cache.bytes(), bytes);
    }
}
