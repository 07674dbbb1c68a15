//! Wall time and processor time.

use std::time::{Duration, Instant};

/// How long something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// On the clock.
    pub(crate) wall: Duration,
    /// Of all threads of this process; `None` where the system does not tell (not Linux).
    pub(crate) cpu: Option<Duration>,
}

/// Since when.
pub(crate) struct Started {
    wall: Instant,
    cpu: Option<Duration>,
}

/// Begins to measure.
pub(crate) fn start() -> Started {
    Started { cpu: cpu(), wall: Instant::now() }
}

impl Started {
    /// What it has cost since then.
    pub(crate) fn cost(&self) -> Cost {
        let wall = self.wall.elapsed();
        Cost { wall, cpu: cpu().zip(self.cpu).map(|(now, then)| now.saturating_sub(then)) }
    }
}

/// The processor time of this process's threads that live. What ended meanwhile is missing, and where the kernel counts in
/// ticks, so is what is shorter than one: measure for seconds.
fn cpu() -> Option<Duration> {
    let mut all = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        all += Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?);
    }
    Some(all)
}

/// The median, the least and the most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of some numbers; of none, all are 0.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}
