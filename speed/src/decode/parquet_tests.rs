use super::*;
use arrow::array::*;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use twofold_common::{Kind, StreamDef};

fn decoder(fields: Vec<Field>) -> Decoder {
    let schema = Arc::new(Schema::new(fields));
    Decoder::new(&StreamDef {
        name: "s".into(),
        schema,
        partitions: 1,
        partition_by: None,
        watermark: None,
        deduplicate: None,
    })
    .unwrap()
}

fn file(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}

/// What went in, and the reasons and JSON texts of the others.
type Outcome = (Vec<RecordBatch>, Vec<(String, String)>);

fn decode(decoder: &Decoder, file: Bytes, max_rows: usize) -> Result<Outcome> {
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    decoder.decode_parquet(file, max_rows, |decoded| {
        let reasons = decoded.rejected.column(0).as_string::<i32>().iter().flatten().map(str::to_string);
        let raw = decoded.rejected.column(1).as_binary::<i32>().iter().flatten();
        bad.extend(reasons.zip(raw.map(|r| String::from_utf8_lossy(r).into_owned())));
        rows.push(decoded.rows);
        Ok(())
    })?;
    Ok((rows, bad))
}

/// The single column `v` of this type, decoded from `source`, and how many rows were rejected.
fn convert_one(source: impl Array + 'static, to: DataType) -> (ArrayRef, usize) {
    let decoder = decoder(vec![Field::new("v", to, true)]);
    let (rows, bad) = decode(&decoder, file(vec![("v", Arc::new(source))]), 100).unwrap();
    (rows[0].column(0).clone(), bad.len())
}

#[test]
fn columns_are_found_by_name_and_rows_come_in_pieces() {
    let decoder = decoder(vec![
        Field::new("carrier", DataType::Utf8View, false),
        Field::new("delay", DataType::Int64, true),
        Field::new("later", DataType::Int64, true),
    ]);
    let delays: ArrayRef = Arc::new(Int32Array::from_iter_values(0..10));
    let carriers: ArrayRef = Arc::new(StringArray::from_iter_values((0..10).map(|n| format!("c{n}"))));
    let other: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 10]));
    let file = file(vec![("delay", delays), ("other", other), ("carrier", carriers)]);
    let (rows, bad) = decode(&decoder, file, 4).unwrap();
    assert_eq!(bad, []);
    assert_eq!(rows.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(rows[1].column(1).as_primitive::<Int64Type>().values(), &[4, 5, 6, 7]);
    assert_eq!(rows[1].column(0).as_string_view().value(0), "c4");
    assert_eq!(rows[1].column(2).null_count(), 4);
}

#[test]
fn a_null_where_none_may_be_rejects_its_row() {
    let decoder = decoder(vec![
        Field::new("carrier", DataType::Utf8, false),
        Field::new("delay", DataType::Int64, true),
    ]);
    let carriers: ArrayRef = Arc::new(StringArray::from(vec![Some("UA"), None, Some("DL")]));
    let delays: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None]));
    let (rows, bad) = decode(&decoder, file(vec![("carrier", carriers), ("delay", delays)]), 100).unwrap();
    assert_eq!(rows[0].num_rows(), 2);
    assert_eq!(
        bad,
        [("column carrier: null, but the column is NOT NULL".to_string(), "{\"delay\":2}".to_string())]
    );
}

#[test]
fn a_value_that_would_change_rejects_its_row() {
    let (kept, bad) = convert_one(Float64Array::from(vec![1.0, 1.5, f64::NAN, 1e300, -7.0]), DataType::Int64);
    assert_eq!((kept.as_primitive::<Int64Type>().values().to_vec(), bad), (vec![1, -7], 3));
    let (kept, bad) = convert_one(Int64Array::from(vec![Some(127), Some(128), None]), DataType::Int8);
    assert_eq!((kept.len(), kept.null_count(), bad), (2, 1, 1));
    let (kept, bad) = convert_one(Int64Array::from(vec![1 << 53, (1 << 53) + 1]), DataType::Float64);
    assert_eq!((kept.len(), bad), (1, 1));
    let (kept, bad) = convert_one(Float64Array::from(vec![0.1, 1e300, f64::INFINITY]), DataType::Float32);
    assert_eq!((kept.as_primitive::<Float32Type>().values().to_vec(), bad), (vec![0.1, f32::INFINITY], 1));
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    let (kept, bad) = convert_one(TimestampNanosecondArray::from(vec![5_000_000, 5_000_001]), millis);
    assert_eq!((kept.as_primitive::<TimestampMillisecondType>().values().to_vec(), bad), (vec![5], 1));
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([
        Some([Some(1.0), None]),
        Some([Some(1.5), None]),
    ]);
    let (kept, bad) = convert_one(lists, DataType::new_list(DataType::Int64, true));
    assert_eq!((kept.len(), bad), (1, 1));
}

#[test]
fn a_timestamp_with_zone_stays_the_same_instant() {
    let source = TimestampMicrosecondArray::from(vec![7_000_000]).with_timezone("+05:00");
    let (kept, _) = convert_one(source.clone(), DataType::Timestamp(TimeUnit::Nanosecond, None));
    assert_eq!(kept.as_primitive::<TimestampNanosecondType>().values(), &[7_000_000_000]);
    let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("-03:00".into()));
    let (kept, _) = convert_one(source, zoned.clone());
    assert_eq!(
        (kept.as_primitive::<TimestampNanosecondType>().value(0), kept.data_type()),
        (7_000_000_000, &zoned)
    );
}

#[test]
fn dictionaries_and_decimals_are_read() {
    let source: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let (kept, _) = convert_one(source, DataType::Utf8);
    assert_eq!(kept.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "b", "a"]);
    let source = Decimal128Array::from(vec![150, 200]).with_precision_and_scale(5, 2).unwrap();
    let (kept, bad) = convert_one(source, DataType::Int64);
    assert_eq!((kept.as_primitive::<Int64Type>().values().to_vec(), bad), (vec![2], 1));
}

#[test]
fn a_file_that_does_not_fit_is_an_error() {
    let decoder = decoder(vec![Field::new("carrier", DataType::Utf8, false)]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for (file, part) in [
        (file(vec![("carrier", Arc::clone(&numbers))]), "column carrier as BIGINT, and the stream as TEXT"),
        (file(vec![("other", numbers)]), "lacks column carrier"),
        (Bytes::from_static(b"PAR1 not really PAR1"), "cannot be read"),
        (Bytes::new(), "cannot be read"),
    ] {
        let error = decode(&decoder, file, 100).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(part), "{error}");
    }
}
