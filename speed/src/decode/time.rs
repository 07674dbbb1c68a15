//! Dates and times from text (ISO 8601), in the proleptic Gregorian calendar, without leap seconds.

use super::fault::Misfit;
use arrow::datatypes::TimeUnit;

const NANOS: i128 = 1_000_000_000;

/// `YYYY-MM-DD` as days since 1970-01-01.
pub(crate) fn date(text: &str) -> Result<i32, Misfit> {
    match read_date(text.as_bytes()) {
        Some((days, [])) => Ok(days),
        _ => Err(Misfit::Shape),
    }
}

/// `HH:MM[:SS[.fraction]]` as units since midnight.
pub(crate) fn time_of_day(text: &str, unit: TimeUnit) -> Result<i64, Misfit> {
    match read_time(text.as_bytes()) {
        Some((nanos, [])) => in_unit(i128::from(nanos), unit),
        _ => Err(Misfit::Shape),
    }
}

/// `YYYY-MM-DD[(T| )HH:MM[:SS[.fraction]][zone]]` as units since the epoch.
///
/// A zone is `Z`, `±HH`, `±HHMM` or `±HH:MM`, and is converted to UTC; a text without zone is UTC. The fraction has
/// at most nine digits.
pub(crate) fn timestamp(text: &str, unit: TimeUnit) -> Result<i64, Misfit> {
    let nanos = read_timestamp(text.as_bytes()).ok_or(Misfit::Shape)?;
    in_unit(nanos, unit)
}

/// Milliseconds since the epoch, as units since the epoch.
pub(crate) fn epoch_millis(millis: i64, unit: TimeUnit) -> Result<i64, Misfit> {
    in_unit(i128::from(millis) * 1_000_000, unit)
}

fn in_unit(nanos: i128, unit: TimeUnit) -> Result<i64, Misfit> {
    let size = match unit {
        TimeUnit::Second => NANOS,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    // Nearly all times fit, and a division of 64 bits takes a fraction of the time.
    if let Ok(nanos) = i64::try_from(nanos) {
        let size = size as i64;
        return if nanos % size == 0 { Ok(nanos / size) } else { Err(Misfit::Inexact) };
    }
    if nanos % size != 0 {
        return Err(Misfit::Inexact);
    }
    (nanos / size).try_into().map_err(|_| Misfit::Range)
}

fn read_timestamp(text: &[u8]) -> Option<i128> {
    let (days, rest) = read_date(text)?;
    let midnight = i128::from(days) * 86_400 * NANOS;
    let rest = match rest {
        [] => return Some(midnight),
        [b'T' | b't' | b' ', rest @ ..] => rest,
        _ => return None,
    };
    let (nanos, rest) = read_time(rest)?;
    let offset_minutes = read_zone(rest)?;
    Some(midnight + i128::from(nanos) - i128::from(offset_minutes) * 60 * NANOS)
}

fn read_date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return None };
    let year = number(&[y1, y2, y3, y4])?;
    let (month, day) = (number(&[m1, m2])?, number(&[d1, d2])?);
    let valid = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    valid.then(|| (days_from_civil(year, month, day), rest))
}

fn read_time(text: &[u8]) -> Option<(i64, &[u8])> {
    let (start, mut rest) = text.split_first_chunk::<5>()?;
    let [h1, h2, b':', m1, m2] = *start else { return None };
    let (hour, minute) = (number(&[h1, h2])?, number(&[m1, m2])?);
    let (mut second, mut fraction) = (0, 0);
    if let [b':', s1, s2, after @ ..] = rest {
        second = number(&[*s1, *s2])?;
        rest = after;
        if let [b'.', after @ ..] = rest {
            let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return None;
            }
            fraction = number(&after[..digits])? * 10i32.pow(9 - digits as u32);
            rest = &after[digits..];
        }
    }
    let valid = hour < 24 && minute < 60 && second < 60;
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    valid.then(|| (seconds * NANOS as i64 + i64::from(fraction), rest))
}

/// Minutes east of UTC.
fn read_zone(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h1, h2] => ([h1, h2], *b"00"),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => ([h1, h2], [m1, m2]),
        _ => return None,
    };
    let (hours, minutes) = (number(&hours)?, number(&minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// At most nine digits.
fn number(digits: &[u8]) -> Option<i32> {
    let all = digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |value, digit| value * 10 + i32::from(digit - b'0')))
}

fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    #[test]
    fn every_day_is_where_chrono_has_it() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let mut day = NaiveDate::from_ymd_opt(1580, 1, 1).unwrap();
        while day < NaiveDate::from_ymd_opt(2405, 1, 1).unwrap() {
            let ours = date(&day.format("%Y-%m-%d").to_string()).unwrap();
            assert_eq!(i64::from(ours), (day - epoch).num_days());
            day = day.succ_opt().unwrap();
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in [
            "2013-02-29",
            "2013-13-01",
            "2013-00-01",
            "2013-01-32",
            "1900-02-29",
            "2013-1-1",
            "2013-01-01x",
            "",
        ] {
            assert_eq!(date(text), Err(Misfit::Shape), "{text}");
        }
        assert!(date("2000-02-29").is_ok());
    }

    #[test]
    fn timestamps_with_and_without_zone() {
        let nanos = |text| timestamp(text, TimeUnit::Nanosecond);
        let base = 1_357_034_400_000_000_000;
        for text in [
            "2013-01-01T10:00:00Z",
            "2013-01-01 10:00",
            "2013-01-01t05:00:00-05",
            "2013-01-01T15:30:00+0530",
            "2013-01-01T15:30:00.000000000+05:30",
        ] {
            assert_eq!(nanos(text), Ok(base), "{text}");
        }
        assert_eq!(nanos("2013-01-01 10:00:00.123456789"), Ok(base + 123_456_789));
        assert_eq!(nanos("1969-12-31T23:59:59.9"), Ok(-100_000_000));
        assert_eq!(nanos("2013-01-01"), Ok(base - 36_000_000_000_000));
    }

    #[test]
    fn what_is_no_timestamp_or_does_not_fit_is_refused() {
        for text in [
            "2013-01-01T",
            "2013-01-01T25:00",
            "2013-01-01T10:00:60",
            "2013-01-01T10:00:00.",
            "2013-01-01T10",
            "2013-01-01T10:00:00.1234567890",
            "2013-01-01T10:00:00 Z",
            "2013-01-01T10:00+5",
            "now",
            "2013-01-01T10:00é",
        ] {
            assert_eq!(timestamp(text, TimeUnit::Nanosecond), Err(Misfit::Shape), "{text}");
        }
        assert_eq!(timestamp("9999-01-01", TimeUnit::Nanosecond), Err(Misfit::Range));
        assert_eq!(timestamp("2013-01-01T00:00:00.5", TimeUnit::Second), Err(Misfit::Inexact));
        assert_eq!(epoch_millis(i64::MAX, TimeUnit::Nanosecond), Err(Misfit::Range));
        assert_eq!(epoch_millis(1500, TimeUnit::Microsecond), Ok(1_500_000));
    }

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day("10:30", TimeUnit::Second), Ok(37_800));
        assert_eq!(time_of_day("00:00:00.000001", TimeUnit::Microsecond), Ok(1));
        assert_eq!(time_of_day("24:00", TimeUnit::Second), Err(Misfit::Shape));
    }
}
