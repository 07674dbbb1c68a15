//! When the batch runs by itself.

use super::duration;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86_400);

/// A batch schedule: `every 1h`, `daily 02:00` (UTC) or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Never by itself.
    Off,
    /// At whole multiples of this duration, which is not zero, after the start.
    Every(Duration),
    /// Once a day.
    Daily {
        /// How long after midnight, UTC; less than a day.
        at: Duration,
    },
}

impl Schedule {
    /// The schedule that `text` says; `None` if it says none.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<_> = text.split_whitespace().collect();
        match words.as_slice() {
            ["off"] => Some(Self::Off),
            ["every", every] => duration::parse(every).filter(|d| !d.is_zero()).map(Self::Every),
            ["daily", at] => time_of_day(at).map(|at| Self::Daily { at }),
            _ => None,
        }
    }

    /// The first run after `now`, later than `now` and than `started`; `None` if there is none.
    pub fn next_after(&self, now: SystemTime, started: SystemTime) -> Option<SystemTime> {
        match *self {
            Self::Off => None,
            Self::Every(every) => {
                next_multiple(now.duration_since(started).unwrap_or_default(), every, Duration::ZERO)
                    .and_then(|since_start| started.checked_add(since_start))
            }
            Self::Daily { at } => {
                next_multiple(now.max(started).duration_since(UNIX_EPOCH).unwrap_or_default(), DAY, at)
                    .and_then(|since_epoch| UNIX_EPOCH.checked_add(since_epoch))
            }
        }
    }
}

/// The least `k * step + shift` above `elapsed`, for a whole `k`.
fn next_multiple(elapsed: Duration, step: Duration, shift: Duration) -> Option<Duration> {
    let (elapsed, step, shift) = (elapsed.as_nanos(), step.as_nanos(), shift.as_nanos());
    let next = match elapsed.checked_sub(shift) {
        Some(past) => (past.checked_div(step)? + 1) * step + shift,
        None => shift,
    };
    let seconds = u64::try_from(next / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (next % 1_000_000_000) as u32))
}

fn time_of_day(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits =
        |s: &str| (s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?;
    let (hours, minutes): (u64, u64) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then(|| Duration::from_secs(hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn next(schedule: &str, now: u64, started: u64) -> Option<SystemTime> {
        Schedule::parse(schedule).unwrap().next_after(at(now), at(started))
    }

    #[test]
    fn every_counts_from_the_start() {
        assert_eq!(next("every 1h", 1_000, 1_000), Some(at(4_600)));
        assert_eq!(next("every 1h", 4_599, 1_000), Some(at(4_600)));
        assert_eq!(next("every 1h", 4_600, 1_000), Some(at(8_200)));
        assert_eq!(next("every 1h", 500, 1_000), Some(at(4_600)), "a clock that was set back");
    }

    #[test]
    fn daily_is_the_next_such_time_in_utc() {
        let (midnight, two) = (20_000 * 86_400, 7_200);
        assert_eq!(next("daily 02:00", midnight, 0), Some(at(midnight + two)));
        assert_eq!(next("daily 02:00", midnight + two - 1, 0), Some(at(midnight + two)));
        assert_eq!(next("daily 02:00", midnight + two, 0), Some(at(midnight + two + 86_400)));
        assert_eq!(next("daily 02:00", 0, 0), Some(at(two)));
    }

    #[test]
    fn off_never_comes() {
        assert_eq!(next("off", 5, 0), None);
    }

    #[test]
    fn what_is_no_schedule_is_none() {
        for text in
            ["", "every", "every 0s", "every day", "daily 24:00", "daily 2:00", "daily 02:60", "daily", "on"]
        {
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_duration_does_not_overflow() {
        let schedule = Schedule::Every(Duration::from_millis(u64::MAX));
        assert!(schedule.next_after(at(5), at(0)).is_none_or(|next| next > at(5)));
    }
}
