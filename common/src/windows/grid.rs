//! Which windows of fixed length a moment is in.
//!
//! Windows begin at `offset + n * step` for every integer `n`, counted from 1970-01-01 00:00 UTC, and are `size` long:
//!
//! ```text
//! t in window  <=>  start <= t < end        end - start = size        step | start - offset
//! ```
//!
//! also before 1970. Time is an `i64` of any unit. At the ends of its range a start or end that would lie beyond is
//! the last value there is; which events share a window does not change by that.

use datafusion::common::plan_err;
use datafusion::error::Result;

/// The most windows that one moment may be in.
const MOST_WINDOWS: i64 = 10_000;

/// A start, inclusive, and an end, exclusive.
pub(super) type Window = (i64, i64);

/// Windows of one length at regular distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    step: i64,
    size: i64,
    /// From 0 to `step`, exclusive.
    offset: i64,
}

impl Grid {
    /// Windows one after the other.
    pub(super) fn tumble(size: i64, offset: i64) -> Result<Self> {
        Self::hop(size, size, offset)
    }

    /// Windows that overlap, if `step` is less than `size`, or else leave gaps.
    pub(super) fn hop(step: i64, size: i64, offset: i64) -> Result<Self> {
        if step <= 0 || size <= 0 {
            return plan_err!("a window's size and the step to the next one must be more than nothing");
        }
        if size / step > MOST_WINDOWS {
            return plan_err!(
                "the size is {} steps, and the most is {MOST_WINDOWS}: make the step longer",
                size / step
            );
        }
        Ok(Self { step, size, offset: offset.rem_euclid(step) })
    }

    /// Windows of `step`, 2 `step`, … up to `size`, which begin together, and anew after `size`.
    pub(super) fn cumulate(step: i64, size: i64, offset: i64) -> Result<Self> {
        let grid = Self::hop(step, size, 0)?;
        if size % step != 0 {
            return plan_err!("cumulate needs a size that is a multiple of its step");
        }
        Ok(Self { offset: offset.rem_euclid(size), ..grid })
    }

    /// The panes of these windows: the longest windows, one after the other, that each window is made of.
    pub(super) fn panes(self) -> Self {
        let pane = gcd(self.step, self.size);
        Self { step: pane, size: pane, offset: self.offset % pane }
    }

    /// The window that `t` is in, if windows come one after the other; in general the latest one that begins by `t`.
    pub(super) fn latest(self, t: i64) -> Window {
        let since = self.since(t, self.step);
        (t.saturating_sub(since), t.saturating_add(self.size - since))
    }

    /// The window that begins at `t`, whatever the grid.
    pub(super) fn from(self, t: i64) -> Window {
        (t, t.saturating_add(self.size))
    }

    /// All windows that `t` is in, in the order of their starts.
    pub(super) fn hops(self, t: i64) -> impl Iterator<Item = Window> {
        self.hops_within(t, None, None)
    }

    /// The windows that `t` is in with `from <= start < until`, in the order of their starts.
    pub(super) fn hops_within(
        self,
        t: i64,
        from: Option<i64>,
        until: Option<i64>,
    ) -> impl Iterator<Item = Window> {
        let since = self.since(t, self.step);
        let count = if since < self.size { (self.size - 1 - since) / self.step + 1 } else { 0 };
        // The k-th window back began at t - since - k * step: few of many are looked at.
        let back = |to: i64| i128::from(t) - i128::from(since) - i128::from(to);
        let step = i128::from(self.step);
        let most = from.map_or(i128::from(count), |from| back(from).div_euclid(step) + 1);
        let least = until.map_or(0, |until| back(until).div_euclid(step) + 1);
        let bounded = |k: i128| i64::try_from(k.clamp(0, i128::from(count))).unwrap_or(count);
        (bounded(least)..bounded(most)).rev().map(move |k| {
            let back = since + k * self.step;
            (t.saturating_sub(back), t.saturating_add(self.size - back))
        })
    }

    /// The windows that contain a block whole, and not the whole block of `parent` ticks that it is a part of; with
    /// no `parent`, all that contain it. Blocks of both lengths begin at the offset.
    pub(super) fn around_block(self, block: Window, parent: i64) -> impl Iterator<Item = Window> {
        let (start, end) = (i128::from(block.0), i128::from(block.1));
        let (step, size) = (i128::from(self.step), i128::from(self.size));
        // Windows begin at offset + n * step: those with `from <= start < until`.
        let begin = |from: i128, until: i128| {
            let first = |at: i128| -(i128::from(self.offset) - at).div_euclid(step);
            (first(from)..first(until)).map(move |n| i128::from(self.offset) + n * step)
        };
        let (early, late) = if parent == 0 {
            (begin(end - size, start + 1), begin(0, 0))
        } else {
            let parent = i128::from(parent);
            let parent_start = start - (start - i128::from(self.offset)).rem_euclid(parent);
            let parent_end = parent_start + parent;
            // The parent is in the windows that begin from its end less their size to its start.
            match parent_end - size <= parent_start {
                true => (begin(end - size, parent_end - size), begin(parent_start + 1, start + 1)),
                false => (begin(end - size, start + 1), begin(0, 0)),
            }
        };
        let bounded = |t: i128| i64::try_from(t.clamp(i64::MIN.into(), i64::MAX.into())).unwrap_or_default();
        early.chain(late).map(move |start| (bounded(start), bounded(start + size)))
    }

    /// All cumulating windows that `t` is in, in the order of their ends.
    pub(super) fn cumulations(self, t: i64) -> impl Iterator<Item = Window> {
        let since = self.since(t, self.size);
        (since / self.step + 1..=self.size / self.step)
            .map(move |k| (t.saturating_sub(since), t.saturating_add(k * self.step - since)))
    }

    /// How long ago, at `t`, the last window began, if one begins every `period`.
    fn since(self, t: i64, period: i64) -> i64 {
        let since = t.rem_euclid(period) - self.offset;
        if since < 0 { since + period } else { since }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hops(step: i64, size: i64, offset: i64, t: i64) -> Vec<Window> {
        Grid::hop(step, size, offset).unwrap().hops(t).collect()
    }

    proptest! {
        #[test]
        fn bounds_choose_among_the_windows(
            step in 1i64..20, size in 1i64..100, t in -200i64..200,
            from in proptest::option::of(-250i64..250), until in proptest::option::of(-250i64..250),
        ) {
            let grid = Grid::hop(step, size, 3).unwrap();
            let chosen: Vec<Window> = grid.hops_within(t, from, until).collect();
            let fits = |w: &Window| from.is_none_or(|f| f <= w.0) && until.is_none_or(|u| w.0 < u);
            prop_assert_eq!(chosen, grid.hops(t).filter(fits).collect::<Vec<_>>());
        }
    }

    proptest! {
        /// Each pane of a window is found once, itself or in one of the blocks that it is a part of.
        #[test]
        fn blocks_make_up_windows(
            slide in 1i64..8, windows in 1i64..40, offset in 0i64..9, t in -500i64..500,
            levels in proptest::sample::subsequence(vec![2i64, 6, 12, 24], 0..3),
        ) {
            let grid = Grid::hop(slide, slide * windows, offset).unwrap();
            let pane = grid.panes();
            let mut found = Vec::new();
            let lengths: Vec<i64> = std::iter::once(pane.size).chain(levels.iter().map(|n| n * pane.size)).collect();
            let lengths: Vec<i64> = lengths.iter().copied().filter(|l| *l <= grid.size).collect();
            let nested = lengths.windows(2).all(|l| l[1] % l[0] == 0);
            prop_assume!(nested);
            for (i, length) in lengths.iter().enumerate() {
                let block = Grid { step: *length, size: *length, offset: grid.offset }.latest(t);
                found.extend(grid.around_block(block, lengths.get(i + 1).copied().unwrap_or(0)));
            }
            found.sort_unstable();
            prop_assert_eq!(found, grid.hops(t).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_moment_is_in_the_windows_that_contain_it() {
        assert_eq!(Grid::tumble(10, 0).unwrap().latest(25), (20, 30));
        assert_eq!(Grid::tumble(10, 0).unwrap().latest(20), (20, 30), "a start is in");
        assert_eq!(Grid::tumble(10, 0).unwrap().latest(-1), (-10, 0), "before 1970");
        assert_eq!(Grid::tumble(10, 3).unwrap().latest(2), (-7, 3), "with an offset");
        assert_eq!(hops(5, 10, 0, 12), [(5, 15), (10, 20)]);
        assert_eq!(hops(4, 10, 0, 9), [(0, 10), (4, 14), (8, 18)]);
        assert_eq!(hops(10, 4, 0, 13), [(10, 14)]);
        assert_eq!(hops(10, 4, 0, 14), [], "between windows");
        let cumulations: Vec<_> = Grid::cumulate(5, 15, 0).unwrap().cumulations(21).collect();
        assert_eq!(cumulations, [(15, 25), (15, 30)]);
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        for refused in [Grid::tumble(0, 0), Grid::tumble(-1, 0), Grid::hop(0, 1, 0), Grid::cumulate(2, 5, 0)]
        {
            assert!(refused.is_err());
        }
        assert!(Grid::hop(1, MOST_WINDOWS + 1, 0).unwrap_err().to_string().contains("make the step longer"));
    }

    #[test]
    fn at_the_ends_of_time_windows_stop_and_nothing_overflows() {
        let tumble = Grid::tumble(10, 0).unwrap();
        assert_eq!(tumble.latest(i64::MIN), (i64::MIN, i64::MIN + 8));
        assert_eq!(tumble.latest(i64::MAX), (i64::MAX - 7, i64::MAX));
        let longest = Grid::tumble(i64::MAX, i64::MIN).unwrap();
        assert!(longest.latest(i64::MIN).0 == i64::MIN && longest.latest(i64::MAX).1 == i64::MAX);
        assert_eq!(hops(6, 12, 0, i64::MIN).len(), 2);
    }

    proptest! {
        #[test]
        fn windows_are_those_that_a_search_finds(
            t in -200i64..200, step in 1i64..30, size in 1i64..60, offset in -70i64..70
        ) {
            let found = hops(step, size, offset, t);
            let starts = (-400..400).filter(|s| (s - offset).rem_euclid(step) == 0);
            let expected: Vec<_> = starts.map(|s| (s, s + size)).filter(|(s, e)| *s <= t && t < *e).collect();
            prop_assert_eq!(&found, &expected);
            // A pane lies wholly in each window that one of its moments is in.
            let pane = Grid::hop(step, size, offset).unwrap().panes().latest(t);
            prop_assert!(pane.0 <= t && t < pane.1);
            prop_assert!(found.iter().all(|(s, e)| *s <= pane.0 && pane.1 <= *e));
            prop_assert_eq!(hops(step, size, offset, pane.0), found);
        }
    }
}
