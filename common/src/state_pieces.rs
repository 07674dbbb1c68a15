//! States of any size, piece by piece.
//!
//! ```text
//! pieces of a state: sorted by key, none empty, every key of one below every key of the next
//! merge(pieces(a), pieces(b), …) = pieces(merge(a, b, …))        whatever the pieces are
//! ```
//!
//! Keys do not know of each other, so what of all states lies between two keys is merged alone. So a merge holds a piece of
//! each state, and not the states.

use crate::error::Result;
use crate::fold::Merger;
use crate::state::{State, encode};
use arrow::row::Rows;
use async_trait::async_trait;

/// A state, piece by piece.
#[async_trait]
pub trait StatePieces: Send {
    /// The next piece; `None` after the last.
    async fn next(&mut self) -> Result<Option<State>>;
}

/// The pieces of a state that is at hand: of so many rows each.
#[derive(Debug)]
pub struct HeldPieces {
    left: State,
    rows: usize,
}

impl HeldPieces {
    /// StatePieces of `rows` rows; the last one may have fewer.
    pub fn new(state: State, rows: usize) -> Self {
        Self { left: state, rows: rows.max(1) }
    }
}

#[async_trait]
impl StatePieces for HeldPieces {
    async fn next(&mut self) -> Result<Option<State>> {
        let all = self.left.rows();
        if all == 0 {
            return Ok(None);
        }
        let rows = self.rows.min(all);
        let piece = self.left.slice(0, rows);
        self.left = self.left.slice(rows, all - rows);
        Ok(Some(piece))
    }
}

/// The merge of several states of one cut.
pub struct MergedPieces<'a> {
    merger: &'a mut Merger,
    sources: Vec<Source<'a>>,
}

impl std::fmt::Debug for MergedPieces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergedPieces").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl<'a> MergedPieces<'a> {
    /// The merge of what these give.
    pub fn new(merger: &'a mut Merger, sources: Vec<Box<dyn StatePieces + 'a>>) -> Self {
        let sources = sources.into_iter().map(|pieces| Source { pieces, piece: None }).collect();
        Self { merger, sources }
    }

    /// Without keys a state is one row.
    async fn all(&mut self) -> Result<Vec<State>> {
        let mut all = Vec::new();
        for source in &mut self.sources {
            all.extend(source.piece.take().map(|piece| piece.state));
            while let Some(state) = source.pieces.next().await? {
                all.push(state);
            }
        }
        Ok(all)
    }
}

#[async_trait]
impl StatePieces for MergedPieces<'_> {
    async fn next(&mut self) -> Result<Option<State>> {
        let mut going_on = Vec::with_capacity(self.sources.len());
        for mut source in std::mem::take(&mut self.sources) {
            if source.fill().await? {
                going_on.push(source);
            }
        }
        self.sources = going_on;
        let lasts = self.sources.iter().filter_map(|source| source.piece.as_ref()?.last());
        let parts = match lasts.min().map(<[u8]>::to_vec) {
            Some(until) => {
                self.sources.iter_mut().filter_map(|source| source.piece.as_mut()?.take(&until)).collect()
            }
            None => self.all().await?,
        };
        if parts.is_empty() { Ok(None) } else { self.merger.merge(&parts).await.map(Some) }
    }
}

struct Source<'a> {
    pieces: Box<dyn StatePieces + 'a>,
    piece: Option<Piece>,
}

impl Source<'_> {
    /// Whether there is a piece at hand now.
    async fn fill(&mut self) -> Result<bool> {
        if self.piece.as_ref().is_none_or(|piece| piece.at == piece.state.rows()) {
            self.piece = self.pieces.next().await?.map(Piece::of).transpose()?;
        }
        Ok(self.piece.is_some())
    }
}

/// A piece of which some rows were taken.
struct Piece {
    state: State,
    /// Its keys; `None` if it has none.
    keys: Option<Rows>,
    at: usize,
}

impl Piece {
    fn of(state: State) -> Result<Self> {
        let keys = (state.keys() > 0).then(|| encode(state.batch(), state.keys())).transpose()?;
        Ok(Self { state, keys, at: 0 })
    }

    fn last(&self) -> Option<&[u8]> {
        let keys = self.keys.as_ref()?;
        Some(keys.row(keys.num_rows().checked_sub(1)?).data())
    }

    /// The rows up to a key that were not taken.
    fn take(&mut self, until: &[u8]) -> Option<State> {
        let keys = self.keys.as_ref()?;
        let (mut low, mut high) = (self.at, keys.num_rows());
        while low < high {
            let middle = low + (high - low) / 2;
            if keys.row(middle).data() <= until { low = middle + 1 } else { high = middle }
        }
        let from = std::mem::replace(&mut self.at, low);
        (from < low).then(|| self.state.slice(from, low - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDigest;
    use crate::{Catalog, Project};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A cut that counts by one key, and one without keys.
    async fn catalog() -> (tempfile::TempDir, Catalog) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
        let sql = "CREATE STREAM s (k TEXT, n BIGINT);
                   CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS c, max(n) AS m FROM s GROUP BY k;
                   CREATE MATERIALIZED VIEW one AS SELECT count(*) AS c FROM s;
                   CREATE MATERIALIZED VIEW keys AS SELECT DISTINCT k FROM s;";
        std::fs::write(dir.path().join("views.sql"), sql).unwrap();
        let catalog = Catalog::new(&Project::load(dir.path()).unwrap()).await.unwrap();
        (dir, catalog)
    }

    /// Events with these keys, each with its number.
    fn events(keys: &[Option<String>]) -> RecordBatch {
        let texts: ArrayRef = Arc::new(keys.iter().cloned().collect::<StringArray>());
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
        let columns = [("k", texts, true), ("n", numbers, true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    async fn law(view: &str, parts: &[Vec<Option<String>>], rows: usize) {
        let (_dir, catalog) = catalog().await;
        let view = catalog.view(view).unwrap();
        let cut = &view.cuts()[0];
        let schema = |_: &str| Ok(catalog.stream("s")?.event_schema());
        let mut folder = crate::Folder::try_new(catalog.session(), cut, schema).await.unwrap();
        let mut merger = Merger::try_new(catalog.session(), cut).await.unwrap();
        let mut states = Vec::new();
        for part in parts {
            states.push(folder.fold("s", &[events(part)]).await.unwrap());
        }
        let whole = merger.merge(&states).await.unwrap();
        let sources = states
            .iter()
            .enumerate()
            .map(|(i, state)| Box::new(HeldPieces::new(state.clone(), rows + i % 2)) as Box<dyn StatePieces>);
        let mut merged = MergedPieces::new(&mut merger, sources.collect());
        let (mut pieces, mut digest) = (Vec::new(), StateDigest::new(cut.schema(), cut.keys()));
        while let Some(piece) = merged.next().await.unwrap() {
            assert!(piece.rows() > 0 && (cut.keys() == 0 || piece.rows() <= (rows + 1) * parts.len()));
            digest.add(&piece).unwrap();
            pieces.push(piece.batch().clone());
        }
        assert_eq!(digest.finish(), whole.digest().unwrap());
        let rows = arrow::compute::concat_batches(cut.schema(), &pieces).unwrap();
        assert_eq!(&rows, whole.batch(), "in the order of the keys as they come");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn law_the_merge_of_pieces_is_the_merge_in_pieces(
            parts in proptest::collection::vec(
                proptest::collection::vec(proptest::option::weighted(0.9, "[a-d]{0,3}"), 0..40),
                0..7,
            ),
            rows in 1usize..12,
            view in proptest::sample::select(vec!["counts", "one", "keys"]),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(law(view, &parts, rows));
        }
    }
}
