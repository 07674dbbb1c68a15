//! A model of the hand-off, small enough that every order of its steps can be tried.
//!
//! ```text
//! answer = batch[0, H) + speed[H, end)        each offset once, end >= all that was acknowledged before the query
//! ```
//!
//! One stream, one partition, one view, and a handful of events. Owners of the partition, batch runs and queries take
//! their steps in any order. An owner may be a zombie: it knows nothing of the others but what the manifests say. At
//! any time an owner may crash and come back with its store, or without it; a batch run may be killed. The checker
//! visits each state that can be reached, and [`properties`] says what must hold there.
//!
//! | step                 | stands for                                                                                |
//! | -------------------- | ----------------------------------------------------------------------------------------- |
//! | [`Step::Append`]     | `Log::append` (common/src/log.rs)                                                         |
//! | [`Step::Open`]       | `Engine::open` with an empty store, till all is built (speed/src/engine/mod.rs, build.rs) |
//! | [`Step::Crash`]      | a process that ends, and `Engine::open` with the store that it left                       |
//! | [`Step::Epoch`]      | `Engine::epoch` (speed/src/engine/epoch.rs)                                               |
//! | [`Step::Seal`]       | `Engine::seal`, `seal_closed` (speed/src/engine/seal.rs)                                  |
//! | [`Step::Write`]      | `Archiver::archive_stream` up to its put (batch/src/archiver.rs)                          |
//! | [`Step::Put`]        | `Archive::append`, `Manifests::publish` (common/src/archive.rs, manifest.rs)              |
//! | [`Step::StartAgain`] | `Archiver::run` after a `Conflict` (batch/src/archiver.rs)                                |
//! | [`Step::Retire`]     | `Engine::retire`, `Held::retire` (speed/src/engine/retire.rs, held.rs)                    |
//! | [`Step::Trim`]       | `Engine::trim`, `Held::covered` (speed/src/engine/retire.rs, held.rs)                     |
//! | [`Step::Take`]       | `Batch::run_view` as it looks up the last batch view (batch/src/run.rs)                   |
//! | [`Step::Fold`]       | `Batch::jobs`, `fold_all` and the merge (batch/src/run.rs, segments.rs)                   |
//! | [`Step::Publish`]    | `Batch::publish` (batch/src/run.rs)                                                       |
//! | [`Step::Kill`]       | a batch run that ends before it has published                                             |
//! | [`Step::Begin`]      | `Basis::take`, `Serving::stored` (serving/src/basis.rs, query.rs)                         |
//! | [`Step::Ask`]        | `Engine::snapshot` (speed/src/engine/layer.rs), `Held::states`, `Basis::coverage`         |
//! | [`Step::Rest`]       | the query is over                                                                         |
//! | [`World::settle`]    | `Gc` (common/src/gc.rs), which here takes at once all that its cutoff lets it take        |
//!
//! A [`Mistake`] takes one rule away. Each is there to show that some property falls without that rule.
//!
//! What the model does not say: that anything is ever done (it has safety only); what an engine answers that did not
//! become fresh in time, or lags behind the horizon; how a manifest comes by its conditional put, prunes, or finds its
//! newest version; gaps in offsets, several partitions, changed views. An owner that lost its put for good opens
//! anew with an empty store: in the code that is a person's decision.

mod properties;
mod steps;
mod tests;
mod world;

use stateright::{Model, Property};
use steps::Step;
use world::World;

/// How large the world is, and what is wrong with it.
#[derive(Debug, Clone, Copy)]
struct HandOff {
    /// How many events there will be.
    events: u8,
    /// How many of them are there from the beginning.
    appended: u8,
    owners: usize,
    runs: usize,
    queries: usize,
    grace: Grace,
    /// Whether an owner may open with an empty store.
    lose_stores: bool,
    mistake: Mistake,
    /// Whether queries remember what they met with: it makes for many more states.
    remember: bool,
}

/// How long an owner waits before it drops states that a new batch view covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grace {
    /// Until no query has an older batch view in hand.
    OutlastsQueries,
    /// Not at all: queries are told that what they ask for was dropped.
    None,
}

/// A rule that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// A manifest is put whatever was put since it was read.
    PutWithoutCondition,
    /// A segment is named in the manifest before its file is written.
    NameBeforeWrite,
    /// The log is trimmed up to what is folded.
    TrimBeforeArchived,
    /// A batch run folds again the segment that ends at the horizon.
    MergeSegmentTwice,
    /// States at or above an offset are given as if none had been dropped, and nobody checks the coverage.
    AnswerDespiteDropped,
    /// States of segments that lie across the horizon are given, and nobody checks the coverage.
    AnswerAcrossHorizon,
    /// The answer does not wait for what was acknowledged before the query.
    AnswerWhatIsThere,
}

impl Model for HandOff {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend(self.possible(world));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, step)?;
        next.settle(self.is_conditional());
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
