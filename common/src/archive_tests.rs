use super::*;
use crate::offset::Offset;
use crate::store::tests::stores;
use crate::stream_manifest::tests::def;
use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::DataType;

pub(crate) fn flights() -> StreamDef {
    def(&[("delay", DataType::Int64, false)])
}

/// Events of partition 1 at `offsets`; `delay` is the offset times 10.
fn events(offsets: &[i64]) -> RecordBatch {
    let n = offsets.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(offsets.iter().map(|o| o * 10))),
        Arc::new(Int32Array::from(vec![1; n])),
        Arc::new(Int64Array::from(offsets.to_vec())),
        Arc::new(TimestampNanosecondArray::from(vec![7; n])),
    ];
    RecordBatch::try_new(flights().event_schema(), columns).unwrap()
}

pub(crate) fn new_segment(start: u64, end: u64, batches: &[&[i64]]) -> NewSegment {
    NewSegment {
        partition: Partition(1),
        range: OffsetRange::new(Offset(start), Offset(end)),
        schema: flights().event_schema(),
        batches: batches.iter().map(|offsets| events(offsets)).collect(),
        watermark: Some(3),
        states: BTreeMap::new(),
    }
}

fn longs(batches: &[RecordBatch], column: &str) -> Vec<i64> {
    let column =
        |b: &RecordBatch| b.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(column).collect()
}

#[tokio::test]
async fn what_is_appended_is_read_back() {
    for (store, _dir) in stores() {
        let archive = Archive::new(store.clone());
        assert!(archive.manifest("flights").await.unwrap().is_none());
        let first = archive.declare(&flights()).await.unwrap();
        assert_eq!(archive.declare(&flights()).await.unwrap(), first);

        let a = archive.write_segment("flights", new_segment(0, 10, &[&[2, 5], &[], &[9]])).await.unwrap();
        let b = archive.write_segment("flights", new_segment(10, 12, &[])).await.unwrap();
        let prefix = "archive/flights/1/00000000000000000000-00000000000000000010-";
        assert_eq!(a.path, format!("{prefix}{}.parquet", a.digest.short()));
        assert_eq!((a.rows, b.rows, a.watermark), (3, 0, Some(3)));
        let both = vec![(Partition(1), a.clone()), (Partition(1), b.clone())];
        let second = archive.append("flights", first.version, both).await.unwrap();
        assert_eq!(archive.manifest("flights").await.unwrap().unwrap(), second);
        assert_eq!(second.body.end(Partition(1)), Offset(12));

        let schema = flights().event_schema();
        let read = archive.read_segment(&a, &schema, None).await.unwrap();
        assert_eq!(read[0].schema(), schema);
        assert_eq!(longs(&read, OFFSET), [2, 5, 9]);
        assert!(archive.read_segment(&b, &schema, None).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn wanted_columns_come_in_schema_order_and_later_ones_are_null() {
    for (store, _dir) in stores() {
        let archive = Archive::new(store);
        let segment = archive.write_segment("flights", new_segment(0, 10, &[&[2, 5]])).await.unwrap();
        let gained = def(&[("gate", DataType::Utf8, true), ("delay", DataType::Int64, false)]).event_schema();
        let columns = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();

        let all = archive.read_segment(&segment, &gained, None).await.unwrap();
        assert_eq!(all[0].schema(), gained);
        assert_eq!(all[0].column(0).null_count(), 2);
        let some = archive.read_segment(&segment, &gained, Some(&columns(&[OFFSET, "delay"]))).await.unwrap();
        assert_eq!(some[0].schema().fields().iter().map(|f| f.name()).collect::<Vec<_>>(), ["delay", OFFSET]);
        assert_eq!(longs(&some, "delay"), [20, 50]);
        let only_new = archive.read_segment(&segment, &gained, Some(&columns(&["gate"]))).await.unwrap();
        assert_eq!((only_new[0].num_rows(), only_new[0].num_columns()), (2, 1));
        let none = archive.read_segment(&segment, &gained, Some(&[])).await.unwrap();
        assert_eq!((none[0].num_rows(), none[0].num_columns()), (2, 0));
        let unknown = archive.read_segment(&segment, &gained, Some(&columns(&["x"]))).await.unwrap_err();
        assert_eq!(unknown.kind(), Kind::Invalid);
    }
}

#[tokio::test]
async fn events_of_an_earlier_shape_are_written_as_the_shape_of_today() {
    let archive = Archive::new(Store::memory());
    let schema = def(&[("delay", DataType::Int64, false), ("gate", DataType::Utf8, true)]).event_schema();
    let mut new = new_segment(0, 10, &[&[2]]);
    let mut later = events(&[3]).columns().to_vec();
    later.insert(1, Arc::new(StringArray::from(vec!["B7"])));
    new.batches.push(RecordBatch::try_new(Arc::clone(&schema), later).unwrap());
    new.schema = Arc::clone(&schema);
    let segment = archive.write_segment("flights", new).await.unwrap();
    let read = archive.read_segment(&segment, &schema, None).await.unwrap();
    assert_eq!(read[0].column(1).as_string::<i32>(), &StringArray::from(vec![None, Some("B7")]));
}

#[tokio::test]
async fn events_that_are_not_of_the_segment_are_refused() {
    let archive = Archive::new(Store::memory());
    let mut other_partition = new_segment(0, 10, &[&[1]]);
    other_partition.partition = Partition(0);
    let cases = [
        (new_segment(2, 10, &[&[1]]), "offset 1, expected one in [2, 10)"),
        (new_segment(2, 10, &[&[3, 10]]), "offset 10, expected one in [4, 10)"),
        (new_segment(2, 10, &[&[3], &[3]]), "offset 3, expected one in [4, 10)"),
        (new_segment(2, 10, &[&[-1]]), "offset -1"),
        (new_segment(2, 2, &[]), "the range is empty"),
        (other_partition, "an event of partition 1"),
    ];
    for (new, says) in cases {
        let e = archive.write_segment("flights", new).await.unwrap_err();
        assert!(e.kind() == Kind::Internal && e.to_string().contains(says), "{e}");
    }
}

#[tokio::test]
async fn of_two_owners_one_appends() {
    for (store, _dir) in stores() {
        let archive = Archive::new(store);
        let version = archive.declare(&flights()).await.unwrap().version;
        let a = archive.write_segment("flights", new_segment(0, 5, &[&[2]])).await.unwrap();
        let b = archive.write_segment("flights", new_segment(0, 5, &[&[2, 3]])).await.unwrap();
        assert_ne!(a.path, b.path, "other bytes never get the same name");
        let (x, y) = tokio::join!(
            archive.append("flights", version, vec![(Partition(1), a.clone())]),
            archive.append("flights", version, vec![(Partition(1), b)]),
        );
        let (won, lost) = if x.is_ok() { (x, y) } else { (y, x) };
        assert_eq!(lost.unwrap_err().kind(), Kind::Conflict);
        let won = won.unwrap();
        assert_eq!(archive.manifest("flights").await.unwrap().unwrap(), won);
        let again = archive.append("flights", won.version, vec![(Partition(1), a)]).await.unwrap_err();
        assert!(
            again.kind() == Kind::Conflict && again.to_string().contains("does not start at 5"),
            "{again}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_gains_a_column_keeps_its_segments() {
    let archive = Archive::new(Store::memory());
    let first = archive.declare(&flights()).await.unwrap();
    let a = archive.write_segment("flights", new_segment(0, 5, &[&[2]])).await.unwrap();
    let second = archive.append("flights", first.version, vec![(Partition(1), a)]).await.unwrap();
    let gained = def(&[("gate", DataType::Utf8, true), ("delay", DataType::Int64, false)]);
    let third = archive.declare(&gained).await.unwrap();
    assert_eq!((third.body.schema, third.body.segments), (gained.schema, second.body.segments));
    assert_eq!(
        archive.declare(&flights()).await.unwrap_err().kind(),
        Kind::Invalid,
        "the column may not go again"
    );
}

#[tokio::test]
async fn rejected_events_lie_beside_their_stream() {
    for (store, _dir) in stores() {
        let archive = Archive::new(store.clone());
        archive.declare(&flights()).await.unwrap();
        archive.declare(&flights().rejected()).await.unwrap();
        assert!(store.exists("archive/flights/_rejected/manifest/00000000000000000001.json").await.unwrap());
        assert_eq!(
            archive.manifest("flights_rejected").await.unwrap().unwrap().body.stream,
            "flights_rejected"
        );
        assert_eq!(archive.manifest("flights").await.unwrap().unwrap().version, 1);
    }
}

#[tokio::test]
async fn another_streams_manifest_or_one_with_a_hole_is_corrupt() {
    let store = Store::memory();
    let archive = Archive::new(store.clone());
    let known = archive.declare(&flights()).await.unwrap().body;
    archive.manifests("other").publish(None, known.clone()).await.unwrap();
    assert_eq!(archive.manifest("other").await.unwrap_err().kind(), Kind::Corrupt);

    let late = archive.write_segment("flights", new_segment(4, 5, &[])).await.unwrap();
    let holed = StreamManifest { segments: BTreeMap::from([(Partition(1), vec![late])]), ..known };
    archive.manifests("flights").publish(Some(1), holed).await.unwrap();
    let e = archive.manifest("flights").await.unwrap_err();
    assert!(e.kind() == Kind::Corrupt && e.to_string().contains("[0, 4)"), "{e}");
}
