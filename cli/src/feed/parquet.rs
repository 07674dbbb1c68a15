//! Parquet as bodies: small Parquet files, each of some rows of the input.

use super::Body;
use anyhow::Result;
use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

/// How many rows a body has, unless they are large.
const BODY_ROWS: usize = 50_000;
/// A body that comes out larger is split.
const MOST_BYTES: usize = 32 << 20;

/// The bodies of a Parquet file.
pub(super) fn bodies(file: impl ChunkReader + 'static) -> Result<impl Iterator<Item = Result<Body>> + Send> {
    let size = file.len();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
    let reader = builder.with_batch_size(BODY_ROWS).build()?;
    let share = move |batch: &RecordBatch| {
        u64::try_from(u128::from(size) * batch.num_rows() as u128 / u128::from(rows)).unwrap_or(size)
    };
    Ok(reader.flat_map(move |batch| match batch {
        Ok(batch) => {
            let mut bodies = Vec::new();
            match split(&batch, MOST_BYTES, &share, &mut bodies) {
                Ok(()) => bodies.into_iter().map(Ok).collect(),
                Err(e) => vec![Err(e)],
            }
        }
        Err(e) => vec![Err(e.into())],
    }))
}

fn split(
    batch: &RecordBatch,
    most: usize,
    share: &impl Fn(&RecordBatch) -> u64,
    bodies: &mut Vec<Body>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None)?;
    writer.write(batch)?;
    writer.close()?;
    if bytes.len() <= most || batch.num_rows() < 2 {
        bodies.push(Body { bytes: Bytes::from(bytes), read: share(batch) });
        return Ok(());
    }
    let half = batch.num_rows() / 2;
    split(&batch.slice(0, half), most, share, bodies)?;
    split(&batch.slice(half, batch.num_rows() - half), most, share, bodies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    fn batch(rows: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    fn numbers(bodies: &[Body]) -> Vec<i64> {
        let read = |body: &Body| {
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(body.bytes.clone()).unwrap().build().unwrap();
            let column = |b: RecordBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
            reader.map(|b| column(b.unwrap())).collect::<Vec<_>>().concat()
        };
        bodies.iter().flat_map(read).collect()
    }

    #[test]
    fn rows_come_in_order_in_bodies_of_some() {
        let rows = BODY_ROWS as i64 * 2 + 7;
        let mut whole = Vec::new();
        split(&batch(rows), usize::MAX, &|_| 0, &mut whole).unwrap();
        let size = whole[0].bytes.len() as u64;
        let bodies: Vec<Body> = bodies(whole.remove(0).bytes).unwrap().map(Result::unwrap).collect();
        assert_eq!(bodies.len(), 3);
        assert_eq!(numbers(&bodies), (0..rows).collect::<Vec<_>>());
        let read: u64 = bodies.iter().map(|b| b.read).sum();
        assert!(read <= size && read + 3 >= size, "{read} of {size}");
    }

    #[test]
    fn large_bodies_are_split() {
        let mut bodies = Vec::new();
        split(&batch(100), 1, &|b| b.num_rows() as u64, &mut bodies).unwrap();
        assert_eq!(bodies.len(), 100);
        assert_eq!(numbers(&bodies), (0..100).collect::<Vec<_>>());
    }
}
