use super::*;
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::Arc;
use twofold_common::StreamDef;

fn stream(fields: Vec<Field>) -> StreamDef {
    StreamDef {
        name: "s".into(),
        schema: Arc::new(Schema::new(fields)),
        partitions: 1,
        partition_by: None,
        watermark: None,
        deduplicate: None,
    }
}

fn decoder(fields: Vec<Field>) -> Decoder {
    Decoder::new(&stream(fields)).unwrap()
}

fn flights() -> Decoder {
    decoder(vec![
        Field::new("carrier", DataType::Utf8, false),
        Field::new("delay", DataType::Int64, true),
        Field::new("air", DataType::Float64, true),
    ])
}

fn reasons(decoded: &Decoded) -> Vec<String> {
    decoded.rejected.column(0).as_string::<i32>().iter().flatten().map(str::to_string).collect()
}

fn raw(decoded: &Decoded) -> Vec<Vec<u8>> {
    decoded.rejected.column(1).as_binary::<i32>().iter().flatten().map(<[u8]>::to_vec).collect()
}

/// The reason for which a single event is rejected, or "".
fn reason(decoder: &Decoder, line: &str) -> String {
    let decoded = decoder.decode_ndjson(line.as_bytes()).unwrap();
    assert_eq!(decoded.rows.num_rows() + decoded.rejected.num_rows(), 1, "{line}");
    reasons(&decoded).pop().unwrap_or_default()
}

/// The single value of a column `v` of this type, as JSON writes it, or the reason.
fn value(data_type: DataType, json: &str) -> Result<ArrayRef, String> {
    let decoder = decoder(vec![Field::new("v", data_type, true)]);
    let decoded = decoder.decode_ndjson(format!("{{\"v\":{json}}}").as_bytes()).unwrap();
    match reasons(&decoded).pop() {
        None => Ok(decoded.rows.column(0).clone()),
        Some(reason) => Err(reason),
    }
}

#[test]
fn good_events_go_in_and_bad_ones_leave_no_trace() {
    let lines = concat!(
        "{\"carrier\":\"UA\",\"delay\":2,\"air\":1.5}\n",
        "{\"carrier\":\"XX\",\"delay\":\"late\"}\r\n",
        "\r\n   \n",
        "{\"delay\":-3,\"extra\":{\"a\":[1,{}]},\"carrier\":\"A\\u00c9\"}\r\n",
        "{\"carrier\":\"YY\",\"delay\":7} {\"carrier\":\"ZZ\"}\n",
        "{\"carrier\":\"DL\",\"delay\":null}",
    );
    let decoded = flights().decode_ndjson(lines.as_bytes()).unwrap();
    let carriers: Vec<_> = decoded.rows.column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(carriers, ["UA", "AÉ", "DL"]);
    let delays: Vec<_> = decoded.rows.column(1).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(delays, [Some(2), Some(-3), None]);
    let air: Vec<_> = decoded.rows.column(2).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(air, [Some(1.5), None, None]);
    assert_eq!(raw(&decoded)[0], b"{\"carrier\":\"XX\",\"delay\":\"late\"}");
    assert_eq!(reasons(&decoded)[0], "column delay: expected BIGINT, found string \"late\"");
    assert_eq!(raw(&decoded)[1], b"{\"carrier\":\"YY\",\"delay\":7} {\"carrier\":\"ZZ\"}");
}

#[test]
fn each_reason_says_what_is_wrong_and_where() {
    let decoder = flights();
    for (line, expected) in [
        (
            "{\"carrier\":\"A\",\"delay\":1.5}",
            "column delay: expected BIGINT, found number 1.5, which would have to be rounded",
        ),
        (
            "{\"carrier\":\"A\",\"delay\":1e40}",
            "column delay: expected BIGINT, found number 1e40, which is out of range",
        ),
        ("{\"carrier\":\"A\",\"delay\":true}", "column delay: expected BIGINT, found true"),
        ("{\"carrier\":\"A\",\"delay\":{\"x\":1}}", "column delay: expected BIGINT, found an object"),
        ("{\"carrier\":\"A\",\"air\":[1]}", "column air: expected DOUBLE, found an array"),
        ("{\"carrier\":\"A\",\"air\":\"1\"}", "column air: expected DOUBLE, found string \"1\""),
        (
            "{\"carrier\":\"A\",\"air\":1e999}",
            "column air: expected DOUBLE, found number 1e999, which is out of range",
        ),
        ("{\"carrier\":5}", "column carrier: expected TEXT, found number 5"),
        ("{\"carrier\":null}", "column carrier: null, but the column is NOT NULL"),
        ("{}", "column carrier: missing, but the column is NOT NULL"),
        ("{\"carrier\":\"A\",\"carrier\":\"B\"}", "column carrier: given twice in one object"),
        ("[1,2]", "expected a JSON object, found an array"),
        ("\"text\"", "expected a JSON object, found string \"text\""),
        ("17", "expected a JSON object, found number 17"),
    ] {
        assert_eq!(reason(&decoder, line), expected);
    }
}

#[test]
fn malformed_json_is_rejected_with_its_place() {
    let decoder = flights();
    for line in [
        "{",
        "{\"carrier\"",
        "{\"carrier\":}",
        "{\"carrier\":\"A\"",
        "{\"carrier\":\"A\",}",
        "{\"carrier\":\"A}",
        "nonsense",
        "{\"carrier\":\"A\"}}",
        "{\"carrier\":\"A\",\"air\":NaN}",
        "{\"carrier\":\"A\",\"air\":-}",
        "{'carrier':'A'}",
        "{\"carrier\":\"A\",\"x\":[1,2}",
        "{\"carrier\":\"a\tb\"}",
        "{\"carrier\":\"\\ud800\"}",
        "{\"carrier\":\"A\",\"x\":01}",
        "{\"carrier\" \"A\"}",
        "{\"carrier\":\"A\" \"delay\":1}",
        "{1:2}",
    ] {
        let reason = reason(&decoder, line);
        assert!(reason.starts_with("malformed JSON at byte "), "{line}: {reason}");
    }
    let deep = format!("{{\"carrier\":\"A\",\"x\":{}", "[".repeat(500_000));
    assert!(reason(&decoder, &deep).contains("nested deeper"));
}

#[test]
fn a_line_that_is_not_utf_8_is_rejected_alone() {
    let bytes = b"{\"carrier\":\"A\"}\n{\"carrier\":\"\xff\"}\n{\"carrier\":\"\xc3\xa9\"}\n\xc3\n";
    let decoded = flights().decode_ndjson(bytes).unwrap();
    assert_eq!(decoded.rows.num_rows(), 2);
    assert_eq!(reasons(&decoded), ["invalid UTF-8 at byte 12", "invalid UTF-8 at byte 0"]);
    assert_eq!(raw(&decoded), [b"{\"carrier\":\"\xff\"}".to_vec(), b"\xc3".to_vec()]);
}

#[test]
fn an_event_over_the_limit_is_rejected_and_its_beginning_kept() {
    let event = |n: usize| format!("{{\"carrier\":\"{}\"}}", "x".repeat(n - 14));
    let (most, over) = (event(MAX_EVENT), event(MAX_EVENT + 1));
    let decoded = flights().decode_ndjson(format!("{most}\n{over}\n").as_bytes()).unwrap();
    assert_eq!(decoded.rows.num_rows(), 1);
    assert!(reasons(&decoded)[0].contains("1048577 bytes"), "{:?}", reasons(&decoded));
    assert_eq!(raw(&decoded)[0], over.as_bytes()[..MAX_EVENT]);
}

#[test]
fn integers_of_each_width_have_their_bounds() {
    for (data_type, good, bad) in [
        (DataType::Int8, "-128", "128"),
        (DataType::Int16, "32767", "-32769"),
        (DataType::Int32, "-2147483648", "2147483648"),
        (DataType::UInt8, "255", "-1"),
        (DataType::UInt32, "4294967295.0", "4294967296"),
        (DataType::UInt64, "18446744073709551615", "18446744073709551616"),
    ] {
        let array = value(data_type.clone(), good).unwrap();
        assert_eq!(array.data_type(), &data_type);
        assert!(good.starts_with(&arrow::util::display::array_value_to_string(&array, 0).unwrap()));
        assert!(value(data_type, bad).unwrap_err().contains("out of range"));
    }
    let large = value(DataType::Int64, "9007199254740993.0").unwrap();
    assert_eq!(large.as_primitive::<Int64Type>().value(0), 9_007_199_254_740_993);
}

#[test]
fn text_and_bytes_in_every_layout() {
    for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        let array = value(data_type.clone(), "\"a \\\"long\\\" text beyond inlining\"").unwrap();
        assert_eq!(array.data_type(), &data_type);
        let text = arrow::compute::cast(&array, &DataType::Utf8).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "a \"long\" text beyond inlining");
    }
    for json in ["\"Zm9v\"", "\"\\\\x666f6f\""] {
        assert_eq!(value(DataType::Binary, json).unwrap().as_binary::<i32>().value(0), b"foo");
    }
    assert_eq!(
        value(DataType::BinaryView, "\"?\"").unwrap_err(),
        "column v: expected BYTEA, found string \"?\""
    );
}

#[test]
fn times_and_decimals() {
    let ns = DataType::Timestamp(TimeUnit::Nanosecond, None);
    for json in ["\"2013-01-01T10:00:00Z\"", "\"2013-01-01 05:00-05:00\"", "1357034400000", "1.3570344e12"] {
        let array = value(ns.clone(), json).unwrap();
        assert_eq!(
            array.as_primitive::<TimestampNanosecondType>().value(0),
            1_357_034_400_000_000_000,
            "{json}"
        );
    }
    for json in ["\"9999-01-01\"", "1e18", "0.5", "\"yesterday\""] {
        assert!(value(ns.clone(), json).is_err(), "{json}");
    }
    let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    assert_eq!(value(zoned.clone(), "5").unwrap().data_type(), &zoned);
    assert_eq!(value(DataType::Date32, "\"1970-01-02\"").unwrap().as_primitive::<Date32Type>().value(0), 1);
    assert!(value(DataType::Date32, "1").is_err());
    let noon = value(DataType::Time64(TimeUnit::Nanosecond), "\"12:00:00.5\"").unwrap();
    assert_eq!(noon.as_primitive::<Time64NanosecondType>().value(0), 43_200_500_000_000);
    assert!(value(DataType::Time32(TimeUnit::Second), "\"12:00\"").is_ok());

    for data_type in [
        DataType::Decimal128(5, 2),
        DataType::Decimal256(5, 2),
        DataType::Decimal64(5, 2),
        DataType::Decimal32(5, 2),
    ] {
        for json in ["123.45", "\"123.45\"", "1.2345e2"] {
            let array = value(data_type.clone(), json).unwrap();
            assert_eq!(array.data_type(), &data_type);
            assert_eq!(arrow::util::display::array_value_to_string(&array, 0).unwrap(), "123.45");
        }
        assert!(
            value(data_type.clone(), "1000")
                .unwrap_err()
                .contains("DECIMAL(5, 2), found number 1000, which is out of range")
        );
        assert!(value(data_type, "1.234").unwrap_err().contains("rounded"));
    }
}

fn nested() -> DataType {
    let point = DataType::Struct(
        vec![Field::new("x", DataType::Int64, false), Field::new("y", DataType::Utf8, true)].into(),
    );
    DataType::new_list(point, true)
}

#[test]
fn nested_values_are_as_strict_and_name_their_path() {
    let array = value(nested(), "[{\"x\":1,\"y\":\"a\"},null,{\"x\":2,\"z\":0}]").unwrap();
    let list = array.as_list::<i32>().value(0);
    let points = list.as_struct();
    assert_eq!(points.logical_nulls().unwrap().null_count(), 1);
    assert_eq!(points.column(0).as_primitive::<Int64Type>().value(2), 2);
    assert_eq!(
        value(nested(), "[{\"x\":1},{\"x\":1.5}]").unwrap_err(),
        "column v[1].x: expected BIGINT, found number 1.5, which would have to be rounded"
    );
    assert_eq!(value(nested(), "[{}]").unwrap_err(), "column v[0].x: missing, but the column is NOT NULL");
    assert_eq!(
        value(nested(), "{}").unwrap_err(),
        "column v: expected STRUCT<x BIGINT, y TEXT>[], found an object"
    );

    let map = DataType::Map(
        Arc::new(Field::new(
            "entries",
            DataType::Struct(
                vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]
                    .into(),
            ),
            false,
        )),
        false,
    );
    let array = value(map.clone(), "{\"a\":1,\"b\":null}").unwrap();
    assert_eq!(array.as_map().value(0).len(), 2);
    assert!(value(map.clone(), "{\"a\":1,\"a\":2}").unwrap_err().contains("given twice"));
    assert_eq!(value(map, "{\"a\":\"x\"}").unwrap_err(), "column v.a: expected INT, found string \"x\"");
}

#[test]
fn a_bad_event_is_cut_out_of_nested_columns_too() {
    let decoder = decoder(vec![Field::new("v", nested(), true), Field::new("n", DataType::Int64, false)]);
    let lines = [
        "{\"v\":[{\"x\":1}],\"n\":1}",
        "{\"v\":[{\"x\":2},{\"x\":3}],\"n\":\"bad\"}",
        "{\"v\":[{\"x\":4},{\"x\":\"bad\"}],\"n\":1}",
        "{\"v\":null,\"n\":2}",
        "{\"v\":[{\"x\":5,\"y\":7}],\"n\":3}",
        "{\"v\":[{\"x\":6},{\"x\":7}],\"n\":4}",
    ];
    let decoded = decoder.decode_ndjson(lines.join("\n").as_bytes()).unwrap();
    let good: Vec<&str> = [0, 3, 5].map(|i| lines[i]).to_vec();
    let alone = decoder.decode_ndjson(good.join("\n").as_bytes()).unwrap();
    assert_eq!(decoded.rows, alone.rows);
    assert_eq!(decoded.rejected.num_rows(), 3);
}

#[test]
fn a_type_that_events_cannot_carry_is_refused_at_once() {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let error = Decoder::new(&stream(vec![Field::new("v", interval, true)])).unwrap_err();
    assert!(error.to_string().contains("column v: INTERVAL"), "{error}");
}

#[test]
fn keys_may_change_their_order_and_their_spelling() {
    let lines = "{\"carrier\":\"A\",\"delay\":1}\n{\"delay\":2,\"x\":0,\"carrier\":\"B\"}\n{\"c\\u0061rrier\":\"C\",\"delay\":3}\n";
    let decoded = flights().decode_ndjson(lines.as_bytes()).unwrap();
    assert_eq!(reasons(&decoded), Vec::<String>::new());
    assert_eq!(decoded.rows.column(1).as_primitive::<Int64Type>().values(), &[1, 2, 3]);
}

/// A small generator (splitmix64), so that failures can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn text(&mut self) -> String {
        let letters = ['a', 'é', '"', '\\', '\n', '\u{1}', '😀', ' ', '/', 'z', '{', ','];
        (0..self.next() % 20).map(|_| letters[self.next() as usize % letters.len()]).collect()
    }
}

#[test]
fn random_events_come_out_as_serde_json_reads_them() {
    let mut random = Random(1);
    let mut lines = String::new();
    for _ in 0..2000 {
        let mut event = serde_json::Map::new();
        event.insert("carrier".into(), random.text().into());
        if random.chance(75) {
            event.insert("delay".into(), (random.next() as i64 >> (random.next() % 64)).into());
        }
        if random.chance(75) {
            event.insert("air".into(), f64::from_bits(random.next() >> 2).into());
        }
        if random.chance(50) {
            event.insert(random.text() + "?", serde_json::json!([random.text(), {"k": random.text()}]));
        }
        lines += &serde_json::to_string(&event).unwrap();
        lines += if random.chance(50) { "\n" } else { "\r\n" };
    }
    let decoded = flights().decode_ndjson(lines.as_bytes()).unwrap();
    assert_eq!(reasons(&decoded), Vec::<String>::new());
    let (carriers, delays) =
        (decoded.rows.column(0).as_string::<i32>(), decoded.rows.column(1).as_primitive::<Int64Type>());
    let air = decoded.rows.column(2).as_primitive::<Float64Type>();
    for (row, line) in lines.lines().enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["carrier"].as_str(), Some(carriers.value(row)));
        assert_eq!(event["delay"].as_i64(), delays.is_valid(row).then(|| delays.value(row)), "{line}");
        // The shortest text of a double reads back as that double, by std's parser: serde_json's may be one off.
        let text = line.split("\"air\":").nth(1).map(|rest| rest.split([',', '}']).next().unwrap());
        let expected = text.filter(|t| *t != "null").map(|t| t.parse::<f64>().unwrap().to_bits());
        assert_eq!(air.is_valid(row).then(|| air.value(row).to_bits()), expected, "{line}");
    }
}

#[test]
fn garbled_events_never_panic_and_none_vanishes() {
    let mut random = Random(2);
    let good = "{\"carrier\":\"A\\u00e9\",\"delay\":-12,\"air\":1.5e3,\"x\":[{\"k\":null},true]}";
    let decoder = flights();
    for _ in 0..20_000 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..=random.next() % 3 {
            let at = random.next() as usize % bytes.len().max(1);
            match random.next() % 3 {
                _ if bytes.is_empty() => bytes.push(random.next() as u8),
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).count();
        let decoded = decoder.decode_ndjson(&bytes).unwrap();
        assert_eq!(
            decoded.rows.num_rows() + decoded.rejected.num_rows(),
            lines,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
