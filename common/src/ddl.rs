//! The declarations of a project: what its `*.sql` files say.
//!
//! ```text
//! CREATE STREAM name (column TYPE [NOT NULL], ... [, WATERMARK FOR column AS expression])
//!     [WITH (partitions = 2, partition_by = 'column', deduplicate_by = 'column', deduplicate_within = '1 day')]
//! CREATE TABLE name [(column TYPE [NOT NULL], ...)]
//!     WITH (path = 'file' [, format = 'csv' | 'parquet' | 'ndjson'] [, header = true] [, delimiter = ','])
//! CREATE MATERIALIZED VIEW name [(column, ...)] AS query
//! CREATE VIEW name [(column, ...)] AS query
//! ```
//!
//! The grammar stands on DataFusion's SQL parser: column definitions, types, expressions and queries are what
//! that parser reads, and a SQL type is the Arrow type that DataFusion maps it to (text is always `Utf8`).
//! Identifiers that are not quoted are lower case. What stands in a file says what *is*, not what to change, so
//! there is neither `OR REPLACE` nor `IF NOT EXISTS`.
//!
//! Parsing is pure: it opens no file and knows no other statement, so names that two statements share are found
//! by [`Project`](crate::Project), and what a view's query means is for its planner. Every error is one line,
//! `file:line:column: message`, and stops at the first.

mod columns;
mod options;
mod parser;
mod stream;
mod table;
mod watermark;

use crate::error::{Error, Result};
use crate::functions::Functions;
use crate::stream::StreamDef;
use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::Query;
use std::fmt;
use std::path::PathBuf;

/// Where something stands in the project's files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file, as messages name it.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
}

/// One statement of a `*.sql` file.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE STREAM`
    Stream(StreamDef, Location),
    /// `CREATE TABLE`
    Table(TableDecl),
    /// `CREATE MATERIALIZED VIEW` or `CREATE VIEW`
    View(Box<ViewDef>),
}

/// A table as its `CREATE TABLE` declares it, before its file was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDecl {
    /// The table's name.
    pub name: String,
    /// The declared columns; without them, the file's own.
    pub columns: Option<SchemaRef>,
    /// The file as it is written: relative to the project directory, or absolute.
    pub path: PathBuf,
    /// How to read the file.
    pub format: TableFormat,
    /// Where the statement stands.
    pub location: Location,
}

/// A table whose columns are known.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDef {
    /// The table's name.
    pub name: String,
    /// The columns, as declared or as inferred from the file. Text is `Utf8`.
    pub schema: SchemaRef,
    /// The file, absolute.
    pub path: PathBuf,
    /// How to read the file.
    pub format: TableFormat,
}

/// How a table's file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Separated values.
    Csv {
        /// Whether the first line names the columns. Default true.
        header: bool,
        /// The one ASCII character between values. Default `,`.
        delimiter: u8,
    },
    /// Apache Parquet.
    Parquet,
    /// One JSON object on each line.
    Ndjson,
}

/// A view as its statement declares it; what its query means is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewDef {
    /// The view's name.
    pub name: String,
    /// Whether its answer is maintained, or computed when it is asked for.
    pub materialized: bool,
    /// The names of its columns, if they are declared; else empty.
    pub columns: Vec<String>,
    /// The query, with windows of time as the functions that the engine has.
    pub query: Query,
    /// The query as it was written, in the parser's own spelling.
    pub sql: String,
    /// Where the statement stands.
    pub location: Location,
}

/// The statements of `text`, in order; errors call it `file`.
///
/// # Errors
/// `Invalid`, for the first thing that is wrong.
pub fn parse(file: &str, text: &str) -> Result<Vec<Statement>> {
    parse_with(file, text, &Functions::default())
}

/// Like [`parse`]; watermarks may use `functions`.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_with(file: &str, text: &str, functions: &Functions) -> Result<Vec<Statement>> {
    parser::StatementParser::new(file, text, functions)?.statements()
}

impl Statement {
    /// The name that the statement declares.
    pub fn name(&self) -> &str {
        match self {
            Statement::Stream(stream, _) => &stream.name,
            Statement::Table(table) => &table.name,
            Statement::View(view) => &view.name,
        }
    }

    /// Where the statement stands.
    pub fn location(&self) -> &Location {
        match self {
            Statement::Stream(_, location) => location,
            Statement::Table(table) => &table.location,
            Statement::View(view) => &view.location,
        }
    }
}

impl Location {
    /// An error about what stands here.
    pub fn error(&self, message: impl fmt::Display) -> Error {
        Error::Invalid(format!("{self}: {message}"))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[cfg(test)]
mod tests;
