//! Which rows of sorted batches belong together.

use crate::key_order::{comparators, order_of};
use arrow::array::{ArrayRef, DynComparator};
use datafusion::error::Result;
use std::cmp::Ordering;

/// More than so many are grouped by hashing faster than by comparing each with each.
pub(crate) const MOST_RUNS: usize = 4;

/// Rows by group, the groups in the order of their keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// For each batch, the group of each row.
    pub(super) of: Vec<Vec<usize>>,
    /// For each group, the batch and the row of one that is in it.
    pub(super) firsts: Vec<(usize, usize)>,
    /// Whether the batches follow each other.
    single: bool,
}

/// The keys of one batch, which is sorted by them.
pub(super) struct Keys {
    columns: Vec<ArrayRef>,
    /// Where the rows of each key end.
    ends: Vec<usize>,
}

impl Keys {
    /// `columns` in the order by which the rows are sorted; with `unique`, no two rows have the same key.
    pub(super) fn new(columns: Vec<ArrayRef>, rows: usize, unique: bool) -> Result<Self> {
        let ends = if unique { (1..=rows).collect() } else { ends(&columns, rows)? };
        Ok(Self { columns, ends })
    }
}

/// Where the rows of each key end. Long stretches of one key are crossed in leaps.
fn ends(columns: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
    let comparators = comparators(columns, columns)?;
    let same = |a: usize, b: usize| comparators.iter().all(|compare| compare(a, b).is_eq());
    let mut ends = Vec::new();
    let mut start = 0;
    while start < rows {
        // All below `low` are of the key, and nothing from `high` on is known to be.
        let (mut low, mut leap) = (start + 1, 1);
        let mut high = rows;
        while low < rows {
            let next = (low - 1 + leap).min(rows - 1);
            if !same(start, next) {
                high = next;
                break;
            }
            (low, leap) = (next + 1, leap * 2);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if same(start, middle) { low = middle + 1 } else { high = middle }
        }
        ends.push(low);
        start = low;
    }
    Ok(ends)
}

/// Batches that follow each other: each key of one is below those of the next.
struct Run {
    batches: Vec<usize>,
    /// Which of them, and which key of that.
    at: usize,
    key: usize,
}

impl Run {
    /// The batch and the row where the next key begins.
    fn head(&self, all: &[Keys]) -> Option<(usize, usize)> {
        let batch = *self.batches.get(self.at)?;
        let row = self.key.checked_sub(1).map_or(0, |before| all[batch].ends[before]);
        Some((batch, row))
    }

    /// Gives all rows of the next key to a group.
    fn take(&mut self, all: &[Keys], of: &mut [Vec<usize>], group: usize) {
        let batch = self.batches[self.at];
        let end = all[batch].ends[self.key];
        of[batch].resize(end, group);
        self.key += 1;
        if self.key == all[batch].ends.len() {
            (self.at, self.key) = (self.at + 1, 0);
        }
    }
}

/// Comparisons between rows of two batches, made when they are needed.
struct Comparisons<'a> {
    all: &'a [Keys],
    made: Vec<Option<Vec<DynComparator>>>,
}

impl Comparisons<'_> {
    fn compare(&mut self, (a, i): (usize, usize), (b, j): (usize, usize)) -> Result<Ordering> {
        let made = &mut self.made[a * self.all.len() + b];
        if made.is_none() {
            *made = Some(comparators(&self.all[a].columns, &self.all[b].columns)?);
        }
        Ok(order_of(made.as_deref().unwrap_or_default(), i, j))
    }
}

impl Groups {
    /// Renumbers the groups by where they are seen first, as accumulators need it: how many have been seen after each
    /// batch, and the number of each group in the order of keys, if that is not its place.
    pub(super) fn renumber(&mut self) -> (Vec<usize>, Option<Vec<usize>>) {
        if self.single {
            let seen = self.of.iter().map(|of| of.last().map_or(0, |last| last + 1));
            return (seen.collect(), None);
        }
        let mut numbers = vec![usize::MAX; self.firsts.len()];
        let mut next = 0;
        let mut seen = Vec::with_capacity(self.of.len());
        for of in &mut self.of {
            for group in of {
                if numbers[*group] == usize::MAX {
                    numbers[*group] = next;
                    next += 1;
                }
                *group = numbers[*group];
            }
            seen.push(next);
        }
        let in_place = numbers.iter().enumerate().all(|(place, number)| place == *number);
        (seen, (!in_place).then_some(numbers))
    }
}

/// The groups of these batches, none of which is empty; `None` if more of them stand beside each other than
/// [`MOST_RUNS`].
pub(super) fn groups(all: &[Keys]) -> Result<Option<Groups>> {
    let rows = |keys: &Keys| keys.ends.last().copied().unwrap_or(0);
    let mut comparisons =
        Comparisons { all, made: std::iter::repeat_with(|| None).take(all.len() * all.len()).collect() };
    let mut runs: Vec<Run> = Vec::new();
    for batch in 0..all.len() {
        if let Some(run) = runs.last_mut()
            && let Some(&last) = run.batches.last()
            && comparisons.compare((last, rows(&all[last]) - 1), (batch, 0))?.is_lt()
        {
            run.batches.push(batch);
        } else {
            runs.push(Run { batches: vec![batch], at: 0, key: 0 });
        }
    }
    if runs.len() > MOST_RUNS {
        return Ok(None);
    }
    let mut of: Vec<Vec<usize>> = all.iter().map(|keys| Vec::with_capacity(rows(keys))).collect();
    let mut firsts = Vec::with_capacity(all.iter().map(|keys| keys.ends.len()).max().unwrap_or(0));
    let mut least: Vec<usize> = Vec::with_capacity(runs.len());
    loop {
        let mut first = None;
        least.clear();
        for (i, run) in runs.iter().enumerate() {
            let Some(head) = run.head(all) else { continue };
            let order = match first {
                Some(first) => comparisons.compare(head, first)?,
                None => Ordering::Less,
            };
            if order.is_lt() {
                first = Some(head);
                least.clear();
            }
            if order.is_le() {
                least.push(i);
            }
        }
        let Some(first) = first else { return Ok(Some(Groups { of, firsts, single: runs.len() < 2 })) };
        for &i in &least {
            runs[i].take(all, &mut of, firsts.len());
        }
        firsts.push(first);
    }
}
