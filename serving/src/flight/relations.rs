//! What there is: catalogs, schemas, tables and what drivers ask about them, as tables.

use super::info;
use crate::plain::plain_schema;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Command, CommandGetTables};
use datafusion::common::TableReference;
use std::sync::Arc;
use twofold_common::{AUDIT, Catalog, Error, LATE_EVENTS, Result, sql_type};

/// The one catalog and the one schema, as SQL calls them.
const CATALOG: &str = "twofold";
const SCHEMA: &str = "public";
/// Where clients look for what SQL calls a column's type.
const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";

const MATERIALIZED: &str = "MATERIALIZED VIEW";
const VIEW: &str = "VIEW";
const TABLE: &str = "TABLE";
const STREAM: &str = "STREAM";
const SYSTEM: &str = "SYSTEM TABLE";

/// The answer to a command about what there is; `None` if it is about something else.
///
/// # Errors
/// `Invalid` for a pattern that is none.
pub(super) async fn relations(command: &Command, catalog: &Catalog) -> Result<Option<RecordBatch>> {
    let batch = match command.clone() {
        Command::CommandGetCatalogs(asked) => {
            let mut builder = asked.into_builder();
            builder.append(CATALOG);
            builder.build()
        }
        Command::CommandGetDbSchemas(asked) => {
            let mut builder = asked.into_builder();
            builder.append(CATALOG, SCHEMA);
            builder.build()
        }
        Command::CommandGetTables(asked) => return tables(asked, catalog).await.map(Some),
        Command::CommandGetTableTypes(asked) => {
            let mut builder = asked.into_builder();
            for kind in [MATERIALIZED, VIEW, TABLE, STREAM, SYSTEM] {
                builder.append(kind);
            }
            builder.build()
        }
        Command::CommandGetSqlInfo(asked) => {
            info::sql_info().and_then(|info| asked.into_builder(&info).build())
        }
        Command::CommandGetXdbcTypeInfo(asked) => {
            info::types().and_then(|types| asked.into_builder(&types).build())
        }
        // Nobody declares keys.
        Command::CommandGetPrimaryKeys(_) => Ok(RecordBatch::new_empty(Arc::new(primary_keys()))),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(Arc::new(foreign_keys()))),
        _ => return Ok(None),
    };
    batch.map(Some).map_err(failed)
}

async fn tables(asked: CommandGetTables, catalog: &Catalog) -> Result<RecordBatch> {
    let with_schema = asked.include_schema;
    let mut builder = asked.into_builder();
    let system = [AUDIT.to_string(), LATE_EVENTS.to_string()];
    let views = catalog.views().keys().map(|name| (name, MATERIALIZED));
    let all = views
        .chain(catalog.query_views().keys().map(|name| (name, VIEW)))
        .chain(catalog.tables().keys().map(|name| (name, TABLE)))
        .chain(catalog.streams().keys().map(|name| (name, STREAM)))
        .chain(system.iter().map(|name| (name, SYSTEM)));
    for (name, kind) in all {
        let schema = if with_schema { columns(catalog, name).await? } else { Schema::empty() };
        builder.append(CATALOG, SCHEMA, name, kind, &schema).map_err(failed)?;
    }
    builder.build().map_err(failed)
}

/// The columns of a relation, each with what SQL calls its type.
async fn columns(catalog: &Catalog, name: &str) -> Result<Schema> {
    let provider = catalog.session().table_provider(TableReference::bare(name)).await?;
    let plain = plain_schema(&provider.schema());
    let fields = plain.fields().iter().map(|field| {
        let told = [(TYPE_NAME.to_string(), sql_type(field.data_type()))];
        field.as_ref().clone().with_metadata(told.into())
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

fn primary_keys() -> Schema {
    Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ])
}

fn foreign_keys() -> Schema {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
}

fn failed(e: FlightError) -> Error {
    match e {
        FlightError::Arrow(e) => e.into(),
        other => Error::Internal(other.to_string()),
    }
}
