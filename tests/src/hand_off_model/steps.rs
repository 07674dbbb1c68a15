//! The steps of the model: which there are in a state, and what each changes.
//!
//! A step is as much of the code as nobody can come between, or as only touches what nobody else changes. What several
//! may change at once (log, manifests) is read in one step and written in another.

use super::world::{Archiving, Met, Owner, Piece, Query, Range, Run, SoFar, Ticket, World};
use super::{Grace, HandOff, Mistake};

/// One step; numbers say which owner, run or query takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Append,
    Open(usize),
    Crash(usize),
    Epoch(usize),
    Seal(usize),
    Write(usize),
    Put(usize),
    StartAgain(usize),
    Retire(usize),
    Trim(usize),
    Take(usize),
    Fold(usize),
    Publish(usize),
    Kill(usize),
    Begin(usize),
    /// The query, and the owner that it asks.
    Ask(usize, usize),
    Rest(usize),
}

impl HandOff {
    /// The steps that may be possible. Those that change nothing are no steps.
    pub(super) fn possible(&self, world: &World) -> Vec<Step> {
        // An answer, or a lost put, is looked at and then forgotten: what others do meanwhile they can do after.
        if let Some(o) = world.owners.iter().position(|owner| owner.archiving == Archiving::Lost) {
            return vec![Step::StartAgain(o)];
        }
        if let Some(r) = world.runs.iter().position(|run| *run == Run::Lost) {
            return vec![Step::Kill(r)];
        }
        let over = |query: &Query| matches!(query, Query::Answered { .. } | Query::Refused);
        if let Some(q) = world.queries.iter().position(over) {
            return vec![Step::Rest(q)];
        }
        let of_owners: [fn(usize) -> Step; 8] = [
            Step::Open,
            Step::Crash,
            Step::Epoch,
            Step::Seal,
            Step::Write,
            Step::Put,
            Step::Retire,
            Step::Trim,
        ];
        let of_runs: [fn(usize) -> Step; 4] = [Step::Take, Step::Fold, Step::Publish, Step::Kill];
        let mut steps = vec![Step::Append];
        steps.extend((0..self.owners).flat_map(|o| of_owners.map(|step| step(o))));
        steps.retain(|step| self.lose_stores || !matches!(step, Step::Open(_)));
        steps.extend((0..self.runs).flat_map(|r| of_runs.map(|step| step(r))));
        for q in 0..self.queries {
            steps.push(Step::Begin(q));
            steps.extend((0..self.owners).map(|o| Step::Ask(q, o)));
        }
        steps
    }

    /// Takes a step; `None` if it is not possible now.
    pub(super) fn take(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Append => (world.log.end < self.events).then(|| world.log.end += 1),
            Step::Open(o) => open(world, o),
            Step::Crash(o) => self.crash(world, o),
            Step::Epoch(o) => epoch(world, o),
            Step::Seal(o) => world.owners[o].pieces.last_mut().map(|last| last.sealed = true),
            Step::Write(o) => self.write(world, o),
            Step::Put(o) => self.put(world, o),
            Step::StartAgain(o) => set(&mut world.owners[o].archiving, Archiving::Idle),
            Step::Retire(o) => self.retire(world, o),
            Step::Trim(o) => self.trim(world, o),
            Step::Take(r) => take_last(world, r),
            Step::Fold(r) => self.fold(world, r),
            Step::Publish(r) => self.publish(world, r),
            Step::Kill(r) => set(&mut world.runs[r], Run::Idle),
            Step::Begin(q) => begin(world, q),
            Step::Ask(q, o) => self.ask(world, q, o),
            Step::Rest(q) => set(&mut world.queries[q], Query::Idle),
        }
    }

    /// What a query remembers of what it met with.
    fn met(&self, with: Met) -> Met {
        if self.remember { with } else { Met::Nothing }
    }

    /// An owner ends, and comes back with what is durable.
    fn crash(&self, world: &mut World, o: usize) -> Option<()> {
        let unretired = world.batch_views.body.horizon > world.owners[o].from;
        for query in &mut world.queries {
            if let Query::Begun { so_far, .. } = query
                && unretired
            {
                so_far.met = so_far.met.max(self.met(Met::Crash));
            }
        }
        set(&mut world.owners[o].archiving, Archiving::Idle)
    }

    /// Writes the files of all sealed segments that the archive lacks, if they begin where it ends.
    fn write(&self, world: &mut World, o: usize) -> Option<()> {
        let archiving = match &world.owners[o].archiving {
            Archiving::Idle => {
                let segments = world.owners[o].sealed(world.archived());
                let first = segments.first()?;
                // Another owner archived other segments, or these, and the log is trimmed.
                if first.start != world.archived() || first.start < world.log.start {
                    return None;
                }
                if self.mistake != Mistake::NameBeforeWrite {
                    world.files.extend(&segments);
                }
                Archiving::Written { ticket: Ticket::Newest, segments }
            }
            Archiving::Named { segments } => {
                world.files.extend(segments);
                Archiving::Idle
            }
            Archiving::Written { .. } | Archiving::Lost => return None,
        };
        world.owners[o].archiving = archiving;
        Some(())
    }

    /// Whether a put is made, rather than lost.
    pub(super) fn wins(&self, ticket: Ticket) -> bool {
        ticket == Ticket::Newest || !self.is_conditional()
    }

    pub(super) fn is_conditional(&self) -> bool {
        self.mistake != Mistake::PutWithoutCondition
    }

    /// Names the written segments in the manifest, unless it has been put since it was read.
    fn put(&self, world: &mut World, o: usize) -> Option<()> {
        let Archiving::Written { ticket, segments } = world.owners[o].archiving.clone() else { return None };
        if !self.wins(ticket) {
            world.owners[o].archiving = Archiving::Lost;
            return Some(());
        }
        // What the owner read: versions only add segments at the end.
        let read = world.archive.body.iter().copied().filter(|segment| segment.end <= segments[0].start);
        let body = read.chain(segments.iter().copied()).collect();
        world.archive.put(ticket, body);
        world.overtake_owners();
        world.owners[o].archiving = match self.mistake {
            Mistake::NameBeforeWrite => Archiving::Named { segments },
            _ => Archiving::Idle,
        };
        Some(())
    }

    /// Drops the states below the newest horizon.
    fn retire(&self, world: &mut World, o: usize) -> Option<()> {
        let horizon = world.batch_views.body.horizon;
        let is_older = |query: &Query| matches!(query, Query::Begun { batch, .. } if batch.horizon < horizon);
        let too_early = self.grace == Grace::OutlastsQueries && world.queries.iter().any(is_older);
        let owner = &mut world.owners[o];
        if too_early || horizon <= owner.from || horizon > owner.folded {
            return None;
        }
        owner.pieces.retain(|piece| piece.range.end > horizon);
        owner.from = horizon;
        Some(())
    }

    /// Forgets the log below what is archived and what this owner's view has dropped.
    fn trim(&self, world: &mut World, o: usize) -> Option<()> {
        let owner = &world.owners[o];
        let covered = match self.mistake {
            Mistake::TrimBeforeArchived => owner.folded,
            _ => owner.from.min(world.archived()),
        };
        world.log.start = world.log.start.max(covered);
        Some(())
    }

    /// Merges the segments beyond the last horizon into the last batch view.
    fn fold(&self, world: &mut World, r: usize) -> Option<()> {
        let Run::Taken { ticket, last } = world.runs[r] else { return None };
        let is_new = |segment: &Range| match self.mistake {
            Mistake::MergeSegmentTwice => segment.end >= last.horizon,
            _ => segment.start >= last.horizon,
        };
        let mut next = last;
        next.horizon = world.archived();
        for segment in world.archive.body.iter().filter(|segment| is_new(segment)) {
            if !world.files.contains(segment) {
                return None;
            }
            segment.fold_into(&mut next.counts);
        }
        world.runs[r] = if next.horizon == last.horizon { Run::Idle } else { Run::Folded { ticket, next } };
        Some(())
    }

    fn publish(&self, world: &mut World, r: usize) -> Option<()> {
        let Run::Folded { ticket, next } = world.runs[r] else { return None };
        world.runs[r] = Run::Lost;
        if self.wins(ticket) {
            world.batch_views.put(ticket, next);
            world.runs[r] = Run::Idle;
            world.overtake_runs();
        }
        Some(())
    }

    /// Asks an owner for the states at or above the horizon, once it has folded what was acknowledged, and puts both
    /// together. What was dropped is asked for again above the newest horizon.
    fn ask(&self, world: &mut World, q: usize, o: usize) -> Option<()> {
        let Query::Begun { batch, so_far } = world.queries[q] else { return None };
        let owner = &world.owners[o];
        if owner.folded < so_far.acknowledged && self.mistake != Mistake::AnswerWhatIsThere {
            return None;
        }
        if batch.horizon < owner.from && self.mistake != Mistake::AnswerDespiteDropped {
            let so_far = SoFar { met: so_far.met.max(self.met(Met::Dropped)), ..so_far };
            world.queries[q] = Query::Begun { batch: world.batch_views.body, so_far };
            return Some(());
        }
        let (mut end, mut counts, mut covers) = (batch.horizon, batch.counts, true);
        for piece in owner.pieces.iter().filter(|piece| piece.range.end > batch.horizon) {
            covers &= piece.range.start == end;
            end = piece.range.end;
            piece.range.fold_into(&mut counts);
        }
        let unchecked = matches!(self.mistake, Mistake::AnswerDespiteDropped | Mistake::AnswerAcrossHorizon);
        world.queries[q] = match covers || unchecked {
            true => Query::Answered { horizon: batch.horizon, end, counts, so_far },
            false => Query::Refused,
        };
        Some(())
    }
}

/// Begins with an empty store: folds anew from the newest horizon to the archive's end, then goes on with the log.
fn open(world: &mut World, o: usize) -> Option<()> {
    let (from, folded) = (world.batch_views.body.horizon, world.archived());
    let above = world.archive.body.iter().filter(|segment| segment.start >= from);
    let pieces = above.map(|&range| Piece { range, sealed: true }).collect();
    set(&mut world.owners[o], Owner { pieces, from, folded, archiving: Archiving::Idle })
}

fn set<T>(place: &mut T, to: T) -> Option<()> {
    *place = to;
    Some(())
}

/// Folds the next event of the log into the open segment, or into a new one. A longer epoch is several of these.
fn epoch(world: &mut World, o: usize) -> Option<()> {
    let (log, owner) = (world.log, &mut world.owners[o]);
    if owner.folded >= log.end || owner.folded < log.start {
        return None;
    }
    let range = Range { start: owner.folded, end: owner.folded + 1 };
    match owner.pieces.last_mut() {
        Some(open) if !open.sealed => open.range.end = range.end,
        _ => owner.pieces.push(Piece { range, sealed: false }),
    }
    owner.folded = range.end;
    Some(())
}

/// Reads the last batch view.
fn take_last(world: &mut World, r: usize) -> Option<()> {
    let Run::Idle = world.runs[r] else { return None };
    world.runs[r] = Run::Taken { ticket: Ticket::Newest, last: world.batch_views.body };
    Some(())
}

/// Takes the newest batch view for a query.
fn begin(world: &mut World, q: usize) -> Option<()> {
    let Query::Idle = world.queries[q] else { return None };
    let so_far = SoFar { acknowledged: world.log.end, ..SoFar::default() };
    world.queries[q] = Query::Begun { batch: world.batch_views.body, so_far };
    Some(())
}
