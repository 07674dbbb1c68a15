//! Parquet files as the archive and the batch views keep them: written once, named with their digest, and verified
//! whole before a byte of them is decoded.
//!
//! `read(write(batches)) = batches`, down to the bits of a float. What does not have the length and digest that its
//! manifest says is `Corrupt`, never rows.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::foreign;
use crate::manifest::check_format;
use crate::store::Store;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

/// The newest format of files that this version reads, and the one that it writes.
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "twofold.file.format";
/// What our keys in a file's metadata begin with.
const OUR_KEYS: &str = "twofold.file.";
const BATCH_ROWS: usize = 8192;

/// A stored file and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParquetFile {
    pub(crate) path: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
}

/// What a file says about itself, for people and other tools: the manifest decides.
pub(crate) type About = Vec<(&'static str, String)>;

/// Writes `batches`, all of `schema`, as the file that `path` names, given its digest, and reads it back.
pub(crate) async fn write(
    store: &Store,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    about: About,
    path: impl FnOnce(&Digest) -> String,
) -> Result<ParquetFile> {
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let (bytes, digest) = off_thread(move || {
        let bytes = encode(&schema, &batches, about, FORMAT)?;
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    })
    .await?;
    let file = ParquetFile { path: path(&digest), rows, bytes: bytes.len() as u64, digest };
    // Over what may be there: the name holds the digest, so it is the same bytes, and now too young for gc.
    store.put(&file.path, bytes).await?;
    fetch(store, &file).await?;
    Ok(file)
}

/// The rows of `file`, in stored order: all columns, or those of `columns` that it has. No batch is empty.
pub(crate) async fn read(
    store: &Store,
    file: &ParquetFile,
    columns: Option<Vec<String>>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let bytes = fetch(store, file).await?;
    let file = file.clone();
    off_thread(move || {
        let decoded = foreign::guard(|| decode(&file, bytes, columns.as_deref()));
        decoded
            .unwrap_or_else(|panic| Err(Error::corrupt(&file.path, format!("not readable Parquet: {panic}"))))
    })
    .await
}

/// Checks the bytes of `file`, without decoding them.
///
/// # Errors
/// `Corrupt` if they are not what they must be; `NotFound` if the file is gone.
pub(crate) async fn verify(store: &Store, file: &ParquetFile) -> Result<()> {
    fetch(store, file).await.map(drop)
}

async fn fetch(store: &Store, file: &ParquetFile) -> Result<Bytes> {
    let bytes = store.get(&file.path).await?;
    let (length, expected) = (bytes.len() as u64, file.digest);
    if length != file.bytes {
        let reason = format!("expected {} bytes, found {length}: restore the file", file.bytes);
        return Err(Error::corrupt(&file.path, reason));
    }
    let (bytes, found) = off_thread(move || {
        let found = Digest::of(&bytes);
        Ok((bytes, found))
    })
    .await?;
    if found != expected {
        let reason = format!("damaged: expected digest {expected}, found {found}: restore the file");
        return Err(Error::corrupt(&file.path, reason));
    }
    Ok(bytes)
}

fn encode(schema: &SchemaRef, batches: &[RecordBatch], about: About, format: u64) -> Result<Bytes> {
    let about = [(FORMAT_KEY, format.to_string())].into_iter().chain(about);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_key_value_metadata(Some(about.map(|(k, v)| KeyValue::new(k.to_string(), v)).collect()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?.into())
}

fn decode(
    file: &ParquetFile,
    bytes: Bytes,
    columns: Option<&[String]>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let damaged =
        |e: &dyn std::fmt::Display| Error::corrupt(&file.path, format!("not readable Parquet: {e}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, ArrowReaderOptions::new())
        .map_err(|e| damaged(&e))?;
    check_format(&file.path, format_of(builder.metadata().file_metadata().key_value_metadata()), FORMAT)?;
    let schema = Arc::clone(builder.schema());
    let wanted: Vec<usize> = (0..schema.fields().len())
        .filter(|i| columns.is_none_or(|names| names.contains(schema.field(*i).name())))
        .collect();
    let projection = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
    let schema = without_our_keys(&schema.project(&wanted)?);
    let reader =
        builder.with_projection(projection).with_batch_size(BATCH_ROWS).build().map_err(|e| damaged(&e))?;
    let mut batches = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| damaged(&e))?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        batches.push(RecordBatch::try_new_with_options(
            Arc::clone(&schema),
            batch.columns().to_vec(),
            &rows,
        )?);
    }
    let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if found as u64 != file.rows {
        return Err(Error::corrupt(&file.path, format!("expected {} rows, found {found}", file.rows)));
    }
    Ok((schema, batches))
}

/// The format that a file says it has; 0 if it says none.
fn format_of(about: Option<&Vec<KeyValue>>) -> u64 {
    let found = about.into_iter().flatten().find(|entry| entry.key == FORMAT_KEY);
    found.and_then(|entry| entry.value.as_deref()?.parse().ok()).unwrap_or(0)
}

/// The reader hands the file's metadata on as the schema's: what is written must be what is read.
fn without_our_keys(schema: &Schema) -> SchemaRef {
    let mut metadata = schema.metadata().clone();
    metadata.retain(|key, _| !key.starts_with(OUR_KEYS));
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Internal(format!("coding a Parquet file did not finish: {e}")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StructArray};
    use arrow::datatypes::Field;

    fn batch(floats: &[f64]) -> RecordBatch {
        let floats: ArrayRef = Arc::new(Float64Array::from(floats.to_vec()));
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(0..floats.len() as i64));
        let field = |name, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let state = StructArray::from(vec![(field("sum", &floats), floats), (field("n", &counts), counts)]);
        let field = Field::new("state", state.data_type().clone(), false)
            .with_metadata([("of".to_string(), "avg".to_string())].into());
        let schema = Schema::new_with_metadata(vec![field], [("view".to_string(), "v".to_string())].into());
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(state)]).unwrap()
    }

    async fn written(store: &Store, batch: &RecordBatch) -> ParquetFile {
        let about = vec![("twofold.file.kind", "test".to_string())];
        write(store, batch.schema(), vec![batch.clone()], about, |d| format!("f-{}", d.short()))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_written_to_the_bit() {
        let store = Store::memory();
        let odd = f64::from_bits(0x7ff8_0000_0000_0001);
        let batch = batch(&[0.0, -0.0, f64::NAN, odd, 1e-310, f64::INFINITY, -0.0, 0.0]);
        let file = written(&store, &batch).await;
        let (schema, batches) = read(&store, &file, None).await.unwrap();
        assert_eq!(schema, batch.schema());
        let bits = |batch: &RecordBatch| -> Vec<u64> {
            let state = batch.column(0).as_any().downcast_ref::<StructArray>().unwrap();
            let floats = state.column(0).as_any().downcast_ref::<Float64Array>().unwrap();
            floats.values().iter().map(|f| f.to_bits()).collect()
        };
        assert_eq!(bits(&batches[0]), bits(&batch));
    }

    #[tokio::test]
    async fn a_missing_damaged_or_newer_file_is_told_by_name() {
        let store = Store::memory();
        let batch = batch(&[1.0; 100]);
        let file = written(&store, &batch).await;
        let good = store.get(&file.path).await.unwrap();
        let mut flipped = good.to_vec();
        flipped[good.len() / 2] ^= 1;
        let newer = encode(&batch.schema(), &[batch], vec![], 2).unwrap();
        let named = |bytes: &Bytes| ParquetFile {
            bytes: bytes.len() as u64,
            digest: Digest::of(bytes),
            ..file.clone()
        };
        let other: Bytes = Bytes::from_static(b"PAR1 but not Parquet PAR1");
        let cases = [
            (Bytes::from(flipped), file.clone(), "damaged: expected digest"),
            (good.slice(..good.len() - 1), file.clone(), "bytes, found"),
            (newer.clone(), named(&newer), "newer version of Twofold (format 2"),
            (other.clone(), named(&other), "not readable Parquet"),
            (good.clone(), ParquetFile { rows: 99, ..file.clone() }, "expected 99 rows, found 100"),
        ];
        for (bytes, file, says) in cases {
            store.put(&file.path, bytes).await.unwrap();
            let e = read(&store, &file, None).await.unwrap_err();
            assert_eq!(e.kind(), Kind::Corrupt);
            assert!(e.to_string().contains(&file.path) && e.to_string().contains(says), "{e}");
        }
        store.delete(&file.path).await.unwrap();
        assert_eq!(read(&store, &file, None).await.unwrap_err().kind(), Kind::NotFound);
    }

    #[tokio::test]
    async fn rows_are_counted_without_a_column() {
        let store = Store::memory();
        let file = written(&store, &batch(&[1.0; 20_000])).await;
        let (schema, batches) = read(&store, &file, Some(vec![])).await.unwrap();
        assert_eq!(schema.fields().len(), 0);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [8192, 8192, 3616]);
        assert_eq!(file.rows, 20_000);
    }
}
