//! A scanner of JSON text (RFC 8259), one value at a time, without a tree.
//!
//! It borrows strings and numbers from the text as they are written, so that integers and decimals keep every
//! digit. What it passes over, it checks; nesting is bounded by [`MAX_DEPTH`] and costs no stack.

use super::fault::{Checked, Fault, preview};

/// How deep objects and arrays may be nested in a value that is passed over.
pub(crate) const MAX_DEPTH: u32 = 128;

/// A place in a JSON text.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is not white space; the scanner stands on it.
    #[inline]
    pub(crate) fn peek(&mut self) -> Checked<u8> {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Fault::syntax(self.at, "the text ends too early")
    }

    /// The next byte that is not white space; the scanner stands behind it.
    #[inline]
    pub(crate) fn take(&mut self) -> Checked<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// Passes `byte`, or says what stands in its place.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8) -> Checked {
        if self.peek()? == byte {
            self.at += 1;
            return Ok(());
        }
        self.unexpected(&format!("{:?}", char::from(byte)))
    }

    /// A fault that says what was expected here and what was found.
    pub(crate) fn unexpected<T>(&mut self, expected: &str) -> Checked<T> {
        self.peek()?;
        let found = self.text.get(self.at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
        Fault::syntax(self.at, format!("expected {expected}, found {found:?}"))
    }

    /// Checks that nothing but white space follows.
    pub(crate) fn end(&mut self) -> Checked {
        if self.peek().is_err() {
            return Ok(());
        }
        Fault::syntax(self.at, "an event is one JSON object to a line, but more text follows")
    }

    /// The string that starts here: borrowed from the text if it has no escapes, else put into `scratch`.
    #[inline]
    pub(crate) fn string<'s>(&mut self, scratch: &'s mut String) -> Checked<&'s str>
    where
        'a: 's,
    {
        if self.peek()? != b'"' {
            return self.unexpected("a string");
        }
        let start = self.at + 1;
        let stop = plain_until(self.text.as_bytes(), start);
        if self.text.as_bytes().get(stop) == Some(&b'"') {
            self.at = stop + 1;
            return Ok(&self.text[start..stop]);
        }
        self.at = start;
        scratch.clear();
        self.escaped(scratch)?;
        Ok(scratch)
    }

    fn escaped(&mut self, out: &mut String) -> Checked {
        let bytes = self.text.as_bytes();
        loop {
            let stop = plain_until(bytes, self.at);
            out.push_str(&self.text[self.at..stop]);
            self.at = stop;
            match bytes.get(stop) {
                None => return Fault::syntax(stop, "a string is not closed"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 2;
                    out.push(self.escape(bytes.get(stop + 1).copied())?);
                }
                Some(_) => return Fault::syntax(stop, "a control character in a string must be escaped"),
            }
        }
    }

    fn escape(&mut self, byte: Option<u8>) -> Checked<char> {
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(),
            _ => return Fault::syntax(self.at - 1, "unknown escape in a string"),
        })
    }

    fn code_point(&mut self) -> Checked<char> {
        let start = self.at;
        let first = self.hex4()?;
        let code = if (0xD800..0xDC00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if !(0xDC00..0xE000).contains(&second) {
                return Fault::syntax(start, "half of a surrogate pair");
            }
            0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
        } else {
            first
        };
        char::from_u32(code).map_or_else(|| Fault::syntax(start, "half of a surrogate pair"), Ok)
    }

    fn hex4(&mut self) -> Checked<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => Fault::syntax(self.at, "\\u wants four hexadecimal digits"),
        }
    }

    /// The number that starts here, as it is written.
    #[inline]
    pub(crate) fn number(&mut self) -> Checked<&'a str> {
        self.peek()?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = start + usize::from(bytes[start] == b'-');
        let whole = digits(bytes, at);
        if whole == at {
            return Fault::syntax(at, "expected a digit");
        }
        if bytes[at] == b'0' && whole > at + 1 {
            return Fault::syntax(at, "a number does not start with 0");
        }
        at = whole;
        if bytes.get(at) == Some(&b'.') {
            let stop = digits(bytes, at + 1);
            if stop == at + 1 {
                return Fault::syntax(stop, "expected a digit after the decimal point");
            }
            at = stop;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let stop = digits(bytes, at + 1 + sign);
            if stop == at + 1 + sign {
                return Fault::syntax(stop, "expected a digit in the exponent");
            }
            at = stop;
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// Passes `true`, `false` or `null`.
    #[inline]
    pub(crate) fn literal(&mut self, word: &'static str) -> Checked {
        self.peek()?;
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.unexpected(word)
    }

    /// Passes any value, and checks it.
    pub(crate) fn skip(&mut self) -> Checked {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek()? {
                opening @ (b'{' | b'[') => {
                    self.at += 1;
                    let closing = if opening == b'{' { b'}' } else { b']' };
                    if self.peek()? == closing {
                        self.at += 1;
                    } else {
                        if open.len() as u32 >= MAX_DEPTH {
                            return Fault::syntax(self.at, format!("nested deeper than {MAX_DEPTH}"));
                        }
                        open.push(closing);
                        if closing == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string(&mut String::new())?;
                }
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                b'-' | b'0'..=b'9' => {
                    self.number()?;
                }
                _ => return self.unexpected("a value"),
            }
            if !self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: passes what closes, and says whether another value follows.
    fn close(&mut self, open: &mut Vec<u8>) -> Checked<bool> {
        while let Some(&closing) = open.last() {
            match self.take()? {
                b',' => {
                    if closing == b'}' {
                        self.key()?;
                    }
                    return Ok(true);
                }
                byte if byte == closing => {
                    open.pop();
                }
                _ => {
                    self.at -= 1;
                    return self.unexpected(if closing == b'}' { "',' or '}'" } else { "',' or ']'" });
                }
            }
        }
        Ok(false)
    }

    fn key(&mut self) -> Checked {
        self.string(&mut String::new())?;
        self.expect(b':')
    }

    /// Passes any value, and gives its text.
    pub(crate) fn raw(&mut self) -> Checked<&'a str> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        Ok(&self.text[start..self.at])
    }

    /// Passes any value, and says what it was, for a message.
    pub(crate) fn describe(&mut self) -> Checked<String> {
        let first = self.peek()?;
        let raw = self.raw()?;
        Ok(match first {
            b'{' => "an object".into(),
            b'[' => "an array".into(),
            b'"' => format!("string \"{}\"", preview(raw.trim_matches('"'))),
            b'-' | b'0'..=b'9' => format!("number {}", preview(raw)),
            _ => raw.into(),
        })
    }
}

/// One past the run of digits that starts at `at`.
#[inline]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// The high bit of each byte of `word` that is zero; exact up to the lowest such byte, which is what is used.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// The first place at or after `at` of a quote, a backslash or a control character, or the end: eight bytes at once.
#[inline]
fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let special =
            zero_bytes(word ^ (ONES * b'"' as u64)) | zero_bytes(word ^ (ONES * b'\\' as u64)) | control;
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

/// The first place at or after `at` of `wanted`.
#[inline]
pub(crate) fn find(bytes: &[u8], mut at: usize, wanted: u8) -> Option<usize> {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = zero_bytes(u64::from_le_bytes(*chunk) ^ (ONES * u64::from(wanted)));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|b| *b == wanted).map(|n| at + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skips(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip().and_then(|()| scanner.end()).is_ok()
    }

    #[test]
    fn accepts_and_refuses_what_serde_json_does() {
        let texts = [
            "0",
            "-0",
            "-",
            "01",
            "1.",
            ".5",
            "1.5e3",
            "1e",
            "1e+",
            "1E-2",
            "+1",
            "NaN",
            "nul",
            "null",
            "true",
            "tru",
            "\"\"",
            "\"a",
            "\"\\u00e9\"",
            "\"\\u00g9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ud83dx\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\x\"",
            "\"\\u12",
            "\"a\tb\"",
            "\"a\\tb\"",
            "[]",
            "[1,]",
            "[1,2]",
            "[1 2]",
            "{}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{\"a\":1]",
            "[[[{\"a\":[{}]}]]]",
            "[}",
            " [ 1 , { \"k\" : null } ] ",
            "1 2",
            "{} {}",
            "",
            " ",
            "\"\u{7f}\"",
            "\"\\",
            "[\"a\\\"b\"]",
            "1e5x",
        ];
        for text in texts {
            let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(skips(text), theirs, "{text}");
        }
    }

    #[test]
    fn a_deep_value_is_refused_without_recursion() {
        assert!(skips(&format!("{}{}", "[".repeat(128), "]".repeat(128))));
        assert!(!skips(&format!("{}{}", "[".repeat(200_000), "]".repeat(200_000))));
        assert!(!skips(&"{\"a\":".repeat(100_000)));
    }

    #[test]
    fn strings_come_out_as_serde_json_reads_them() {
        for text in [
            "\"plain\"",
            "\"a\\n\\\"b\\\\\\/\\u00e9\\ud83d\\ude00 ünï\"",
            "\"12345678\\t12345678\"",
            "\"\\u0000\"",
        ] {
            let mut scratch = String::new();
            let ours = Scanner::new(text).string(&mut scratch).unwrap().to_string();
            assert_eq!(ours, serde_json::from_str::<String>(text).unwrap());
        }
    }

    #[test]
    fn special_bytes_are_found_at_every_distance() {
        for special in [b'"', b'\\', 0, 0x1f] {
            for n in 0..40 {
                let mut bytes = vec![0xFF; 60];
                bytes[n] = special;
                assert_eq!(plain_until(&bytes, 0), n);
                assert_eq!(find(&bytes, 0, special), Some(n));
            }
        }
        assert_eq!(plain_until(&[b' '; 19], 3), 19);
        assert_eq!(find(&[b' '; 19], 3, b'\n'), None);
    }
}
