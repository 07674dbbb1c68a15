//! CSV: values separated by one character, quoted with `"` where they hold it.

use super::{Problem, inferred, locate, nullable, plain};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::io::Cursor;
use std::sync::Arc;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The table's columns and its rows, with nulls not looked at yet.
pub(super) fn read(
    bytes: &[u8],
    header: bool,
    delimiter: u8,
    declared: Option<&SchemaRef>,
) -> Result<(SchemaRef, Vec<RecordBatch>), Problem> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let format = Format::default().with_header(header).with_delimiter(delimiter);
    let infer = |rows| -> Result<Schema, Problem> {
        Ok(format.infer_schema(Cursor::new(bytes), rows).map_err(plain)?.0)
    };
    let (schema, file, places) = match declared {
        None => {
            let schema = inferred(&infer(None)?);
            let places = (0..schema.fields().len()).collect();
            (Arc::clone(&schema), schema, places)
        }
        Some(schema) if header => {
            let found: Vec<_> = infer(Some(0))?.fields().iter().map(|f| f.name().clone()).collect();
            let places = locate(schema, &found)?;
            (Arc::clone(schema), file_schema(schema, &found, &places), places)
        }
        Some(schema) => (Arc::clone(schema), nullable(schema), (0..schema.fields().len()).collect()),
    };
    let rows = Rows { bytes, header, format, file };
    let batches = rows.read(&places).map_err(|e| rows.explain(&places, e))?;
    Ok((schema, batches.into_iter().map(with_empty_texts).collect::<Result<_, _>>()?))
}

/// The file's columns: the declared ones with their types, the others as text that nobody reads.
fn file_schema(declared: &Schema, found: &[String], places: &[usize]) -> SchemaRef {
    let field = |(place, name): (usize, &String)| {
        let declared = places.iter().position(|p| *p == place).map(|i| declared.field(i).data_type().clone());
        Field::new(name, declared.unwrap_or(DataType::Utf8), true)
    };
    Arc::new(Schema::new(found.iter().enumerate().map(field).collect::<Vec<_>>()))
}

struct Rows<'a> {
    bytes: &'a [u8],
    header: bool,
    format: Format,
    file: SchemaRef,
}

impl Rows<'_> {
    fn read(&self, places: &[usize]) -> Result<Vec<RecordBatch>, ArrowError> {
        ReaderBuilder::new(Arc::clone(&self.file))
            .with_format(self.format.clone())
            .with_projection(places.to_vec())
            .build(Cursor::new(self.bytes))?
            .collect()
    }

    /// The reader counts columns from 0 and in its own words: find the first that cannot be read alone, and say
    /// its name.
    fn explain(&self, places: &[usize], error: ArrowError) -> Problem {
        if matches!(error, ArrowError::CsvError(_)) {
            return plain(error);
        }
        for place in places {
            if let Err(error) = self.read(&[*place]) {
                return format!(
                    "column `{}`: {}",
                    self.file.field(*place).name(),
                    in_our_words(&plain(error), self.header)
                );
            }
        }
        plain(error)
    }
}

/// The reader's message without its column number and the row's data, and with the row in our count: from 1,
/// without the header. The reader counts records from 0, the header among them.
fn in_our_words(message: &str, header: bool) -> String {
    let parts = message.split_once(" at line ").and_then(|(what, rest)| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (record, detail) = rest.split_at(end);
        let row = record.parse::<usize>().ok()? + usize::from(!header);
        let what = what.rsplit_once(" for column ").map(|(what, _)| what);
        Some(format!("row {row}: {}", what.unwrap_or_else(|| detail.trim_start_matches(": "))))
    });
    parts.unwrap_or_else(|| message.to_string())
}

/// The reader takes each empty field for null; in a text column it is the empty text.
fn with_empty_texts(batch: RecordBatch) -> Result<RecordBatch, Problem> {
    let filled = |column: &ArrayRef| match column.as_string_opt::<i32>() {
        Some(texts) if texts.null_count() > 0 => {
            let texts = texts.iter().map(|text| Some(text.unwrap_or_default()));
            Arc::new(texts.collect::<StringArray>()) as ArrayRef
        }
        _ => Arc::clone(column),
    };
    RecordBatch::try_new(batch.schema(), batch.columns().iter().map(filled).collect()).map_err(plain)
}
