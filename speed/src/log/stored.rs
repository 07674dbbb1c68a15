//! A stored batch of events: what stands in the log's file for one key. See `docs/log-format.md`.
//!
//! ```text
//! value = format u8 | rows u32 | ingest_time i64 | digest [u8; 32] | Arrow IPC stream      (little-endian)
//! ```
//!
//! The batch holds the stream's own columns. The meta columns are made when it is read: the partition and the
//! first offset are the key, and offsets in a stored batch have no gaps. So all of this is encoded before the
//! offsets are known, in parallel.

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use std::ops::Range;
use std::sync::Arc;
use twofold_common::{Digest, Partition, stream};

/// The format of stored batches that is written, and the newest that is read.
pub(crate) const FORMAT: u8 = 1;
/// An append of more rows is stored as several batches, so that a short read never decodes much more than it gives.
pub(crate) const MAX_ROWS: usize = 1 << 16;
/// A batch that has room in a page of so many bytes is not cut to fill a smaller one.
const WHOLE_PAGE: usize = 128 << 10;

const FACTS: usize = 1 + 4 + 8;
const HEADER: usize = FACTS + 32;

/// Where a stored batch belongs; its digest covers this.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) stream: &'a str,
    pub(crate) partition: Partition,
}

impl Place<'_> {
    fn digest(&self, facts: &[u8], payload: &[u8]) -> Digest {
        let partition = self.partition.0.to_le_bytes();
        Digest::of_parts([self.stream.as_bytes(), &partition, facts, payload])
    }
}

/// The stored batches for `rows`, each with its number of rows.
pub(crate) fn encode(
    place: Place<'_>,
    rows: &RecordBatch,
    ingest_time: i64,
) -> Result<Vec<(u64, Vec<u8>)>, ArrowError> {
    let (mut batches, mut at) = (Vec::new(), 0);
    while at < rows.num_rows() {
        let left = rows.slice(at, rows.num_rows() - at);
        let (taken, bytes) = next_piece(&left);
        batches.push(encode_one(place, &left.slice(0, taken), ingest_time, bytes)?);
        at += taken;
    }
    Ok(batches)
}

/// How many of these rows are the next stored batch, and its bytes, about.
///
/// The file has a page for each large value, of a power of two bytes, and writes it whole: so a batch that would leave
/// much of its page empty is cut where it fills one of half the size.
fn next_piece(rows: &RecordBatch) -> (usize, usize) {
    let form = HEADER + 1024 + 512 * rows.num_columns();
    let bytes_of = |taken: usize| {
        let columns = rows.columns().iter().map(|column| column.slice(0, taken).to_data());
        form + columns.filter_map(|column| column.get_slice_memory_size().ok()).sum::<usize>()
    };
    let mut taken = MAX_ROWS.min(rows.num_rows());
    let mut bytes = bytes_of(taken);
    let page = bytes.next_power_of_two();
    if page > WHOLE_PAGE && bytes < page / 16 * 15 {
        while bytes > page / 2 && taken > 1 {
            taken = (taken * (page / 2) / bytes).clamp(1, taken - 1);
            bytes = bytes_of(taken);
        }
    }
    (taken, bytes)
}

/// One stored batch, which takes about `bytes`: memory that grows by doubling is copied again and again.
fn encode_one(
    place: Place<'_>,
    rows: &RecordBatch,
    ingest_time: i64,
    bytes: usize,
) -> Result<(u64, Vec<u8>), ArrowError> {
    let mut value = Vec::with_capacity(bytes);
    value.resize(HEADER, 0);
    value[0] = FORMAT;
    value[1..5].copy_from_slice(&(rows.num_rows() as u32).to_le_bytes());
    value[5..FACTS].copy_from_slice(&ingest_time.to_le_bytes());
    let mut writer = StreamWriter::try_new(&mut value, rows.schema_ref())?;
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    let digest = place.digest(&value[..FACTS], &value[HEADER..]);
    value[FACTS..HEADER].copy_from_slice(digest.as_bytes());
    Ok((rows.num_rows() as u64, value))
}

/// How many rows a stored batch has; `Err` says what is wrong with it.
pub(crate) fn row_count(value: &[u8]) -> Result<u64, String> {
    let Some((header, _)) = value.split_first_chunk::<HEADER>() else {
        return Err(format!("expected a header of {HEADER} bytes, found {} bytes", value.len()));
    };
    if header[0] != FORMAT {
        let found = header[0];
        return Err(format!("format {found} of a newer version, expected {FORMAT}: upgrade this program"));
    }
    let [_, a, b, c, d, ..] = *header;
    Ok(u32::from_le_bytes([a, b, c, d]).into())
}

/// The rows `range` of a stored batch whose first offset is `base`, as the stream's event schema has them.
pub(crate) fn decode(
    place: Place<'_>,
    value: &[u8],
    base: u64,
    range: Range<usize>,
) -> Result<RecordBatch, String> {
    let expected_rows = row_count(value)?;
    let (header, payload) = value.split_at(HEADER);
    let (facts, digest) = header.split_at(FACTS);
    if place.digest(facts, payload).as_bytes() != digest {
        return Err("the bytes do not have the digest that was stored with them".into());
    }
    let ingest_time = facts[5..].try_into().map(i64::from_le_bytes).map_err(|_| "no ingest time")?;
    let rows = decode_ipc(payload).map_err(|e| e.to_string())?;
    if rows.num_rows() as u64 != expected_rows {
        return Err(format!("expected {expected_rows} rows, found {}", rows.num_rows()));
    }
    let rows = rows.slice(range.start, range.len());
    with_meta(&rows, place.partition, base + range.start as u64, ingest_time).map_err(|e| e.to_string())
}

fn decode_ipc(payload: &[u8]) -> Result<RecordBatch, ArrowError> {
    let mut decoder = StreamDecoder::new();
    // One copy out of the file's cache, into memory that the arrays then share.
    let mut buffer = Buffer::from(payload);
    while !buffer.is_empty() {
        if let Some(batch) = decoder.decode(&mut buffer)? {
            return Ok(batch);
        }
    }
    Err(ArrowError::IpcError("no batch in the stream".into()))
}

/// The rows of a stream's own columns, with those that the log makes.
pub(super) fn with_meta(
    rows: &RecordBatch,
    partition: Partition,
    first: u64,
    ingest_time: i64,
) -> Result<RecordBatch, ArrowError> {
    let len = rows.num_rows();
    let first = first as i64;
    let meta: [ArrayRef; 3] = [
        Arc::new(Int32Array::from_value(partition.0 as i32, len)),
        Arc::new(Int64Array::from_iter_values(first..first + len as i64)),
        Arc::new(TimestampNanosecondArray::from_value(ingest_time, len)),
    ];
    let columns = rows.columns().iter().cloned().chain(meta).collect();
    RecordBatch::try_new(stream::event_schema(rows.schema_ref()), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, StringArray};

    const PLACE: Place<'static> = Place { stream: "s", partition: Partition(3) };

    fn rows(n: usize) -> RecordBatch {
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|n| format!("row {n}"))));
        RecordBatch::try_from_iter([("text", text)]).unwrap()
    }

    #[test]
    fn a_slice_comes_back_with_its_offsets() {
        let (n, value) = encode(PLACE, &rows(10), 77).unwrap().remove(0);
        assert_eq!(n, 10);
        let slice = decode(PLACE, &value, 100, 4..6).unwrap();
        let offsets = slice.column_by_name(stream::OFFSET).unwrap().to_data();
        assert_eq!(offsets, Int64Array::from(vec![104, 105]).to_data());
        assert_eq!(slice.column(0).to_data(), rows(10).column(0).slice(4, 2).to_data());
    }

    #[test]
    fn many_rows_become_several_batches() {
        let all = rows(MAX_ROWS + 1);
        let pieces = encode(PLACE, &all, 0).unwrap();
        let mut at = 0;
        for (n, value) in &pieces {
            let n = *n as usize;
            assert!((1..=MAX_ROWS).contains(&n));
            let decoded = decode(PLACE, value, 0, 0..n).unwrap();
            assert_eq!(decoded.column(0).as_ref(), all.column(0).slice(at, n).as_ref());
            at += n;
        }
        assert_eq!((at, pieces.len() > 1), (all.num_rows(), true));
    }

    #[test]
    fn large_batches_fill_their_pages() {
        // A page has some bytes of its own.
        let page = |bytes: usize| (bytes + 512).next_power_of_two();
        for n in (1..60).map(|n| n * 1_000) {
            let pieces = encode(PLACE, &rows(n), 0).unwrap();
            let (bytes, pages): (Vec<usize>, Vec<usize>) =
                pieces.iter().map(|(_, value)| (value.len(), page(value.len()))).unzip();
            let (bytes, pages) = (bytes.iter().sum::<usize>(), pages.iter().sum::<usize>());
            assert!(
                pages <= bytes / 16 * 17 + WHOLE_PAGE,
                "{n} rows of {bytes} bytes are in pages of {pages}"
            );
        }
    }

    #[test]
    fn one_row_is_one_batch_however_long_it_is() {
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(700_000), "y".repeat(100_000)]));
        let rows = RecordBatch::try_from_iter([("text", long)]).unwrap();
        let pieces = encode(PLACE, &rows, 0).unwrap();
        assert_eq!(pieces.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let (_, value) = encode(PLACE, &rows(3), 77).unwrap().remove(0);
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 0x40;
            assert!(decode(PLACE, &damaged, 0, 0..3).is_err(), "byte {at}");
            assert!(decode(PLACE, &value[..at], 0, 0..3).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_batch_of_another_partition_is_noticed() {
        let (_, value) = encode(PLACE, &rows(3), 77).unwrap().remove(0);
        assert!(decode(Place { partition: Partition(4), ..PLACE }, &value, 0, 0..3).is_err());
        assert!(decode(Place { stream: "t", ..PLACE }, &value, 0, 0..3).is_err());
    }
}
