//! What `pg_catalog` says of the project's relations, where the library's own answer falls short.
//!
//! Its tables are read once, which fixes the numbers (oids) of all relations, and are then corrected: which relations are
//! materialized views, the types of all columns, who owns them, and the queries of views.

use super::functions;
use super::information::{Cells, Kind, Relation, Table};
use super::names::DATABASE;
use super::types;
use arrow::array::{
    Array, ArrayRef, AsArray, Int16Array, Int32Array, RecordBatch, StringArray, new_null_array,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int16Type, Int32Type, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use datafusion_postgres::pgwire::api::Type;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use twofold_common::{Error, Result};

/// The tables that stand in the place of the library's.
pub(super) async fn tables(
    session: &SessionContext,
    relations: &[Relation],
) -> Result<BTreeMap<String, Arc<dyn TableProvider>>> {
    let namespaces = read(session, "SELECT * FROM pg_catalog.pg_namespace").await?;
    let classes = read(session, "SELECT * FROM pg_catalog.pg_class").await?;
    let attributes = read(session, "SELECT * FROM pg_catalog.pg_attribute").await?;
    let databases = read(session, "SELECT * FROM pg_catalog.pg_database").await?;
    let by_oid = by_oid(&namespaces, &classes, relations)?;
    let visible = by_oid.keys().map(|oid| (*oid, ScalarValue::from(true))).collect();
    functions::register_lookup(session, "pg_table_is_visible", visible, ScalarValue::from(false));
    let queries = by_oid.iter().map(|(oid, relation)| (*oid, ScalarValue::Utf8(relation.sql.clone())));
    functions::register_lookup(session, "pg_get_viewdef", queries.collect(), ScalarValue::Utf8(None));
    let mut tables = BTreeMap::new();
    let mut add = |name: &str, batch: RecordBatch| -> Result<()> {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        tables.insert(name.to_string(), Arc::new(table) as Arc<dyn TableProvider>);
        Ok(())
    };
    add("pg_class", corrected_classes(&classes, &by_oid)?)?;
    for (name, lists) in [
        ("pg_index", &["indkey", "indcollation", "indclass", "indoption"][..]),
        ("pg_constraint", &["conkey", "confkey"]),
    ] {
        let schema = read(session, &format!("SELECT * FROM pg_catalog.{name} LIMIT 0")).await?.schema();
        add(name, without_rows(&schema, lists))?;
    }
    add("pg_attribute", corrected_attributes(&attributes, &by_oid)?)?;
    let ours: arrow::array::BooleanArray =
        texts(&databases, "datname")?.iter().map(|name| Some(name == Some(DATABASE))).collect();
    add("pg_database", filter_record_batch(&databases, &ours)?)?;
    add("pg_namespace", namespaces)?;
    let of_kind = |kind: Kind| relations.iter().filter(move |relation| relation.kind == kind);
    tables.insert("pg_tables".into(), listed("tablename", "tableowner", of_kind(Kind::Table)).provider()?);
    tables.insert("pg_views".into(), listed("viewname", "viewowner", of_kind(Kind::View)).provider()?);
    let maintained = of_kind(Kind::MaterializedView);
    tables.insert("pg_matviews".into(), listed("matviewname", "matviewowner", maintained).provider()?);
    Ok(tables)
}

async fn read(session: &SessionContext, sql: &str) -> Result<RecordBatch> {
    let frame = session.sql(sql).await?;
    let schema = Arc::clone(frame.schema().inner());
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::Internal(format!("pg_catalog has no column {name}")))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let texts = column(batch, name)?.as_string_opt();
    texts.ok_or_else(|| Error::Internal(format!("{name} of pg_catalog is no text")))
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array> {
    let numbers = column(batch, name)?.as_primitive_opt::<Int32Type>();
    numbers.ok_or_else(|| Error::Internal(format!("{name} of pg_catalog is no number")))
}

/// `batch` with other values in one column.
fn with(batch: &RecordBatch, name: &str, values: ArrayRef) -> Result<RecordBatch> {
    let index = batch.schema_ref().index_of(name)?;
    let mut columns = batch.columns().to_vec();
    columns[index] = values;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// The relations of the project by their numbers.
fn by_oid<'a>(
    namespaces: &RecordBatch,
    classes: &RecordBatch,
    relations: &'a [Relation],
) -> Result<HashMap<i32, &'a Relation>> {
    let names = texts(namespaces, "nspname")?;
    let public = (0..names.len()).find(|row| names.value(*row) == "public");
    let public = public.map(|row| Ok::<_, Error>(numbers(namespaces, "oid")?.value(row))).transpose()?;
    let (oids, schemas) = (numbers(classes, "oid")?, numbers(classes, "relnamespace")?);
    let names = texts(classes, "relname")?;
    let ours = (0..classes.num_rows()).filter(|row| Some(schemas.value(*row)) == public);
    let found = ours.filter_map(|row| {
        let relation = relations.iter().find(|relation| relation.name == names.value(row))?;
        Some((oids.value(row), relation))
    });
    Ok(found.collect())
}

fn corrected_classes(classes: &RecordBatch, by_oid: &HashMap<i32, &Relation>) -> Result<RecordBatch> {
    let (oids, kinds) = (numbers(classes, "oid")?, texts(classes, "relkind")?);
    let kind = |row: usize| by_oid.get(&oids.value(row)).map_or(kinds.value(row), |r| r.kind.letter());
    let kinds = StringArray::from_iter_values((0..classes.num_rows()).map(kind));
    let classes = with(classes, "relkind", Arc::new(kinds))?;
    // Who may do what, and options: nothing is set.
    let (mut fields, mut columns) = (classes.schema().fields().to_vec(), classes.columns().to_vec());
    for name in ["relacl", "reloptions"] {
        if classes.schema_ref().index_of(name).is_err() {
            let texts = DataType::new_list(DataType::Utf8, true);
            columns.push(new_null_array(&texts, classes.num_rows()));
            fields.push(Arc::new(Field::new(name, texts, true)));
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// No rows of these columns, of which some are lists of numbers.
fn without_rows(schema: &Schema, lists: &[&str]) -> RecordBatch {
    let fields = schema.fields().iter().map(|field| {
        if lists.contains(&field.name().as_str()) {
            let numbers = DataType::new_list(DataType::Int32, true);
            Arc::new(Field::new(field.name(), numbers, true))
        } else {
            Arc::clone(field)
        }
    });
    RecordBatch::new_empty(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn corrected_attributes(attributes: &RecordBatch, by_oid: &HashMap<i32, &Relation>) -> Result<RecordBatch> {
    let (of, names) = (numbers(attributes, "attrelid")?, texts(attributes, "attname")?);
    let field = |row: usize| by_oid.get(&of.value(row))?.schema.field_with_name(names.value(row)).ok();
    let rows = || 0..attributes.num_rows();
    let (known, sizes) = (numbers(attributes, "atttypid")?, column(attributes, "attlen")?);
    let sizes = sizes.as_primitive_opt::<Int16Type>();
    let sizes = sizes.ok_or_else(|| Error::Internal("attlen of pg_catalog is no number".into()))?;
    let oid = |pg_type: &Type| i32::try_from(pg_type.oid()).unwrap_or(0);
    let type_ids = rows().map(|row| field(row).map_or(known.value(row), |f| oid(&types::pg_type(f))));
    let type_ids = Int32Array::from_iter_values(type_ids);
    let sizes = rows().map(|row| field(row).map_or(sizes.value(row), |f| types::size(&types::pg_type(f))));
    let sizes = Int16Array::from_iter_values(sizes);
    let modifiers = rows().map(|row| field(row).map_or(-1, |f| types::modifier(f.data_type())));
    let modifiers = Int32Array::from_iter_values(modifiers);
    let attributes = with(attributes, "atttypid", Arc::new(type_ids))?;
    let attributes = with(&attributes, "attlen", Arc::new(sizes))?;
    with(&attributes, "atttypmod", Arc::new(modifiers))
}

fn listed<'a>(
    name: &'static str,
    owner: &'static str,
    relations: impl Iterator<Item = &'a Relation>,
) -> Table {
    let relations: Vec<_> = relations.collect();
    Table::new([
        ("schemaname", Cells::texts(relations.iter().map(|_| "public"))),
        (name, Cells::texts(relations.iter().map(|relation| relation.name.as_str()))),
        (owner, Cells::texts(relations.iter().map(|_| DATABASE))),
        ("definition", Cells::Text(relations.iter().map(|relation| relation.sql.clone()).collect())),
    ])
}
