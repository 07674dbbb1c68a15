//! `information_schema`, of the project's relations.

use super::names::DATABASE;
use super::types;
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion_postgres::pgwire::api::Type;
use std::collections::BTreeMap;
use std::sync::Arc;
use twofold_common::{Catalog, Result};

/// A relation as the system catalogs know it.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) schema: SchemaRef,
    /// The query of a view.
    pub(super) sql: Option<String>,
}

/// What kind of relation it is to PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A stream or a table.
    Table,
    /// A view that is computed when it is asked for, or one of Twofold's own relations.
    View,
    /// A view that is kept up to date.
    MaterializedView,
}

impl Relation {
    pub(super) fn new(catalog: &Catalog, name: String, schema: SchemaRef) -> Self {
        let (kind, sql) = if let Some(view) = catalog.views().get(&name) {
            (Kind::MaterializedView, Some(view.sql().to_string()))
        } else if let Some(sql) = catalog.query_views().get(&name) {
            (Kind::View, Some(sql.clone()))
        } else if catalog.streams().contains_key(&name) || catalog.tables().contains_key(&name) {
            (Kind::Table, None)
        } else {
            (Kind::View, None)
        };
        Self { name, kind, schema, sql }
    }
}

impl Kind {
    /// The letter of `pg_class.relkind`.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Kind::Table => "r",
            Kind::View => "v",
            Kind::MaterializedView => "m",
        }
    }

    /// Maintained views are views here: the standard does not know them, and tools that look here should find them.
    fn table_type(self) -> &'static str {
        match self {
            Kind::Table => "BASE TABLE",
            Kind::View | Kind::MaterializedView => "VIEW",
        }
    }
}

/// The tables of the schema.
pub(super) fn tables(relations: &[Relation]) -> Result<BTreeMap<String, Arc<dyn TableProvider>>> {
    let mut tables = BTreeMap::new();
    let mut add = |name: &str, table: Table| -> Result<()> {
        tables.insert(name.to_string(), table.provider()?);
        Ok(())
    };
    add("schemata", schemata())?;
    add("tables", all_tables(relations))?;
    add("columns", columns(relations))?;
    add("views", views(relations))?;
    for (name, columns) in EMPTY {
        add(name, Table::new(columns.iter().map(|column| (*column, Cells::none()))))?;
    }
    Ok(tables)
}

/// What Twofold has none of, and tools ask for.
const EMPTY: [(&str, &[&str]); 6] = [
    (
        "table_constraints",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_type",
        ],
    ),
    (
        "key_column_usage",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
        ],
    ),
    (
        "constraint_column_usage",
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "constraint_schema",
            "constraint_name",
        ],
    ),
    (
        "referential_constraints",
        &["constraint_schema", "constraint_name", "unique_constraint_schema", "unique_constraint_name"],
    ),
    ("routines", &["specific_schema", "specific_name", "routine_schema", "routine_name", "routine_type"]),
    ("sequences", &["sequence_catalog", "sequence_schema", "sequence_name", "data_type"]),
];

/// A small table of texts and numbers.
pub(super) struct Table(Vec<(&'static str, Cells)>);

/// One column of it.
pub(super) enum Cells {
    Text(Vec<Option<String>>),
    Number(Vec<Option<i32>>),
}

impl Cells {
    fn none() -> Self {
        Self::Text(Vec::new())
    }

    pub(super) fn texts<T: Into<String>>(cells: impl IntoIterator<Item = T>) -> Self {
        Self::Text(cells.into_iter().map(|cell| Some(cell.into())).collect())
    }

    fn array(self) -> ArrayRef {
        match self {
            Cells::Text(cells) => Arc::new(StringArray::from(cells)),
            Cells::Number(cells) => Arc::new(Int32Array::from(cells)),
        }
    }
}

impl Table {
    pub(super) fn new(columns: impl IntoIterator<Item = (&'static str, Cells)>) -> Self {
        Self(columns.into_iter().collect())
    }

    pub(super) fn provider(self) -> Result<Arc<dyn TableProvider>> {
        let field = |(name, cells): &(&str, Cells)| {
            let data_type = match cells {
                Cells::Text(_) => DataType::Utf8,
                Cells::Number(_) => DataType::Int32,
            };
            Field::new(*name, data_type, true)
        };
        let schema = Arc::new(Schema::new(self.0.iter().map(field).collect::<Vec<_>>()));
        let arrays = self.0.into_iter().map(|(_, cells)| cells.array()).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}

fn schemata() -> Table {
    let names = ["public", "pg_catalog", "information_schema"];
    Table::new([
        ("catalog_name", Cells::texts(names.map(|_| DATABASE))),
        ("schema_name", Cells::texts(names)),
        ("schema_owner", Cells::texts(names.map(|_| DATABASE))),
    ])
}

fn all_tables(relations: &[Relation]) -> Table {
    let each = |cell: fn(&Relation) -> String| Cells::texts(relations.iter().map(cell));
    Table::new([
        ("table_catalog", each(|_| DATABASE.into())),
        ("table_schema", each(|_| "public".into())),
        ("table_name", each(|relation| relation.name.clone())),
        ("table_type", each(|relation| relation.kind.table_type().into())),
        ("is_insertable_into", each(|_| "NO".into())),
        ("is_typed", each(|_| "NO".into())),
    ])
}

fn views(relations: &[Relation]) -> Table {
    let views: Vec<&Relation> = relations.iter().filter(|relation| relation.kind != Kind::Table).collect();
    let each = |cell: fn(&Relation) -> String| Cells::texts(views.iter().map(|view| cell(view)));
    Table::new([
        ("table_catalog", each(|_| DATABASE.into())),
        ("table_schema", each(|_| "public".into())),
        ("table_name", each(|view| view.name.clone())),
        ("view_definition", Cells::Text(views.iter().map(|view| view.sql.clone()).collect())),
        ("check_option", each(|_| "NONE".into())),
        ("is_updatable", each(|_| "NO".into())),
        ("is_insertable_into", each(|_| "NO".into())),
    ])
}

fn columns(relations: &[Relation]) -> Table {
    let all: Vec<(&Relation, usize, &Field)> = relations
        .iter()
        .flat_map(|relation| {
            relation.schema.fields().iter().enumerate().map(move |(i, field)| (relation, i, field.as_ref()))
        })
        .collect();
    let each = |cell: fn(&Relation, &Field) -> String| Cells::texts(all.iter().map(|(r, _, f)| cell(r, f)));
    let numbers =
        |cell: fn(&Field) -> Option<i32>| Cells::Number(all.iter().map(|(_, _, f)| cell(f)).collect());
    let position = |(_, i, _): &(&Relation, usize, &Field)| i32::try_from(i + 1).ok();
    Table::new([
        ("table_catalog", each(|_, _| DATABASE.into())),
        ("table_schema", each(|_, _| "public".into())),
        ("table_name", each(|relation, _| relation.name.clone())),
        ("column_name", each(|_, field| field.name().clone())),
        ("ordinal_position", Cells::Number(all.iter().map(position).collect())),
        ("column_default", Cells::Text(all.iter().map(|_| None).collect())),
        ("is_nullable", each(|_, field| if field.is_nullable() { "YES".into() } else { "NO".into() })),
        ("data_type", each(|_, field| standard_name(&types::pg_type(field)).into())),
        ("character_maximum_length", numbers(|_| None)),
        ("numeric_precision", numbers(|field| precision(field.data_type()).map(|(p, _)| p))),
        ("numeric_scale", numbers(|field| precision(field.data_type()).map(|(_, s)| s))),
        ("datetime_precision", numbers(|field| field.data_type().is_temporal().then_some(6))),
        ("udt_catalog", each(|_, _| DATABASE.into())),
        ("udt_schema", each(|_, _| "pg_catalog".into())),
        ("udt_name", each(|_, field| types::pg_type(field).name().into())),
        ("is_identity", each(|_, _| "NO".into())),
        ("is_generated", each(|_, _| "NEVER".into())),
        ("is_updatable", each(|_, _| "NO".into())),
    ])
}

fn precision(data_type: &DataType) -> Option<(i32, i32)> {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Some(((*p).into(), (*s).into())),
        DataType::UInt64 => Some((20, 0)),
        _ => None,
    }
}

/// What the standard calls a type.
fn standard_name(pg_type: &Type) -> &str {
    match *pg_type {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::TIME => "time without time zone",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        _ if types::element_of(pg_type).is_some() => "ARRAY",
        _ => pg_type.name(),
    }
}
