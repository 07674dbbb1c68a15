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

/// The processor time of all threads of this process, those that ended too. It counts in ticks of 10 ms: measure for
/// seconds.
fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
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
