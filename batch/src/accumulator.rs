//! Merging the states of a view as they come.

use std::collections::BTreeMap;
use twofold_common::{Catalog, Merger, Result, State, View};

/// States are merged once this many rows of them have gathered.
const MERGE_ROWS: usize = 1 << 20;
/// Or so many states.
const MERGE_STATES: usize = 1024;

/// Merges states of a view as they come.
pub(crate) struct Accumulator {
    mergers: Vec<Merger>,
    pending: BTreeMap<usize, Vec<State>>,
}

impl Accumulator {
    pub(crate) async fn plan(catalog: &Catalog, view: &View) -> Result<Self> {
        let mut mergers = Vec::new();
        for cut in view.cuts() {
            mergers.push(Merger::try_new(catalog.session(), cut).await?);
        }
        Ok(Self { mergers, pending: BTreeMap::new() })
    }

    pub(crate) async fn add(&mut self, cut: usize, state: State) -> Result<()> {
        let pending = self.pending.entry(cut).or_default();
        pending.push(state);
        // The first is what was merged before: merged again only when as much has gathered beside it.
        let gathered: usize = pending.iter().skip(1).map(State::rows).sum();
        if gathered >= MERGE_ROWS.max(pending[0].rows()) || pending.len() >= MERGE_STATES {
            let merged = self.mergers[cut].merge(pending).await?;
            *pending = vec![merged];
        }
        Ok(())
    }

    /// The merge of everything added, by cut; after it nothing is added.
    pub(crate) async fn finish(&mut self) -> Result<Vec<State>> {
        let mut states = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        for (cut, merger) in self.mergers.iter_mut().enumerate() {
            states.push(merger.merge(pending.get(&cut).map_or(&[][..], Vec::as_slice)).await?);
        }
        Ok(states)
    }

    /// The merge of what was added of the cuts that anything was added of.
    pub(crate) async fn take(&mut self) -> Result<Vec<(usize, State)>> {
        let mut states = Vec::new();
        for (cut, pending) in std::mem::take(&mut self.pending) {
            states.push((cut, self.mergers[cut].merge(&pending).await?));
        }
        Ok(states)
    }
}
