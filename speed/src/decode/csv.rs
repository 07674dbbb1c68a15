//! CSV (RFC 4180): a header line that names the columns, then one record to an event.
//!
//! A field is quoted if its first character is `"`; inside, `""` is a quote, and commas and line ends are text.
//! Elsewhere a quote is a character like others. Blank lines are no records. A quote that is never closed makes
//! the rest of the input one record: it is rejected as one, and holds no more memory than [`MAX_EVENT`].

use super::fault::{Checked, Fault};
use super::{Decoded, Decoder, MAX_BATCH_BYTES, MAX_EVENT};
use std::io::BufRead;
use twofold_common::{Error, Result};

impl Decoder {
    /// Decodes all records of `reader`, in pieces of at most `max_rows` events.
    ///
    /// Columns are found by their names in the header; others are ignored, and those that are missing are null.
    ///
    /// # Errors
    /// `Invalid` if the header lacks a column that is NOT NULL, names one twice, or is no CSV; what `reader` or
    /// `emit` fails with. Never for a bad record.
    pub fn decode_csv(
        &self,
        reader: impl BufRead,
        max_rows: usize,
        mut emit: impl FnMut(Decoded) -> Result<()>,
    ) -> Result<()> {
        let mut records = Records::new(reader);
        let failed = |e| Error::io(format!("events of stream {}", self.stream), e);
        let Some(header) = records.advance().map_err(failed)? else { return Ok(()) };
        let header = Header::read(self, header)?;
        let mut rows = self.rows(0)?;
        let mut bytes_in_batch = 0;
        while let Some(record) = records.advance().map_err(failed)? {
            bytes_in_batch += record.raw.len();
            if record.too_long() {
                rows.reject_long(&record.raw, record.len);
            } else {
                rows.event(&record.raw, |object, scratch| {
                    header.check(record)?;
                    object.push_fields(|column| header.field(record, column), scratch)
                });
            }
            if rows.len() >= max_rows.max(1) || bytes_in_batch >= MAX_BATCH_BYTES {
                emit(self.decoded(&mut rows)?)?;
                bytes_in_batch = 0;
            }
        }
        if rows.len() > 0 { emit(self.decoded(&mut rows)?) } else { Ok(()) }
    }
}

/// Where the stream's columns stand in a record.
struct Header {
    fields: usize,
    /// For each column of the stream, its place.
    places: Vec<Option<usize>>,
}

impl Header {
    fn read(decoder: &Decoder, record: &Record) -> Result<Header> {
        let stream = &decoder.stream;
        let names = (0..record.fields.len())
            .map(|i| std::str::from_utf8(record.field(i)).ok())
            .collect::<Option<Vec<_>>>();
        let names = names.filter(|_| record.bad.is_none() && !record.too_long());
        let Some(names) = names else {
            let what = record.bad.unwrap_or("it is too long, or no UTF-8");
            return Err(Error::Invalid(format!("the CSV header for stream {stream} cannot be read: {what}")));
        };
        let mut places = vec![None; decoder.schema.fields().len()];
        for (i, name) in names.iter().enumerate() {
            let Ok(column) = decoder.schema.index_of(name) else { continue };
            if places[column].replace(i).is_some() {
                return Err(Error::Invalid(format!("the CSV header for stream {stream} names {name} twice")));
            }
        }
        for (field, place) in decoder.schema.fields().iter().zip(&places) {
            if place.is_none() && !field.is_nullable() {
                let (name, found) = (field.name(), names.join(", "));
                return Err(Error::Invalid(format!(
                    "the CSV header for stream {stream} lacks column {name}, which is NOT NULL: it has {found}"
                )));
            }
        }
        Ok(Header { fields: names.len(), places })
    }

    fn check(&self, record: &Record) -> Checked {
        if let Some(what) = record.bad {
            return Fault::event(what);
        }
        let (expected, found) = (self.fields, record.fields.len());
        if expected != found {
            return Fault::event(format!("expected {expected} fields as in the header, found {found}"));
        }
        Ok(())
    }

    fn field<'a>(&self, record: &'a Record, column: usize) -> Checked<Option<(&'a str, bool)>> {
        let Some(place) = self.places[column] else { return Ok(None) };
        match std::str::from_utf8(record.field(place)) {
            Ok(text) => Ok(Some((text, record.fields[place].1))),
            Err(_) => Fault::value("invalid UTF-8"),
        }
    }
}

/// Reads records, one at a time.
struct Records<R> {
    reader: R,
    record: Record,
    first: bool,
}

/// A record, in buffers that the next one uses again.
#[derive(Default)]
struct Record {
    /// As it came, without its line end; at most one byte more than [`MAX_EVENT`] of it.
    raw: Vec<u8>,
    /// How long it is.
    len: u64,
    /// The text of the fields end to end.
    text: Vec<u8>,
    /// Where each field ends in `text`, and whether it was quoted.
    fields: Vec<(usize, bool)>,
    /// What is wrong with it.
    bad: Option<&'static str>,
    state: State,
    /// Whether the field that is being read is quoted.
    quoted: bool,
}

#[derive(Clone, Copy, PartialEq, Default)]
enum State {
    #[default]
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: its end, or the first of two.
    Quote,
}

impl<R: BufRead> Records<R> {
    fn new(reader: R) -> Self {
        Self { reader, record: Record::default(), first: true }
    }

    /// The next record that is not blank; `None` at the end.
    fn advance(&mut self) -> std::io::Result<Option<&Record>> {
        loop {
            self.record.clear();
            let more = self.read_record()?;
            if !self.record.raw.is_empty() {
                return Ok(Some(&self.record));
            }
            if !more {
                return Ok(None);
            }
        }
    }

    /// Reads to the next line end outside quotes; `false` if the input ended instead.
    fn read_record(&mut self) -> std::io::Result<bool> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                self.record.end_input();
                return Ok(false);
            }
            let mark = std::mem::take(&mut self.first) && bytes.starts_with(b"\xEF\xBB\xBF");
            let skipped = if mark { 3 } else { 0 };
            let (used, ended) = self.record.scan(&bytes[skipped..]);
            self.reader.consume(used + skipped);
            if ended {
                return Ok(true);
            }
        }
    }
}

impl Record {
    fn field(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.fields[i - 1].0 };
        &self.text[start..self.fields[i].0]
    }

    fn clear(&mut self) {
        self.raw.clear();
        self.text.clear();
        self.fields.clear();
        (self.len, self.bad, self.state, self.quoted) = (0, None, State::FieldStart, false);
    }

    fn too_long(&self) -> bool {
        self.len > MAX_EVENT as u64
    }

    /// Takes in the bytes up to the end of the record: how many with the line end, and whether it was reached.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let start = at;
            at += 1;
            match (self.state, byte) {
                (State::Quoted, b'"') => self.state = State::Quote,
                (State::Quoted, _) => {
                    at = run(bytes, at, |b| b == b'"');
                    self.add(&bytes[start..at]);
                }
                (State::Quote, b'"') => {
                    self.add(b"\"");
                    self.state = State::Quoted;
                }
                (State::FieldStart, b'"') => (self.state, self.quoted) = (State::Quoted, true),
                (_, b',') => self.end_field(),
                (_, b'\n') => {
                    self.keep(&bytes[..start]);
                    self.end();
                    return (at, true);
                }
                // Of a line end; if not, what follows is the fault.
                (State::Quote, b'\r') => {}
                (State::Quote, _) => {
                    self.bad = Some("text follows a closing quote");
                    self.state = State::Plain;
                }
                (State::FieldStart | State::Plain, _) => {
                    self.state = State::Plain;
                    at = run(bytes, at, |b| matches!(b, b',' | b'\n'));
                    self.add(&bytes[start..at]);
                }
            }
        }
        self.keep(bytes);
        (bytes.len(), false)
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        let room = (MAX_EVENT + 1).saturating_sub(self.raw.len());
        self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Appends to the text of the field, unless the record is too long to be used already.
    fn add(&mut self, bytes: &[u8]) {
        if self.text.len() <= MAX_EVENT {
            self.text.extend_from_slice(bytes);
        }
    }

    fn end_field(&mut self) {
        if self.fields.len() <= MAX_EVENT {
            self.fields.push((self.text.len(), self.quoted));
        }
        (self.state, self.quoted) = (State::FieldStart, false);
    }

    fn end(&mut self) {
        if self.raw.last() == Some(&b'\r') && !self.too_long() {
            self.raw.pop();
            self.len -= 1;
            if !self.quoted && self.text.last() == Some(&b'\r') {
                self.text.pop();
            }
        }
        self.end_field();
    }

    fn end_input(&mut self) {
        if self.state == State::Quoted {
            self.bad = Some("a quote is opened and never closed");
        }
        self.end();
    }
}

fn run(bytes: &[u8], at: usize, stop: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|b| stop(*b)).map_or(bytes.len(), |n| at + n)
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
