//! Durations as people write them: a whole number and a unit, as `5ms`, `10s`, `10m`, `1h` or `1d`.

use crate::error::{Error, Result};
use std::time::Duration;

/// What a duration looks like, for error messages.
pub(crate) const EXAMPLE: &str = "as \"5ms\", \"10s\", \"10m\", \"1h\" or \"1d\"";

/// The duration that `text` says; `None` if it says none, or one too long to count in milliseconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

/// The duration that `text` says, where a setting or parameter of that name takes one.
///
/// # Errors
/// `Invalid` if it says none.
pub fn duration(name: &str, text: &str) -> Result<Duration> {
    parse(text)
        .ok_or_else(|| Error::Invalid(format!("{name}: expected a duration, {EXAMPLE}, found {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_counts_as_it_should() {
        let seconds = |text| parse(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("5ms"), Some(0.005));
        assert_eq!(seconds("10s"), Some(10.0));
        assert_eq!(seconds("10m"), Some(600.0));
        assert_eq!(seconds("1h"), Some(3600.0));
        assert_eq!(seconds(" 1 d "), Some(86400.0));
    }

    #[test]
    fn what_is_no_duration_is_none() {
        for text in
            ["", "5", "ms", "-1s", "1.5h", "1h30m", "1 week", "99999999999999999999s", "999999999999999999d"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
