//! Values from text, exactly: no integer or decimal passes through a float, and nothing is rounded silently.
//!
//! A number is `sign digits [. digits] [e sign digits]`, a sign of `+`, leading zeros and a bare point at either
//! end allowed (CSV writers differ; the JSON scanner is stricter before it comes here).

use super::fault::Misfit;
use arrow::datatypes::i256;

/// The longest run of digits that always fits `i64`.
const SMALL: usize = 18;
/// The digits of the largest decimal.
const MAX_DIGITS: i64 = 76;

/// The parts of a number as it is written.
struct Written<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Written<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        (digits && whole.len() + fraction.len() > 0).then_some(Self { negative, whole, fraction, exponent })
    }
}

/// The exponent; one that no type could hold is cut off far beyond every type's range.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
    Some(if text.starts_with('-') { -size } else { size })
}

/// `text` × 10^`scale`, if that is an integer of at most 76 digits.
pub(crate) fn scaled(text: &str, scale: i64) -> Result<i256, Misfit> {
    let number = Written::parse(text).ok_or(Misfit::Shape)?;
    let digits = || number.whole.bytes().chain(number.fraction.bytes());
    let total = number.whole.len() + number.fraction.len();
    let Some(first) = digits().position(|d| d != b'0') else { return Ok(i256::ZERO) };
    let trailing = digits().rev().take_while(|d| *d == b'0').count();
    let significant = total - first - trailing;
    // The last digit that is not zero stands at 10^shift of the result.
    let shift = number.exponent + scale - number.fraction.len() as i64 + trailing as i64;
    if shift < 0 {
        return Err(Misfit::Inexact);
    }
    if significant as i64 + shift > MAX_DIGITS {
        return Err(Misfit::Range);
    }
    let mut value = i256::ZERO;
    let ten = i256::from(10i8);
    let taken = digits().skip(first).take(significant).map(|d| d - b'0');
    for digit in taken.chain(std::iter::repeat_n(0, shift as usize)) {
        value = value.wrapping_mul(ten).wrapping_add(i256::from(i16::from(digit)));
    }
    Ok(if number.negative { value.wrapping_neg() } else { value })
}

/// A signed integer: `5`, `5.0` and `5e0`, but not `5.5`.
pub(crate) fn signed(text: &str) -> Result<i64, Misfit> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if (1..=SMALL).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        let value = of_digits(digits.as_bytes());
        return Ok(if negative { -value } else { value });
    }
    scaled(text, 0)?.to_i128().and_then(|value| value.try_into().ok()).ok_or(Misfit::Range)
}

/// The value of at most [`SMALL`] digits.
#[inline]
fn of_digits(digits: &[u8]) -> i64 {
    let (eights, rest) = digits.as_chunks::<8>();
    let value = eights.iter().fold(0, |value, eight| value * 100_000_000 + of_eight_digits(*eight));
    rest.iter().fold(value, |value, digit| value * 10 + i64::from(digit - b'0'))
}

/// The value of eight digits: of pairs of them at once, then of pairs of these, and so on.
#[inline]
fn of_eight_digits(digits: [u8; 8]) -> i64 {
    let ones = u64::from_le_bytes(digits) & 0x0F0F_0F0F_0F0F_0F0F;
    let twos = (ones * 10 + (ones >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_FFFF_0000_FFFF;
    let eight = (fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF;
    eight as i64
}

/// An unsigned integer.
pub(crate) fn unsigned(text: &str) -> Result<u64, Misfit> {
    scaled(text, 0)?.to_i128().and_then(|value| value.try_into().ok()).ok_or(Misfit::Range)
}

/// The nearest double; no infinity and no NaN.
pub(crate) fn double(text: &str) -> Result<f64, Misfit> {
    let value: f64 = text.parse().map_err(|_| Misfit::Shape)?;
    finite(text, value, value.is_finite())
}

/// The nearest single; no infinity and no NaN.
pub(crate) fn single(text: &str) -> Result<f32, Misfit> {
    let value: f32 = text.parse().map_err(|_| Misfit::Shape)?;
    finite(text, value, value.is_finite())
}

/// Rust reads `inf` and `nan` too, which are no numbers here.
fn finite<T>(text: &str, value: T, finite: bool) -> Result<T, Misfit> {
    match (finite, text.bytes().any(|b| b.is_ascii_digit())) {
        (true, _) => Ok(value),
        (false, true) => Err(Misfit::Range),
        (false, false) => Err(Misfit::Shape),
    }
}

/// `true` or `false` as CSV writers spell them.
pub(crate) fn boolean(text: &str) -> Result<bool, Misfit> {
    let is = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match (is(["true", "t", "1"]), is(["false", "f", "0"])) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(Misfit::Shape),
    }
}

/// Appends the bytes that `text` stands for: hexadecimal behind `\x`, as PostgreSQL writes them, else base64.
pub(crate) fn bytes(text: &str, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let start = out.len();
    let good = match text.strip_prefix("\\x") {
        Some(digits) => hex(digits.as_bytes(), out),
        None => base64(text.as_bytes(), out),
    };
    good.ok_or_else(|| {
        out.truncate(start);
        Misfit::Shape
    })
}

fn hex(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for pair in digits.chunks(2) {
        let [high, low] = pair else { return None };
        out.push((digit(*high)? * 16 + digit(*low)?) as u8);
    }
    Some(())
}

/// RFC 4648, standard or URL alphabet, padded or not; bits that no byte uses must be zero.
fn base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let digits = &text[..text.len() - padding];
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) || digits.len() % 4 == 1 {
        return None;
    }
    for group in digits.chunks(4) {
        let mut word = 0u32;
        for digit in group {
            word = word << 6 | sextet(*digit)?;
        }
        word <<= 6 * (4 - group.len());
        let [_, bytes @ ..] = word.to_be_bytes();
        let (kept, rest) = bytes.split_at(group.len() - 1);
        if rest.iter().any(|b| *b != 0) {
            return None;
        }
        out.extend_from_slice(kept);
    }
    Some(())
}

fn sextet(digit: u8) -> Option<u32> {
    Some(match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_every_digit() {
        assert_eq!(signed("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(signed("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(signed("9007199254740993.0"), Ok(9007199254740993));
        for digits in 1..=18u32 {
            for value in [10i64.pow(digits) - 1, 123_456_789_012_345_678 / 10i64.pow(18 - digits)] {
                assert_eq!(signed(&value.to_string()), Ok(value));
                assert_eq!(signed(&format!("-{value}")), Ok(-value));
            }
        }
        assert_eq!(signed("9223372036854775808"), Err(Misfit::Range));
        assert_eq!(unsigned("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(unsigned("-1"), Err(Misfit::Range));
    }

    #[test]
    fn an_integer_may_be_written_with_point_or_exponent() {
        for (text, value) in
            [("1e3", 1000), ("5.0", 5), ("-120e-1", -12), ("0.5e1", 5), ("0e999999999999", 0), ("-0", 0)]
        {
            assert_eq!(signed(text), Ok(value), "{text}");
        }
        for text in ["1.5", "1e-1", "1e-99999999999999999999"] {
            assert_eq!(signed(text), Err(Misfit::Inexact), "{text}");
        }
        for text in ["1e40", "1e99999999999999999999", "1e19"] {
            assert_eq!(signed(text), Err(Misfit::Range), "{text}");
        }
        for text in ["", "-", "abc", "1x", ".", "e5", "1e", "--1", "1.2.3", "٣"] {
            assert_eq!(signed(text), Err(Misfit::Shape), "{text}");
        }
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(scaled("12.34", 2), Ok(i256::from_i128(1234)));
        assert_eq!(scaled("-0012.3400", 2), Ok(i256::from_i128(-1234)));
        assert_eq!(scaled("1200", -2), Ok(i256::from_i128(12)));
        assert_eq!(scaled("12.345", 2), Err(Misfit::Inexact));
        assert_eq!(scaled(&"9".repeat(76), 0).unwrap().to_string(), "9".repeat(76));
        assert_eq!(scaled(&"9".repeat(77), 0), Err(Misfit::Range));
    }

    #[test]
    fn doubles_are_the_nearest_and_finite() {
        assert_eq!(double("0.1").unwrap().to_bits(), 0.1f64.to_bits());
        assert_eq!(double("9007199254740993"), Ok(9007199254740992.0));
        assert_eq!(double("1e999"), Err(Misfit::Range));
        assert_eq!(double("NaN"), Err(Misfit::Shape));
        assert_eq!(double("-inf"), Err(Misfit::Shape));
        assert_eq!(single("1e39"), Err(Misfit::Range));
    }

    #[test]
    fn bytes_are_base64_or_hexadecimal() {
        let read = |text: &str| {
            let mut out = vec![];
            bytes(text, &mut out).map(|()| out)
        };
        for (text, value) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zg", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
            ("\\x666F6f", "foo"),
        ] {
            assert_eq!(read(text), Ok(value.as_bytes().to_vec()), "{text}");
        }
        for text in ["Z", "Zg=", "Zh==", "Zm9v=", "====", "Zm 9", "\\xabc", "\\xzz", "é"] {
            assert_eq!(read(text), Err(Misfit::Shape), "{text}");
        }
    }
}
