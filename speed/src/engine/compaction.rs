//! Compaction: the whole state of a unit takes the place of the runs that it is merged of.
//!
//! In memory it does so at once. In the store it takes tens of milliseconds to write a hundred thousand keys and to let go
//! of hundreds of runs, and no answer is to wait for that: a piece of it goes with each epoch's commit.
//!
//! ```text
//! staged   the runs numbered below `first` count, the pieces do not: their numbers begin there
//! whole    the pieces count, the runs below do not, and are let go of
//! ```
//!
//! What does not count when the store is opened, is let go of.

use super::held::{Run, Unit};
use super::store::{UnitId, Write};
use super::{Engine, Worker};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Mutex;
use twofold_common::{Merger, Result, State};

/// About how many bytes of states go with one commit.
const PIECE_BYTES: usize = 64 << 10;
/// How many runs are let go of with one commit.
const DROPS: usize = 64;

/// What of wholes is not in the store yet, one after the other.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    waiting: VecDeque<Compacting>,
}

/// A whole on its way into the store.
#[derive(Debug)]
struct Compacting {
    whole: Whole,
    id: UnitId,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Begin,
    /// The next of the pieces, and how many there are.
    Stage {
        first: u64,
        next: usize,
        pieces: usize,
    },
    /// How many of the runs are let go of.
    Drop(usize),
}

/// The whole state of one cut of a unit.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) cut: usize,
    /// Of which runs it was made.
    pub(super) numbers: Vec<u64>,
    pub(super) state: State,
}

impl Whole {
    /// The whole state of each cut of a unit.
    pub(super) async fn of(unit: &Unit, mergers: Vec<(usize, Arc<Mutex<Merger>>)>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (cut, merger) in mergers {
            let runs = unit.runs.get(&cut).map_or(&[][..], Vec::as_slice);
            let (numbers, states): (Vec<_>, Vec<_>) =
                runs.iter().map(|run| (run.numbers.as_slice(), run.state.clone())).unzip();
            let (numbers, state) = (numbers.concat(), merger.lock().await.merge(&states).await?);
            all.push(Self { cut, numbers, state });
        }
        Ok(all)
    }

    fn piece(&self, number: usize, pieces: usize) -> State {
        let each = self.state.rows().div_ceil(pieces);
        let from = (number * each).min(self.state.rows());
        self.state.slice(from, each.min(self.state.rows() - from))
    }
}

impl Compaction {
    /// Gives up what is under way.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Engine {
    /// Puts a whole in the place of the runs that it was made of, if these are still what there is.
    pub(super) fn compact(&self, worker: &mut Worker, id: &UnitId, whole: Whole) {
        if whole.numbers.len() < 2 || !self.has_runs(id, whole.cut, &whole.numbers) {
            return;
        }
        let run = Run { numbers: whole.numbers.clone(), state: whole.state.clone() };
        self.write().merge(id, whole.cut, run);
        let compacting = Compacting { whole, id: id.clone(), step: Step::Begin };
        worker.compaction.waiting.push_back(compacting);
    }

    /// Some of what is to be written for it. It counts as written: the next commit must take it.
    pub(super) fn compaction(&self, worker: &mut Worker) -> Vec<Write> {
        let (mut writes, mut bytes, mut drops) = (Vec::new(), PIECE_BYTES, DROPS);
        while let Some(Compacting { whole, id, step }) = worker.compaction.waiting.front_mut() {
            let (id, cut) = (id.clone(), whole.cut);
            match step {
                Step::Begin | Step::Stage { .. } if !self.has_runs(&id, cut, &whole.numbers) => {
                    // Let go of meanwhile, with its pieces.
                    worker.compaction.waiting.pop_front();
                }
                Step::Begin => {
                    let pieces =
                        whole.state.memory().div_ceil(PIECE_BYTES).clamp(1, whole.state.rows().max(1));
                    let first = worker.next_number + 1;
                    worker.next_number += pieces as u64;
                    *step = Step::Stage { first, next: 0, pieces };
                    writes.push(Write::Stage { id, cut, first });
                }
                Step::Stage { first, next, pieces } if next == pieces => {
                    let numbers = (*first..).take(*pieces).collect();
                    *step = Step::Drop(0);
                    writes.push(Write::Whole { id, cut, numbers });
                }
                Step::Stage { first, next, pieces } => {
                    let size = whole.state.memory() / *pieces;
                    if bytes < size && bytes < PIECE_BYTES {
                        break;
                    }
                    bytes = bytes.saturating_sub(size);
                    let state = whole.piece(*next, *pieces);
                    writes.push(Write::Piece { id, cut, number: *first + *next as u64, state });
                    *next += 1;
                }
                Step::Drop(done) => {
                    let now = &whole.numbers[*done..whole.numbers.len().min(*done + drops)];
                    writes.extend(now.iter().map(|&number| Write::DropRun { id: id.clone(), cut, number }));
                    (*done, drops) = (*done + now.len(), drops - now.len());
                    if *done < whole.numbers.len() {
                        break;
                    }
                    worker.compaction.waiting.pop_front();
                }
            }
        }
        writes
    }
}
