//! Events of every type that a stream can have, with the values at which arithmetic, order and text go wrong.
//!
//! An event is a list of small numbers, one for each column: each chooses from the [`palette`] of the column, where 0 is
//! null, the next few are shared by many events, so that groups and ties are frequent, and the rest is wild. So a
//! failure prints as a few short lists, and shrinks towards nulls.

use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampNanosecondArray, new_empty_array,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use proptest::prelude::*;
use std::sync::Arc;
use twofold_common::{Partition, StreamDef};

/// The columns beside `ts`, and their types in SQL.
///
/// `n` and `x` are for sums: whole numbers whose sums fit, and doubles that are finite. `w` is a weight.
pub const COLUMNS: [(&str, &str); 28] = [
    ("k", "TEXT"),
    ("b", "BOOLEAN"),
    ("i1", "TINYINT"),
    ("i2", "SMALLINT"),
    ("i4", "INT"),
    ("i8", "BIGINT"),
    ("u1", "TINYINT UNSIGNED"),
    ("u2", "SMALLINT UNSIGNED"),
    ("u4", "INT UNSIGNED"),
    ("u8", "BIGINT UNSIGNED"),
    ("f4", "REAL"),
    ("f8", "DOUBLE"),
    ("d", "DECIMAL(10, 2)"),
    ("dd", "DECIMAL(38, 4)"),
    ("t", "TEXT"),
    ("y", "BYTEA"),
    ("da", "DATE"),
    ("ti", "TIME"),
    ("t0", "TIMESTAMP(0)"),
    ("t3", "TIMESTAMP(3)"),
    ("t6", "TIMESTAMP(6)"),
    ("t9", "TIMESTAMP"),
    ("li", "BIGINT[]"),
    ("ls", "TEXT[]"),
    ("st", "STRUCT<a BIGINT, b TEXT>"),
    ("n", "BIGINT"),
    ("x", "DOUBLE"),
    ("w", "BIGINT"),
];

/// The statements that declare the streams, and a table to join them with.
pub fn declarations() -> String {
    let columns: String = COLUMNS.iter().map(|(name, sql)| format!(", {name} {sql}")).collect();
    let watermark = "WATERMARK FOR ts AS ts - INTERVAL '5 seconds'";
    format!(
        "CREATE STREAM wild (ts TIMESTAMP NOT NULL{columns}, {watermark}) WITH (partitions = 2);
         CREATE STREAM more (ts TIMESTAMP NOT NULL{columns}) WITH (partitions = 2);
         CREATE TABLE names (k TEXT, name TEXT, weight BIGINT) WITH (path = 'names.csv');\n"
    )
}

/// One event.
#[derive(Clone)]
pub struct Event {
    pub second: i64,
    pub cells: Vec<u8>,
    pub partition: u32,
    /// How many offsets are skipped before this event.
    pub gap: u64,
    /// Whether the same row comes again.
    pub twice: bool,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { second, cells, partition, gap, twice } = self;
        write!(f, "Event {{ second: {second}, cells: vec!{cells:?}, partition: {partition}, ")?;
        write!(f, "gap: {gap}, twice: {twice} }}")
    }
}

pub fn event() -> impl Strategy<Value = Event> {
    let cell = prop_oneof![3 => 0u8..4, 2 => 0u8..64];
    // From 1745 to 2195, so that windows around them are timestamps too.
    let second = prop_oneof![
        12 => 0i64..40,
        1 => Just(-7_100_000_000i64),
        1 => Just(7_100_000_000i64),
        1 => -100i64..0,
    ];
    let gap = prop_oneof![6 => Just(0u64), 1 => 1u64..5];
    let cells = proptest::collection::vec(cell, COLUMNS.len());
    let twice = proptest::bool::weighted(0.1);
    (second, cells, 0u32..2, gap, twice).prop_map(|(second, cells, partition, gap, twice)| Event {
        second,
        cells,
        partition,
        gap,
        twice,
    })
}

pub fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 0..most).prop_map(|events| {
        events.into_iter().flat_map(|e| std::iter::repeat_n(e.clone(), 1 + usize::from(e.twice))).collect()
    })
}

/// The values of a column: null, some that are frequent, and wild ones.
fn palette(name: &str, data_type: &DataType) -> Vec<ScalarValue> {
    let null = ScalarValue::try_from(data_type).unwrap();
    let text = |t: &str| ScalarValue::Utf8(Some(t.into()));
    let mut values = vec![null];
    match (name, data_type) {
        ("k", _) => values.extend(["a", "b", "é", ""].map(text)),
        ("n", _) => values.extend([1i64, 2, -3, 0, 7, 100, 1 << 45, -(1 << 46)].map(ScalarValue::from)),
        ("w", _) => values.extend([1, 2, 0, 5].map(|w: i64| ScalarValue::from(w))),
        ("x", _) => {
            let xs = [0.1, 1.5, -0.0, 0.0, 0.2, 0.3, -1e16, 1e16, 1.0, 1e300, -1e300, 5e-324, 2.5e-308];
            values.extend(xs.map(|x: f64| ScalarValue::from(x)));
        }
        (_, DataType::Boolean) => values.extend([true, false].map(ScalarValue::from)),
        (_, DataType::Utf8) => {
            let long = "длинный текст ".repeat(20);
            values
                .extend(["x", "", "é", "e\u{301}", "\u{10ffff}", "a,b", " ", "\0", "日本", &long].map(text));
        }
        (_, DataType::Binary) => {
            let bytes: [&[u8]; 6] = [b"x", b"", b"\0", b"\xff\xfe", b"\0\0", &[7; 300]];
            values.extend(bytes.map(|b| ScalarValue::Binary(Some(b.to_vec()))));
        }
        (_, DataType::Float64) => values.extend(doubles().map(ScalarValue::from)),
        (_, DataType::Float32) => {
            let nan = f32::from_bits(0xffc0_0001);
            let tiny = f32::from_bits(1);
            let all = [1.5, 0.1, -0.0, 0.0, f32::NAN, nan, f32::INFINITY, f32::NEG_INFINITY, tiny];
            values.extend(all.into_iter().chain([f32::MAX, f32::MIN, 16_777_216.0]).map(ScalarValue::from));
        }
        (_, DataType::List(item)) => {
            let list = |items: &[ScalarValue]| {
                ScalarValue::List(ScalarValue::new_list(items, item.data_type(), item.is_nullable()))
            };
            let items: Vec<ScalarValue> = palette("", item.data_type()).into_iter().take(4).collect();
            values.extend([list(&items[1..2]), list(&[]), list(&items), list(&items[..1])]);
            values.extend([list(&[items[2].clone(), items[2].clone()])]);
        }
        (_, DataType::Struct(fields)) => {
            for (a, b) in [(1, 1), (0, 0), (2, 1), (1, 0), (5, 4)] {
                let parts = fields.iter().zip([a, b]);
                let parts = parts.map(|(f, at): (&Arc<Field>, usize)| {
                    (f.as_ref().clone(), palette("", f.data_type())[at].clone())
                });
                let builder = parts.fold(
                    datafusion::common::scalar::ScalarStructBuilder::new(),
                    |builder, (field, value)| builder.with_scalar(field, value),
                );
                values.push(builder.build().unwrap());
            }
        }
        (_, other) => values.extend(numbers(other)),
    }
    values
}

fn doubles() -> [f64; 16] {
    let nan = f64::from_bits;
    let (quiet, negative, signalling) = (0x7ff8_0000_0000_0001, 0xfff8_0000_0000_0000, 0x7ff0_0000_0000_0001);
    [
        1.5,
        0.1,
        -0.0,
        0.0,
        f64::NAN,
        nan(quiet),
        nan(negative),
        nan(signalling),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::from_bits(1),
        -f64::MIN_POSITIVE,
        1e16,
        -3.0,
    ]
}

/// Whole numbers as values of a type that counts something: frequent ones, and the extremes of the type.
fn numbers(data_type: &DataType) -> Vec<ScalarValue> {
    let whole: Vec<i128> = match data_type {
        DataType::Int8 => extremes(i8::MIN, i8::MAX),
        DataType::Int16 => extremes(i16::MIN, i16::MAX),
        DataType::Int32 => extremes(i32::MIN, i32::MAX),
        // Both ends of the calendar that DATE and TIMESTAMP share.
        DataType::Date32 => extremes(-100_000, 100_000),
        DataType::UInt8 => extremes(0, u8::MAX),
        DataType::UInt16 => extremes(0, u16::MAX),
        DataType::UInt32 => extremes(0, u32::MAX),
        DataType::UInt64 => extremes(0, u64::MAX),
        DataType::Decimal128(10, _) => extremes(-9_999_999_999i64, 9_999_999_999i64),
        DataType::Decimal128(38, _) => extremes(1 - 10i128.pow(38), 10i128.pow(38) - 1),
        DataType::Time64(_) => extremes(0, 86_399_999_999_999i64),
        DataType::Timestamp(TimeUnit::Second, _) => extremes(-62_135_596_800i64, 253_402_300_799i64),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            extremes(-62_135_596_800_000i64, 253_402_300_799_999i64)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            extremes(-62_135_596_800_000_000i64, 253_402_300_799_999_999i64)
        }
        DataType::Int64 | DataType::Timestamp(TimeUnit::Nanosecond, _) => extremes(i64::MIN, i64::MAX),
        other => panic!("{other} has no palette"),
    };
    let value = |n: i128| match data_type {
        DataType::Decimal128(p, s) => ScalarValue::Decimal128(Some(n), *p, *s),
        DataType::UInt64 => ScalarValue::UInt64(Some(n as u64)),
        DataType::Int64 => ScalarValue::Int64(Some(n as i64)),
        DataType::Date32 => ScalarValue::Date32(Some(n as i32)),
        DataType::Time64(_) => ScalarValue::Time64Nanosecond(Some(n as i64)),
        DataType::Timestamp(TimeUnit::Second, tz) => ScalarValue::TimestampSecond(Some(n as i64), tz.clone()),
        DataType::Timestamp(TimeUnit::Millisecond, tz) => {
            ScalarValue::TimestampMillisecond(Some(n as i64), tz.clone())
        }
        DataType::Timestamp(TimeUnit::Microsecond, tz) => {
            ScalarValue::TimestampMicrosecond(Some(n as i64), tz.clone())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, tz) => {
            ScalarValue::TimestampNanosecond(Some(n as i64), tz.clone())
        }
        narrow => ScalarValue::Int64(Some(n as i64)).cast_to(narrow).unwrap(),
    };
    whole.into_iter().map(value).collect()
}

fn extremes<T: Into<i128>>(least: T, greatest: T) -> Vec<i128> {
    let (least, greatest) = (least.into(), greatest.into());
    [1, 2, 0, -1, least, greatest, greatest - 1, least + 1, 5, -3, greatest / 2 + 3, least / 3]
        .into_iter()
        .filter(|n| (least..=greatest).contains(n))
        .collect()
}

/// The rows of `events` under the stream's own columns.
pub fn own_rows(stream: &StreamDef, events: &[&Event]) -> RecordBatch {
    let seconds = events.iter().map(|e| e.second * 1_000_000_000);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(TimestampNanosecondArray::from_iter_values(seconds))];
    for (i, field) in stream.schema.fields().iter().skip(1).enumerate() {
        let palette = palette(field.name(), field.data_type());
        let values = events.iter().map(|e| palette[usize::from(e.cells[i]) % palette.len()].clone());
        let column = match events {
            [] => new_empty_array(field.data_type()),
            _ => ScalarValue::iter_to_array(values).unwrap(),
        };
        assert_eq!(column.data_type(), field.data_type(), "{}", field.name());
        columns.push(column);
    }
    RecordBatch::try_new(stream.schema.clone(), columns).unwrap()
}

/// The events of each partition of a stream, as one batch of its event schema, offsets with gaps.
pub fn partitions(stream: &StreamDef, events: &[Event]) -> Vec<RecordBatch> {
    let of = |Partition(partition)| {
        let mine: Vec<&Event> = events.iter().filter(|e| e.partition == partition).collect();
        let mut next = 0;
        let offsets: Vec<i64> = mine
            .iter()
            .map(|e| {
                next += e.gap as i64 + 1;
                next - 1
            })
            .collect();
        let mut columns = own_rows(stream, &mine).columns().to_vec();
        columns.push(Arc::new(Int32Array::from(vec![partition as i32; mine.len()])));
        columns.push(Arc::new(Int64Array::from(offsets)));
        columns.push(Arc::new(TimestampNanosecondArray::from(vec![7; mine.len()])));
        RecordBatch::try_new(stream.event_schema(), columns).unwrap()
    };
    stream.partitions().map(of).collect()
}
