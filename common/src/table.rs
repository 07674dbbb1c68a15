//! Tables: small static relations, read whole into memory when the project is loaded.
//!
//! A table's file has the declared columns by name, in any order and among others, which are ignored; a CSV file
//! without a header has them by position, and no others. Without declared columns the table has the file's own,
//! all of them nullable. Text is `Utf8` however the file stores it.
//!
//! In CSV an empty field is null, except in a text column: there it is the empty text. So a text column read from
//! CSV holds no null.
//!
//! ```text
//! digest = BLAKE3(file bytes, how they are read, the columns and their types)
//! ```
//!
//! so two tables of one digest hold the same rows; the opposite is not promised, since other bytes may say the
//! same. A file that changes later changes no table: those who run look for it, and load the project anew.
//!
//! Every error is `Invalid` and names the statement, the file, and the line or row and column as far as known.

mod csv;
mod ndjson;
mod parquet;

use crate::config::absolute;
use crate::ddl::{TableDecl, TableDef, TableFormat};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::suggest;
use ::parquet::errors::ParquetError;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

/// A table and its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What it is.
    pub def: TableDef,
    /// Its rows in the order of the file, each batch of the definition's schema and none empty.
    pub batches: Vec<RecordBatch>,
    /// The digest of the file's bytes and of how they are read.
    pub digest: Digest,
}

/// Why a file is not the table that was declared; the file and the statement are added on the way up.
pub(crate) type Problem = String;

impl Table {
    /// Reads the file of `decl`, which is relative to `dir`.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be read, or as the table that is declared.
    pub fn load(decl: &TableDecl, dir: &Path) -> Result<Self> {
        Self::of(decl, dir, Self::bytes(decl, dir)?)
    }

    /// The bytes of the file of `decl`, which is relative to `dir`.
    pub(crate) fn bytes(decl: &TableDecl, dir: &Path) -> Result<Bytes> {
        let path = absolute(dir, &decl.path)?;
        let bytes = std::fs::read(&path);
        Ok(Bytes::from(bytes.map_err(|e| problem(decl, &path, format!("cannot be read: {e}")))?))
    }

    /// The table whose file, which is relative to `dir`, holds `bytes`.
    pub(crate) fn of(decl: &TableDecl, dir: &Path, bytes: Bytes) -> Result<Self> {
        let path = absolute(dir, &decl.path)?;
        let (schema, batches) = read(decl, bytes.clone()).map_err(|p| problem(decl, &path, p))?;
        let digest = digest(&bytes, &decl.format, &schema);
        let def = TableDef { name: decl.name.clone(), schema, path, format: decl.format };
        Ok(Self { def, batches, digest })
    }

    /// How many rows it has.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

fn problem(decl: &TableDecl, path: &Path, problem: Problem) -> Error {
    let problem = problem.lines().collect::<Vec<_>>().join(" ");
    decl.location.error(format!("table `{}`: {}: {problem}", decl.name, path.display()))
}

fn read(decl: &TableDecl, bytes: Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), Problem> {
    let declared = decl.columns.as_ref();
    let (schema, batches) = match decl.format {
        TableFormat::Csv { header, delimiter } => csv::read(&bytes, header, delimiter, declared)?,
        TableFormat::Parquet => parquet::read(bytes, declared)?,
        TableFormat::Ndjson => ndjson::read(&bytes, declared)?,
    };
    check_names(&schema)?;
    let mut first_row = 1;
    let mut checked = Vec::with_capacity(batches.len());
    for columns in batches.into_iter().filter(|b| b.num_rows() > 0) {
        check_not_null(&schema, columns.columns(), first_row)?;
        first_row += columns.num_rows();
        checked.push(RecordBatch::try_new(Arc::clone(&schema), columns.columns().to_vec()).map_err(plain)?);
    }
    Ok((schema, checked))
}

fn check_names(schema: &Schema) -> Result<(), Problem> {
    let fields = schema.fields();
    let twice = fields.iter().enumerate().find(|(i, f)| fields[..*i].iter().any(|g| g.name() == f.name()));
    match twice {
        _ if fields.is_empty() => Err("has no columns".to_string()),
        Some((_, field)) => Err(format!("has two columns `{}`", field.name())),
        None => Ok(()),
    }
}

fn check_not_null(schema: &Schema, columns: &[ArrayRef], first_row: usize) -> Result<(), Problem> {
    for (field, column) in schema.fields().iter().zip(columns) {
        if field.is_nullable() || column.null_count() == 0 {
            continue;
        }
        let row = first_row + (0..column.len()).find(|i| column.is_null(*i)).unwrap_or_default();
        return Err(format!("row {row}: column `{}` is NOT NULL, but there is no value", field.name()));
    }
    Ok(())
}

fn digest(bytes: &[u8], format: &TableFormat, schema: &Schema) -> Digest {
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| {
            format!("{:?} {}{}", f.name(), f.data_type(), if f.is_nullable() { "" } else { " NOT NULL" })
        })
        .collect();
    let format = match format {
        TableFormat::Csv { header, delimiter } => format!("csv header={header} delimiter={delimiter}"),
        TableFormat::Parquet => "parquet".to_string(),
        TableFormat::Ndjson => "ndjson".to_string(),
    };
    Digest::of_parts([bytes, format.as_bytes(), columns.join("\n").as_bytes()])
}

/// The place of each declared column among the `found` ones.
fn locate(declared: &Schema, found: &[String]) -> Result<Vec<usize>, Problem> {
    let place = |field: &FieldRef| {
        let mut places = (0..found.len()).filter(|i| &found[*i] == field.name());
        match (places.next(), places.next()) {
            (None, _) => Err(missing(field.name(), found)),
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(format!("has two columns `{}`", field.name())),
        }
    };
    declared.fields().iter().map(place).collect()
}

fn missing(column: &str, found: &[String]) -> Problem {
    let hint = match found.iter().find(|name| name.eq_ignore_ascii_case(column)) {
        Some(name) => format!("for `{name}`, write \"{name}\" in double quotes"),
        None => format!("it has {}", suggest::list(found)),
    };
    format!("has no column `{column}`; {hint}")
}

/// The columns as they are read: nulls are looked for afterwards, where the row is known.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns of a file without declared ones: all nullable, of types that the layers share, without metadata.
fn inferred(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| Field::new(f.name(), plain_type(f.data_type()), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The type without the ways of storing it: views, large offsets, dictionaries; nothing is known as text.
fn plain_type(data_type: &DataType) -> DataType {
    let plain_field =
        |f: &FieldRef| Arc::new(Field::new(f.name(), plain_type(f.data_type()), f.is_nullable()));
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::List(f) | DataType::LargeList(f) | DataType::ListView(f) | DataType::LargeListView(f) => {
            DataType::List(plain_field(f))
        }
        DataType::FixedSizeList(f, size) => DataType::FixedSizeList(plain_field(f), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(f, sorted) => DataType::Map(plain_field(f), *sorted),
        other => other.clone(),
    }
}

/// The message without the name of the error's type.
fn plain(error: ArrowError) -> Problem {
    match error {
        ArrowError::CsvError(m)
        | ArrowError::JsonError(m)
        | ArrowError::ParseError(m)
        | ArrowError::CastError(m)
        | ArrowError::SchemaError(m)
        | ArrowError::ParquetError(m)
        | ArrowError::InvalidArgumentError(m) => m,
        other => other.to_string(),
    }
}

fn plain_parquet(error: ParquetError) -> Problem {
    match error {
        ParquetError::General(m) | ParquetError::EOF(m) | ParquetError::ArrowError(m) => m,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
