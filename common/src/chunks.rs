//! Some columns of a Parquet file, read and verified without the others.
//!
//! The digest of a file says nothing before all of it was read. So the file's metadata has a digest of each column
//! chunk, and the manifest that names the file has one of its footer:
//!
//! ```text
//! manifest ── digest ──▶ footer ── digests ──▶ chunks of the columns that are wanted
//! ```

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::off_thread::off_thread;
use crate::store::Store;
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Under which key a file's metadata has the digests of its column chunks: one behind the other, 64 hexadecimal digits
/// each, by row group and column.
pub(crate) const CHUNKS_KEY: &str = "twofold.file.chunks";
const DIGEST_DIGITS: usize = 64;

/// The end of a Parquet file, which says what is where in it: the metadata, their length, and four bytes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of these bytes.
    pub digest: Digest,
}

impl Footer {
    /// Of a whole file; `None` if it is none.
    pub fn of(file: &[u8]) -> Option<Self> {
        let metadata = file.last_chunk::<FOOTER_SIZE>()?.first_chunk::<4>()?;
        let bytes = FOOTER_SIZE + usize::try_from(u32::from_le_bytes(*metadata)).ok()?;
        let footer = &file[file.len().checked_sub(bytes)?..];
        Some(Self { bytes: bytes as u64, digest: Digest::of(footer) })
    }
}

/// What [`CHUNKS_KEY`] says of a file that begins with `written`, these row groups.
pub(crate) fn digests(written: &[u8], groups: &[RowGroupMetaData]) -> Result<String> {
    let mut digests = String::new();
    for chunk in groups.iter().flat_map(ranges) {
        let bytes = usize::try_from(chunk.start).ok().zip(usize::try_from(chunk.end).ok());
        let bytes = bytes.and_then(|(start, end)| written.get(start..end));
        let bytes = bytes.ok_or_else(|| Error::Internal(format!("no column chunk is at {chunk:?}")))?;
        digests.push_str(&Digest::of(bytes).to_string());
    }
    Ok(digests)
}

/// Where a part of a file is, and its digest.
pub(crate) type Part = (Range<u64>, Digest);

/// Where the chunks of a row group are, by column.
fn ranges(group: &RowGroupMetaData) -> impl Iterator<Item = Range<u64>> {
    group.columns().iter().map(|chunk| {
        let (start, length) = chunk.byte_range();
        start..start + length
    })
}

/// The chunks of the columns in `mask`, and their digests; `None` if the file does not have those.
///
/// # Errors
/// Why the digests do not fit the file.
pub(crate) fn wanted(metadata: &ParquetMetaData, mask: &ProjectionMask) -> Result<Option<Vec<Part>>, String> {
    let about = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let Some(text) = about.filter(|entry| entry.key == CHUNKS_KEY).find_map(|entry| entry.value.as_deref())
    else {
        return Ok(None);
    };
    let chunks = metadata.row_groups().iter().flat_map(|group| ranges(group).enumerate());
    let chunks: Vec<_> = chunks.collect();
    if text.len() != chunks.len() * DIGEST_DIGITS {
        return Err(format!("expected digests of {} column chunks, found {text:?}", chunks.len()));
    }
    let digest =
        |at: usize| text.get(at * DIGEST_DIGITS..(at + 1) * DIGEST_DIGITS).and_then(Digest::from_hex);
    let all = chunks.into_iter().enumerate().filter(|(_, (column, _))| mask.leaf_included(*column));
    let all = all.map(|(at, (column, range))| {
        let digest =
            digest(at).ok_or_else(|| format!("no digest of a chunk of column {column}: {text:?}"))?;
        Ok((range, digest))
    });
    all.collect::<Result<_, String>>().map(Some)
}

/// Parts of a file that are verified.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    length: u64,
    /// Where each begins.
    parts: Vec<(u64, Bytes)>,
}

impl Parts {
    /// None of a file of so many bytes.
    pub(crate) fn new(length: u64) -> Self {
        Self { length, parts: Vec::new() }
    }

    /// Reads parts of the object at `path`, and verifies them.
    ///
    /// # Errors
    /// `Corrupt` if they are not what they must be; `NotFound` if the object is gone.
    pub(crate) async fn read(&mut self, store: &Store, path: &str, parts: &[Part]) -> Result<()> {
        let ranges: Vec<Range<u64>> = parts.iter().map(|(range, _)| range.clone()).collect();
        let read = match store.get_ranges(path, &ranges).await {
            Ok(read) => read,
            Err(e) if e.kind() == Kind::NotFound => return Err(e),
            Err(e) => match store.head(path).await? {
                Some(found) if found.bytes != self.length => {
                    let reason =
                        format!("expected {} bytes, found {}: restore the file", self.length, found.bytes);
                    return Err(Error::corrupt(path, reason));
                }
                _ => return Err(e),
            },
        };
        let (read, found) = off_thread(move || {
            let found: Vec<Digest> = read.iter().map(|bytes| Digest::of(bytes)).collect();
            Ok((read, found))
        })
        .await?;
        for (((range, expected), bytes), found) in parts.iter().zip(read).zip(found) {
            if found != *expected {
                let Range { start, end } = range;
                let reason = format!(
                    "damaged in bytes {start} to {end}: expected digest {expected}, found {found}: restore the file"
                );
                return Err(Error::corrupt(path, reason));
            }
            self.parts.push((range.start, bytes));
        }
        Ok(())
    }

    fn from(&self, at: u64) -> ParquetResult<Bytes> {
        let inside = |(start, bytes): &(u64, Bytes)| {
            let skipped = usize::try_from(at.checked_sub(*start)?).ok()?;
            (skipped < bytes.len()).then(|| bytes.slice(skipped..))
        };
        let missing = || ParquetError::EOF(format!("byte {at} was not read"));
        self.parts.iter().find_map(inside).ok_or_else(missing)
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Parts {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.from(start)?;
        match bytes.len() {
            found if found < length => {
                Err(ParquetError::EOF(format!("expected {length} bytes at {start}, found {found}")))
            }
            _ => Ok(bytes.slice(..length)),
        }
    }
}
