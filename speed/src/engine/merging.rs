//! Merging the runs of a state, beside the epochs.
//!
//! ```text
//! state of a unit = merge of its runs, whichever of them are merged already
//! ```
//!
//! Each epoch adds a run to each state. Once some of about the same size have gathered, a task makes one of them, and an
//! epoch after that puts it in their place: a small one in the store as well, with what else it commits; a large one in
//! memory alone, since writing it takes long, and the store has what it is made of. So the store does not fill with runs
//! of a row or two, and no answer waits for a merge. After a restart large ones are merged again.

use super::held::Run;
use super::store::{UnitId, Write};
use super::{Engine, Worker};
use std::collections::BTreeSet;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use twofold_common::{Digest, Error, Kind, Result, State};

/// Runs are merged once more than so many of about the same size have gathered.
const FAN_IN: usize = 4;
/// Merged runs of at most so many bytes are written to the store, where each run takes one to two KiB besides its rows.
const STORED_BYTES: usize = 32 << 10;
/// With so many runs of one state, folding waits for merging.
const MOST_RUNS: usize = 64;

/// Merges that are under way.
#[derive(Debug, Default)]
pub(super) struct Merging {
    tasks: JoinSet<Merged>,
    under_way: BTreeSet<(UnitId, usize)>,
}

/// Runs of one state, and what they come to.
#[derive(Debug)]
struct Merged {
    id: UnitId,
    cut: usize,
    numbers: Vec<u64>,
    state: Result<State>,
}

impl Merging {
    /// Gives up what is under way.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Engine {
    /// What puts merged runs in the place of those that they were made of, of all merges that are done. With too many
    /// runs of a state it waits for one.
    pub(super) async fn merged(&self, worker: &mut Worker) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        loop {
            let done = match worker.merging.tasks.try_join_next() {
                None if self.has_too_many_runs(&worker.merging) => worker.merging.tasks.join_next().await,
                done => done,
            };
            let Some(done) = done else { return Ok(writes) };
            let done = done.map_err(|e| Error::Internal(format!("merging states: {e}")));
            let Merged { id, cut, numbers, state } = done.inspect_err(|_| worker.merging.clear())?;
            worker.merging.under_way.remove(&(id.clone(), cut));
            match state {
                Ok(state) if self.has_runs(&id, cut, &numbers) => {
                    if state.memory() > STORED_BYTES {
                        self.write().merge(&id, cut, Run { numbers, state });
                        continue;
                    }
                    // It takes the place of the oldest, so that runs stay in the order in which they came.
                    let number = numbers.first().copied().unwrap_or_default();
                    writes.extend(numbers.iter().map(|&number| Write::DropRun {
                        id: id.clone(),
                        cut,
                        number,
                    }));
                    writes.push(Write::Run { id, cut, number, state });
                }
                // Merged as a whole meanwhile, or let go of.
                Ok(_) => {}
                Err(e) if e.kind() == Kind::Invalid => self.leave_behind(id.fingerprint, &format!("{e}")),
                Err(e) => return Err(e),
            }
        }
    }

    /// Begins to merge what has gathered in these units.
    pub(super) fn merge_gathered(&self, worker: &mut Worker, units: impl IntoIterator<Item = UnitId>) {
        for id in units {
            let Some(runner) = worker.runners.get(&id.fingerprint) else { continue };
            let gathered: Vec<(usize, Vec<Run>)> = {
                let held = self.read();
                let Some(unit) = held.unit(&id) else { continue };
                unit.runs.iter().map(|(cut, runs)| (*cut, gathered(runs).to_vec())).collect()
            };
            for (cut, runs) in gathered {
                if runs.is_empty() || !worker.merging.under_way.insert((id.clone(), cut)) {
                    continue;
                }
                let (merger, id) = (runner.merger(cut), id.clone());
                let merge = async move {
                    let (numbers, states): (Vec<_>, Vec<_>) =
                        runs.into_iter().map(|run| (run.numbers, run.state)).unzip();
                    let state = merger.lock().await.merge(&states).await;
                    Merged { id, cut, numbers: numbers.concat(), state }
                };
                match self.merge_on.get() {
                    Some(handle) => worker.merging.tasks.spawn_on(merge, handle),
                    None => worker.merging.tasks.spawn(merge),
                };
            }
        }
    }

    /// Merges there from now on, where it does not keep a fold waiting.
    pub fn merge_on(&self, handle: Handle) {
        // The first one stays.
        let _ = self.merge_on.set(handle);
    }

    fn has_too_many_runs(&self, merging: &Merging) -> bool {
        let held = self.read();
        merging.under_way.iter().any(|(id, cut)| {
            let runs = held.unit(id).and_then(|unit| unit.runs.get(cut));
            runs.is_some_and(|runs| runs.len() >= MOST_RUNS)
        })
    }

    /// Whether there are runs of just these numbers.
    pub(super) fn has_runs(&self, id: &UnitId, cut: usize, numbers: &[u64]) -> bool {
        let held = self.read();
        let runs = held.unit(id).and_then(|unit| unit.runs.get(&cut)).map_or(&[][..], Vec::as_slice);
        let numbers: BTreeSet<&u64> = numbers.iter().collect();
        let has = |run: &&Run| run.numbers.iter().any(|number| numbers.contains(number));
        runs.iter().filter(has).flat_map(|run| &run.numbers).collect::<BTreeSet<_>>() == numbers
    }

    /// Marks a view whose query fails on events: all else goes on.
    pub(super) fn leave_behind(&self, fingerprint: Digest, reason: &str) {
        tracing::error!(view = %fingerprint.short(), reason, "a view's query fails on events");
        if let Some(view) = self.write().views.get_mut(&fingerprint) {
            view.failed = Some(reason.to_string());
        }
    }
}

/// The newest runs that are to be merged: those that are not much larger than what follows them, once there are more than
/// [`FAN_IN`]. So a row is merged a number of times that grows with the logarithm of the state's size, and few runs are
/// left to read.
fn gathered(runs: &[Run]) -> &[Run] {
    let (mut sum, mut take) = (0usize, 0);
    for run in runs.iter().rev() {
        if take > 0 && run.state.rows() > sum.saturating_mul(2) {
            break;
        }
        sum += run.state.rows();
        take += 1;
    }
    if take > FAN_IN { &runs[runs.len() - take..] } else { &[] }
}
