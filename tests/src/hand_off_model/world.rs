//! The state of the model: what is durable, and what each of those who take steps has in hand.
//!
//! An event is its offset. States are counts of how often each event went into them, so that an event that is missing
//! and one that is there twice can both be seen. A file's name holds the digest of its bytes: to exist is to be right.

use super::HandOff;
use std::collections::BTreeSet;

/// The most events that a world can have.
pub(super) const MAX_EVENTS: usize = 5;

/// How often each event is in a state.
pub(super) type Counts = [u8; MAX_EVENTS];

/// Offsets from `start` up to `end`, exclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Range {
    pub(super) start: u8,
    pub(super) end: u8,
}

impl Range {
    pub(super) fn contains(self, offset: u8) -> bool {
        (self.start..self.end).contains(&offset)
    }

    /// Folds the events of the range into a state.
    pub(super) fn fold_into(self, counts: &mut Counts) {
        for offset in self.start..self.end {
            counts[usize::from(offset)] += 1;
        }
    }
}

/// A manifest: what its newest version says. Who has read it holds a [`Ticket`] for the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Manifest<T> {
    pub(super) body: T,
    /// Whether two puts after the same version have ever succeeded.
    pub(super) put_twice: bool,
}

impl<T> Manifest<T> {
    pub(super) fn put(&mut self, ticket: Ticket, body: T) {
        self.body = body;
        self.put_twice |= ticket == Ticket::Overtaken;
    }
}

/// The version that a put is made after. Which number it has makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Ticket {
    Newest,
    /// A put after the same version has succeeded.
    Overtaken,
}

/// A batch view: the state of all events below its horizon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BatchView {
    pub(super) horizon: u8,
    pub(super) counts: Counts,
}

/// A segment as its owner has it, with the states of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Piece {
    pub(super) range: Range,
    pub(super) sealed: bool,
}

/// One who takes itself for the owner of the partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Owner {
    /// Durable: what is folded and not dropped, in offset order. Only the last can be open.
    pub(super) pieces: Vec<Piece>,
    /// Durable: states below are dropped.
    pub(super) from: u8,
    /// Durable: everything below has been part of an epoch.
    pub(super) folded: u8,
    /// In memory only.
    pub(super) archiving: Archiving,
}

/// How far an owner's archiver is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Archiving {
    #[default]
    Idle,
    /// The files of `segments` are written; the next manifest shall say so.
    Written { ticket: Ticket, segments: Vec<Range> },
    /// Another put the manifest first.
    Lost,
    /// Only by mistake: the manifest names `segments`, and their files are still to be written.
    Named { segments: Vec<Range> },
}

/// A batch run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Run {
    #[default]
    Idle,
    /// It has read the last batch view.
    Taken { ticket: Ticket, last: BatchView },
    /// It has made the next one.
    Folded { ticket: Ticket, next: BatchView },
    /// Another published first.
    Lost,
}

/// One client, who asks again and again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Query {
    #[default]
    Idle,
    /// It has taken a batch view, and is to ask the speed layer.
    Begun {
        batch: BatchView,
        so_far: SoFar,
    },
    Answered {
        horizon: u8,
        end: u8,
        counts: Counts,
        so_far: SoFar,
    },
    /// What came together was no coverage.
    Refused,
}

/// What has become of a query since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SoFar {
    /// Where the log ended when it began. No earlier answer can have ended above that.
    pub(super) acknowledged: u8,
    pub(super) met: Met,
}

/// What a query has met with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Met {
    #[default]
    Nothing,
    /// An owner crashed that still held what the newest batch view covers.
    Crash,
    /// It was told that what it asked for was dropped.
    Dropped,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) log: Range,
    pub(super) archive: Manifest<Vec<Range>>,
    pub(super) files: BTreeSet<Range>,
    pub(super) batch_views: Manifest<BatchView>,
    pub(super) owners: Vec<Owner>,
    pub(super) runs: Vec<Run>,
    pub(super) queries: Vec<Query>,
}

impl World {
    pub(super) fn new(model: &HandOff) -> Self {
        assert!(usize::from(model.events) <= MAX_EVENTS, "a state counts {MAX_EVENTS} events at most");
        Self {
            log: Range { start: 0, end: model.appended },
            archive: Manifest::default(),
            files: BTreeSet::new(),
            batch_views: Manifest::default(),
            owners: vec![Owner::default(); model.owners],
            runs: vec![Run::Idle; model.runs],
            queries: vec![Query::Idle; model.queries],
        }
    }

    /// Where the archive ends.
    pub(super) fn archived(&self) -> u8 {
        self.archive.body.last().map_or(0, |segment| segment.end)
    }

    /// Lets go of garbage, and of differences that make none: a file that nobody names or is about to name can only be
    /// written again, as the same bytes; who was overtaken can only lose, whatever it was to put; and of two
    /// owners, runs or queries it does not matter which is which.
    pub(super) fn settle(&mut self, conditional: bool) {
        let (archive, owners) = (&self.archive.body, &self.owners);
        self.files.retain(|file| archive.contains(file) || owners.iter().any(|owner| owner.is_to_name(file)));
        if conditional {
            self.forget_overtaken();
        }
        self.owners.sort_unstable();
        self.runs.sort_unstable();
        self.queries.sort_unstable();
    }

    fn forget_overtaken(&mut self) {
        for owner in &mut self.owners {
            if let Archiving::Written { ticket: Ticket::Overtaken, segments } = &mut owner.archiving {
                segments.clear();
            }
        }
        for run in &mut self.runs {
            if let Run::Taken { ticket: ticket @ Ticket::Overtaken, .. }
            | Run::Folded { ticket: ticket @ Ticket::Overtaken, .. } = *run
            {
                *run = Run::Folded { ticket, next: BatchView::default() };
            }
        }
    }

    /// Tells all who hold a ticket for the next archive manifest, or for the next batch view, that it is put.
    pub(super) fn overtake_owners(&mut self) {
        for owner in &mut self.owners {
            if let Archiving::Written { ticket, .. } = &mut owner.archiving {
                *ticket = Ticket::Overtaken;
            }
        }
    }

    pub(super) fn overtake_runs(&mut self) {
        for run in &mut self.runs {
            if let Run::Taken { ticket, .. } | Run::Folded { ticket, .. } = run {
                *ticket = Ticket::Overtaken;
            }
        }
    }
}

impl Owner {
    fn is_to_name(&self, file: &Range) -> bool {
        matches!(&self.archiving, Archiving::Written { segments, .. } if segments.contains(file))
    }

    /// The sealed segments that end above `from`.
    pub(super) fn sealed(&self, from: u8) -> Vec<Range> {
        let sealed = self.pieces.iter().filter(|piece| piece.sealed && piece.range.end > from);
        sealed.map(|piece| piece.range).collect()
    }
}
