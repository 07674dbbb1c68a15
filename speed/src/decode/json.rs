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

    /// Passes a key that is written like this, and says whether one was.
    #[inline]
    pub(crate) fn passes(&mut self, key: &Written) -> Checked<bool> {
        self.peek()?;
        let passed = key.begins(&self.text.as_bytes()[self.at..]);
        if passed {
            self.at += key.text.len();
        }
        Ok(passed)
    }

    /// After a member of an object: whether another one follows.
    #[inline]
    pub(crate) fn more_members(&mut self) -> Checked<bool> {
        match self.take()? {
            b',' => Ok(true),
            b'}' => Ok(false),
            _ => {
                self.at -= 1;
                self.unexpected("',' or '}'")
            }
        }
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

/// One past the run of digits that starts at `at`: eight bytes at once.
#[inline]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let values = u64::from_le_bytes(*chunk) ^ (ONES * b'0' as u64);
        // The high bit of each byte that is above nine.
        let other = (((values & !HIGH) + ONES * (0x80 - 10)) | values) & HIGH;
        if other != 0 {
            return at + other.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Whether a byte ends a stretch of a string that stands for itself: a quote, a backslash or a control character.
#[inline]
fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// The place of the first special byte among sixteen: in a form that compilers turn into a few vector instructions.
#[inline]
fn special_of(chunk: &[u8; 16]) -> Option<usize> {
    let special = u128::from_le_bytes(chunk.map(|byte| if is_special(byte) { 0xFF } else { 0 }));
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
}

/// The first place at or after `at` of a quote, a backslash or a control character, or the end: sixteen bytes at once.
#[inline]
fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        if let Some(special) = special_of(chunk) {
            return at + special;
        }
        at += 16;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// A key with its quotes and its colon, as JSON without spaces has it, to be looked for where one like it stood before.
#[derive(Debug)]
pub(crate) struct Written {
    text: Box<str>,
    /// Its first sixteen bytes, and which of them it has.
    first: u128,
    has: u128,
}

impl Written {
    /// `None` for a key that is not written as it reads.
    pub(crate) fn new(key: &str) -> Option<Self> {
        if plain_until(key.as_bytes(), 0) < key.len() {
            return None;
        }
        let text = format!("\"{key}\":");
        let (mut first, mut has) = ([0; 16], [0; 16]);
        let length = text.len().min(16);
        first[..length].copy_from_slice(&text.as_bytes()[..length]);
        has[..length].fill(0xFF);
        Some(Self { text: text.into(), first: u128::from_le_bytes(first), has: u128::from_le_bytes(has) })
    }

    #[inline]
    fn begins(&self, bytes: &[u8]) -> bool {
        match bytes.first_chunk::<16>() {
            Some(chunk) if self.text.len() <= 16 => {
                (u128::from_le_bytes(*chunk) ^ self.first) & self.has == 0
            }
            _ => bytes.starts_with(self.text.as_bytes()),
        }
    }
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
        for special in 0..=u8::MAX {
            for n in 0..60 {
                for plain in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xFF] {
                    let mut bytes = vec![plain; 60];
                    bytes[n] = special;
                    let is_special = special < b' ' || special == b'"' || special == b'\\';
                    assert_eq!(plain_until(&bytes, 0), if is_special { n } else { 60 });
                }
            }
        }
        assert_eq!(plain_until(&[b' '; 19], 3), 19);
        assert_eq!(plain_until(b"\"            \"", 1), 13);
    }

    #[test]
    fn runs_of_digits_end_with_any_other_byte() {
        for n in 0..30 {
            for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                let mut bytes: Vec<u8> = (b'0'..=b'9').cycle().take(30).collect();
                bytes[n] = other;
                assert_eq!(digits(&bytes, 0), n);
                assert_eq!(digits(&bytes, n + 1), 30);
            }
        }
    }

    #[test]
    fn a_key_passes_only_where_it_is_written_to_the_last_byte() {
        let text = |key: &str, more: &str| format!("\"{key}\":{more}");
        for length in 0..40 {
            let key = "k".repeat(length);
            let written = Written::new(&key).unwrap();
            for more in ["", "1", "\"and much more of it\"}"] {
                let found = text(&key, more);
                let mut scanner = Scanner::new(&found);
                assert!(scanner.passes(&written).unwrap());
                assert_eq!(scanner.at, length + 3);
                let other =
                    [text(&format!("{key}k"), more), format!("\"{key}\" :{more}"), format!("\"{key}")];
                for other in other {
                    let mut scanner = Scanner::new(&other);
                    assert!(!scanner.passes(&written).unwrap(), "{other} for {key}");
                    assert_eq!(scanner.at, 0);
                }
            }
        }
    }

    #[test]
    fn a_key_that_takes_escapes_is_not_looked_for_as_it_reads() {
        assert!(Written::new("a\":1,\"b").is_none());
        assert!(Written::new("a\\b").is_none());
        assert!(Written::new("a\tb").is_none());
        assert!(Written::new("é").is_some());
    }
}
