//! NDJSON: one JSON object to a line, `\n` or `\r\n` between them.
//!
//! Blank lines are no events. A key that two members of one object share is a reason to reject if it names a
//! column; members that name none are ignored, whatever they are, as long as they are JSON.

use super::fault::{Checked, Fault};
use super::json::Scanner;
use super::object::Object;
use super::{Decoded, Decoder, MAX_EVENT, Rows};
use memchr::memchr;
use twofold_common::{Error, Result};

impl Decoder {
    /// Decodes whole lines; the last needs no line end.
    ///
    /// # Errors
    /// Never for a bad event. `Invalid` if `bytes` are too many for one batch (2 GiB of them, or of rejections):
    /// split them at a line end.
    pub fn decode_ndjson(&self, bytes: &[u8]) -> Result<Decoded> {
        if bytes.len() > i32::MAX as usize {
            let len = bytes.len();
            return Err(Error::Invalid(format!("{len} bytes are too many to decode at once: split them")));
        }
        let line = memchr(b'\n', bytes).unwrap_or(bytes.len());
        let mut rows = self.rows(bytes.len() / (line + 1).max(16) + 1)?;
        rows.lines(bytes);
        self.decoded(&mut rows)
    }
}

impl Rows {
    fn lines(&mut self, bytes: &[u8]) {
        let mut lines = Lines::new(bytes);
        while let Some(line) = lines.next_line() {
            self.line(line);
        }
    }

    #[inline]
    fn line(&mut self, line: Line<'_>) {
        let raw = line.bytes();
        if raw.len() > MAX_EVENT {
            self.reject_long(raw, raw.len() as u64);
        } else if !raw.iter().all(|b| matches!(b, b' ' | b'\t')) {
            self.event(raw, |object, scratch| push_line(object, line, scratch));
        }
    }
}

fn push_line(object: &mut Object, line: Line<'_>, scratch: &mut String) -> Checked {
    let text = match line {
        Line::Text(text) => text,
        Line::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => return Fault::event(format!("invalid UTF-8 at byte {}", e.valid_up_to())),
        },
    };
    let mut scanner = Scanner::new(text);
    if scanner.peek()? != b'{' {
        let found = scanner.describe()?;
        return Fault::event(format!("expected a JSON object, found {found}"));
    }
    object.push_json(&mut scanner, scratch)?;
    scanner.end()
}

/// A line without its end: as text if all of the input is valid UTF-8, so that most input is checked in one go.
#[derive(Clone, Copy)]
enum Line<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Line<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Line::Text(text) => text.as_bytes(),
            Line::Bytes(bytes) => bytes,
        }
    }
}

/// The lines of some bytes. A byte order mark before the first is passed over.
struct Lines<'a> {
    bytes: &'a [u8],
    text: Option<&'a str>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        Self { bytes, text: simdutf8::basic::from_utf8(bytes).ok(), at: 0 }
    }

    #[inline]
    fn next_line(&mut self) -> Option<Line<'a>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        let rest = &self.bytes[start..];
        let mut end = start + memchr(b'\n', rest).unwrap_or(rest.len());
        self.at = end + 1;
        if end > start && self.bytes[end - 1] == b'\r' {
            end -= 1;
        }
        Some(match self.text {
            Some(text) => Line::Text(&text[start..end]),
            None => Line::Bytes(&self.bytes[start..end]),
        })
    }
}

#[cfg(test)]
#[path = "ndjson_tests.rs"]
mod tests;
