use super::*;
use crate::error::Kind;
use arrow::datatypes::TimeUnit;

pub(crate) fn def(columns: &[(&str, DataType, bool)]) -> StreamDef {
    let fields = columns.iter().map(|(name, t, nullable)| Field::new(*name, t.clone(), *nullable));
    StreamDef {
        name: "flights".to_string(),
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        partitions: 2,
        partition_by: None,
        watermark: None,
        deduplicate: None,
    }
}

fn segment(start: u64, end: u64) -> Segment {
    Segment {
        range: OffsetRange::new(Offset(start), Offset(end)),
        rows: 1,
        bytes: 9,
        digest: Digest::of(b"x"),
        footer: Some(Footer { bytes: 4, digest: Digest::of(b"f") }),
        path: format!("{start}-{end}"),
        watermark: Some(-3),
        states: BTreeMap::from([("f/0".to_string(), Digest::of(b"s"))]),
    }
}

fn manifest(segments: &[(u64, u64)]) -> StreamManifest {
    let mut manifest = StreamManifest::new(&def(&[("a", DataType::Int64, false)])).unwrap();
    let segments = segments.iter().map(|(start, end)| segment(*start, *end)).collect();
    manifest.segments.insert(Partition(1), segments);
    manifest
}

#[test]
fn segments_must_cover_from_zero_on() {
    let good = manifest(&[(0, 5), (5, 9)]);
    good.validate().unwrap();
    assert_eq!((good.end(Partition(0)), good.end(Partition(1))), (Offset(0), Offset(9)));
    for (bad, says) in [
        (manifest(&[(1, 5)]), "[0, 1)"),
        (manifest(&[(0, 5), (6, 9)]), "[5, 6)"),
        (manifest(&[(0, 5), (4, 9)]), "[4, 9) overlaps the one before it, which ends at 5"),
        (manifest(&[(0, 0)]), "[0, 0) cannot hold"),
        (StreamManifest { partitions: 1, ..manifest(&[(0, 5)]) }, "has 1 partitions"),
    ] {
        let e = bad.validate().unwrap_err();
        assert_eq!(e.kind(), Kind::Corrupt);
        assert!(e.to_string().contains(says) && e.to_string().contains("flights: partition 1: "), "{e}");
    }
}

#[test]
fn only_what_follows_is_appended() {
    let extended = manifest(&[(0, 5)]).extend(vec![
        (Partition(1), segment(5, 7)),
        (Partition(0), segment(0, 3)),
        (Partition(1), segment(7, 8)),
    ]);
    let extended = extended.unwrap();
    assert_eq!((extended.end(Partition(0)), extended.end(Partition(1))), (Offset(3), Offset(8)));
    for start in [4, 6] {
        let e = manifest(&[(0, 5)]).extend(vec![(Partition(1), segment(start, 9))]).unwrap_err();
        assert_eq!(e.kind(), Kind::Conflict);
    }
    assert_eq!(manifest(&[]).extend(vec![(Partition(2), segment(0, 9))]).unwrap_err().kind(), Kind::Internal);
}

#[test]
fn a_manifest_is_what_it_was_after_json() {
    let decimals = DataType::Decimal128(12, 2);
    let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
    let list =
        DataType::new_list(DataType::Struct(vec![Field::new("x y", DataType::Utf8, false)].into()), true);
    let def = def(&[
        ("t", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        ("instant", instant, true),
        ("price", decimals, true),
        ("items", list, true),
        ("ä \"quoted\"", DataType::Binary, true),
    ]);
    let mut manifest = StreamManifest::new(&def).unwrap();
    for partition in [Partition(0), Partition(1)] {
        manifest.segments.insert(partition, vec![segment(0, 5), segment(5, u64::MAX)]);
    }
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<StreamManifest>(&json).unwrap(), manifest);
}

/// The text form of types must stay what version 0.1 wrote.
#[test]
fn columns_are_written_as_in_format_1() {
    let def = def(&[
        ("t", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        ("price", DataType::Decimal128(12, 2), true),
        ("tags", DataType::new_list(DataType::Utf8, true), true),
    ]);
    let json = serde_json::to_value(StreamManifest::new(&def).unwrap()).unwrap();
    let expected = serde_json::json!([
        {"name": "t", "type": "Timestamp(ns)", "nullable": false},
        {"name": "price", "type": "Decimal128(12, 2)", "nullable": true},
        {"name": "tags", "type": "List(Utf8)", "nullable": true},
    ]);
    assert_eq!(json["schema"], expected);
}

#[test]
fn a_stream_may_gain_nullable_columns_anywhere() {
    let (a, b) = (("a", DataType::Int64, false), ("b", DataType::Utf8, true));
    let (x, y) = (("x", DataType::Utf8, true), ("y", DataType::Float64, true));
    let known = StreamManifest::new(&def(&[a.clone(), b.clone()])).unwrap();
    assert_eq!(evolve(&known, &def(&[a.clone(), b.clone()])).unwrap(), Evolution::Same);
    assert_eq!(evolve(&known, &def(&[b.clone(), a.clone()])).unwrap(), Evolution::Same);
    let gains = evolve(&known, &def(&[x, a, y, b])).unwrap();
    assert_eq!(gains, Evolution::Gains(vec!["x".to_string(), "y".to_string()]));
}

#[test]
fn a_segment_of_an_earlier_version_has_no_footer() {
    let mut json = serde_json::to_value(segment(0, 3)).unwrap();
    assert_eq!(serde_json::from_value::<Segment>(json.clone()).unwrap(), segment(0, 3));
    json.as_object_mut().unwrap().remove("footer").unwrap();
    let earlier = serde_json::from_value::<Segment>(json.clone()).unwrap();
    assert_eq!(earlier, Segment { footer: None, ..segment(0, 3) });
    assert_eq!(serde_json::to_value(earlier).unwrap(), json);
}

#[test]
fn every_other_change_is_refused_with_the_way_out() {
    let (a, b) = (("a", DataType::Int64, false), ("b", DataType::Utf8, true));
    let both = def(&[a.clone(), b.clone()]);
    let known = StreamManifest::new(&both).unwrap();
    let cases = [
        (def(std::slice::from_ref(&b)), "column a (Int64 NOT NULL) is no longer declared"),
        (
            def(&[("a", DataType::Utf8, false), b.clone()]),
            "column a was Int64 NOT NULL, and is now declared Utf8 NOT",
        ),
        (
            def(&[("a", DataType::Int64, true), b.clone()]),
            "column a was Int64 NOT NULL, and is now declared Int64:",
        ),
        (def(&[a, b, ("c", DataType::Utf8, false)]), "the new column c is NOT NULL"),
        (StreamDef { partitions: 3, ..both.clone() }, "has 2 partitions, and is now declared with 3"),
        (StreamDef { partition_by: Some("a".into()), ..both }, "was partitioned round robin"),
    ];
    for (changed, says) in cases {
        let e = evolve(&known, &changed).unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid);
        let e = e.to_string();
        assert!(
            e.starts_with("stream flights: ") && e.contains(says) && e.contains("new stream name"),
            "{e}"
        );
    }
}
