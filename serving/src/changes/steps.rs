//! The last steps of a watched view, so that a reader who has missed some gets the one that they come to.
//!
//! ```text
//! apply(together([a, b, …]), rows) = apply(…, apply(b, apply(a, rows)))
//! ```
//!
//! They are kept while they are shorter than the rows themselves: who has missed more is sent those.

use super::content::{Difference, Line};
use std::collections::{BTreeMap, VecDeque};

/// How many lines are kept, however few rows there are.
const LEAST: usize = 1_000;

/// Differences, each leading from one generation to the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps {
    steps: VecDeque<std::sync::Arc<Difference>>,
    lines: usize,
}

impl Difference {
    /// How many lines it has.
    pub(crate) fn lines(&self) -> usize {
        self.changed.len() + self.removed.len()
    }

    /// The one step that these come to, in this order. With `has_key` a key stands for one row.
    pub(crate) fn together<'a>(steps: impl Iterator<Item = &'a Difference>, has_key: bool) -> Difference {
        if has_key { last_of_each_key(steps) } else { sum(steps) }
    }
}

fn last_of_each_key<'a>(steps: impl Iterator<Item = &'a Difference>) -> Difference {
    let mut last: BTreeMap<&Line, Option<&Line>> = BTreeMap::new();
    for step in steps {
        last.extend(step.removed.iter().map(|key| (key, None)));
        last.extend(step.changed.iter().map(|(key, row)| (key, Some(row))));
    }
    let mut together = Difference::default();
    for (key, row) in last {
        match row {
            Some(row) => together.changed.push((key.clone(), row.clone())),
            None => together.removed.push(key.clone()),
        }
    }
    together
}

fn sum<'a>(steps: impl Iterator<Item = &'a Difference>) -> Difference {
    let mut count: BTreeMap<&Line, i64> = BTreeMap::new();
    for step in steps {
        step.removed.iter().for_each(|row| *count.entry(row).or_default() -= 1);
        step.changed.iter().for_each(|(row, _)| *count.entry(row).or_default() += 1);
    }
    let mut together = Difference::default();
    for (row, count) in count {
        let times = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        if count > 0 {
            together.changed.extend(std::iter::repeat_n((row.clone(), row.clone()), times));
        } else {
            together.removed.extend(std::iter::repeat_n(row.clone(), times));
        }
    }
    together
}

impl Steps {
    /// These and one more, without the first ones when they have more lines than `rows`.
    pub(crate) fn and(&self, step: Difference, rows: usize) -> Self {
        let mut next = self.clone();
        next.lines += step.lines();
        next.steps.push_back(std::sync::Arc::new(step));
        while next.lines > rows.max(LEAST) {
            let Some(first) = next.steps.pop_front() else { break };
            next.lines -= first.lines();
        }
        next
    }

    /// The last `count` of them as one, if they are kept.
    pub(crate) fn last(&self, count: u64, has_key: bool) -> Option<Difference> {
        let first = self.steps.len().checked_sub(usize::try_from(count).ok()?)?;
        Some(Difference::together(self.steps.range(first..).map(AsRef::as_ref), has_key))
    }
}
