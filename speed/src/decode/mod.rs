//! Decoding: bytes as producers send them become batches of a stream's schema, and rejections.
//!
//! ```text
//! events = rows + rejected         each event is in exactly one of them, in the order in which it came
//! ```
//!
//! A bad event is rejected on its own, with the reason and its raw bytes; the good ones around it go in. Nothing
//! is rounded, cut or guessed on the way: a value that the column's type does not hold exactly is a reason to
//! reject (doubles excepted, which take the nearest value, as everywhere).
//!
//! How a value is written:
//!
//! | column | NDJSON | CSV |
//! | --- | --- | --- |
//! | `BOOLEAN` | `true`, `false` | also `t`, `f`, `1`, `0`, in any case |
//! | integers | a number with an integer value: `5`, `5.0`, `5e0` | the same |
//! | `REAL`, `DOUBLE` | a number; the nearest finite value | the same |
//! | `DECIMAL` | a number, or a string that holds one | the same |
//! | `TEXT` | a string | the field; empty is null, `""` is the empty text |
//! | `BYTEA` | a string: base64 (RFC 4648), or `\x` and hexadecimal digits | the same |
//! | `DATE` | `"YYYY-MM-DD"` | the same |
//! | `TIME` | `"HH:MM[:SS[.fraction]]"` | the same |
//! | `TIMESTAMP` | ISO 8601 with `T` or space, or an integer: milliseconds since the epoch, as Kafka and Flink have it; a zone is converted to UTC, none means UTC | the same |
//! | lists, structs, maps | array, object, object | JSON text in the field |
//!
//! Fields that the stream does not have are ignored; a missing one is null. An event of NDJSON or CSV is at most
//! [`MAX_EVENT`] bytes.

mod column;
mod csv;
mod fault;
mod json;
mod ndjson;
mod object;
mod parquet;
mod rejected;
mod time;
mod value;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use fault::{Checked, Fault};
use object::Object;
use rejected::Rejections;
use std::path::Path;
use twofold_common::{Error, Result, StreamDef};

/// The most bytes of one event. Of a longer one the first so many are kept as its raw bytes.
pub const MAX_EVENT: usize = 1 << 20;
/// How many bytes of input one batch comes from at most, when a reader is decoded.
const MAX_BATCH_BYTES: usize = 32 << 20;

/// How events are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object to a line.
    Ndjson,
    /// Comma-separated values (RFC 4180) below a header line.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that the name of a file tells: `.ndjson`, `.jsonl`, `.json`, `.csv` or `.parquet`.
    pub fn from_path(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
            "csv" => Some(Format::Csv),
            "parquet" | "pq" => Some(Format::Parquet),
            _ => None,
        }
    }

    /// The format that a MIME type tells; its parameters do not count.
    pub fn from_mime(mime: &str) -> Option<Format> {
        match mime.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json" => {
                Some(Format::Ndjson)
            }
            "text/csv" => Some(Format::Csv),
            "application/vnd.apache.parquet" => Some(Format::Parquet),
            _ => None,
        }
    }
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Format> {
        match name {
            "ndjson" => Ok(Format::Ndjson),
            "csv" => Ok(Format::Csv),
            "parquet" => Ok(Format::Parquet),
            _ => Err(Error::Invalid(format!("unknown format {name:?}: expected ndjson, csv or parquet"))),
        }
    }
}

/// What became of some events.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The good ones: a batch of the stream's own schema.
    pub rows: RecordBatch,
    /// The bad ones: a batch of the schema of [`StreamDef::rejected`], `reason` and `raw`.
    pub rejected: RecordBatch,
}

/// Decodes the events of one stream. Made once; any number of threads may use it.
#[derive(Debug, Clone)]
pub struct Decoder {
    stream: String,
    schema: SchemaRef,
    rejected: SchemaRef,
}

impl Decoder {
    /// A decoder for the events of `stream`.
    ///
    /// # Errors
    /// `Invalid` if a column has a type that events cannot carry.
    pub fn new(stream: &StreamDef) -> Result<Decoder> {
        Object::new(stream.schema.fields(), 0).map_err(|what| {
            Error::Invalid(format!("stream {}: {what} is not a type that events can carry", stream.name))
        })?;
        let (schema, rejected) = (stream.schema.clone(), stream.rejected().schema);
        Ok(Decoder { stream: stream.name.clone(), schema, rejected })
    }

    fn rows(&self, capacity: usize) -> Result<Rows> {
        let object = Object::new(self.schema.fields(), capacity).map_err(Error::Internal)?;
        Ok(Rows { object, rejections: Rejections::new(), scratch: String::new() })
    }

    fn decoded(&self, rows: &mut Rows) -> Result<Decoded> {
        let columns = rows.object.finish(None)?;
        // Not `RecordBatch::from`: that would forget the schema's metadata.
        let (_, columns, _) = columns.into_parts();
        Ok(Decoded {
            rows: RecordBatch::try_new(self.schema.clone(), columns)?,
            rejected: rows.rejections.finish(&self.rejected)?,
        })
    }
}

/// Events on their way into a batch.
#[derive(Debug)]
struct Rows {
    object: Object,
    rejections: Rejections,
    scratch: String,
}

impl Rows {
    /// Events so far, good and bad.
    fn len(&self) -> usize {
        self.object.len() + self.rejections.len()
    }

    /// Keeps the event that `push` appends, or rejects it as `raw` if it is bad.
    #[inline]
    fn event(&mut self, raw: &[u8], push: impl FnOnce(&mut Object, &mut String) -> Checked) {
        let before = self.object.len();
        if let Err(fault) = push(&mut self.object, &mut self.scratch) {
            self.object.truncate(before);
            self.rejections.push(&fault, raw);
        }
    }

    /// Rejects an event of `len` bytes that begins with `raw`.
    fn reject_long(&mut self, raw: &[u8], len: u64) {
        let what = format!("an event of {len} bytes is longer than {MAX_EVENT}, of which the first are kept");
        self.rejections.push(&Fault::Event(what), &raw[..raw.len().min(MAX_EVENT)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_tells_its_format() {
        let format = |name: &str| Format::from_path(Path::new(name));
        assert_eq!(format("a/b.NDJSON"), Some(Format::Ndjson));
        assert_eq!(format("b.csv"), Some(Format::Csv));
        assert_eq!(format("b.x.parquet"), Some(Format::Parquet));
        assert_eq!(format("csv"), None);
    }
}
