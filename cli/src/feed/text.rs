//! Text as bodies: NDJSON cut at newlines, CSV at the ends of records, with the header before each body.
//!
//! A line or record is never torn, unless it is longer than [`LONGEST`]: then its first part goes as an event of its
//! own, which is too long to be accepted and is rejected with its reason, and the rest of it is left out.

use super::Body;
use anyhow::Result;
use bytes::Bytes;
use std::io::{ErrorKind, Read};

/// Longer than any event that is accepted, and small enough for one request.
const LONGEST: usize = 32 << 20;
/// Of a longer event so much is sent.
const SENT: usize = 2 << 20;
const STEP: usize = 256 << 10;

/// Where events end: fed byte by byte, it tells after which ones an event is whole.
trait Ends {
    fn is_end(&mut self, byte: u8) -> bool;
}

/// Ends of lines.
struct Lines;

impl Ends for Lines {
    fn is_end(&mut self, byte: u8) -> bool {
        byte == b'\n'
    }
}

/// Ends of CSV records (RFC 4180): newlines that no quotes enclose. Quotes enclose only where a field begins with one.
#[derive(Debug, Default, Clone, Copy)]
enum Records {
    #[default]
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside quotes: the end of them, or the first half of a doubled one.
    QuoteInQuotes,
}

impl Ends for Records {
    fn is_end(&mut self, byte: u8) -> bool {
        *self = match (*self, byte) {
            (Records::Quoted, b'"') => Records::QuoteInQuotes,
            (Records::Quoted, _) => Records::Quoted,
            (Records::FieldStart | Records::QuoteInQuotes, b'"') => Records::Quoted,
            (_, b'\n') => {
                *self = Records::FieldStart;
                return true;
            }
            (_, b',') => Records::FieldStart,
            _ => Records::Plain,
        };
        false
    }
}

/// The bodies of a text.
pub(super) struct Bodies<R> {
    reader: R,
    ends: Box<dyn Ends + Send>,
    size: usize,
    longest: usize,
    /// What was read and not yet given.
    buffer: Vec<u8>,
    /// How much of the buffer the ends have seen, and where the last whole event in it ends.
    seen: usize,
    end: usize,
    /// CSV: what stands before each body; `None` until it is known.
    header: Option<Vec<u8>>,
    /// What was read and left out since the last body.
    left_out: u64,
    /// Whether the rest of an event that was too long is being left out.
    skipping: bool,
    done: bool,
}

impl<R: Read> Bodies<R> {
    pub(super) fn ndjson(reader: R, size: usize) -> Self {
        Self::new(reader, size, Box::new(Lines), Some(Vec::new()))
    }

    pub(super) fn csv(reader: R, size: usize) -> Self {
        Self::new(reader, size, Box::new(Records::default()), None)
    }

    fn new(reader: R, size: usize, ends: Box<dyn Ends + Send>, header: Option<Vec<u8>>) -> Self {
        Self {
            reader,
            ends,
            size,
            longest: LONGEST,
            buffer: Vec::new(),
            seen: 0,
            end: 0,
            header,
            left_out: 0,
            skipping: false,
            done: false,
        }
    }

    fn body(&mut self) -> Result<Option<Body>> {
        loop {
            self.look();
            if self.end > 0 && (self.buffer.len() >= self.size || self.done) {
                return Ok(Some(self.take(self.end, self.end)));
            }
            if self.done {
                // The last event has no end.
                let rest = self.buffer.len();
                return Ok((rest > 0).then(|| self.take(rest, rest)));
            }
            if self.end == 0 && self.buffer.len() > self.longest {
                self.skipping = true;
                return Ok(Some(self.take(SENT.min(self.longest), self.buffer.len())));
            }
            self.fill()?;
        }
    }

    /// Finds where the events end in what is new in the buffer.
    fn look(&mut self) {
        while self.seen < self.buffer.len() {
            let byte = self.buffer[self.seen];
            self.seen += 1;
            if !self.ends.is_end(byte) {
                continue;
            }
            if self.skipping {
                self.skipping = false;
                self.leave_out(self.seen);
            } else if self.header.is_none() {
                self.header = Some(self.buffer[..self.seen].to_vec());
                self.leave_out(self.seen);
            } else {
                self.end = self.seen;
            }
        }
        if self.skipping {
            self.leave_out(self.buffer.len());
        }
    }

    fn leave_out(&mut self, upto: usize) {
        self.buffer.drain(..upto);
        self.left_out += upto as u64;
        self.seen -= upto;
    }

    fn fill(&mut self) -> Result<()> {
        let before = self.buffer.len();
        self.buffer.resize(before + STEP, 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[before..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        self.done = read? == 0;
        Ok(())
    }

    /// The first `sent` bytes of the buffer as a body; the first `upto` leave it.
    fn take(&mut self, sent: usize, upto: usize) -> Body {
        let header = self.header.as_deref().unwrap_or_default();
        let bytes = Bytes::from([header, &self.buffer[..sent]].concat());
        self.buffer.drain(..upto);
        self.seen -= upto;
        self.end = 0;
        Body { bytes, read: upto as u64 + std::mem::take(&mut self.left_out) }
    }
}

impl<R: Read> Iterator for Bodies<R> {
    type Item = Result<Body>;

    fn next(&mut self) -> Option<Self::Item> {
        let body = self.body();
        if body.is_err() {
            self.done = true;
            self.buffer.clear();
            (self.seen, self.end) = (0, 0);
        }
        body.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes one by one.
    struct Drop(&'static [u8]);

    impl Read for Drop {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            (buffer[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    fn texts<R: Read>(bodies: Bodies<R>) -> (Vec<String>, u64) {
        let bodies: Vec<Body> = bodies.map(Result::unwrap).collect();
        let read = bodies.iter().map(|b| b.read).sum();
        (bodies.into_iter().map(|b| String::from_utf8(b.bytes.to_vec()).unwrap()).collect(), read)
    }

    #[test]
    fn lines_are_never_torn() {
        let (bodies, read) = texts(Bodies::ndjson(Drop(b"aa\nbbb\nc\nlast"), 5));
        assert_eq!(bodies, ["aa\n", "bbb\n", "c\n", "last"]);
        assert_eq!(read, 13);
        let (bodies, _) = texts(Bodies::ndjson(&b"aa\nbbb\n"[..], 5));
        assert_eq!(bodies, ["aa\nbbb\n"]);
    }

    #[test]
    fn nothing_gives_no_body() {
        assert!(texts(Bodies::ndjson(&b""[..], 5)).0.is_empty());
        assert!(texts(Bodies::csv(&b"a,b\n"[..], 5)).0.is_empty());
    }

    #[test]
    fn each_csv_body_has_the_header_and_whole_records() {
        let text = b"a,b\r\n1,\"x\ny\"\n2,\"q\"\"\n\"\n3,5\" pipe\n4,z";
        let (bodies, read) = texts(Bodies::csv(Drop(text), 1));
        let header = "a,b\r\n";
        let records = ["1,\"x\ny\"\n", "2,\"q\"\"\n\"\n", "3,5\" pipe\n", "4,z"];
        assert_eq!(bodies, records.map(|record| format!("{header}{record}")));
        assert_eq!(read, text.len() as u64);
    }

    #[test]
    fn of_an_event_without_end_only_the_beginning_is_sent() {
        let long = "x".repeat(200_000);
        let text = format!("a\n{long}\nb\n");
        let mut bodies = Bodies::ndjson(text.as_bytes(), 1);
        bodies.longest = 1_000;
        // The whole text comes in one read, so the first body ends with the last whole line.
        let (bodies, read) = texts(bodies);
        assert_eq!((bodies.len(), read), (1, text.len() as u64), "a long line that is whole is sent whole");

        let text = format!("a\n{}\nb\n", "x".repeat(2 * STEP));
        let mut bodies = Bodies::ndjson(text.as_bytes(), 1);
        bodies.longest = 1_000;
        let (bodies, read) = texts(bodies);
        assert_eq!(bodies, ["a\n".to_string(), "x".repeat(1_000), "b\n".into()]);
        assert_eq!(read, text.len() as u64);
    }
}
