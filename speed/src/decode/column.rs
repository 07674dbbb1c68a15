//! One column while it is being filled, cell by cell, from JSON values or from CSV fields.
//!
//! A cell is either appended whole or the column must be cut back with [`Column::truncate`]: that is how a bad
//! event leaves no trace. Cells are kept in Arrow's own layout, so that [`Column::finish`] copies little.

use super::fault::{Checked, Fault, Misfit, preview};
use super::json::Scanner;
use super::object::Object;
use super::{time, value};
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::error::ArrowError;
use std::collections::HashSet;
use std::sync::Arc;
use twofold_common::sql_type;

/// A column under construction.
#[derive(Debug)]
pub(crate) struct Column {
    data_type: DataType,
    nullable: bool,
    nulls: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(Vec<bool>),
    /// Of any signed width; the bounds are the type's.
    Int(Vec<i64>, i64, i64),
    UInt(Vec<u64>, u64),
    Single(Vec<f32>),
    Double(Vec<f64>),
    /// Absolute values stay below the bound; the scale.
    Decimal(Vec<i256>, i256, i8),
    Text(VarBytes),
    Bytes(VarBytes),
    Date(Vec<i32>),
    Time(Vec<i64>, TimeUnit),
    Timestamp(Vec<i64>, TimeUnit),
    List(Vec<i32>, Box<Column>),
    Struct(Box<Object>),
    Map(Vec<i32>, Box<Column>, Box<Column>),
}

/// Byte strings end to end.
#[derive(Debug)]
pub(crate) struct VarBytes {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

/// From how many strings on the length of those to come is expected to be theirs.
const TELLING: usize = 64;

impl VarBytes {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut ends = Vec::with_capacity(capacity + 1);
        ends.push(0);
        Self { ends, bytes: Vec::new() }
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Checked {
        if self.bytes.capacity() - self.bytes.len() < bytes.len() {
            self.make_room(bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        self.close()
    }

    /// Room for so many bytes more, and for what is expected to follow them: a column that grows by doubling is copied
    /// again and again, into fresh memory each time.
    #[cold]
    fn make_room(&mut self, bytes: usize) {
        let (strings, length) = (self.ends.len(), self.bytes.len());
        let to_come = self.ends.capacity().saturating_sub(strings);
        let expected = if strings < TELLING { length } else { (length / strings + 1) * to_come };
        // Not all at once, since the first may be longer than the rest.
        self.bytes.reserve(bytes + expected.min(length * 7));
    }

    /// Ends the string that was written to `bytes`.
    fn close(&mut self) -> Checked {
        let end = end_of(self.bytes.len())?;
        self.ends.push(end);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
        self.bytes.truncate(self.ends[len] as usize);
    }

    pub(crate) fn finish<T: ByteArrayType<Offset = i32>>(
        &mut self,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let offsets = OffsetBuffer::new(ends.into());
        Ok(Arc::new(GenericByteArray::<T>::try_new(offsets, std::mem::take(&mut self.bytes).into(), nulls)?))
    }
}

/// An Arrow offset; what is decoded at once is bounded so that it fits.
fn end_of(len: usize) -> Checked<i32> {
    i32::try_from(len).map_or_else(|_| Fault::event("too much was sent at once: send it in pieces"), Ok)
}

impl Column {
    /// An empty column for `field`.
    ///
    /// # Errors
    /// `Err` names the type if events cannot carry it.
    pub(crate) fn new(field: &Field, capacity: usize) -> Result<Self, String> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Bool(Vec::with_capacity(capacity)),
            DataType::Int8 => Values::Int(Vec::with_capacity(capacity), i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => Values::Int(Vec::with_capacity(capacity), i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => Values::Int(Vec::with_capacity(capacity), i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => Values::Int(Vec::with_capacity(capacity), i64::MIN, i64::MAX),
            DataType::UInt8 => Values::UInt(Vec::with_capacity(capacity), u8::MAX.into()),
            DataType::UInt16 => Values::UInt(Vec::with_capacity(capacity), u16::MAX.into()),
            DataType::UInt32 => Values::UInt(Vec::with_capacity(capacity), u32::MAX.into()),
            DataType::UInt64 => Values::UInt(Vec::with_capacity(capacity), u64::MAX),
            DataType::Float32 => Values::Single(Vec::with_capacity(capacity)),
            DataType::Float64 => Values::Double(Vec::with_capacity(capacity)),
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s) => Values::Decimal(Vec::with_capacity(capacity), ten_to(*p), *s),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Values::Text(VarBytes::new(capacity))
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Values::Bytes(VarBytes::new(capacity))
            }
            DataType::Date32 | DataType::Date64 => Values::Date(Vec::with_capacity(capacity)),
            DataType::Time32(unit) | DataType::Time64(unit) => {
                Values::Time(Vec::with_capacity(capacity), *unit)
            }
            DataType::Timestamp(unit, _) => Values::Timestamp(Vec::with_capacity(capacity), *unit),
            DataType::List(item) | DataType::LargeList(item) => {
                Values::List(vec![0], Box::new(Column::new(item, capacity)?))
            }
            DataType::Struct(fields) => Values::Struct(Box::new(Object::new(fields, capacity)?)),
            DataType::Map(entries, _) => {
                let DataType::Struct(parts) = entries.data_type() else {
                    return Err(sql_type(field.data_type()));
                };
                let [key, of] = parts.as_ref() else { return Err(sql_type(field.data_type())) };
                if !matches!(key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
                    return Err(format!("MAP with keys of {}", sql_type(key.data_type())));
                }
                let (keys, of) = (Column::new(key, capacity)?, Column::new(of, capacity)?);
                Values::Map(vec![0], Box::new(keys), Box::new(of))
            }
            other => return Err(sql_type(other)),
        };
        Ok(Self {
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            nulls: NullBufferBuilder::new(capacity),
            values,
        })
    }

    /// Appends the JSON value at which `scanner` stands.
    #[inline]
    pub(crate) fn push_json(&mut self, scanner: &mut Scanner<'_>, scratch: &mut String) -> Checked {
        let first = scanner.peek()?;
        if first == b'n' {
            scanner.literal("null")?;
            return self.push_absent("null");
        }
        match (&mut self.values, first) {
            (Values::Bool(values), b't' | b'f') => {
                scanner.literal(if first == b't' { "true" } else { "false" })?;
                values.push(first == b't');
            }
            (Values::Text(values), b'"') => values.push(scanner.string(scratch)?.as_bytes())?,
            (Values::List(ends, items), b'[') => push_list(ends, items, scanner, scratch)?,
            (Values::Struct(object), b'{') => object.push_json(scanner, scratch)?,
            (Values::Map(ends, keys, values), b'{') => push_map(ends, keys, values, scanner, scratch)?,
            (_, b'-' | b'0'..=b'9') => {
                let text = scanner.number()?;
                if let Err(misfit) = self.put_number(text) {
                    return misfit.of(&self.data_type, &format!("number {}", preview(text)));
                }
            }
            (_, b'"') => {
                let text = scanner.string(scratch)?;
                if let Err(misfit) = self.put_string(text) {
                    return misfit.of(&self.data_type, &format!("string \"{}\"", preview(text)));
                }
            }
            _ => return Misfit::Shape.of(&self.data_type, &scanner.describe()?),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends the CSV field `text`. Empty is null, but quoted and empty is the empty text.
    pub(crate) fn push_field(&mut self, text: &str, quoted: bool, scratch: &mut String) -> Checked {
        if text.is_empty() && !(quoted && matches!(self.values, Values::Text(_) | Values::Bytes(_))) {
            return self.push_absent("an empty field");
        }
        let put = match &mut self.values {
            Values::Bool(values) => value::boolean(text).map(|value| values.push(value)),
            Values::Text(values) => {
                return values.push(text.as_bytes()).map(|()| self.nulls.append_non_null());
            }
            Values::List(..) | Values::Struct(_) | Values::Map(..) => {
                let mut scanner = Scanner::new(text);
                self.push_json(&mut scanner, scratch)?;
                return scanner.end();
            }
            Values::Int(..) | Values::UInt(..) | Values::Single(_) | Values::Double(_) => {
                self.put_number(text)
            }
            Values::Timestamp(..) if value::signed(text).is_ok() => self.put_number(text),
            _ => self.put_string(text),
        };
        match put {
            Ok(()) => self.nulls.append_non_null(),
            Err(misfit) => return misfit.of(&self.data_type, &format!("\"{}\"", preview(text))),
        }
        Ok(())
    }

    /// Appends a null for a value that is `how`: null, or missing.
    pub(crate) fn push_absent(&mut self, how: &str) -> Checked {
        if !self.nullable {
            return Fault::value(format!("{how}, but the column is NOT NULL"));
        }
        self.push_placeholder();
        Ok(())
    }

    /// Appends what stands for a null, here and below a struct that is null.
    pub(crate) fn push_placeholder(&mut self) {
        match &mut self.values {
            Values::Bool(values) => values.push(false),
            Values::Int(values, ..) | Values::Time(values, _) | Values::Timestamp(values, _) => {
                values.push(0)
            }
            Values::UInt(values, _) => values.push(0),
            Values::Single(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal(values, ..) => values.push(i256::ZERO),
            Values::Text(values) | Values::Bytes(values) => repeat_last(&mut values.ends),
            Values::Date(values) => values.push(0),
            Values::List(ends, _) | Values::Map(ends, ..) => repeat_last(ends),
            Values::Struct(object) => object.push_placeholder(),
        }
        self.nulls.append_null();
    }

    fn put_number(&mut self, text: &str) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Int(values, min, max) => {
                let value = value::signed(text)?;
                if value < *min || value > *max {
                    return Err(Misfit::Range);
                }
                values.push(value);
            }
            Values::UInt(values, max) => {
                let value = value::unsigned(text)?;
                if value > *max {
                    return Err(Misfit::Range);
                }
                values.push(value);
            }
            Values::Single(values) => values.push(value::single(text)?),
            Values::Double(values) => values.push(value::double(text)?),
            Values::Decimal(values, bound, scale) => values.push(decimal(text, *bound, *scale)?),
            Values::Timestamp(values, unit) => values.push(time::epoch_millis(value::signed(text)?, *unit)?),
            _ => return Err(Misfit::Shape),
        }
        Ok(())
    }

    fn put_string(&mut self, text: &str) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Bytes(values) => {
                value::bytes(text, &mut values.bytes)?;
                values.close().map_err(|_| Misfit::Range)?;
            }
            Values::Decimal(values, bound, scale) => values.push(decimal(text, *bound, *scale)?),
            Values::Date(values) => values.push(time::date(text)?),
            Values::Time(values, unit) => values.push(time::time_of_day(text, *unit)?),
            Values::Timestamp(values, unit) => values.push(time::timestamp(text, *unit)?),
            _ => return Err(Misfit::Shape),
        }
        Ok(())
    }

    /// Cuts the column back to its first `len` cells, whatever a failed push left behind.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.nulls.len() {
            self.nulls.truncate(len);
        }
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::Int(values, ..) | Values::Time(values, _) | Values::Timestamp(values, _) => {
                values.truncate(len)
            }
            Values::UInt(values, _) => values.truncate(len),
            Values::Single(values) => values.truncate(len),
            Values::Double(values) => values.truncate(len),
            Values::Decimal(values, ..) => values.truncate(len),
            Values::Text(values) | Values::Bytes(values) => values.truncate(len),
            Values::Date(values) => values.truncate(len),
            Values::List(ends, items) => {
                ends.truncate(len + 1);
                items.truncate(ends[len] as usize);
            }
            Values::Map(ends, keys, values) => {
                ends.truncate(len + 1);
                keys.truncate(ends[len] as usize);
                values.truncate(ends[len] as usize);
            }
            Values::Struct(object) => object.truncate(len),
        }
    }

    /// The cells as an array of the column's type; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        use std::mem::take;
        let nulls = self.nulls.finish();
        let array: ArrayRef = match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls)),
            Values::Int(values, ..) => Arc::new(Int64Array::new(take(values).into(), nulls)),
            Values::UInt(values, _) => Arc::new(UInt64Array::new(take(values).into(), nulls)),
            Values::Single(values) => Arc::new(Float32Array::new(take(values).into(), nulls)),
            Values::Double(values) => Arc::new(Float64Array::new(take(values).into(), nulls)),
            Values::Decimal(values, ..) => decimals(take(values), nulls, &self.data_type)?,
            Values::Text(values) => values.finish::<Utf8Type>(nulls)?,
            Values::Bytes(values) => values.finish::<BinaryType>(nulls)?,
            Values::Date(values) => Arc::new(Date32Array::new(take(values).into(), nulls)),
            Values::Time(values, _) => times(take(values), nulls, &self.data_type)?,
            Values::Timestamp(values, unit) => timestamps(take(values).into(), nulls, *unit),
            Values::List(ends, items) => {
                let item = match &self.data_type {
                    DataType::List(item) | DataType::LargeList(item) => Arc::clone(item),
                    other => return Err(ArrowError::SchemaError(format!("{other} is no list"))),
                };
                let offsets = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                Arc::new(ListArray::try_new(item, offsets, items.finish()?, nulls)?)
            }
            Values::Struct(object) => Arc::new(object.finish(nulls)?),
            Values::Map(ends, keys, values) => {
                let DataType::Map(entries, sorted) = &self.data_type else {
                    return Err(ArrowError::SchemaError(format!("{} is no map", self.data_type)));
                };
                let DataType::Struct(parts) = entries.data_type() else {
                    return Err(ArrowError::SchemaError(format!("{} is no map", self.data_type)));
                };
                let columns = vec![keys.finish()?, values.finish()?];
                let offsets = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                let pairs = StructArray::try_new(parts.clone(), columns, None)?;
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?)
            }
        };
        if array.data_type() == &self.data_type { Ok(array) } else { cast(&array, &self.data_type) }
    }
}

fn repeat_last(ends: &mut Vec<i32>) {
    ends.extend(ends.last().copied());
}

fn push_list(
    ends: &mut Vec<i32>,
    items: &mut Column,
    scanner: &mut Scanner<'_>,
    scratch: &mut String,
) -> Checked {
    scanner.expect(b'[')?;
    let start = items.nulls.len();
    if scanner.peek()? == b']' {
        scanner.expect(b']')?;
    } else {
        loop {
            let index = items.nulls.len() - start;
            items.push_json(scanner, scratch).map_err(|fault| fault.in_element(index))?;
            match scanner.peek()? {
                b',' => scanner.expect(b',')?,
                b']' => break scanner.expect(b']')?,
                _ => return scanner.unexpected("',' or ']'"),
            }
        }
    }
    ends.push(end_of(items.nulls.len())?);
    Ok(())
}

fn push_map(
    ends: &mut Vec<i32>,
    keys: &mut Column,
    values: &mut Column,
    scanner: &mut Scanner<'_>,
    scratch: &mut String,
) -> Checked {
    scanner.expect(b'{')?;
    let mut seen = HashSet::new();
    let mut more = scanner.peek()? != b'}';
    while more {
        let key = scanner.string(scratch)?.to_string();
        scanner.expect(b':')?;
        keys.push_field(&key, true, scratch)?;
        values.push_json(scanner, scratch).map_err(|fault| fault.in_field(&key))?;
        if let Some(twice) = seen.replace(key) {
            return Fault::value(format!("key {:?} is given twice", preview(&twice)));
        }
        more = scanner.peek()? == b',';
        if more {
            scanner.expect(b',')?;
        }
    }
    scanner.expect(b'}')?;
    ends.push(end_of(keys.nulls.len())?);
    Ok(())
}

fn ten_to(digits: u8) -> i256 {
    i256::from(10i8).wrapping_pow(digits.into())
}

fn decimal(text: &str, bound: i256, scale: i8) -> Result<i256, Misfit> {
    let value = value::scaled(text, scale.into())?;
    if value.wrapping_abs() < bound { Ok(value) } else { Err(Misfit::Range) }
}

fn decimals(
    values: Vec<i256>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let (precision, scale) = match data_type {
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => (*p, *s),
        DataType::Decimal256(p, s) => {
            let array = Decimal256Array::new(values.into(), nulls);
            return Ok(Arc::new(array.with_precision_and_scale(*p, *s)?));
        }
        other => return Err(ArrowError::SchemaError(format!("{other} is no decimal"))),
    };
    // Each value is below the bound of its precision, which 128 bits hold.
    let narrow: ScalarBuffer<i128> = values.iter().map(|v| v.as_i128()).collect::<Vec<_>>().into();
    Ok(Arc::new(Decimal128Array::new(narrow, nulls).with_precision_and_scale(precision, scale)?))
}

fn times(values: Vec<i64>, nulls: Option<NullBuffer>, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let wide = Int64Array::new(values.into(), nulls);
    match data_type {
        DataType::Time32(_) => cast(&cast(&wide, &DataType::Int32)?, data_type),
        _ => cast(&wide, data_type),
    }
}

fn timestamps(values: ScalarBuffer<i64>, nulls: Option<NullBuffer>, unit: TimeUnit) -> ArrayRef {
    match unit {
        TimeUnit::Second => Arc::new(TimestampSecondArray::new(values, nulls)),
        TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::new(values, nulls)),
        TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::new(values, nulls)),
        TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::new(values, nulls)),
    }
}
