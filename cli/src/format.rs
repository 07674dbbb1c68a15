//! How rows are written for whoever asked: a table for people, JSON, CSV or Arrow for programs.
//!
//! Rows are written whole or not at all: [`render`] gives bytes, and only then something is printed. A value that is
//! null is `NULL` in a table; the other formats are those of the HTTP interface, JSON without what stands around the
//! rows there.

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;
use twofold_serving::{Format, Rows};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines and columns for people
    Table,
    /// An array of objects
    Json,
    /// Comma-separated values below a header line
    Csv,
    /// An Arrow IPC stream
    Arrow,
}

/// The rows as bytes of the format.
///
/// # Errors
/// If a type cannot be written in the format.
pub fn render(rows: &Rows, format: Output) -> Result<Vec<u8>> {
    Ok(match format {
        Output::Table => table(rows)?.into_bytes(),
        Output::Json => json(rows)?,
        Output::Csv => rows.encode(Format::Csv)?,
        Output::Arrow => rows.encode(Format::Arrow)?,
    })
}

fn table(rows: &Rows) -> Result<String> {
    let options = FormatOptions::default().with_null("NULL");
    let with_schema = [&[RecordBatch::new_empty(rows.schema.clone())], rows.batches.as_slice()].concat();
    let grid = pretty_format_batches_with_options(&with_schema, &options)?;
    Ok(format!("{grid}\n{}\n", crate::text::counted(rows.num_rows() as u64, "row")))
}

fn json(rows: &Rows) -> Result<Vec<u8>> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        rows: &'a RawValue,
    }
    let answer = rows.encode(Format::Json)?;
    let answer: Answer<'_> = serde_json::from_slice(&answer)?;
    Ok(format!("{}\n", answer.rows).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
    use std::sync::Arc;

    fn rows() -> Rows {
        let columns: [(&str, ArrayRef); 4] = [
            ("name", Arc::new(StringArray::from(vec![Some("a, \"b\""), None]))),
            ("n", Arc::new(Int64Array::from(vec![9_007_199_254_740_993, -1]))),
            ("x", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![Some(1_356_998_400_000_000_000), None]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
        Rows { schema: batch.schema(), batches: vec![batch], coverage: vec![], previous: false }
    }

    fn text(rows: &Rows, format: Output) -> String {
        String::from_utf8(render(rows, format).unwrap()).unwrap()
    }

    #[test]
    fn a_table_shows_nulls_and_counts_rows() {
        insta::assert_snapshot!(text(&rows(), Output::Table), @r#"
        +--------+------------------+-----+---------------------+
        | name   | n                | x   | at                  |
        +--------+------------------+-----+---------------------+
        | a, "b" | 9007199254740993 | 0.1 | 2013-01-01T00:00:00 |
        | NULL   | -1               | NaN | NULL                |
        +--------+------------------+-----+---------------------+
        2 rows
        "#);
    }

    #[test]
    fn json_is_the_rows_alone() {
        let value: serde_json::Value = serde_json::from_str(&text(&rows(), Output::Json)).unwrap();
        assert_eq!(value[0]["n"], serde_json::json!(9_007_199_254_740_993_i64));
        assert_eq!(value[0]["at"], "2013-01-01T00:00:00");
        assert_eq!(value[1], serde_json::json!({"name": null, "n": -1, "x": null, "at": null}));
    }

    #[test]
    fn csv_quotes_and_leaves_nulls_empty() {
        let expected = "name,n,x,at\n\"a, \"\"b\"\"\",9007199254740993,0.1,2013-01-01T00:00:00\n,-1,NaN,\n";
        assert_eq!(text(&rows(), Output::Csv), expected);
    }

    #[test]
    fn arrow_is_read_back_as_it_was() {
        let bytes = render(&rows(), Output::Arrow).unwrap();
        assert_eq!(
            Rows::from_arrow(&bytes, "test").unwrap().batches[0].column(1),
            rows().batches[0].column(1)
        );
    }

    #[test]
    fn no_rows_still_have_columns() {
        let none = Rows { batches: vec![], ..rows() };
        assert_eq!(text(&none, Output::Csv), "name,n,x,at\n");
        assert_eq!(text(&none, Output::Json), "[]\n");
        assert!(text(&none, Output::Table).contains("| name | n | x | at |"));
    }
}
