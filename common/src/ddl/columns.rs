//! Column definitions: SQL types become Arrow types as DataFusion maps them.

use super::Location;
use crate::error::Result;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{TableReference, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{ColumnDef, ColumnOption};
use std::sync::Arc;

/// The schema of the columns, whose names differ and whose only constraints are NULL and NOT NULL.
pub(super) fn schema(columns: Vec<(Location, ColumnDef)>) -> Result<Schema> {
    let mut fields: Vec<Field> = Vec::with_capacity(columns.len());
    for (at, column) in columns {
        let field = field(&at, column)?;
        if fields.iter().any(|other| other.name() == field.name()) {
            return Err(at.error(format!("column `{}` is declared twice", field.name())));
        }
        fields.push(field);
    }
    Ok(Schema::new(fields))
}

fn field(at: &Location, column: ColumnDef) -> Result<Field> {
    check_constraints(at, &column)?;
    let types = SqlTypes::default();
    let options = ParserOptions::new().with_map_string_types_to_utf8view(false);
    let shown = column.name.to_string();
    let schema = SqlToRel::new_with_options(&types, options)
        .build_schema(vec![column])
        .map_err(|e| at.error(format!("column `{shown}`: {}", message(&e))))?;
    let field = schema.field(0);
    if field.name().is_empty() {
        return Err(at.error("a column has no name"));
    }
    Ok(field.clone())
}

fn check_constraints(at: &Location, column: &ColumnDef) -> Result<()> {
    let name = &column.name;
    for constraint in &column.options {
        if !matches!(constraint.option, ColumnOption::Null | ColumnOption::NotNull) {
            let found = &constraint.option;
            return Err(at.error(format!("column `{name}`: expected NULL or NOT NULL, found {found}")));
        }
    }
    let has = |wanted: ColumnOption| column.options.iter().any(|c| c.option == wanted);
    if has(ColumnOption::Null) && has(ColumnOption::NotNull) {
        return Err(at.error(format!("column `{name}` is both NULL and NOT NULL")));
    }
    Ok(())
}

/// Whether a value of the type is one value, not a list, map or struct of them.
pub(super) fn is_scalar(data_type: &DataType) -> bool {
    !data_type.is_nested()
}

/// Whether an interval is part of the type: Parquet has no place for DataFusion's.
pub(super) fn has_interval(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_interval(item.data_type())
        }
        DataType::Map(entries, _) => has_interval(entries.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_interval(field.data_type())),
        _ => false,
    }
}

/// The engine's message in one line.
pub(super) fn message(error: &DataFusionError) -> String {
    error.find_root().message().lines().collect::<Vec<_>>().join(" ")
}

/// What DataFusion's planner has to know to map types: nothing.
#[derive(Default)]
struct SqlTypes(ConfigOptions);

impl ContextProvider for SqlTypes {
    fn get_table_source(&self, name: TableReference) -> datafusion::error::Result<Arc<dyn TableSource>> {
        plan_err!("a column's type cannot name a relation, as {name}")
    }

    fn get_function_meta(&self, _name: &str) -> Option<Arc<ScalarUDF>> {
        None
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.0
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
