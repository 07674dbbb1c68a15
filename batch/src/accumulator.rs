//! Merging the states of a view as they come.
//!
//! What has no room in memory goes to disk, sorted, and is merged from there [piece by piece](twofold_common::StatePieces). The
//! merge is the same, wherever its parts were.

use crate::spilled::Spilled;
use twofold_common::{
    Catalog, Digest, Error, HeldPieces, MergedPieces, Merger, Result, State, StateDigest, StatePieces, View,
};

/// States are merged once this many rows of them have gathered.
const MERGE_ROWS: usize = 1 << 20;
/// Or so many states.
const MERGE_STATES: usize = 1024;
/// How many rows of each state are merged at once, where they come from disk.
const PIECE_ROWS: usize = 1 << 15;

/// Merges states of a view as they come.
pub(crate) struct Accumulator {
    cuts: Vec<Gathered>,
    most_bytes: usize,
}

/// What has come of one cut.
struct Gathered {
    merger: Merger,
    /// The state of no events.
    empty: State,
    pending: Vec<State>,
    spilled: Vec<Spilled>,
}

/// A merged state.
#[derive(Debug)]
pub(crate) enum Merged {
    Held(State),
    Spilled(Spilled),
}

impl Accumulator {
    /// One that holds all in memory.
    pub(crate) async fn plan(catalog: &Catalog, view: &View) -> Result<Self> {
        Self::within(usize::MAX, catalog, view).await
    }

    /// One that takes states to disk when they have more than about so many bytes.
    pub(crate) async fn within(most_bytes: usize, catalog: &Catalog, view: &View) -> Result<Self> {
        let mut cuts = Vec::new();
        for cut in view.cuts() {
            cuts.push(Gathered {
                merger: Merger::try_new(catalog.session(), cut).await?,
                empty: State::empty(cut.schema(), cut.keys()),
                pending: Vec::new(),
                spilled: Vec::new(),
            });
        }
        Ok(Self { cuts, most_bytes })
    }

    pub(crate) async fn add(&mut self, cut: usize, state: State) -> Result<()> {
        self.cuts[cut].add(state).await?;
        while self.cuts.iter().map(Gathered::bytes).sum::<usize>() > self.most_bytes
            && let Some(largest) = self.cuts.iter_mut().max_by_key(|cut| cut.bytes())
        {
            largest.spill().await?;
        }
        Ok(())
    }

    /// Adds what another accumulator came to.
    pub(crate) async fn add_merged(&mut self, cut: usize, merged: Merged) -> Result<()> {
        match merged {
            Merged::Held(state) => self.add(cut, state).await?,
            Merged::Spilled(spilled) => self.cuts[cut].spilled.push(spilled),
        }
        Ok(())
    }

    /// The merge of everything added, by cut; after it nothing is added.
    pub(crate) async fn finish(&mut self) -> Result<Vec<Merged>> {
        let mut merged = Vec::with_capacity(self.cuts.len());
        for cut in &mut self.cuts {
            merged.push(cut.finish().await?);
        }
        Ok(merged)
    }

    /// The merge of what was added of the cuts that anything was added of: of an accumulator that holds all in memory.
    pub(crate) async fn take(&mut self) -> Result<Vec<(usize, State)>> {
        let mut states = Vec::new();
        for (number, cut) in self.cuts.iter_mut().enumerate() {
            if !cut.pending.is_empty() {
                let pending = std::mem::take(&mut cut.pending);
                states.push((number, cut.merger.merge(&pending).await?));
            }
        }
        Ok(states)
    }
}

impl Gathered {
    fn bytes(&self) -> usize {
        self.pending.iter().map(State::memory).sum()
    }

    async fn add(&mut self, state: State) -> Result<()> {
        self.pending.push(state);
        // The first is what was merged before: merged again only when as much has gathered beside it.
        let gathered: usize = self.pending.iter().skip(1).map(State::rows).sum();
        if gathered >= MERGE_ROWS.max(self.pending[0].rows()) || self.pending.len() >= MERGE_STATES {
            let merged = self.merger.merge(&self.pending).await?;
            self.pending = vec![merged];
        }
        Ok(())
    }

    fn digest(&self) -> StateDigest {
        StateDigest::new(self.empty.batch().schema_ref(), self.empty.keys())
    }

    /// Takes what is in memory to disk.
    async fn spill(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let merged = self.merger.merge(&pending).await?;
        drop(pending);
        if merged.rows() > 0 {
            let digest = self.digest();
            self.spilled.push(Spilled::write(digest, &mut HeldPieces::new(merged, PIECE_ROWS)).await?);
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Merged> {
        let pending = std::mem::take(&mut self.pending);
        let mut spilled = std::mem::take(&mut self.spilled);
        if spilled.is_empty() {
            return Ok(Merged::Held(self.merger.merge(&pending).await?));
        }
        if pending.is_empty()
            && spilled.len() == 1
            && let Some(only) = spilled.pop()
        {
            return Ok(Merged::Spilled(only));
        }
        let digest = self.digest();
        let mut sources: Vec<Box<dyn StatePieces>> = Vec::new();
        sources.extend(spilled.iter().map(|spilled| Box::new(spilled.pieces()) as _));
        if !pending.is_empty() {
            let held = self.merger.merge(&pending).await?;
            sources.push(Box::new(HeldPieces::new(held, PIECE_ROWS)));
        }
        drop(pending);
        let mut merged = MergedPieces::new(&mut self.merger, sources);
        Ok(Merged::Spilled(Spilled::write(digest, &mut merged).await?))
    }
}

impl Merged {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Merged::Held(state) => state.rows(),
            Merged::Spilled(spilled) => spilled.rows,
        }
    }

    /// Its digest; of a state in memory, made on a thread of its own.
    pub(crate) async fn digest(&self) -> Result<Digest> {
        let state = match self {
            Merged::Held(state) => state.clone(),
            Merged::Spilled(spilled) => return Ok(spilled.digest),
        };
        let digest = tokio::task::spawn_blocking(move || state.digest()).await;
        digest.map_err(|e| Error::Internal(format!("the digest of a state: {e}")))?
    }

    /// Its pieces; of a state in memory, of so many rows each.
    pub(crate) fn pieces(&self, rows: usize) -> Box<dyn StatePieces> {
        match self {
            Merged::Held(state) => Box::new(HeldPieces::new(state.clone(), rows)),
            Merged::Spilled(spilled) => Box::new(spilled.pieces()),
        }
    }

    /// All of it in memory.
    pub(crate) async fn whole(&self) -> Result<State> {
        let spilled = match self {
            Merged::Held(state) => return Ok(state.clone()),
            Merged::Spilled(spilled) => spilled,
        };
        let (mut pieces, mut batches, mut keys) = (spilled.pieces(), Vec::new(), 0);
        while let Some(piece) = pieces.next().await? {
            keys = piece.keys();
            batches.push(piece.batch().clone());
        }
        let Some(schema) = batches.first().map(|batch| batch.schema()) else {
            return Err(Error::Internal("a state on disk without rows".into()));
        };
        State::from_rows(&schema, keys, &batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    use twofold_common::Folder;

    /// States of the view with so many keys each, some of them in several.
    async fn states(world: &World) -> Vec<State> {
        let cut = &world.view().cuts()[0];
        let schema = |stream: &str| Ok(world.catalog.stream(stream)?.event_schema());
        let mut folder = Folder::try_new(world.catalog.session(), cut, schema).await.unwrap();
        let mut states = Vec::new();
        for (n, keys) in [3usize, 0, 70_000, 40_000, 900, 1].into_iter().enumerate() {
            let names: ArrayRef =
                Arc::new(StringArray::from_iter_values((0..keys).map(|i| format!("key {}", i * (n + 1)))));
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..keys).map(|i| i as i64)));
            let events = RecordBatch::try_from_iter([("k", names), ("n", numbers)]).unwrap();
            states.push(folder.fold("clicks", &[events]).await.unwrap());
        }
        states
    }

    #[tokio::test]
    async fn law_states_on_disk_come_to_the_same() {
        let world = World::new().await;
        let states = states(&world).await;
        let merged = async |most_bytes: usize| {
            let plan = || Accumulator::within(most_bytes, &world.catalog, world.view());
            let (mut first, mut second) = (plan().await.unwrap(), plan().await.unwrap());
            for (n, state) in states.iter().enumerate() {
                if n < 3 { &mut first } else { &mut second }.add(0, state.clone()).await.unwrap();
            }
            let first = first.finish().await.unwrap().remove(0);
            second.add_merged(0, first).await.unwrap();
            second.finish().await.unwrap().remove(0)
        };
        let held = merged(usize::MAX).await;
        assert!(matches!(held, Merged::Held(_)));
        let whole = held.whole().await.unwrap();
        for most_bytes in [0, 100_000, 1 << 20] {
            let spilled = merged(most_bytes).await;
            assert!(matches!(spilled, Merged::Spilled(_)), "{most_bytes}: nothing went to disk");
            let digests = (spilled.digest().await.unwrap(), held.digest().await.unwrap());
            assert_eq!((spilled.rows(), digests.0), (held.rows(), digests.1));
            assert_eq!(spilled.whole().await.unwrap().batch(), whole.batch());
        }
    }
}
