//! Parquet: columns by name, cast to the stream's types where no value changes by it.
//!
//! A column fits if its type is of the same kind as the stream's (numbers, text, bytes, times, …): else the file
//! is refused. In a column that fits, a value that the stream's type does not hold exactly, or a null where none
//! may be, rejects its row; the raw bytes of such an event are the JSON text of the columns that the stream has.
//! The size of an event is not bounded here: a row has no size of its own in such a file.
//!
//! A timestamp is an instant: its zone is dropped, as everywhere in Twofold.

use super::rejected::Rejections;
use super::{Decoded, Decoder, Fault, MAX_EVENT};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, RecordBatch, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, and, cast, cast_with_options, filter_record_batch, is_not_null};
use arrow::datatypes::*;
use arrow::json::LineDelimitedWriter;
use arrow::util::display::FormatOptions;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use std::sync::Arc;
use twofold_common::{Error, Result, foreign, sql_type};

impl Decoder {
    /// Decodes all rows of a Parquet file, in pieces of at most `max_rows` events.
    ///
    /// # Errors
    /// `Invalid` if the file is no Parquet file, a column has a type that does not fit the stream's, or one that
    /// is NOT NULL is missing; what `emit` fails with. Never for a bad row.
    pub fn decode_parquet(
        &self,
        file: impl ChunkReader + 'static,
        max_rows: usize,
        emit: impl FnMut(Decoded) -> Result<()>,
    ) -> Result<()> {
        foreign::guard(|| self.decode_file(file, max_rows, emit))
            .unwrap_or_else(|panic| Err(self.unreadable(ParquetError::General(panic))))
    }

    fn decode_file(
        &self,
        file: impl ChunkReader + 'static,
        max_rows: usize,
        mut emit: impl FnMut(Decoded) -> Result<()>,
    ) -> Result<()> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| self.unreadable(e))?;
        self.check_columns(builder.schema())?;
        // `batch_size` rows are allocated at once, before it is known how many there are.
        let rows = builder.metadata().file_metadata().num_rows().clamp(1, 1 << 16) as usize;
        let wanted = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
        let wanted = wanted.filter(|(_, c)| self.schema.index_of(c.name()).is_ok()).map(|(i, _)| i);
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.collect::<Vec<_>>());
        let builder = builder.with_projection(mask).with_batch_size(max_rows.clamp(1, rows));
        for batch in builder.build().map_err(|e| self.unreadable(e))? {
            emit(self.decode_batch(&batch.map_err(|e| self.unreadable(e.into()))?)?)?;
        }
        Ok(())
    }

    /// Decodes rows that are in Arrow already, under the rules for Parquet files.
    ///
    /// # Errors
    /// `Invalid` if a column has a type that does not fit the stream's, or one that is NOT NULL is missing.
    pub fn decode_batch(&self, batch: &RecordBatch) -> Result<Decoded> {
        self.check_columns(batch.schema_ref())?;
        let mut kept = BooleanArray::new(BooleanBuffer::new_set(batch.num_rows()), None);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        // For each kind of fault: where it is, and how it is told.
        let mut faults: Vec<(BooleanArray, Fault)> = Vec::new();
        for field in self.schema.fields() {
            let source = match batch.column_by_name(field.name()) {
                Some(column) => plain(column)?,
                None => new_null_array(field.data_type(), batch.num_rows()),
            };
            let (column, fits) = convert(&source, field.data_type())?;
            if fits.has_false() {
                let (from, to) = (sql_type(source.data_type()), sql_type(field.data_type()));
                let what = format!("expected {to}, found a value of {from} that it does not hold exactly");
                kept = and(&kept, &fits)?;
                faults.push((fits, Fault::Value { path: field.name().clone(), what }));
            }
            if !field.is_nullable() && column.null_count() > 0 {
                let valid = is_not_null(&source)?;
                let what = "null, but the column is NOT NULL".to_string();
                kept = and(&kept, &valid)?;
                faults.push((valid, Fault::Value { path: field.name().clone(), what }));
            }
            columns.push((field, column));
        }
        let rejected = reject(batch, &kept, &faults)?.finish(&self.rejected)?;
        let loose = columns.iter().map(|(f, _)| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let rows = filter_record_batch(&RecordBatch::try_new(Arc::new(Schema::new(loose)), columns)?, &kept)?;
        Ok(Decoded { rows: RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec())?, rejected })
    }

    fn check_columns(&self, found: &Schema) -> Result<()> {
        for field in self.schema.fields() {
            let (stream, name) = (&self.stream, field.name());
            let problem = match found.field_with_name(name) {
                Ok(column) if compatible(column.data_type(), field.data_type()) => continue,
                Ok(column) => {
                    let (to, from) = (sql_type(field.data_type()), sql_type(column.data_type()));
                    format!("has column {name} as {from}, and the stream as {to}")
                }
                Err(_) if field.is_nullable() => continue,
                Err(_) => format!("lacks column {name}, which is NOT NULL"),
            };
            return Err(Error::Invalid(format!("the Parquet file for stream {stream} {problem}")));
        }
        Ok(())
    }

    fn unreadable(&self, e: ParquetError) -> Error {
        Error::Invalid(format!("the Parquet file for stream {} cannot be read: {e}", self.stream))
    }
}

/// The column without dictionary encoding, and without time zone: instants stay what they are.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Dictionary(_, value) => return plain(&cast(column, value)?),
        DataType::Timestamp(unit, Some(_)) => without_zone(column, *unit),
        _ => Arc::clone(column),
    })
}

fn without_zone(column: &ArrayRef, unit: TimeUnit) -> ArrayRef {
    match unit {
        TimeUnit::Second => {
            Arc::new(column.as_primitive::<TimestampSecondType>().clone().with_timezone_opt(None::<&str>))
        }
        TimeUnit::Millisecond => Arc::new(
            column.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt(None::<&str>),
        ),
        TimeUnit::Microsecond => Arc::new(
            column.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<&str>),
        ),
        TimeUnit::Nanosecond => {
            Arc::new(column.as_primitive::<TimestampNanosecondType>().clone().with_timezone_opt(None::<&str>))
        }
    }
}

/// What values of a type are about; values of the same kind may be cast.
#[derive(PartialEq)]
enum Kind {
    Number,
    Text,
    Bytes,
    Moment,
    Other,
}

fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Kind::Bytes
        }
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Kind::Moment,
        DataType::Dictionary(_, value) => kind(value),
        DataType::Float16 => Kind::Other,
        number if number.is_numeric() => Kind::Number,
        _ => Kind::Other,
    }
}

fn compatible(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    if from == to || *from == Null {
        return true;
    }
    let part = |from: &Field, to: &Field| compatible(from.data_type(), to.data_type());
    match (from, to) {
        (Time32(_) | Time64(_), Time32(_) | Time64(_)) => true,
        (List(from) | LargeList(from), List(to) | LargeList(to)) => part(from, to),
        (Struct(from), Struct(to)) => {
            let mut pairs = from.iter().zip(to);
            from.len() == to.len() && pairs.all(|(from, to)| from.name() == to.name() && part(from, to))
        }
        (Map(from, _), Map(to, _)) => match (from.data_type(), to.data_type()) {
            (Struct(from), Struct(to)) => {
                from.len() == to.len() && from.iter().zip(to).all(|(f, t)| part(f, t))
            }
            _ => false,
        },
        _ => kind(from) == kind(to) && kind(to) != Kind::Other,
    }
}

/// `source` as `to`, and where each value came over unchanged. Nulls are unchanged.
fn convert(source: &ArrayRef, to: &DataType) -> Result<(ArrayRef, BooleanArray)> {
    // Casting to a zone would take the instants for local times.
    let bare = match to {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, None),
        other => other.clone(),
    };
    let zoned = |array: ArrayRef| if bare == *to { Ok(array) } else { with_zone_of(&array, to) };
    if source.data_type() == &bare {
        return Ok((
            zoned(Arc::clone(source))?,
            BooleanArray::new(BooleanBuffer::new_set(source.len()), None),
        ));
    }
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    let column = cast_with_options(source, &bare, &options)?;
    let fits = if source.data_type() == &DataType::Float64 && bare == DataType::Float32 {
        finite_alike(source.as_primitive(), column.as_primitive())
    } else {
        unchanged(source, &cast_with_options(&column, source.data_type(), &options)?)?
    };
    Ok((zoned(column)?, fits))
}

/// Where the value that went there and back is the same.
fn unchanged(source: &ArrayRef, back: &ArrayRef) -> Result<BooleanArray> {
    if !source.data_type().is_nested() {
        return Ok(not_distinct(source, back)?);
    }
    let same = (0..source.len()).map(|row| source.slice(row, 1) == back.slice(row, 1));
    Ok(BooleanArray::new(same.collect::<BooleanBuffer>(), None))
}

/// A double becomes the nearest single, unless that is infinite.
fn finite_alike(wide: &Float64Array, narrow: &Float32Array) -> BooleanArray {
    let alike = |(wide, narrow): (Option<f64>, Option<f32>)| {
        wide.is_none_or(f64::is_finite) == narrow.is_none_or(f32::is_finite)
    };
    BooleanArray::new(wide.iter().zip(narrow).map(alike).collect::<BooleanBuffer>(), None)
}

fn with_zone_of(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let data = array.to_data().into_builder().data_type(to.clone()).build()?;
    Ok(arrow::array::make_array(data))
}

/// The rows that are not `kept`, each with the first of its faults and its JSON text.
fn reject(batch: &RecordBatch, kept: &BooleanArray, faults: &[(BooleanArray, Fault)]) -> Result<Rejections> {
    let mut rejections = Rejections::new();
    for row in (0..batch.num_rows()).filter(|row| !kept.value(*row)) {
        let mut raw = Vec::new();
        LineDelimitedWriter::new(&mut raw).write(&batch.slice(row, 1))?;
        let text = raw.strip_suffix(b"\n").unwrap_or(&raw);
        if let Some((_, fault)) = faults.iter().find(|(good, _)| !good.value(row)) {
            rejections.push(fault, &text[..text.len().min(MAX_EVENT)]);
        }
    }
    Ok(rejections)
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
