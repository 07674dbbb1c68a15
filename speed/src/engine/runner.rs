//! A view's plans as the speed layer runs them, and when runs of a state are merged into one.

use super::held::{Run, Unit};
use super::store::{UnitId, Write};
use arrow::array::RecordBatch;
use std::sync::Arc;
use twofold_common::{Catalog, Folder, Merger, Result, State, View};

/// Runs are merged once this many of about the same size have gathered.
const FAN_IN: usize = 4;

/// The plans of one view, made once.
#[derive(Debug)]
pub(crate) struct Runner {
    view: Arc<View>,
    folders: Vec<Folder>,
    mergers: Vec<Merger>,
}

impl Runner {
    pub(crate) async fn plan(catalog: &Catalog, view: &Arc<View>) -> Result<Self> {
        let (mut folders, mut mergers) = (Vec::new(), Vec::new());
        for cut in view.cuts() {
            let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
            folders.push(Folder::try_new(catalog.session(), cut, schema).await?);
            mergers.push(Merger::try_new(catalog.session(), cut).await?);
        }
        Ok(Self { view: Arc::clone(view), folders, mergers })
    }

    /// The columns of a stream that the view's folds read.
    pub(crate) fn columns(&self, stream: &str) -> Vec<String> {
        let mut columns: Vec<String> = self.folders.iter().flat_map(|f| f.columns(stream)).collect();
        columns.sort();
        columns.dedup();
        columns
    }

    /// Folds events of a stream into the state of a unit, which held `unit` before: what is to be written.
    pub(crate) async fn fold(
        &mut self,
        id: &UnitId,
        unit: Option<&Unit>,
        events: &[RecordBatch],
        number: u64,
    ) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        let view = Arc::clone(&self.view);
        for (cut, definition) in view.cuts().iter().enumerate() {
            if !definition.streams().contains(&id.stream) {
                continue;
            }
            let state = self.folders[cut].fold(&id.stream, events).await?;
            let runs = unit.and_then(|u| u.runs.get(&cut)).map_or(&[][..], Vec::as_slice);
            let merge = to_merge(runs, state.rows());
            let merged = &runs[runs.len() - merge..];
            let state = self.merge(cut, merged, state).await?;
            writes.extend(merged.iter().map(|r| Write::DropRun { id: id.clone(), cut, number: r.number }));
            if state.rows() > 0 {
                writes.push(Write::Run { id: id.clone(), cut, number, state });
            }
        }
        Ok(writes)
    }

    async fn merge(&mut self, cut: usize, runs: &[Run], newest: State) -> Result<State> {
        if runs.is_empty() {
            return Ok(newest);
        }
        let mut states: Vec<State> = runs.iter().map(|run| run.state.clone()).collect();
        states.push(newest);
        self.mergers[cut].merge(&states).await
    }

    /// The state of a whole unit, for each cut that reads its stream, and what makes each of them one run.
    pub(crate) async fn whole(
        &mut self,
        id: &UnitId,
        unit: &Unit,
        number: u64,
    ) -> Result<(Vec<(usize, State)>, Vec<Write>)> {
        let (mut states, mut writes) = (Vec::new(), Vec::new());
        for (cut, definition) in self.view.cuts().iter().enumerate() {
            if !definition.streams().contains(&id.stream) {
                continue;
            }
            let runs = unit.runs.get(&cut).map_or(&[][..], Vec::as_slice);
            let inputs: Vec<State> = runs.iter().map(|run| run.state.clone()).collect();
            let state = self.mergers[cut].merge(&inputs).await?;
            if runs.len() > 1 {
                writes.extend(runs.iter().map(|r| Write::DropRun { id: id.clone(), cut, number: r.number }));
                writes.push(Write::Run { id: id.clone(), cut, number, state: state.clone() });
            }
            states.push((cut, state));
        }
        Ok((states, writes))
    }
}

/// How many of the newest runs to merge with a new one of `rows` rows: those that are not much larger than what
/// follows them, once there are [`FAN_IN`]. So a row is merged a number of times that grows with the logarithm of
/// the state's size, and few runs are left to read.
fn to_merge(runs: &[Run], rows: usize) -> usize {
    let mut sum = rows;
    let mut take = 0;
    for run in runs.iter().rev() {
        if run.state.rows() > sum.saturating_mul(2) {
            break;
        }
        sum += run.state.rows();
        take += 1;
    }
    if take >= FAN_IN { take } else { 0 }
}
