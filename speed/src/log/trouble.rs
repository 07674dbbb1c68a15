//! When to try again after the disk has failed: after [`FIRST`], then after twice as long each time, up to [`LONGEST`].

use std::time::Duration;
use tokio::time::Instant;
use twofold_common::{Error, Result};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A disk that fails.
#[derive(Debug)]
pub(super) struct Trouble {
    reason: String,
    failures: u32,
    delay: Duration,
    until: Instant,
}

impl Trouble {
    /// It failed for the first time.
    pub(super) fn new(reason: String) -> Self {
        Self { reason, failures: 1, delay: FIRST, until: Instant::now() + FIRST }
    }

    /// It failed again.
    pub(super) fn again(&mut self, reason: String) {
        self.reason = reason;
        self.failures += 1;
        self.delay = (self.delay * 2).min(LONGEST);
        self.until = Instant::now() + self.delay;
    }

    /// How often it failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next try is due.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Refuses until the next try is due.
    ///
    /// # Errors
    /// `Unavailable`, with what the disk said last.
    pub(super) fn may_try(&self) -> Result<()> {
        if Instant::now() < self.until { Err(Error::Unavailable(self.reason.clone())) } else { Ok(()) }
    }
}
