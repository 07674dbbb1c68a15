//! Units: what a batch run has finished, kept so that the next one need not do it again.
//!
//! A unit is the state of a few neighbouring segments. A run that is killed leaves its units behind; the next run that
//! has the same to do takes them, and one that has published removes its own.
//!
//! ```text
//! views/<view>/<fingerprint>/unit/<id>.unit     the id names all that the unit depends on
//!
//!  0             32             36              36 + length
//!  ┌─────────────┬──────────────┬───────────────┬────────────────────┐
//!  │ BLAKE3 of   │ length, u32, │ header, JSON  │ state runs, one    │
//!  │ what follows│ little-endian│               │ behind the other   │
//!  └─────────────┴──────────────┴───────────────┴────────────────────┘
//! ```
//!
//! Nothing is believed of a unit that is not whole, or not the one that its name says: it is `Corrupt`, and folded
//! again.

use crate::batch_view::{BatchViews, view_dir};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::state::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the names of units end in.
pub(crate) const UNIT_SUFFIX: &str = ".unit";
/// The version of the form above.
const FORMAT: u32 = 1;
const DIGEST_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;

/// The state of a few segments, and what was compared on the way.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The merged state of each cut that reads the segments' stream.
    pub states: Vec<(usize, State)>,
    /// For each segment, in their order, the digest of its own state by cut.
    pub digests: Vec<Vec<(usize, Digest)>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    id: Digest,
    digests: Vec<Vec<(usize, Digest)>>,
    /// Cut and length of each state run.
    states: Vec<(usize, u64)>,
}

impl Unit {
    /// The unit as bytes, under its id.
    pub fn to_bytes(&self, id: Digest) -> Result<Vec<u8>> {
        let (mut states, mut runs) = (Vec::new(), Vec::new());
        for (cut, state) in &self.states {
            let bytes = state.to_bytes()?;
            states.push((*cut, bytes.len() as u64));
            runs.extend(bytes);
        }
        let header = Header { format: FORMAT, id, digests: self.digests.clone(), states };
        let header = serde_json::to_vec(&header).map_err(|e| Error::Internal(e.to_string()))?;
        let length = u32::try_from(header.len()).map_err(|e| Error::Internal(e.to_string()))?;
        let mut bytes = Vec::with_capacity(DIGEST_BYTES + LENGTH_BYTES + header.len() + runs.len());
        bytes.resize(DIGEST_BYTES, 0);
        bytes.extend(length.to_le_bytes());
        bytes.extend(header);
        bytes.extend(runs);
        let digest = Digest::of(&bytes[DIGEST_BYTES..]);
        bytes[..DIGEST_BYTES].copy_from_slice(digest.as_bytes());
        Ok(bytes)
    }

    /// The unit of this id; `origin` names the bytes in errors.
    ///
    /// # Errors
    /// `Corrupt` if they are damaged, cut short, of another format, or another unit.
    pub fn from_bytes(bytes: &[u8], id: Digest, origin: &str) -> Result<Self> {
        let corrupt = |reason: String| Error::corrupt(origin, reason);
        let short = || corrupt(format!("a unit of {} bytes is cut short", bytes.len()));
        let (digest, rest) = bytes.split_at_checked(DIGEST_BYTES).ok_or_else(short)?;
        if Digest::from_bytes(digest) != Some(Digest::of(rest)) {
            return Err(corrupt("the digest of the unit does not fit its bytes".into()));
        }
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (header, mut rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let header: Header =
            serde_json::from_slice(header).map_err(|e| corrupt(format!("not a unit: {e}")))?;
        if header.format != FORMAT || header.id != id {
            let (format, found) = (header.format, header.id);
            return Err(corrupt(format!(
                "expected unit {id}, format {FORMAT}, found {found}, format {format}"
            )));
        }
        let mut states = Vec::new();
        for (cut, length) in header.states {
            let length = usize::try_from(length).map_err(|_| short())?;
            let (run, behind) = rest.split_at_checked(length).ok_or_else(short)?;
            states.push((cut, State::from_bytes(run, origin)?));
            rest = behind;
        }
        Ok(Self { states, digests: header.digests })
    }
}

impl BatchViews {
    /// A unit that some run has finished; `None` if none has.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged, or not the one that its name says.
    pub async fn unit(&self, view: &str, fingerprint: &str, id: Digest) -> Result<Option<Unit>> {
        let path = path(view, fingerprint, id);
        match self.store.get(&path).await {
            Ok(bytes) => Unit::from_bytes(&bytes, id, &path).map(Some),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Keeps a unit that is finished.
    pub async fn keep_unit(&self, view: &str, fingerprint: &str, id: Digest, unit: &Unit) -> Result<()> {
        self.store.put(&path(view, fingerprint, id), Bytes::from(unit.to_bytes(id)?)).await
    }

    /// Removes a unit that nobody needs any more; it need not exist.
    pub async fn drop_unit(&self, view: &str, fingerprint: &str, id: Digest) -> Result<()> {
        self.store.delete(&path(view, fingerprint, id)).await
    }
}

fn path(view: &str, fingerprint: &str, id: Digest) -> String {
    format!("{}/unit/{id}{UNIT_SUFFIX}", view_dir(view, fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_view::tests::state as rows;
    use crate::gc::Gc;
    use crate::store::tests::stores;
    use chrono::{DateTime, Utc};

    fn unit() -> Unit {
        let state = |keys: &[&str]| {
            let rows = rows(keys);
            State::from_rows(&rows.schema(), 1, &[rows]).unwrap()
        };
        let digest = Digest::of(b"state");
        Unit {
            states: vec![(0, state(&["a", "b"])), (2, state(&[]))],
            digests: vec![vec![(0, digest), (2, digest)]; 3],
        }
    }

    #[tokio::test]
    async fn a_unit_is_read_back_and_goes_when_it_is_dropped_or_old() {
        for (store, _dir) in stores() {
            let (views, id) = (BatchViews::new(store.clone()), Digest::of(b"id"));
            assert!(views.unit("v", "f", id).await.unwrap().is_none());
            views.keep_unit("v", "f", id, &unit()).await.unwrap();
            let read = views.unit("v", "f", id).await.unwrap().unwrap();
            let digests = |unit: &Unit| -> Vec<_> {
                unit.states.iter().map(|(cut, state)| (*cut, state.digest().unwrap())).collect()
            };
            assert_eq!((digests(&read), read.digests), (digests(&unit()), unit().digests));

            let live = [("v".to_string(), "f".to_string())].into();
            let orphans = async |cutoff| Gc::new(store.clone()).orphans(&live, cutoff).await.unwrap().len();
            assert_eq!(orphans(DateTime::<Utc>::MIN_UTC).await, 0, "a run may be about to take it");
            assert_eq!(orphans(DateTime::<Utc>::MAX_UTC).await, 1);
            views.drop_unit("v", "f", id).await.unwrap();
            assert!(views.unit("v", "f", id).await.unwrap().is_none());
        }
    }

    #[test]
    fn a_unit_that_is_cut_short_damaged_or_another_one_is_not_believed() {
        let id = Digest::of(b"id");
        let whole = unit().to_bytes(id).unwrap();
        assert!(Unit::from_bytes(&whole, id, "x").is_ok());
        let refused = |bytes: &[u8], id| {
            let e = Unit::from_bytes(bytes, id, "x").unwrap_err();
            assert_eq!(e.kind(), Kind::Corrupt, "{e}");
        };
        for length in 0..whole.len() {
            refused(&whole[..length], id);
        }
        for at in (0..whole.len()).step_by(7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            refused(&flipped, id);
        }
        refused(&whole, Digest::of(b"another"));
    }
}
