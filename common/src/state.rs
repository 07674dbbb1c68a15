//! States: what a fold leaves of events, and what merges.
//!
//! A state is one record batch: the key columns `k0, k1, …`, then one column for each aggregate, sorted by the row
//! encoding of the keys, each key once. The same events give the same rows in the same order, so that the
//! [digest](State::digest) of a state names its content, whatever the layout of its buffers.

use crate::Digest;
use crate::digest::DigestOfParts;
use crate::error::{Error, Result};
use crate::foreign;
use crate::key_order::are_sorted;
use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::row::{RowConverter, Rows, SortField};
use std::sync::Arc;

/// The version of the stored form of states. A state of another version is recomputed, never misread.
pub const STATE_FORMAT: u32 = 1;

/// Of how many rows the encoding is held at once, where it is wanted one row after the other.
const ROWS_AT_ONCE: usize = 2048;

/// What the stored form of a state takes beside its rows, about.
const FORM_BYTES: usize = 4 << 10;

const FORMAT_KEY: &str = "twofold.state.format";
const KEYS_KEY: &str = "twofold.state.keys";

/// A state in its canonical form: sorted by key, each key once.
#[derive(Debug, Clone)]
pub struct State {
    keys: usize,
    batch: RecordBatch,
}

impl State {
    /// The state of no events.
    pub fn empty(schema: &SchemaRef, keys: usize) -> Self {
        Self { keys, batch: RecordBatch::new_empty(Arc::clone(schema)) }
    }

    /// Rows of a state in any order, each key once, brought into the canonical form. The first `keys` columns are
    /// the key.
    pub fn from_rows(schema: &SchemaRef, keys: usize, rows: &[RecordBatch]) -> Result<Self> {
        match order(keys, rows)? {
            None => Ok(Self { keys, batch: compact(concat_batches(schema, rows)?)? }),
            Some(order) => {
                let column = |i: usize| {
                    let of_batches: Vec<&dyn Array> =
                        rows.iter().map(|batch| batch.column(i).as_ref()).collect();
                    interleave(&of_batches, &order)
                };
                let columns = (0..schema.fields().len()).map(column).collect::<Result<_, ArrowError>>()?;
                Ok(Self { keys, batch: RecordBatch::try_new(Arc::clone(schema), columns)? })
            }
        }
    }

    /// Whether these are the columns of the state.
    ///
    /// # Errors
    /// `Corrupt` if they are not: the versions of its functions are in their types.
    pub(crate) fn check(&self, schema: &SchemaRef) -> Result<()> {
        conform(&self.batch, schema, || "a state".to_string()).map(drop)
    }

    /// Rows that are in the canonical form already.
    pub(crate) fn sorted(keys: usize, batch: RecordBatch) -> Self {
        Self { keys, batch }
    }

    /// The rows: key columns, then one column for each aggregate, in key order.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// `rows` of its rows, from one on.
    pub fn slice(&self, from: usize, rows: usize) -> Self {
        Self { keys: self.keys, batch: self.batch.slice(from, rows) }
    }

    /// How many of the columns are the key.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// How many keys the state has.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The bytes that the state takes in memory, about.
    pub fn memory(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// The digest of the state's content: its schema and its rows, in the row encoding.
    pub fn digest(&self) -> Result<Digest> {
        let mut digest = StateDigest::new(self.batch.schema_ref(), self.keys);
        digest.add(self)?;
        Ok(digest.finish())
    }

    /// The state as bytes: its digest, then an Arrow IPC stream whose schema metadata names the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let metadata = [
            (FORMAT_KEY.to_string(), STATE_FORMAT.to_string()),
            (KEYS_KEY.to_string(), self.keys.to_string()),
        ];
        let schema = Schema::new_with_metadata(self.batch.schema_ref().fields().clone(), metadata.into());
        let schema = Arc::new(schema);
        let batch = compact(self.batch.clone())?;
        // Room for all of it from the first: what grows by doubling is copied again and again.
        let mut bytes = Vec::with_capacity(batch.get_array_memory_size() + FORM_BYTES);
        bytes.resize(32, 0);
        let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
        writer.write(&under(&batch, &schema)?)?;
        writer.finish()?;
        drop(writer);
        let digest = Digest::of(&bytes[32..]);
        bytes[..32].copy_from_slice(digest.as_bytes());
        Ok(bytes)
    }

    /// A state from the bytes that [`State::to_bytes`] made; `origin` names them in errors.
    ///
    /// # Errors
    /// `Corrupt` if the digest does not fit, the format is another one, or it is no Arrow stream.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self> {
        let (head, body) = bytes.split_at_checked(32).ok_or_else(|| {
            Error::corrupt(origin, format!("a state of {} bytes is cut short", bytes.len()))
        })?;
        if Digest::from_bytes(head) != Some(Digest::of(body)) {
            return Err(Error::corrupt(origin, "the digest of the state does not fit its bytes"));
        }
        foreign::guard(|| Self::read(body, origin)).unwrap_or_else(|panic| {
            Err(Error::corrupt(origin, format!("a state that cannot be read: {panic}")))
        })
    }

    fn read(body: &[u8], origin: &str) -> Result<Self> {
        let unreadable = |e: ArrowError| Error::corrupt(origin, format!("a state that cannot be read: {e}"));
        let reader = foreign::ipc_stream(body).map_err(unreadable)?;
        let found = reader.schema();
        let format = found.metadata().get(FORMAT_KEY).map_or("none", String::as_str);
        if format != STATE_FORMAT.to_string() {
            let reason = format!("a state of format {format}, but this version reads format {STATE_FORMAT}");
            return Err(Error::corrupt(origin, reason));
        }
        let keys = found.metadata().get(KEYS_KEY).and_then(|keys| keys.parse().ok());
        let keys = keys.filter(|&keys| keys <= found.fields().len());
        let keys = keys.ok_or_else(|| Error::corrupt(origin, "a state that does not say what its key is"))?;
        let schema = Arc::new(Schema::new(found.fields().clone()));
        let batches = reader.map(|batch| under(&batch.map_err(unreadable)?, &schema));
        let batches = batches.collect::<Result<Vec<_>>>()?;
        Ok(Self { keys, batch: concat_batches(&schema, &batches)? })
    }
}

/// The [digest](State::digest) of a state that comes in pieces, in the order of the keys.
#[derive(Debug)]
pub struct StateDigest(DigestOfParts);

impl StateDigest {
    /// The digest of no pieces: that of the empty state.
    pub fn new(schema: &SchemaRef, keys: usize) -> Self {
        let columns = schema.fields().iter().map(|f| format!("{} {};", f.name(), f.data_type()));
        let header = format!("state {STATE_FORMAT} keys {keys} {}", columns.collect::<String>());
        let mut digest = DigestOfParts::default();
        digest.add(header.as_bytes());
        Self(digest)
    }

    /// Goes on with the next piece.
    pub fn add(&mut self, piece: &State) -> Result<()> {
        for_each_row(&piece.batch, |row| self.0.add(row))
    }

    /// The digest of the pieces.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// The batch in buffers of its own size: what the engine gives may be a few rows of large ones, and states are kept.
fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let rows: usize = batch.columns().iter().filter_map(|c| c.to_data().get_slice_memory_size().ok()).sum();
    if batch.get_array_memory_size() <= 2 * rows + 4096 {
        return Ok(batch);
    }
    let all = UInt32Array::from_iter_values(0..u32::try_from(batch.num_rows()).map_err(too_large)?);
    Ok(take_record_batch(&batch, &all)?)
}

/// The batch with its schema replaced by one of the same fields and other metadata.
fn under(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?)
}

/// The batch and the row of each key, in key order; `None` if the rows are in order as they are.
fn order(keys: usize, rows: &[RecordBatch]) -> Result<Option<Vec<(usize, usize)>>> {
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let Some(first) = rows.first().filter(|_| keys > 0 && count > 1) else { return Ok(None) };
    u32::try_from(count).map_err(too_large)?;
    if are_sorted(keys, rows)? {
        return Ok(None);
    }
    let converter = converter(first, keys)?;
    let mut encoded = converter.empty_rows(count, 0);
    let mut order: Vec<Place> = Vec::with_capacity(count);
    for (number, batch) in rows.iter().enumerate() {
        let before = encoded.num_rows();
        converter.append(&mut encoded, &batch.columns()[..keys])?;
        let place = |row| Place {
            beginning: beginning(&encoded, before + row),
            batch: number as u32,
            row: row as u32,
        };
        order.extend((0..batch.num_rows()).map(place));
    }
    let starts: Vec<usize> =
        rows.iter().scan(0, |next, batch| Some(std::mem::replace(next, *next + batch.num_rows()))).collect();
    // Most are told apart by how they begin, which stands at hand.
    let whole = |place: &Place| encoded.row(starts[place.batch as usize] + place.row as usize);
    let compare = |a: &Place, b: &Place| a.beginning.cmp(&b.beginning).then_with(|| whole(a).cmp(&whole(b)));
    if order.is_sorted_by(|a, b| compare(a, b).is_le()) {
        return Ok(None);
    }
    // Most often these are a few states, one after the other: a sort that sees stretches in order merges them.
    order.sort_by(compare);
    Ok(Some(order.into_iter().map(|place| (place.batch as usize, place.row as usize)).collect()))
}

/// A row that is to be put in order.
struct Place {
    beginning: u128,
    batch: u32,
    row: u32,
}

/// The first 16 bytes of a row, with zeros behind a shorter one, as a number: of two rows, that with the lesser number
/// is the lesser.
fn beginning(rows: &Rows, row: usize) -> u128 {
    let row = rows.row(row);
    let bytes = row.as_ref();
    let mut padded = [0; 16];
    match bytes.first_chunk() {
        Some(first) => padded = *first,
        None => padded[..bytes.len()].copy_from_slice(bytes),
    }
    u128::from_be_bytes(padded)
}

/// What encodes the first `columns` columns.
fn converter(batch: &RecordBatch, columns: usize) -> Result<RowConverter> {
    let columns = &batch.columns()[..columns];
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?)
}

/// The first `columns` columns of each row as bytes: their order is that of states.
pub(crate) fn encode(batch: &RecordBatch, columns: usize) -> Result<Rows> {
    Ok(converter(batch, columns)?.convert_columns(&batch.columns()[..columns])?)
}

/// All columns of each row as bytes, row by row: of a large batch not all of them at once.
fn for_each_row(batch: &RecordBatch, mut each: impl FnMut(&[u8])) -> Result<()> {
    if batch.num_rows() == 0 {
        return Ok(());
    }
    let converter = converter(batch, batch.num_columns())?;
    let mut rows = converter.empty_rows(batch.num_rows().min(ROWS_AT_ONCE), 0);
    for at in (0..batch.num_rows()).step_by(ROWS_AT_ONCE) {
        let some = batch.slice(at, ROWS_AT_ONCE.min(batch.num_rows() - at));
        rows.clear();
        converter.append(&mut rows, some.columns())?;
        rows.iter().for_each(|row| each(row.data()));
    }
    Ok(())
}

fn too_large(_: std::num::TryFromIntError) -> Error {
    Error::Unavailable("a state of more than 4 billion keys".into())
}

/// `batch` with exactly this schema, in which columns may be nullable that are not in its own. `origin` says where the
/// batch is from.
///
/// # Errors
/// `Corrupt` if it has other columns.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef, origin: impl Fn() -> String) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = |schema: &SchemaRef| {
        let columns = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
        columns.collect::<Vec<_>>().join(", ")
    };
    let (expected, found) = (columns(schema), columns(batch.schema_ref()));
    if expected != found {
        return Err(Error::corrupt(origin(), format!("expected the columns ({expected}), found ({found})")));
    }
    RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())
        .map_err(|e| Error::corrupt(origin(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("k0", DataType::Utf8, true),
            Field::new("s0", DataType::Int64, true),
        ]))
    }

    fn batch(rows: &[(Option<&str>, i64)]) -> RecordBatch {
        let keys: StringArray = rows.iter().map(|r| r.0).collect();
        let sums: Int64Array = rows.iter().map(|r| Some(r.1)).collect();
        RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(sums)]).unwrap()
    }

    fn state(rows: &[(Option<&str>, i64)]) -> State {
        State::from_rows(&schema(), 1, &[batch(rows)]).unwrap()
    }

    #[test]
    fn rows_in_any_order_and_layout_are_one_state() {
        let a = state(&[(Some("b"), 2), (None, 0), (Some("a"), 1)]);
        let all = batch(&[(Some("x"), 9), (Some("a"), 1), (Some("b"), 2), (None, 0)]);
        let b = State::from_rows(&schema(), 1, &[all.slice(2, 2), all.slice(1, 1)]).unwrap();
        assert_eq!(a.digest().unwrap(), b.digest().unwrap());
        assert_eq!(a.batch(), b.batch());
        assert_ne!(a.digest().unwrap(), state(&[(Some("a"), 1), (Some("b"), 2)]).digest().unwrap());
        assert_ne!(
            a.digest().unwrap(),
            state(&[(Some("b"), 2), (None, 1), (Some("a"), 1)]).digest().unwrap()
        );
    }

    #[test]
    fn stored_bytes_are_read_back_or_refused() {
        let state = state(&[(Some("é"), i64::MIN), (None, 7)]);
        let bytes = state.to_bytes().unwrap();
        let read = State::from_bytes(&bytes, "x").unwrap();
        assert_eq!((read.batch(), read.keys()), (state.batch(), 1));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(
                State::from_bytes(&damaged, "x").unwrap_err().kind(),
                crate::Kind::Corrupt,
                "byte {at}"
            );
        }
        for length in [0, 5, 31, 32, 40, bytes.len() - 1] {
            assert!(State::from_bytes(&bytes[..length], "x").is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_state_of_another_format_is_refused_by_its_number() {
        let metadata = [(FORMAT_KEY.to_string(), "2".to_string()), (KEYS_KEY.to_string(), "1".to_string())];
        let newer = Arc::new(Schema::new_with_metadata(schema().fields().clone(), metadata.into()));
        let mut body = Vec::new();
        let mut writer = StreamWriter::try_new(&mut body, &newer).unwrap();
        writer.write(&under(&batch(&[(None, 1)]), &newer).unwrap()).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let bytes = [Digest::of(&body).as_bytes().as_slice(), &body].concat();
        let message = State::from_bytes(&bytes, "state.redb").unwrap_err().to_string();
        assert_eq!(message, "state.redb: a state of format 2, but this version reads format 1");
    }

    #[test]
    fn a_state_of_few_rows_keeps_no_large_buffers() {
        let names: Vec<String> = (0..50_000).map(|i| format!("key number {i}")).collect();
        let rows: Vec<_> = names.iter().map(|k| (Some(k.as_str()), 1)).collect();
        let few = State::from_rows(&schema(), 1, &[batch(&rows).slice(100, 3)]).unwrap();
        assert!(few.memory() < 8192, "{} bytes for three rows", few.memory());
    }
}
