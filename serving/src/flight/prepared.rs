//! Prepared statements: what their handles stand for, between the calls of a client.
//!
//! There are at most [`MOST`] at once, and one that is not used for [`UNUSED`] is let go of; when there are more, the one
//! that was not used for longest makes way. A handle cannot be guessed.

use bytes::Bytes;
use datafusion::common::ScalarValue;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use twofold_common::{Error, Result};

/// How many there are at once.
pub(super) const MOST: usize = 1024;
/// How many bytes their statements have together.
const MOST_BYTES: usize = 64 << 20;
/// How long one may be left alone.
pub(super) const UNUSED: Duration = Duration::from_secs(3600);

/// A prepared statement, and the values that are bound to it.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) sql: Arc<str>,
    pub(super) values: Arc<[ScalarValue]>,
    /// How often values were bound.
    pub(super) binding: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct PreparedStatements(Mutex<HashMap<Bytes, (Instant, Prepared)>>);

impl PreparedStatements {
    /// Keeps a statement, and gives its handle.
    pub(super) fn add(&self, sql: &str) -> Bytes {
        self.add_at(sql, Instant::now())
    }

    /// The statement of a handle, which counts as used.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub(super) fn get(&self, handle: &[u8]) -> Result<Prepared> {
        self.with(handle, Instant::now(), |prepared| prepared.clone())
    }

    /// Binds values to a statement, in the place of those before.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub(super) fn bind(&self, handle: &[u8], values: Vec<ScalarValue>) -> Result<()> {
        self.with(handle, Instant::now(), |prepared| {
            prepared.values = values.into();
            prepared.binding += 1;
        })
    }

    /// Lets go of a statement; of one that is not there, too.
    pub(super) fn close(&self, handle: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
    }

    fn add_at(&self, sql: &str, now: Instant) -> Bytes {
        let handle = unguessable();
        let prepared = Prepared { sql: sql.into(), values: Arc::new([]), binding: 0 };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (used, _)| now.duration_since(*used) < UNUSED);
        let mut bytes = sql.len() + all.values().map(|(_, p)| p.sql.len()).sum::<usize>();
        while all.len() >= MOST || bytes > MOST_BYTES {
            let oldest = all.iter().min_by_key(|(_, (used, _))| *used).map(|(handle, _)| handle.clone());
            let Some(oldest) = oldest else { break };
            bytes -= all.remove(&oldest).map_or(0, |(_, p)| p.sql.len());
        }
        all.insert(handle.clone(), (now, prepared));
        handle
    }

    fn with<T>(&self, handle: &[u8], now: Instant, then: impl FnOnce(&mut Prepared) -> T) -> Result<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(handle) {
            Some((used, prepared)) if now.duration_since(*used) < UNUSED => {
                *used = now;
                Ok(then(prepared))
            }
            _ => Err(Error::NotFound(
                "there is no such prepared statement: it was closed, or not used for an hour, or made way for newer \
                 ones; prepare it again"
                    .into(),
            )),
        }
    }
}

/// 128 bits that nobody outside can know, and that nothing is computed from.
#[allow(clippy::disallowed_methods, reason = "names of what lives for minutes in this process")]
pub(super) fn unguessable() -> Bytes {
    let half = || RandomState::new().hash_one(0).to_le_bytes();
    [half(), half()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::Kind;

    fn used(all: &PreparedStatements, handle: &[u8], now: Instant) -> Result<Prepared> {
        all.with(handle, now, |prepared| prepared.clone())
    }

    #[test]
    fn a_statement_is_there_until_it_is_closed_or_left_alone() {
        let (all, start) = (PreparedStatements::default(), Instant::now());
        let (kept, left) = (all.add_at("SELECT 1", start), all.add_at("SELECT 2", start));
        all.bind(&kept, vec![ScalarValue::from(1i64)]).unwrap();
        assert_eq!((all.get(&kept).unwrap().binding, all.get(&left).unwrap().binding), (1, 0));
        let (soon, later) =
            (start + UNUSED - Duration::from_secs(60), start + UNUSED + Duration::from_secs(60));
        assert_eq!(used(&all, &kept, soon).unwrap().values.as_ref(), [ScalarValue::from(1i64)]);
        assert_eq!(&*used(&all, &kept, later).unwrap().sql, "SELECT 1");
        assert_eq!(used(&all, &left, later).unwrap_err().kind(), Kind::NotFound);
        all.close(&kept);
        assert_eq!(all.bind(&kept, Vec::new()).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn too_many_make_way_from_the_one_that_was_not_used_for_longest() {
        let (all, start) = (PreparedStatements::default(), Instant::now());
        let handles: Vec<_> = (0..MOST).map(|i| all.add_at(&i.to_string(), start)).collect();
        let later = start + Duration::from_secs(60);
        for handle in handles.iter().skip(1) {
            used(&all, handle, later).unwrap();
        }
        all.add_at("one more", later);
        assert!(used(&all, &handles[0], later).is_err());
        assert!(handles.iter().skip(1).all(|handle| used(&all, handle, later).is_ok()));
        all.add_at(&"x".repeat(MOST_BYTES), later);
        assert!(handles.iter().all(|handle| used(&all, handle, later).is_err()));
    }

    #[test]
    fn handles_differ() {
        let handles: std::collections::BTreeSet<_> = (0..1000).map(|_| unguessable()).collect();
        assert_eq!(handles.len(), 1000);
    }
}
