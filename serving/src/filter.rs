//! `column=value`: the rows of a view that conditions let through.
//!
//! ```text
//! column=a, column[eq]=a      equal; given several times, one of these
//! column[ne]=a                not equal
//! column[lt]=a  [lte] [gt] [gte]
//! column[null]=true|false     null, or not
//! window.start[gte]=a         a field of a struct
//! ```
//!
//! Conditions are joined by AND. A value is read as the column's type: text as it is, BYTEA as hexadecimal digits,
//! everything else as SQL's `CAST` of text does, and compared as SQL compares: a null is neither equal to a value nor
//! unequal. A column whose own name ends as a comparison does is that column. Everything else is what SQL is for.

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use std::collections::BTreeMap;
use twofold_common::{Error, Result, sql_type};

/// How a column is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Null,
}

const COMPARISONS: [(&str, Comparison); 7] = [
    ("eq", Comparison::Equal),
    ("ne", Comparison::Unequal),
    ("lt", Comparison::Less),
    ("lte", Comparison::LessOrEqual),
    ("gt", Comparison::Greater),
    ("gte", Comparison::GreaterOrEqual),
    ("null", Comparison::Null),
];

/// The rows of `plan`, a scan of `view`, that the filters let through, up to `limit`.
pub(crate) fn filtered(
    plan: LogicalPlan,
    view: &str,
    filters: &[(String, String)],
    limit: Option<usize>,
) -> Result<LogicalPlan> {
    let mut conditions: BTreeMap<(&str, Comparison), Vec<&str>> = BTreeMap::new();
    for (filter, value) in filters {
        conditions.entry(split(&plan, filter)?).or_default().push(value);
    }
    let mut filtered = LogicalPlanBuilder::from(plan.clone());
    for ((name, comparison), values) in conditions {
        let (column, data_type) = column(&plan, view, name)?;
        filtered = filtered.filter(condition(view, name, column, &data_type, comparison, &values)?)?;
    }
    Ok(filtered.limit(0, limit)?.build()?)
}

/// What a filter names: a column, and how to compare it.
fn split<'a>(plan: &LogicalPlan, filter: &'a str) -> Result<(&'a str, Comparison)> {
    let is_column = plan.schema().fields().iter().any(|field| field.name() == filter);
    let bracket = filter.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    let Some((column, name)) = bracket.filter(|_| !is_column) else { return Ok((filter, Comparison::Equal)) };
    let known = COMPARISONS.iter().find(|(known, _)| *known == name);
    let (_, comparison) = known.ok_or_else(|| {
        let names = COMPARISONS.map(|(name, _)| name).join(", ");
        Error::Invalid(format!("{filter}: there is no comparison {name}; there are: {names}"))
    })?;
    Ok((column, *comparison))
}

fn condition(
    view: &str,
    name: &str,
    column: Expr,
    data_type: &DataType,
    comparison: Comparison,
    values: &[&str],
) -> Result<Expr> {
    // Of a column that is null, whatever its type.
    if comparison == Comparison::Null {
        let conditions = values.iter().map(|value| match *value {
            "true" => Ok(column.clone().is_null()),
            "false" => Ok(column.clone().is_not_null()),
            other => {
                Err(Error::Invalid(format!("{name}[null]: expected \"true\" or \"false\", found {other:?}")))
            }
        });
        return all(conditions);
    }
    let values = values.iter().map(|value| Ok(lit(parse(view, name, value, data_type)?)));
    let values = values.collect::<Result<Vec<Expr>>>()?;
    let compare = |with: fn(Expr, Expr) -> Expr| {
        let column = &column;
        all(values.iter().cloned().map(move |value| Ok(with(column.clone(), value))))
    };
    match comparison {
        Comparison::Equal => Ok(column.in_list(values, false)),
        Comparison::Unequal => Ok(column.in_list(values, true)),
        Comparison::Less => compare(Expr::lt),
        Comparison::LessOrEqual => compare(Expr::lt_eq),
        Comparison::Greater => compare(Expr::gt),
        Comparison::GreaterOrEqual | Comparison::Null => compare(Expr::gt_eq),
    }
}

fn all(mut conditions: impl Iterator<Item = Result<Expr>>) -> Result<Expr> {
    conditions.try_fold(lit(true), |all, condition| Ok(all.and(condition?)))
}

/// A column, or a field of one that is a struct, and its type.
fn column(plan: &LogicalPlan, view: &str, name: &str) -> Result<(Expr, DataType)> {
    let schema = plan.schema();
    let find = |name: &str| schema.iter().find(|(_, field)| field.name() == name);
    if let Some((qualifier, field)) = find(name) {
        let column = Column::new(qualifier.cloned(), name);
        return Ok((Expr::Column(column), field.data_type().clone()));
    }
    if let Some((outer, inner)) = name.split_once('.')
        && let Some((qualifier, field)) = find(outer)
        && let DataType::Struct(fields) = field.data_type()
        && let Some(of_field) = fields.iter().find(|field| field.name() == inner)
    {
        let column = Expr::Column(Column::new(qualifier.cloned(), outer));
        return Ok((get_field(column, inner), of_field.data_type().clone()));
    }
    Err(no_column(view, name, schema.fields().iter().map(|f| f.name().as_str())))
}

/// The view has no such column.
pub(crate) fn no_column<'a>(view: &str, name: &str, columns: impl Iterator<Item = &'a str>) -> Error {
    let columns = columns.collect::<Vec<_>>().join(", ");
    Error::Invalid(format!("view {view} has no column {name}; it has: {columns}"))
}

/// The value that text is, in a column of that type.
pub(crate) fn parse(view: &str, column: &str, value: &str, data_type: &DataType) -> Result<ScalarValue> {
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

pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
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
