use super::*;
use arrow::array::*;
use arrow::datatypes::*;
use std::io::BufReader;
use std::sync::Arc;
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

fn flights() -> Decoder {
    decoder(vec![Field::new("carrier", DataType::Utf8, false), Field::new("delay", DataType::Int64, true)])
}

/// Carriers and delays that went in, and the reasons and raw bytes of the others.
type Outcome = (Vec<(String, Option<i64>)>, Vec<(String, String)>);

fn decode(bytes: &[u8]) -> Result<Outcome> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    // A buffer of three bytes, so that every boundary falls everywhere.
    flights().decode_csv(BufReader::with_capacity(3, bytes), 2, |decoded| {
        let carriers = decoded.rows.column(0).as_string::<i32>().iter().flatten().map(str::to_string);
        good.extend(carriers.zip(decoded.rows.column(1).as_primitive::<Int64Type>()));
        let reasons = decoded.rejected.column(0).as_string::<i32>().iter().flatten().map(str::to_string);
        let raw = decoded.rejected.column(1).as_binary::<i32>().iter().flatten();
        bad.extend(reasons.zip(raw.map(|r| String::from_utf8_lossy(r).into_owned())));
        assert!(decoded.rows.num_rows() + decoded.rejected.num_rows() <= 2);
        Ok(())
    })?;
    Ok((good, bad))
}

fn good(text: &str) -> Vec<(String, Option<i64>)> {
    let (good, bad) = decode(text.as_bytes()).unwrap();
    assert_eq!(bad, []);
    good
}

fn row(carrier: &str, delay: impl Into<Option<i64>>) -> (String, Option<i64>) {
    (carrier.to_string(), delay.into())
}

#[test]
fn columns_are_found_by_name() {
    assert_eq!(good("x,delay,carrier\n9,1,UA\n9,-2,DL"), [row("UA", 1), row("DL", -2)]);
    assert_eq!(good("\u{feff}carrier\r\nUA\r\n\r\nDL\r\n"), [row("UA", None), row("DL", None)]);
    assert_eq!(good(""), []);
    assert_eq!(good("carrier,delay\n"), []);
}

#[test]
fn quoted_fields_hold_anything() {
    let text =
        "\"carrier\",delay\n\"a,b\",1\n\"say \"\"hi\"\"\",2\n\"two\r\nlines\",3\r\n5\" pipe,\"4\"\n\"\",5\n";
    let expected =
        [row("a,b", 1), row("say \"hi\"", 2), row("two\r\nlines", 3), row("5\" pipe", 4), row("", 5)];
    assert_eq!(good(text), expected);
}

#[test]
fn only_the_carriage_return_of_the_line_end_is_dropped() {
    assert_eq!(
        good("delay,carrier\r\n1,\"a\r\"\r\n2,b\r\r\n3,\"c\""),
        [row("a\r", 1), row("b\r", 2), row("c", 3)]
    );
}

#[test]
fn an_empty_field_is_null() {
    assert_eq!(good("carrier,delay\nUA,\nDL,\"\"\n"), [row("UA", None), row("DL", None)]);
    let (good, bad) = decode(b"carrier,delay\n,1\n").unwrap();
    assert_eq!(good, []);
    assert_eq!(bad[0].0, "column carrier: an empty field, but the column is NOT NULL");
}

#[test]
fn bad_records_are_rejected_one_by_one() {
    let text =
        b"carrier,delay\nUA,1\nAA,late\r\nBB\nCC,1,2\nDD,\"1\"x\n\xff,1\nEE,1.5\nDL,2\nFF,\"open\n1,2\n";
    let (good, bad) = decode(text).unwrap();
    assert_eq!(good, [row("UA", 1), row("DL", 2)]);
    let expected = [
        ("column delay: expected BIGINT, found \"late\"", "AA,late"),
        ("expected 2 fields as in the header, found 1", "BB"),
        ("expected 2 fields as in the header, found 3", "CC,1,2"),
        ("text follows a closing quote", "DD,\"1\"x"),
        ("column carrier: invalid UTF-8", "\u{fffd},1"),
        ("column delay: expected BIGINT, found \"1.5\", which would have to be rounded", "EE,1.5"),
        ("a quote is opened and never closed", "FF,\"open\n1,2\n"),
    ];
    assert_eq!(bad, expected.map(|(reason, raw)| (reason.to_string(), raw.to_string())));
}

#[test]
fn half_a_character_in_each_of_two_fields_is_no_character() {
    let (good, bad) = decode(b"carrier,delay\n\xc3,\xa9\n").unwrap();
    assert_eq!((good.len(), bad.len()), (0, 1));
}

#[test]
fn a_record_over_the_limit_is_rejected_and_the_next_goes_in() {
    let text = format!("carrier,delay\n{},1\nUA,2\n\"{}", "x".repeat(MAX_EVENT), "y,\n".repeat(MAX_EVENT));
    let (good, bad) = decode(text.as_bytes()).unwrap();
    assert_eq!(good, [row("UA", 2)]);
    assert_eq!(bad.iter().map(|(_, raw)| raw.len()).collect::<Vec<_>>(), [MAX_EVENT; 2]);
    assert!(bad[0].0.contains("1048578 bytes"), "{}", bad[0].0);
}

#[test]
fn a_header_that_does_not_fit_is_an_error() {
    for (text, part) in [
        ("delay\n1\n", "lacks column carrier"),
        ("carrier,delay,carrier\n", "names carrier twice"),
        ("\"carrier,delay\n", "never closed"),
    ] {
        let error = decode(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn every_type_is_read_from_text() {
    let fields = vec![
        Field::new("b", DataType::Boolean, true),
        Field::new("f", DataType::Float64, true),
        Field::new("d", DataType::Decimal128(6, 2), true),
        Field::new("day", DataType::Date32, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("raw", DataType::Binary, true),
        Field::new("tags", DataType::new_list(DataType::Int64, true), true),
    ];
    let text = "b,f,d,day,t,raw,tags\nT,.5,-12.30,2013-01-01,2013-01-01 10:00,\\x00ff,\"[1,2]\"\n0,1e3,7,2013-01-02,1357034400000,,\n";
    let mut rows = Vec::new();
    decoder(fields)
        .decode_csv(text.as_bytes(), 10, |d| {
            assert_eq!(d.rejected.num_rows(), 0, "{:?}", d.rejected);
            rows.push(d.rows);
            Ok(())
        })
        .unwrap();
    let shown = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
    for value in ["true", "false", "0.5", "1000.0", "-12.30", "7.00", "2013-01-02", "00ff", "[1, 2]"] {
        assert!(shown.contains(value), "{value} in\n{shown}");
    }
    assert_eq!(shown.matches("2013-01-01T10:00:00").count(), 2, "{shown}");
}
