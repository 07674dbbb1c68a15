//! Values in the formats of the wire: text as PostgreSQL prints it, and binary.
//!
//! Nothing is rounded but the fractions of microseconds, which PostgreSQL does not have: they are cut off, towards the
//! past.

use super::failure::{Failure, state};
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};
use std::fmt::Write;

/// From 1970 to 2000, where PostgreSQL begins to count.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;
const NAN: u16 = 0xc000;
const POSITIVE: u16 = 0;
const NEGATIVE: u16 = 0x4000;

/// A decimal number, given by its digits as `-12.340`, in binary: digits to the base 10,000.
pub(super) fn numeric(text: &str, out: &mut BytesMut) -> Result<(), Failure> {
    let (sign, digits) = text.strip_prefix('-').map_or((POSITIVE, text), |digits| (NEGATIVE, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let lead = (4 - whole.len() % 4) % 4;
    let trail = (4 - fraction.len() % 4) % 4;
    let zeros = |n: usize| std::iter::repeat_n(b'0', n);
    let all = zeros(lead).chain(whole.bytes()).chain(fraction.bytes()).chain(zeros(trail));
    let all: Vec<u8> = all.collect();
    let mut groups = Vec::with_capacity(all.len() / 4);
    for group in all.chunks(4) {
        let value = group.iter().try_fold(0i16, |value, digit| {
            digit.is_ascii_digit().then(|| value * 10 + i16::from(digit - b'0'))
        });
        groups.push(value.ok_or_else(|| Failure::new(state::DATA, format!("{text} is not a number")))?);
    }
    let mut weight = i16::try_from((whole.len() + lead) / 4).map_err(|_| too_long(text))? - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(i16::try_from(groups.len()).map_err(|_| too_long(text))?);
    out.put_i16(weight);
    out.put_u16(if groups.is_empty() { POSITIVE } else { sign });
    out.put_i16(i16::try_from(fraction.len()).map_err(|_| too_long(text))?);
    groups.into_iter().for_each(|group| out.put_i16(group));
    Ok(())
}

fn too_long(text: &str) -> Failure {
    Failure::new(state::OUT_OF_RANGE, format!("the number {text} is too long"))
}

/// The digits of a number in binary, as they are read again.
pub(super) fn read_numeric(bytes: &[u8]) -> Option<String> {
    let mut numbers = bytes.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let (count, weight, sign, scale) = (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?);
    if sign >= NAN || bytes.len() != 8 + 2 * usize::from(count) {
        return None;
    }
    let weight = i32::from(weight as i16);
    let (mut whole, mut fraction) = (String::new(), String::new());
    let groups: Vec<u16> = numbers.collect();
    if groups.iter().any(|group| *group > 9999) {
        return None;
    }
    let group = |at: i32| usize::try_from(weight - at).ok().and_then(|i| groups.get(i)).copied().unwrap_or(0);
    for at in (0..=weight.max(0)).rev() {
        write!(whole, "{:04}", group(at)).ok()?;
    }
    for at in 1..=i32::from(scale.div_ceil(4)) {
        write!(fraction, "{:04}", group(-at)).ok()?;
    }
    fraction.truncate(usize::from(scale));
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let sign = if sign == NEGATIVE { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

/// A double as text: the fewest digits that read back to it.
pub(super) fn float_text(value: f64, scientific: String, plain: String, out: &mut String) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if (-4..15).contains(&exponent) {
            out.push_str(&plain);
        } else {
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
        }
    }
}

/// `2013-01-01 10:00:00.5`, of microseconds since 1970.
pub(super) fn timestamp_text(microseconds: i64, out: &mut String) -> Result<(), Failure> {
    let time = DateTime::from_timestamp_micros(microseconds).filter(|time| time.year() > 0);
    let time = time.ok_or_else(|| out_of_range("timestamp", microseconds))?.naive_utc();
    let _ = write!(out, "{} ", time.date());
    time_text(time.time(), out);
    Ok(())
}

/// `2013-01-01`, of days since 1970.
pub(super) fn date_text(days: i32, out: &mut String) -> Result<(), Failure> {
    let days = i64::from(days);
    let date = DateTime::from_timestamp(days * 86_400, 0).map(|time| time.date_naive());
    let date = date.filter(|date: &NaiveDate| date.year() > 0);
    let _ = write!(out, "{}", date.ok_or_else(|| out_of_range("date", days))?);
    Ok(())
}

/// `10:00:00.5`
pub(super) fn time_text(time: NaiveTime, out: &mut String) {
    let text = time.format("%H:%M:%S%.6f").to_string();
    // Six digits stand behind the point.
    out.push_str(text.trim_end_matches('0').strip_suffix('.').unwrap_or(text.trim_end_matches('0')));
}

/// `1 year 2 mons 3 days 04:05:06.5`
pub(super) fn interval_text(months: i32, days: i32, microseconds: i64, out: &mut String) {
    let mut parts = Vec::new();
    for (number, one, many) in
        [(months / 12, "year", "years"), (months % 12, "mon", "mons"), (days, "day", "days")]
    {
        if number != 0 {
            parts.push(format!("{number} {}", if number == 1 { one } else { many }));
        }
    }
    if microseconds != 0 || parts.is_empty() {
        let sign = if microseconds < 0 { "-" } else { "" };
        let all = microseconds.unsigned_abs();
        let (seconds, fraction) = (all / 1_000_000, all % 1_000_000);
        let mut time = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        if fraction != 0 {
            time.push_str(format!(".{fraction:06}").trim_end_matches('0'));
        }
        parts.push(time);
    }
    out.push_str(&parts.join(" "));
}

/// Microseconds since 1970 as those since 2000.
pub(super) fn since_2000(microseconds: i64) -> Result<i64, Failure> {
    microseconds.checked_sub(EPOCH_MICROSECONDS).ok_or_else(|| out_of_range("timestamp", microseconds))
}

fn out_of_range(what: &str, value: i64) -> Failure {
    Failure::new(
        state::BAD_TIME,
        format!("a {what} is beyond what PostgreSQL's clients read ({value} since 1970)"),
    )
}

/// An element of an array as text, quoted where it must be.
pub(super) fn element_text(text: &str, out: &mut String) {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace();
    if !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("null") {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// The elements of an array of one dimension that is written as text; `None` if it is not one.
pub(super) fn read_array(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    if inner.trim().is_empty() {
        return Some(elements);
    }
    let (mut element, mut quoted, mut within) = (String::new(), false, false);
    let mut chars = inner.chars();
    loop {
        match chars.next() {
            Some('\\') => element.push(chars.next()?),
            Some('"') => (quoted, within) = (true, !within),
            Some('{' | '}') if !within => return None,
            Some(c) if within => element.push(c),
            Some(',') => elements.push(end_element(&mut element, &mut quoted)),
            Some(c) => element.push(c),
            None if within => return None,
            None => {
                elements.push(end_element(&mut element, &mut quoted));
                return Some(elements);
            }
        }
    }
}

fn end_element(element: &mut String, quoted: &mut bool) -> Option<String> {
    let text = std::mem::take(element);
    if std::mem::take(quoted) {
        return Some(text);
    }
    let text = text.trim();
    (!text.eq_ignore_ascii_case("null")).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_digit_for_digit() {
        for text in [
            "0",
            "0.00",
            "1",
            "-1",
            "10000",
            "12345678",
            "0.0001",
            "-0.00001000",
            "99999999999999999999999999999999999999",
            "-1234567890123456789012345678.9012345678",
            "1000000000000",
            "0.10",
            "123.4500",
        ] {
            let mut out = BytesMut::new();
            numeric(text, &mut out).unwrap();
            assert_eq!(read_numeric(&out).as_deref(), Some(text), "{out:?}");
        }
        let mut out = BytesMut::new();
        numeric("12345.678", &mut out).unwrap();
        // As PostgreSQL sends it: 1 2345 . 6780
        assert_eq!(&out[..], [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 9, 41, 26, 124]);
        for bytes in [
            &[][..],
            &[0, 1, 0, 0, 0xc0, 0, 0, 0],
            &[0, 9, 0, 0, 0, 0, 0, 0],
            &[0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        ] {
            assert_eq!(read_numeric(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn times_are_printed_as_postgresql_prints_them() {
        let timestamp = |us| {
            let mut out = String::new();
            timestamp_text(us, &mut out).map(|()| out)
        };
        assert_eq!(timestamp(0).unwrap(), "1970-01-01 00:00:00");
        assert_eq!(timestamp(1_357_034_400_500_000).unwrap(), "2013-01-01 10:00:00.5");
        assert_eq!(timestamp(-1).unwrap(), "1969-12-31 23:59:59.999999");
        assert_eq!(timestamp(i64::MAX).unwrap_err().code(), state::BAD_TIME);
        let interval = |months, days, us| {
            let mut out = String::new();
            interval_text(months, days, us, &mut out);
            out
        };
        assert_eq!(interval(14, 3, 14_706_500_000), "1 year 2 mons 3 days 04:05:06.5");
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(0, -1, -1_000_000), "-1 days -00:00:01");
    }

    #[test]
    fn doubles_are_printed_as_postgresql_prints_them() {
        let text = |value: f64| {
            let mut out = String::new();
            float_text(value, format!("{value:e}"), value.to_string(), &mut out);
            out
        };
        for (value, expected) in [
            (0.1, "0.1"),
            (1e20, "1e+20"),
            (1.5e-7, "1.5e-07"),
            (-0.0, "-0"),
            (123456.75, "123456.75"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (1e15, "1e+15"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn arrays_are_read_as_they_are_written() {
        let elements = [Some("a"), None, Some("null"), Some(""), Some("b \"c\" \\ {d},")];
        let mut text = String::from("{");
        for (i, element) in elements.iter().enumerate() {
            text.push_str(if i > 0 { "," } else { "" });
            match element {
                Some(element) => element_text(element, &mut text),
                None => text.push_str("NULL"),
            }
        }
        text.push('}');
        let expected: Vec<_> = elements.iter().map(|e| e.map(str::to_string)).collect();
        assert_eq!(read_array(&text), Some(expected));
        assert_eq!(read_array("{}"), Some(vec![]));
        assert_eq!(read_array("{ 1, 2 }"), Some(vec![Some("1".into()), Some("2".into())]));
        for bad in ["", "1", "{{1}}", "{\"a}", "{a\\"] {
            assert_eq!(read_array(bad), None, "{bad}");
        }
    }
}
