//! Parquet files as the archive and the batch views keep them: written once, named with their digest, and verified
//! before a byte of them is decoded: whole, or where their [footer](Footer) is known the columns that are wanted.
//!
//! `read(write(batches)) = batches`, down to the bits of a float. What does not have the digest that its manifest or
//! its footer says is `Corrupt`, never rows. Of a file that is read by columns, the others may be damaged unseen:
//! [`verify`] looks at all.

use crate::chunks::{self, CHUNKS_KEY, Footer, Parts};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::foreign;
use crate::manifest::check_format;
use crate::off_thread::off_thread;
use crate::store::Store;
use crate::text_views::text_as_views;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::reader::ChunkReader;
use std::fmt::Display;
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
    /// If it is known: then it can be verified column by column.
    pub(crate) footer: Option<Footer>,
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
    let (bytes, digest, footer) = off_thread(move || {
        let bytes = encode(&schema, &batches, about, FORMAT)?;
        let (digest, footer) = (Digest::of(&bytes), Footer::of(&bytes));
        Ok((bytes, digest, footer))
    })
    .await?;
    let file = ParquetFile { path: path(&digest), rows, bytes: bytes.len() as u64, digest, footer };
    // Over what may be there: the name holds the digest, so it is the same bytes, and now too young for gc.
    store.put(&file.path, bytes).await?;
    fetch(store, &file).await?;
    Ok(file)
}

/// The rows of `file`, in stored order: all columns, or those of `wanted` that it has, and text as views where `wanted`
/// has it so.
pub(crate) async fn read(
    store: &Store,
    file: &ParquetFile,
    wanted: Option<&SchemaRef>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let rows = open(store, file, wanted).await?;
    off_thread(move || Ok((Arc::clone(&rows.schema), rows.collect::<Result<_>>()?))).await
}

/// The same, decoded batch by batch while they are read. What is decoded is verified before: the whole file, or its
/// footer and the columns that are wanted.
pub(crate) async fn open(store: &Store, file: &ParquetFile, wanted: Option<&SchemaRef>) -> Result<Rows> {
    if let (Some(footer), Some(wanted)) = (file.footer, wanted)
        && let Some(rows) = open_columns(store, file, footer, wanted).await?
    {
        return Ok(rows);
    }
    let bytes = fetch(store, file).await?;
    guarded(&file.path, || {
        let metadata = metadata(file, &bytes, wanted)?;
        Rows::decode(file, metadata, bytes, wanted)
    })
}

/// `None` if the file has no digests of its columns.
async fn open_columns(
    store: &Store,
    file: &ParquetFile,
    footer: Footer,
    columns: &SchemaRef,
) -> Result<Option<Rows>> {
    let Some(start) = file.bytes.checked_sub(footer.bytes) else {
        let reason = format!("a footer of {} bytes in a file of {}", footer.bytes, file.bytes);
        return Err(Error::corrupt(&file.path, reason));
    };
    let mut parts = Parts::new(file.bytes);
    parts.read(store, &file.path, &[(start..file.bytes, footer.digest)]).await?;
    let (metadata, wanted) = guarded(&file.path, || {
        let metadata = metadata(file, &parts, Some(columns))?;
        let (_, mask) = projection(&metadata, Some(columns));
        let wanted = chunks::wanted(metadata.metadata(), &mask);
        Ok((metadata, wanted.map_err(|e| Error::corrupt(&file.path, e))?))
    })?;
    let Some(wanted) = wanted else { return Ok(None) };
    parts.read(store, &file.path, &wanted).await?;
    guarded(&file.path, || Rows::decode(file, metadata, parts, Some(columns))).map(Some)
}

fn metadata(
    file: &ParquetFile,
    reader: &impl ChunkReader,
    wanted: Option<&SchemaRef>,
) -> Result<ArrowReaderMetadata> {
    let metadata = ArrowReaderMetadata::load(reader, ArrowReaderOptions::new())
        .map_err(|e| unreadable(&file.path, &e))?;
    let about = metadata.metadata().file_metadata().key_value_metadata();
    check_format(&file.path, format_of(about), FORMAT)?;
    let Some(schema) = wanted.and_then(|wanted| with_views_of(metadata.schema(), wanted)) else {
        return Ok(metadata);
    };
    ArrowReaderMetadata::try_new(
        Arc::clone(metadata.metadata()),
        ArrowReaderOptions::new().with_schema(schema),
    )
    .map_err(|e| unreadable(&file.path, &e))
}

/// `schema` with text as views where `wanted` has views; `None` if that is nowhere.
fn with_views_of(schema: &SchemaRef, wanted: &SchemaRef) -> Option<SchemaRef> {
    let is_view = |field: &Field| {
        let wanted = wanted.field_with_name(field.name()).map(Field::data_type);
        *field.data_type() == DataType::Utf8 && wanted.is_ok_and(|wanted| *wanted == DataType::Utf8View)
    };
    schema.fields().iter().any(|field| is_view(field)).then(|| text_as_views(schema, is_view))
}

/// Which of the file's columns are wanted, by number and as Parquet has it.
fn projection(metadata: &ArrowReaderMetadata, columns: Option<&SchemaRef>) -> (Vec<usize>, ProjectionMask) {
    let schema = metadata.schema();
    let wanted: Vec<usize> = (0..schema.fields().len())
        .filter(|i| columns.is_none_or(|wanted| wanted.index_of(schema.field(*i).name()).is_ok()))
        .collect();
    let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted.iter().copied());
    (wanted, mask)
}

/// The rows of a file, in stored order, decoded while they are read. No batch is empty; nothing comes after an error.
pub(crate) struct Rows {
    file: ParquetFile,
    schema: SchemaRef,
    /// `None` after the end.
    reader: Option<ParquetRecordBatchReader>,
    found: u64,
}

impl Rows {
    fn decode(
        file: &ParquetFile,
        metadata: ArrowReaderMetadata,
        reader: impl ChunkReader + 'static,
        columns: Option<&SchemaRef>,
    ) -> Result<Self> {
        let (wanted, mask) = projection(&metadata, columns);
        let schema = without_our_keys(&metadata.schema().project(&wanted)?);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, metadata);
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build();
        let reader = reader.map_err(|e| unreadable(&file.path, &e))?;
        Ok(Self { file: file.clone(), schema, reader: Some(reader), found: 0 })
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let Some(batch) = reader.next().transpose().map_err(|e| unreadable(&self.file.path, &e))? else {
            self.reader = None;
            let (found, expected) = (self.found, self.file.rows);
            return match found == expected {
                true => Ok(None),
                false => {
                    Err(Error::corrupt(&self.file.path, format!("expected {expected} rows, found {found}")))
                }
            };
        };
        self.found += batch.num_rows() as u64;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)?))
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let path = self.file.path.clone();
        let read = guarded(&path, || self.read());
        if read.is_err() {
            self.reader = None;
        }
        read.transpose()
    }
}

/// What `decode` gives; that the file is damaged if it panics.
fn guarded<T>(path: &str, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    foreign::guard(decode).unwrap_or_else(|panic| Err(unreadable(path, &panic)))
}

fn unreadable(path: &str, e: &dyn Display) -> Error {
    Error::corrupt(path, format!("not readable Parquet: {e}"))
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
    let properties = properties(about, format).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    finish(writer)
}

fn properties(about: About, format: u64) -> WriterPropertiesBuilder {
    let about = [(FORMAT_KEY, format.to_string())].into_iter().chain(about);
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_key_value_metadata(Some(about.map(|(k, v)| KeyValue::new(k.to_string(), v)).collect()))
}

/// The file, with the digests of its column chunks.
fn finish(mut writer: ArrowWriter<Vec<u8>>) -> Result<Bytes> {
    writer.flush()?;
    writer.sync().map_err(ParquetError::from)?;
    let chunks = chunks::digests(writer.inner(), writer.flushed_row_groups())?;
    writer.append_key_value_metadata(KeyValue::new(CHUNKS_KEY.to_string(), chunks));
    Ok(writer.into_inner()?.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::tests::stores;
    use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray, StructArray};
    use arrow::compute::{cast, concat_batches};
    use parquet::file::metadata::RowGroupMetaData;
    use std::ops::Range;

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

    /// A file of two columns and two row groups, and where the chunks of each column are.
    async fn of_two_columns(store: &Store) -> (ParquetFile, RecordBatch, [Vec<Range<usize>>; 2]) {
        let letters: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..3000).map(|i| format!("letter {i}"))));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..3000).map(|i| i * i)));
        let batch = RecordBatch::try_from_iter([("letters", letters), ("numbers", numbers)]).unwrap();
        let properties = properties(vec![], FORMAT).set_max_row_group_row_count(Some(2000)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let bytes = finish(writer).unwrap();
        let (digest, footer) = (Digest::of(&bytes), Footer::of(&bytes));
        let file = ParquetFile { path: "t".into(), rows: 3000, bytes: bytes.len() as u64, digest, footer };
        store.put("t", bytes.clone()).await.unwrap();
        let metadata = metadata(&file, &bytes, None).unwrap();
        let chunks = |column: usize| {
            let chunk = |group: &RowGroupMetaData| {
                let (start, length) = group.column(column).byte_range();
                start as usize..(start + length) as usize
            };
            let groups = metadata.metadata().row_groups();
            assert_eq!(groups.len(), 2);
            groups.iter().map(chunk).collect()
        };
        (file, batch.clone(), [chunks(0), chunks(1)])
    }

    #[tokio::test]
    async fn a_column_is_verified_without_the_others() {
        let store = Store::memory();
        let (file, batch, [letters, numbers]) = of_two_columns(&store).await;
        let good = store.get(&file.path).await.unwrap();
        let footer = good.len() - file.footer.unwrap().bytes as usize..good.len();
        let wanted = Arc::new(batch.schema().project(&[1]).unwrap());
        let mut unread = 0;
        for at in (0..good.len()).step_by(11).chain(footer.clone()) {
            let mut flipped = good.to_vec();
            flipped[at] ^= 0x10;
            store.put(&file.path, flipped.into()).await.unwrap();
            assert_eq!(read(&store, &file, None).await.unwrap_err().kind(), Kind::Corrupt, "byte {at}");
            let is_read = footer.contains(&at) || numbers.iter().any(|chunk| chunk.contains(&at));
            match read(&store, &file, Some(&wanted)).await {
                Ok((schema, batches)) if !is_read => {
                    let read = concat_batches(&schema, &batches).unwrap();
                    assert_eq!(read.columns(), [batch.column(1).clone()]);
                    unread += usize::from(letters.iter().any(|chunk| chunk.contains(&at)));
                }
                Ok(_) => panic!("byte {at} is damaged, and read"),
                Err(e) => assert!(is_read && e.to_string().contains("damaged in bytes"), "byte {at}: {e}"),
            }
        }
        assert!(unread > 100);
    }

    #[tokio::test]
    async fn columns_of_a_file_that_is_not_whole() {
        for (store, _dir) in stores() {
            let (file, batch, _) = of_two_columns(&store).await;
            let good = store.get(&file.path).await.unwrap();
            let wanted = Arc::new(batch.schema().project(&[0]).unwrap());
            let views = Arc::new(Schema::new(vec![Field::new("letters", DataType::Utf8View, true)]));
            for kept in [0, 3, 100, good.len() - 1] {
                store.put(&file.path, good.slice(..kept)).await.unwrap();
                let e = read(&store, &file, Some(&wanted)).await.unwrap_err();
                assert_eq!(e.kind(), Kind::Corrupt, "{kept} bytes: {e}");
            }
            // Written by an earlier version, or under the manifest of one.
            store.put(&file.path, good.clone()).await.unwrap();
            let whole = ParquetFile { footer: None, ..file.clone() };
            let properties = properties(vec![], FORMAT).build();
            let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            let plain: Bytes = writer.into_inner().unwrap().into();
            let plain_file = ParquetFile {
                path: "plain".into(),
                bytes: plain.len() as u64,
                digest: Digest::of(&plain),
                footer: Footer::of(&plain),
                ..file.clone()
            };
            store.put("plain", plain).await.unwrap();
            for file in [&file, &whole, &plain_file] {
                let (schema, batches) = read(&store, file, Some(&wanted)).await.unwrap();
                assert_eq!(concat_batches(&schema, &batches).unwrap().columns(), [batch.column(0).clone()]);
                let (schema, batches) = read(&store, file, Some(&views)).await.unwrap();
                let letters = concat_batches(&schema, &batches).unwrap().column(0).clone();
                assert_eq!(*letters.data_type(), DataType::Utf8View);
                assert_eq!(&cast(&letters, &DataType::Utf8).unwrap(), batch.column(0));
            }
            store.delete(&file.path).await.unwrap();
            assert_eq!(read(&store, &file, Some(&wanted)).await.unwrap_err().kind(), Kind::NotFound);
        }
    }

    #[tokio::test]
    async fn rows_are_counted_without_a_column() {
        let store = Store::memory();
        let file = written(&store, &batch(&[1.0; 20_000])).await;
        let (schema, batches) = read(&store, &file, Some(&Arc::new(Schema::empty()))).await.unwrap();
        assert_eq!(schema.fields().len(), 0);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [8192, 8192, 3616]);
        assert_eq!(file.rows, 20_000);
    }
}
