//! `column=value`: the rows of a view where columns have given values.
//!
//! Different columns are joined by AND, several values for one column by OR. A value is read as the column's
//! type: text as it is, BYTEA as hexadecimal digits, everything else as SQL's `CAST` of text does. Nulls
//! cannot be asked for: that, and everything else, is what SQL is for.

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use std::collections::BTreeMap;
use twofold_common::{Error, Result, sql_type};

/// The rows of `plan`, a scan of `view`, that the filters let through, up to `limit`.
pub(crate) fn filtered(
    plan: LogicalPlan,
    view: &str,
    filters: &[(String, String)],
    limit: Option<usize>,
) -> Result<LogicalPlan> {
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (column, value) in filters {
        values.entry(column).or_default().push(value);
    }
    let mut filtered = LogicalPlanBuilder::from(plan.clone());
    for (name, values) in values {
        let (column, data_type) = column(&plan, view, name)?;
        let values = values.into_iter().map(|value| Ok(lit(parse(view, name, value, &data_type)?)));
        let values = values.collect::<Result<Vec<Expr>>>()?;
        filtered = filtered.filter(Expr::Column(column).in_list(values, false))?;
    }
    Ok(filtered.limit(0, limit)?.build()?)
}

fn column(plan: &LogicalPlan, view: &str, name: &str) -> Result<(Column, DataType)> {
    let schema = plan.schema();
    let found = schema.iter().find(|(_, field)| field.name() == name);
    let Some((qualifier, field)) = found else {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(Error::Invalid(format!(
            "view {view} has no column {name}; it has: {}",
            names.join(", ")
        )));
    };
    Ok((Column::new(qualifier.cloned(), name), field.data_type().clone()))
}

fn parse(view: &str, column: &str, value: &str, data_type: &DataType) -> Result<ScalarValue> {
    let text = ScalarValue::from(value);
    let parsed = match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            hex(value).and_then(|bytes| ScalarValue::Binary(Some(bytes)).cast_to(data_type).ok())
        }
        other => text.cast_to(other).ok(),
    };
    parsed.filter(|parsed| !parsed.is_null()).ok_or_else(|| {
        let expected = sql_type(data_type);
        Error::Invalid(format!("view {view}, column {column}: expected {expected}, found {value:?}"))
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect::<Option<Vec<u8>>>()?;
    let pairs = digits.chunks(2).map(|pair| if let [a, b] = pair { Some(a << 4 | b) } else { None });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, data_type: &DataType) -> Result<ScalarValue> {
        parse("v", "c", text, data_type)
    }

    #[test]
    fn values_are_read_as_the_columns_type() {
        assert_eq!(value("", &DataType::Utf8).unwrap(), ScalarValue::from(""));
        assert_eq!(
            value("9007199254740993", &DataType::Int64).unwrap(),
            ScalarValue::from(9_007_199_254_740_993_i64)
        );
        assert_eq!(value("0aFF", &DataType::Binary).unwrap(), ScalarValue::Binary(Some(vec![10, 255])));
    }

    #[test]
    fn a_value_that_the_type_does_not_have_is_told() {
        let told = |text, data_type| value(text, &data_type).unwrap_err().to_string();
        assert_eq!(told("abc", DataType::Int64), r#"view v, column c: expected BIGINT, found "abc""#);
        assert!(told("", DataType::Int64).contains("found \"\""));
        assert!(told("0a1", DataType::Binary).contains("expected BYTEA"));
        assert!(told("+1", DataType::Binary).contains("expected BYTEA"));
    }
}
