//! The horizons of a view's batch views, as they were seen, and which of them have had their grace.
//!
//! ```text
//! over(now) = the newest horizon that was first seen a grace before now
//! ```
//!
//! Each horizon has a grace of its own: newer ones do not take it away, however often they come.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;
use twofold_common::Horizon;

/// Horizons in the order in which they were seen: of those whose grace is over only the newest, then the others.
#[derive(Debug, Default)]
pub(super) struct Horizons(VecDeque<(Horizon, Instant)>);

impl Horizons {
    /// Takes notice of the newest horizon.
    pub(super) fn see(&mut self, horizon: &Horizon, now: Instant) {
        if self.0.back().is_none_or(|(known, _)| known != horizon) {
            self.0.push_back((horizon.clone(), now));
        }
    }

    /// The newest horizon whose grace is over.
    pub(super) fn over(&mut self, now: Instant, grace: Duration) -> Option<&Horizon> {
        let is_over = |(_, seen): &(Horizon, Instant)| now.duration_since(*seen) >= grace;
        while self.0.get(1).is_some_and(is_over) {
            self.0.pop_front();
        }
        self.0.front().filter(|first| is_over(first)).map(|(horizon, _)| horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::{Offset, Partition};

    fn horizon(offset: u64) -> Horizon {
        Horizon::from([("clicks".to_string(), [(Partition(0), Offset(offset))].into())])
    }

    #[test]
    fn horizons_that_come_faster_than_the_grace_are_over_one_after_the_other() {
        let (mut horizons, start, grace) = (Horizons::default(), Instant::now(), Duration::from_secs(60));
        let mut over = Vec::new();
        for tick in 0..6 {
            let now = start + grace / 2 * tick;
            horizons.see(&horizon(tick.into()), now);
            horizons.see(&horizon(tick.into()), now);
            over.push(horizons.over(now, grace).cloned());
        }
        let expected = [None, None, Some(0), Some(1), Some(2), Some(3)];
        assert_eq!(over, expected.map(|offset| offset.map(horizon)));
        assert_eq!(horizons.0.len(), 3, "what a newer one has replaced is forgotten");
    }

    #[test]
    fn without_grace_the_newest_is_over_at_once() {
        let (mut horizons, now) = (Horizons::default(), Instant::now());
        horizons.see(&horizon(1), now);
        horizons.see(&horizon(2), now);
        assert_eq!(horizons.over(now, Duration::ZERO), Some(&horizon(2)));
    }
}
