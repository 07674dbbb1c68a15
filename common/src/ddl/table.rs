//! `CREATE TABLE`.

use super::options::Options;
use super::parser::StatementParser;
use super::{Location, Statement, TableDecl, TableFormat, columns};
use crate::error::Result;
use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMATS: &str = "'csv', 'parquet' or 'ndjson'";

/// The statement after `CREATE TABLE`.
pub(super) fn parse(parser: &mut StatementParser<'_>, location: Location) -> Result<Statement> {
    let name = parser.name("table")?;
    let columns = body(parser)?;
    let options = Options::parse(parser, &["path", "format", "header", "delimiter"])?;
    let expected = "a file, as 'airlines.csv'";
    let path =
        options.text("path", expected, |text| (!text.is_empty()).then(|| PathBuf::from(text)))?.ok_or_else(
            || location.error(format!("table `{name}` needs its file: WITH (path = '{name}.csv')")),
        )?;
    let format = format(&location, &options, &path)?;
    Ok(Statement::Table(TableDecl { name, columns, path, format, location }))
}

fn body(parser: &mut StatementParser<'_>) -> Result<Option<SchemaRef>> {
    if !parser.consume(&Token::LParen) {
        return Ok(None);
    }
    let mut columns = Vec::new();
    loop {
        let at = parser.location();
        columns.push((at, parser.sql(Parser::parse_column_def)?));
        if !parser.consume(&Token::Comma) {
            parser.sql(|sql| sql.expect_token(&Token::RParen))?;
            return Ok(Some(Arc::new(columns::schema(columns)?)));
        }
    }
}

fn format(location: &Location, options: &Options, path: &Path) -> Result<TableFormat> {
    let named = options.text("format", FORMATS, format_of)?;
    let guessed = || path.extension().and_then(|e| format_of(&e.to_string_lossy()));
    let Some(format) = named.or_else(guessed) else {
        let at = options.location("path").unwrap_or(location);
        let shown = path.display();
        return Err(
            at.error(format!("cannot tell the format of `{shown}` by its name: add format = {FORMATS}"))
        );
    };
    csv_options(options, format)
}

fn csv_options(options: &Options, format: TableFormat) -> Result<TableFormat> {
    let given_header = options.boolean("header")?;
    let expected = "one ASCII character, or '\\t' for a tab";
    let given_delimiter = options.text("delimiter", expected, delimiter_of)?;
    if let TableFormat::Csv { header, delimiter } = format {
        return Ok(TableFormat::Csv {
            header: given_header.unwrap_or(header),
            delimiter: given_delimiter.unwrap_or(delimiter),
        });
    }
    for key in ["header", "delimiter"] {
        if let Some(at) = options.location(key) {
            return Err(at.error(format!("option `{key}` is for format 'csv' only")));
        }
    }
    Ok(format)
}

fn format_of(name: &str) -> Option<TableFormat> {
    match name.to_ascii_lowercase().as_str() {
        "csv" => Some(TableFormat::Csv { header: true, delimiter: b',' }),
        "parquet" => Some(TableFormat::Parquet),
        "ndjson" | "jsonl" => Some(TableFormat::Ndjson),
        _ => None,
    }
}

fn delimiter_of(text: &str) -> Option<u8> {
    match text.as_bytes() {
        br"\t" => Some(b'\t'),
        [one] if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r') => Some(*one),
        _ => None,
    }
}
