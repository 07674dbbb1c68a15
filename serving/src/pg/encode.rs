//! Rows on the wire.
//!
//! Each column of a batch is first brought into one of a few forms, and then written row by row. What has no form of its
//! own in PostgreSQL is JSON, written as over HTTP.

use super::failure::{Failure, state};
use super::types;
use super::value::{
    EPOCH_DAYS, date_text, element_text, float_text, interval_text, numeric, since_2000, time_text,
    timestamp_text,
};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use arrow::json::writer::{EncoderOptions, make_encoder};
use bytes::{BufMut, BytesMut};
use chrono::NaiveTime;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::results::{FieldFormat, FieldInfo};
use datafusion_postgres::pgwire::messages::data::DataRow;
use std::fmt::Write;
use std::sync::Arc;

/// A batch that is ready to be written.
pub(super) struct Rows {
    columns: Vec<Column>,
    rows: usize,
    next: usize,
}

/// A column in one of the forms of the wire.
enum Column {
    Bool(arrow::array::BooleanArray),
    Int2(PrimitiveArray<Int16Type>),
    Int4(PrimitiveArray<Int32Type>),
    Int8(PrimitiveArray<Int64Type>),
    Float4(PrimitiveArray<Float32Type>),
    Float8(PrimitiveArray<Float64Type>),
    /// Its digits.
    Numeric(StringArray),
    Text(StringArray),
    /// One character.
    Char(StringArray),
    Bytes(arrow::array::BinaryArray),
    Date(PrimitiveArray<Date32Type>),
    /// Microseconds of the day.
    Time(PrimitiveArray<Int64Type>),
    /// Microseconds since 1970, and whether they stand for a moment rather than for a time without a zone.
    Timestamp(PrimitiveArray<Int64Type>, bool),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>),
    List {
        lists: ListArray,
        items: Box<Column>,
        item: Type,
    },
}

impl Rows {
    /// The rows of `batch`.
    pub(super) fn new(batch: &RecordBatch) -> Result<Self, Failure> {
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, array)| Column::new(field, array)).collect::<Result<_, _>>()?;
        Ok(Self { columns, rows: batch.num_rows(), next: 0 })
    }

    /// The next row, if there is one; `fields` has a field for each column.
    pub(super) fn next(&mut self, fields: &[FieldInfo]) -> Result<Option<DataRow>, Failure> {
        if self.next == self.rows {
            return Ok(None);
        }
        let row = self.next;
        self.next += 1;
        let mut out = BytesMut::with_capacity(32 * self.columns.len());
        let mut text = String::new();
        for (column, field) in self.columns.iter().zip(fields) {
            column.put(row, field.format() == FieldFormat::Text, &mut text, &mut out)?;
        }
        let fields = i16::try_from(self.columns.len());
        let fields =
            fields.map_err(|_| Failure::new(state::TOO_MUCH, "an answer has too many columns".into()))?;
        Ok(Some(DataRow::new(out, fields)))
    }
}

impl Column {
    fn new(field: &Field, array: &ArrayRef) -> Result<Self, Failure> {
        let pg_type = types::pg_type(field);
        if pg_type == Type::JSON {
            return Ok(Self::Text(json(field, array)?));
        }
        let text = || -> Result<StringArray, Failure> {
            Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
        };
        Ok(match pg_type {
            Type::BOOL => Self::Bool(cast(array, &DataType::Boolean)?.as_boolean().clone()),
            Type::INT2 => Self::Int2(cast(array, &DataType::Int16)?.as_primitive::<Int16Type>().clone()),
            Type::INT4 => Self::Int4(cast(array, &DataType::Int32)?.as_primitive::<Int32Type>().clone()),
            Type::INT8 => Self::Int8(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            Type::FLOAT4 => {
                Self::Float4(cast(array, &DataType::Float32)?.as_primitive::<Float32Type>().clone())
            }
            Type::FLOAT8 => {
                Self::Float8(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            Type::NUMERIC => Self::Numeric(text()?),
            Type::CHAR => Self::Char(text()?),
            Type::BYTEA => Self::Bytes(cast(array, &DataType::Binary)?.as_binary::<i32>().clone()),
            Type::DATE => Self::Date(cast(array, &DataType::Date32)?.as_primitive::<Date32Type>().clone()),
            Type::TIME => {
                let time = cast(array, &DataType::Time64(TimeUnit::Microsecond))?;
                Self::Time(cast(&time, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            Type::TIMESTAMP => Self::Timestamp(microseconds(array)?, false),
            Type::TIMESTAMPTZ => Self::Timestamp(microseconds(array)?, true),
            Type::INTERVAL => {
                let interval = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
                Self::Interval(interval.as_primitive::<IntervalMonthDayNanoType>().clone())
            }
            _ => match item(array.data_type()) {
                Some(field) => {
                    let lists = cast(array, &DataType::List(Arc::clone(&field)))?.as_list::<i32>().clone();
                    let items = Box::new(Column::new(&field, lists.values())?);
                    Self::List { lists, items, item: types::of(field.data_type()) }
                }
                None if array.data_type().is_integer() => {
                    Self::Int4(cast(array, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
                }
                None => Self::Text(text()?),
            },
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(a) => a.is_null(row),
            Self::Int2(a) => a.is_null(row),
            Self::Int4(a) => a.is_null(row),
            Self::Int8(a) | Self::Time(a) | Self::Timestamp(a, _) => a.is_null(row),
            Self::Float4(a) => a.is_null(row),
            Self::Float8(a) => a.is_null(row),
            Self::Numeric(a) | Self::Text(a) | Self::Char(a) => a.is_null(row),
            Self::Bytes(a) => a.is_null(row),
            Self::Date(a) => a.is_null(row),
            Self::Interval(a) => a.is_null(row),
            Self::List { lists, .. } => lists.is_null(row),
        }
    }

    /// Writes the value with its length before it.
    fn put(&self, row: usize, as_text: bool, text: &mut String, out: &mut BytesMut) -> Result<(), Failure> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let start = out.len();
        out.put_i32(0);
        if as_text {
            text.clear();
            self.text(row, text)?;
            out.put_slice(text.as_bytes());
        } else {
            self.binary(row, out)?;
        }
        let length = i32::try_from(out.len() - start - 4);
        let length =
            length.map_err(|_| Failure::new(state::TOO_MUCH, "a value has more than 2 GiB".into()))?;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn text(&self, row: usize, out: &mut String) -> Result<(), Failure> {
        match self {
            Self::Bool(a) => out.push(if a.value(row) { 't' } else { 'f' }),
            Self::Int2(a) => number(a.value(row), out),
            Self::Int4(a) => number(a.value(row), out),
            Self::Int8(a) => number(a.value(row), out),
            Self::Float4(a) => {
                let value = a.value(row);
                float_text(value.into(), format!("{value:e}"), value.to_string(), out);
            }
            Self::Float8(a) => {
                let value = a.value(row);
                float_text(value, format!("{value:e}"), value.to_string(), out);
            }
            Self::Numeric(a) | Self::Text(a) | Self::Char(a) => out.push_str(a.value(row)),
            Self::Bytes(a) => {
                out.push_str("\\x");
                for byte in a.value(row) {
                    number(format_args!("{byte:02x}"), out);
                }
            }
            Self::Date(a) => date_text(a.value(row), out)?,
            Self::Time(a) => time_text(time(a.value(row)), out),
            Self::Timestamp(a, zoned) => {
                timestamp_text(a.value(row), out)?;
                out.push_str(if *zoned { "+00" } else { "" });
            }
            Self::Interval(a) => {
                let (months, days, nanoseconds) = IntervalMonthDayNanoType::to_parts(a.value(row));
                interval_text(months, days, nanoseconds.div_euclid(1000), out);
            }
            Self::List { lists, items, .. } => {
                let mut element = String::new();
                out.push('{');
                for (i, at) in range(lists, row).enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    if items.is_null(at) {
                        out.push_str("NULL");
                        continue;
                    }
                    element.clear();
                    items.text(at, &mut element)?;
                    element_text(&element, out);
                }
                out.push('}');
            }
        }
        Ok(())
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), Failure> {
        match self {
            Self::Bool(a) => out.put_u8(u8::from(a.value(row))),
            Self::Int2(a) => out.put_i16(a.value(row)),
            Self::Int4(a) => out.put_i32(a.value(row)),
            Self::Int8(a) | Self::Time(a) => out.put_i64(a.value(row)),
            Self::Float4(a) => out.put_f32(a.value(row)),
            Self::Float8(a) => out.put_f64(a.value(row)),
            Self::Numeric(a) => numeric(a.value(row), out)?,
            Self::Text(a) => out.put_slice(a.value(row).as_bytes()),
            Self::Char(a) => out.put_u8(a.value(row).bytes().next().unwrap_or(0)),
            Self::Bytes(a) => out.put_slice(a.value(row)),
            Self::Date(a) => {
                let days = a.value(row).checked_sub(EPOCH_DAYS);
                out.put_i32(
                    days.ok_or_else(|| Failure::new(state::BAD_TIME, "a date is out of range".into()))?,
                );
            }
            Self::Timestamp(a, _) => out.put_i64(since_2000(a.value(row))?),
            Self::Interval(a) => {
                let (months, days, nanoseconds) = IntervalMonthDayNanoType::to_parts(a.value(row));
                out.put_i64(nanoseconds.div_euclid(1000));
                out.put_i32(days);
                out.put_i32(months);
            }
            Self::List { lists, items, item } => {
                let range = range(lists, row);
                let length = i32::try_from(range.len());
                let length =
                    length.map_err(|_| Failure::new(state::TOO_MUCH, "an array is too long".into()))?;
                out.put_i32(i32::from(length > 0));
                out.put_i32(i32::from(range.clone().any(|at| items.is_null(at))));
                out.put_u32(item.oid());
                if length > 0 {
                    out.put_i32(length);
                    out.put_i32(1);
                }
                for at in range {
                    items.put(at, false, &mut String::new(), out)?;
                }
            }
        }
        Ok(())
    }
}

fn number(value: impl std::fmt::Display, out: &mut String) {
    let _ = write!(out, "{value}");
}

fn time(microseconds: i64) -> NaiveTime {
    let (seconds, rest) = (microseconds.div_euclid(1_000_000), microseconds.rem_euclid(1_000_000));
    let time = u32::try_from(seconds).ok().and_then(|seconds| {
        NaiveTime::from_num_seconds_from_midnight_opt(seconds, u32::try_from(rest * 1000).ok()?)
    });
    time.unwrap_or(NaiveTime::MIN)
}

fn range(lists: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = lists.value_offsets();
    let at = |i: usize| usize::try_from(offsets[i]).unwrap_or(0);
    at(row)..at(row + 1)
}

/// The field of a list's items.
fn item(data_type: &DataType) -> Option<Arc<Field>> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(Arc::clone(item))
        }
        DataType::Dictionary(_, value) => item(value),
        _ => None,
    }
}

/// `array` in another type; what does not fit is an error, not null.
fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Failure> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options).map_err(twofold_common::Error::from)?)
}

/// Timestamps as microseconds since 1970, fractions cut off towards the past.
fn microseconds(array: &ArrayRef) -> Result<PrimitiveArray<Int64Type>, Failure> {
    let (unit, array) = match array.data_type() {
        DataType::Dictionary(_, value) => (value.as_ref().clone(), cast(array, value)?),
        other => (other.clone(), Arc::clone(array)),
    };
    if let DataType::Timestamp(TimeUnit::Nanosecond, _) = unit {
        let nanoseconds = cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        return Ok(nanoseconds.unary(|nanoseconds| nanoseconds.div_euclid(1000)));
    }
    let zone = match unit {
        DataType::Timestamp(_, zone) => zone,
        _ => None,
    };
    let array = cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    Ok(cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Each value as JSON.
fn json(field: &Field, array: &ArrayRef) -> Result<StringArray, Failure> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let field = Arc::new(field.clone());
    let mut encoder = make_encoder(&field, array, &options).map_err(twofold_common::Error::from)?;
    let mut texts = arrow::array::StringBuilder::new();
    let mut bytes = Vec::new();
    for row in 0..array.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        bytes.clear();
        encoder.encode(row, &mut bytes);
        texts.append_value(String::from_utf8_lossy(&bytes));
    }
    Ok(texts.finish())
}
