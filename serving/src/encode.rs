//! Rows as bytes: JSON, NDJSON, CSV or an Arrow IPC stream.
//!
//! **JSON** is `{"columns": [{"name", "type"}], "rows": [{…}], "coverage": [{…}], "watermark": "…"}`, and last
//! `"version": "previous"` while a changed project is being built and the one before it answers. Integers, 64-bit
//! ones too, and decimals are JSON numbers with all their digits: a reader that takes numbers for doubles loses
//! those beyond 2^53. A double is written so that it reads back to the same bits; NaN and the infinities,
//! which JSON does not have, are null. Dates and times are ISO 8601 (a `TIMESTAMP` has no zone and is UTC),
//! BYTEA is hexadecimal, lists are arrays, structs are objects. Every row has every column; null is `null`.
//! Two columns of one name cannot be told apart in an object and are refused.
//!
//! **NDJSON** is a line for each of these rows, and nothing else.
//!
//! **CSV** has a line of names; null is the empty field; nested types are refused.
//!
//! **Arrow** carries everything exactly, with the coverage as JSON in the schema's metadata:
//! [`Rows::from_arrow`] reads it back.

use crate::rows::Rows;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::csv;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, JsonFormat, LineDelimited};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;
use twofold_common::{Error, Result, rfc3339, sql_type};

/// Where an Arrow stream's schema has the coverage.
pub(crate) const COVERAGE_KEY: &str = "twofold.coverage";
/// Where it says that the answer is of the [`PREVIOUS`] version of the project.
pub(crate) const VERSION_KEY: &str = "twofold.version";
/// What an answer says that is of the project before the current one, which is still being built.
pub(crate) const PREVIOUS: &str = "previous";
/// Where it has the number of rows: a stream that is cut between two batches would else look whole.
const ROWS_KEY: &str = "twofold.rows";

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object with columns, rows and coverage.
    #[default]
    Json,
    /// One JSON object to a line, for each row.
    Ndjson,
    /// CSV with a line of names.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// The formats.
    pub const ALL: [Format; 4] = [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow];

    /// What the format is called: `json`, `ndjson`, `csv`, `arrow`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Arrow => "arrow",
        }
    }

    /// The format of that name.
    ///
    /// # Errors
    /// `Invalid`, naming the formats.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Format::name).join(", ");
            Error::Invalid(format!("there is no format {name:?}; there are: {names}"))
        })
    }

    /// The MIME type.
    pub fn mime(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

impl Rows {
    /// The rows in a format.
    ///
    /// # Errors
    /// `Invalid` if the format does not have one of the columns' types, or cannot tell two columns apart.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>> {
        self.encode_page(format, None)
    }

    /// The same, with the cursor behind them where the format has a place for it: in JSON.
    pub(crate) fn encode_page(&self, format: Format, cursor: Option<&str>) -> Result<Vec<u8>> {
        match format {
            Format::Json => self.to_json(cursor),
            Format::Ndjson => self.to_ndjson(),
            Format::Csv => self.to_csv(),
            Format::Arrow => self.to_arrow(),
        }
    }

    /// Rows and coverage from what [`encode`](Self::encode) wrote as [`Format::Arrow`]; `origin` names their
    /// sender in errors.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are not such a stream, whole.
    pub fn from_arrow(bytes: &[u8], origin: &str) -> Result<Self> {
        let corrupt =
            |reason: String| Error::corrupt(origin, format!("the answer is not an Arrow stream: {reason}"));
        let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|e| corrupt(e.to_string()))?;
        let schema = reader.schema();
        let mut metadata = schema.metadata().clone();
        let mut told = |key: &str| metadata.remove(key).ok_or_else(|| corrupt(format!("it has no {key}")));
        let coverage = serde_json::from_str(&told(COVERAGE_KEY)?).map_err(|e| corrupt(e.to_string()))?;
        let expected = told(ROWS_KEY)?;
        let previous = metadata.remove(VERSION_KEY).is_some_and(|version| version == PREVIOUS);
        let schema = Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata));
        let batches = reader.map(|batch| with_schema(&batch?, &schema));
        let batches = batches.collect::<Result<_, _>>().map_err(|e| corrupt(e.to_string()))?;
        let rows = Rows { schema, batches, coverage, previous };
        if rows.num_rows().to_string() != expected {
            return Err(corrupt(format!("expected {expected} rows, found {}", rows.num_rows())));
        }
        Ok(rows)
    }

    /// The coverage as JSON.
    pub(crate) fn coverage_json(&self) -> Result<String> {
        serde_json::to_string(&self.coverage).map_err(|e| Error::Internal(e.to_string()))
    }

    fn to_json(&self, cursor: Option<&str>) -> Result<Vec<u8>> {
        let columns =
            self.schema.fields().iter().map(|f| json!({"name": f.name(), "type": sql_type(f.data_type())}));
        let columns: Vec<_> = columns.collect();
        let mut bytes = format!("{{\"columns\":{},\"rows\":", json!(columns)).into_bytes();
        self.write_objects::<JsonArray>(&mut bytes)?;
        let (coverage, watermark) = (self.coverage_json()?, json!(self.watermark().map(rfc3339)));
        let version = if self.previous { format!(",\"version\":\"{PREVIOUS}\"") } else { String::new() };
        let cursor = cursor.map(|cursor| format!(",\"cursor\":{}", json!(cursor))).unwrap_or_default();
        let rest = format!(",\"coverage\":{coverage},\"watermark\":{watermark}{cursor}{version}}}\n");
        bytes.extend_from_slice(rest.as_bytes());
        Ok(bytes)
    }

    fn to_ndjson(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_objects::<LineDelimited>(&mut bytes)?;
        Ok(bytes)
    }

    /// Each row as an object.
    fn write_objects<F: JsonFormat>(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let mut names = BTreeSet::new();
        if let Some(twice) = self.schema.fields().iter().find(|field| !names.insert(field.name())) {
            return Err(Error::Invalid(format!(
                "the query gives two columns named {}: give one of them another name with AS, or ask for CSV",
                twice.name()
            )));
        }
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, F>(bytes);
        writer.write_batches(&self.batches.iter().collect::<Vec<_>>())?;
        Ok(writer.finish()?)
    }

    fn to_csv(&self) -> Result<Vec<u8>> {
        if let Some(nested) = self.schema.fields().iter().find(|field| field.data_type().is_nested()) {
            return Err(Error::Invalid(format!(
                "column {} is {}, which CSV does not have: ask for JSON or Arrow",
                nested.name(),
                sql_type(nested.data_type())
            )));
        }
        let mut bytes = Vec::new();
        let mut writer = csv::Writer::new(&mut bytes);
        // Of no rows, the line of names.
        writer.write(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        for batch in &self.batches {
            writer.write(batch)?;
        }
        drop(writer);
        Ok(bytes)
    }

    fn to_arrow(&self) -> Result<Vec<u8>> {
        let mut metadata = self.schema.metadata().clone();
        metadata.insert(COVERAGE_KEY.to_string(), self.coverage_json()?);
        metadata.insert(ROWS_KEY.to_string(), self.num_rows().to_string());
        if self.previous {
            metadata.insert(VERSION_KEY.to_string(), PREVIOUS.to_string());
        }
        let schema = Arc::new(Schema::new_with_metadata(self.schema.fields().clone(), metadata));
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
        for batch in &self.batches {
            writer.write(&with_schema(batch, &schema)?)?;
        }
        writer.finish()?;
        drop(writer);
        Ok(bytes)
    }
}

/// `batch` with the same columns and other metadata.
fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, TimestampNanosecondArray};
    use arrow::datatypes::{DataType, Field};
    use serde_json::Value;
    use twofold_common::{Coverage, Kind, Offset, Partition};

    fn rows(columns: Vec<(&str, ArrayRef)>) -> Rows {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut coverage = Coverage::assemble("v", "s", Partition(0), Offset(3), &[]).unwrap();
        coverage.watermark = Some(1_000_000_001);
        Rows { schema: batch.schema(), batches: vec![batch], coverage: vec![coverage], previous: false }
    }

    fn sample() -> Rows {
        rows(vec![
            ("n", Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), None])) as _),
            ("x", Arc::new(Float64Array::from(vec![0.1, f64::NAN])) as _),
            ("t", Arc::new(TimestampNanosecondArray::from(vec![0, 1_357_034_400_000_000_001])) as _),
            ("b", Arc::new(BinaryArray::from_vec(vec![b"\x00\xff", b""])) as _),
        ])
    }

    #[test]
    fn json_keeps_what_it_can() {
        let text = String::from_utf8(sample().encode(Format::Json).unwrap()).unwrap();
        assert!(text.contains("9007199254740993"), "{text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["columns"][0], json!({"name": "n", "type": "BIGINT"}));
        assert_eq!(json["rows"][0]["x"], json!(0.1));
        assert_eq!(json["rows"][1]["x"], Value::Null);
        assert_eq!(json["rows"][1]["n"], Value::Null);
        assert_eq!(json["rows"][0]["t"], json!("1970-01-01T00:00:00"));
        assert_eq!(json["rows"][1]["t"], json!("2013-01-01T10:00:00.000000001"));
        assert_eq!(json["rows"][0]["b"], json!("00ff"));
        assert_eq!(json["coverage"][0]["batch"], json!([0, 3]));
        assert_eq!(json["coverage"][0]["watermark"], json!("1970-01-01T00:00:01.000000001Z"));
        assert_eq!(json["watermark"], json!("1970-01-01T00:00:01.000000001Z"));
    }

    #[test]
    fn ndjson_is_the_rows_alone_a_line_each() {
        let text = String::from_utf8(sample().encode(Format::Ndjson).unwrap()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let json: Value = serde_json::from_slice(&sample().encode(Format::Json).unwrap()).unwrap();
        assert_eq!(json["rows"], json!(lines));
        assert!(text.ends_with('\n'));
        assert_eq!(Rows { batches: vec![], ..sample() }.encode(Format::Ndjson).unwrap(), b"");
    }

    #[test]
    fn no_rows_are_an_empty_list_and_a_line_of_names() {
        let none = Rows { batches: vec![], ..sample() };
        let json: Value = serde_json::from_slice(&none.encode(Format::Json).unwrap()).unwrap();
        assert_eq!(json["rows"], json!([]));
        assert_eq!(none.encode(Format::Csv).unwrap(), b"n,x,t,b\n");
    }

    #[test]
    fn an_answer_of_the_previous_project_says_so_and_no_other_does() {
        for previous in [true, false] {
            let rows = Rows { previous, ..sample() };
            let back = Rows::from_arrow(&rows.encode(Format::Arrow).unwrap(), "test").unwrap();
            assert_eq!((back.previous, back.schema), (previous, rows.schema.clone()));
            let json: Value = serde_json::from_slice(&rows.encode(Format::Json).unwrap()).unwrap();
            assert_eq!(json.get("version"), previous.then(|| json!("previous")).as_ref());
        }
    }

    #[test]
    fn csv_has_a_line_for_each_row() {
        let csv = sample().encode(Format::Csv).unwrap();
        assert_eq!(
            String::from_utf8(csv).unwrap().lines().nth(1).unwrap(),
            "9007199254740993,0.1,1970-01-01T00:00:00,00ff"
        );
    }

    #[test]
    fn arrow_comes_back_with_its_coverage() {
        let sample = sample();
        let bytes = sample.encode(Format::Arrow).unwrap();
        let back = Rows::from_arrow(&bytes, "test").unwrap();
        assert_eq!((back.schema, back.coverage), (sample.schema, sample.coverage));
        assert_eq!(back.batches[0].column(0), sample.batches[0].column(0));
        for end in 0..bytes.len() {
            // Only the mark of the end may be missing.
            let cut = Rows::from_arrow(&bytes[..end], "test").map(|rows| rows.num_rows());
            assert!(
                cut.as_ref().is_ok_and(|n| *n == 2) || cut.is_err_and(|e| e.kind() == Kind::Corrupt),
                "{end}"
            );
        }
    }

    #[test]
    fn what_a_format_cannot_say_is_refused() {
        let twice = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("a", DataType::Int64, true),
        ]));
        let twice = Rows { schema: twice, batches: vec![], coverage: vec![], previous: false };
        assert!(twice.encode(Format::Json).unwrap_err().to_string().contains("two columns named a"));
        let item = Arc::new(Field::new("item", DataType::Int64, true));
        let list = Arc::new(Schema::new(vec![Field::new("l", DataType::List(item), true)]));
        let list = Rows { schema: list, batches: vec![], coverage: vec![], previous: false };
        assert!(list.encode(Format::Csv).unwrap_err().to_string().contains("column l is BIGINT[]"));
    }
}
