//! A query's share of the process's memory.
//!
//! ```text
//! reserve n  =  n in each bound, and n in the process's pool; or nothing at all
//! ```

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use twofold_common::OF_LIMITS;

/// How much somebody may reserve, and has.
#[derive(Debug)]
pub(super) struct Bound {
    most: usize,
    used: AtomicUsize,
    setting: &'static str,
    of: &'static str,
}

impl Bound {
    /// `most` bytes for `of`, as `setting` of `[limits]` says.
    pub(super) fn new(most: u64, setting: &'static str, of: &'static str) -> Arc<Self> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Arc::new(Self { most, used: AtomicUsize::new(0), setting, of })
    }

    /// As much as anybody wants; it is only counted.
    pub(super) fn none() -> Arc<Self> {
        Self::new(u64::MAX, "", "")
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn shrink(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn try_grow(&self, bytes: usize, consumer: &str) -> Result<()> {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        grown.map(drop).map_err(|used| {
            let Self { most, setting, of, .. } = self;
            DataFusionError::ResourcesExhausted(format!(
                "{consumer} needs {bytes} bytes more than the {used} that are taken, and {of} may take {most}: ask for less, \
                 or raise `{setting}` {OF_LIMITS}"
            ))
        })
    }
}

/// A pool within a pool.
#[derive(Debug)]
pub(super) struct BoundedPool {
    inner: Arc<dyn MemoryPool>,
    bounds: Vec<Arc<Bound>>,
}

impl BoundedPool {
    /// What `inner` gives, as far as all of `bounds` allow.
    pub(super) fn new(inner: Arc<dyn MemoryPool>, bounds: Vec<Arc<Bound>>) -> Self {
        Self { inner, bounds }
    }
}

impl fmt::Display for BoundedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name(), self.inner)
    }
}

impl MemoryPool for BoundedPool {
    fn name(&self) -> &str {
        "a query's share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
        self.bounds.iter().for_each(|bound| bound.grow(additional));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
        self.bounds.iter().for_each(|bound| bound.shrink(shrink));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer().name();
        for (taken, bound) in self.bounds.iter().enumerate() {
            if let Err(e) = bound.try_grow(additional, consumer) {
                self.bounds[..taken].iter().for_each(|bound| bound.shrink(additional));
                return Err(e);
            }
        }
        self.inner.try_grow(reservation, additional).inspect_err(|_| {
            self.bounds.iter().for_each(|bound| bound.shrink(additional));
        })
    }

    fn reserved(&self) -> usize {
        self.bounds.first().map_or(0, |bound| bound.used())
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.bounds.first().map_or(MemoryLimit::Unknown, |bound| MemoryLimit::Finite(bound.most))
    }
}
