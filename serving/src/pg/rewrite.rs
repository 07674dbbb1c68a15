//! What clients ask of the system catalogs, in words that the engine can plan.
//!
//! ```text
//! (SELECT x FROM pg_attrdef …)       NULL, since nothing ever is in that catalog, nor in others like it
//! (SELECT x FROM pg_type …)          (SELECT min(x) FROM pg_type …), which is x, since a value has one row at most
//! a LIKE b ESCAPE '/'                a LIKE pg_like_pattern(b, '/'), with the escape sign that the engine has
//! ```

use super::names::parse_expression;
use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::sql::sqlparser::ast::{
    Expr, JoinOperator, Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value,
    visit_expressions_mut,
};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Catalogs of what there is not here.
const EMPTY: &[&str] = &[
    "pg_attrdef",
    "pg_collation",
    "pg_constraint",
    "pg_description",
    "pg_index",
    "pg_inherits",
    "pg_policy",
    "pg_rewrite",
    "pg_sequence",
    "pg_trigger",
];
const LIKE_PATTERN: &str = "pg_like_pattern";

/// The same statement in other words.
pub(super) fn rewrite(statement: &mut Statement) {
    let _ = visit_expressions_mut(statement, |expr| {
        match expr {
            Expr::Subquery(query) if reads_nothing(query) => {
                *expr = Expr::Value(Value::Null.with_empty_span())
            }
            Expr::Subquery(query) => take_least(query),
            Expr::Like { pattern, escape_char, .. } => {
                let sign = escape_char.take().map(|sign| sign.to_string()).filter(|sign| sign != "'\\'");
                if let Some(sign) = sign
                    && let Some(call) = parse_expression(&format!("{LIKE_PATTERN}({pattern}, {sign})"))
                {
                    **pattern = call;
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

fn select(query: &Query) -> Option<&Select> {
    match query.body.as_ref() {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

/// Whether a query is over a catalog in which nothing is.
fn reads_nothing(query: &Query) -> bool {
    let is_empty = |factor: &TableFactor| {
        let TableFactor::Table { name, .. } = factor else { return false };
        let name = name.0.last().map(|part| part.to_string()).unwrap_or_default();
        EMPTY.contains(&name.as_str())
    };
    select(query).is_some_and(|select| {
        select.from.iter().any(|from| {
            let joined = from
                .joins
                .iter()
                .filter(|join| matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_)));
            is_empty(&from.relation) || joined.map(|join| &join.relation).any(is_empty)
        })
    })
}

/// Makes the one row of a query an aggregate, as the engine wants it of a query that depends on another.
fn take_least(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
        select.projection.as_mut_slice()
    else {
        return;
    };
    let text = item.to_string();
    // A call may be an aggregate already.
    if select.from.is_empty() || text.contains('(') {
        return;
    }
    if let Some(least) = parse_expression(&format!("min({text})")) {
        *item = least;
    }
}

/// `pg_like_pattern(pattern, escape)`: the pattern with `\` for its escape sign.
pub(super) fn like_pattern() -> ScalarUDF {
    let run = |args: &[ColumnarValue]| -> EngineResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let (patterns, signs) = (cast(&arrays[0], &DataType::Utf8)?, cast(&arrays[1], &DataType::Utf8)?);
        let (patterns, signs) = (patterns.as_string::<i32>(), signs.as_string::<i32>());
        let one = |i: usize| {
            if patterns.is_null(i) || signs.is_null(i) {
                return None;
            }
            Some(with_backslash(patterns.value(i), signs.value(i).chars().next()))
        };
        Ok(ColumnarValue::Array(Arc::new((0..patterns.len()).map(one).collect::<StringArray>())))
    };
    let texts = vec![DataType::Utf8, DataType::Utf8];
    create_udf(LIKE_PATTERN, texts, DataType::Utf8, Volatility::Immutable, Arc::new(run))
}

fn with_backslash(pattern: &str, sign: Option<char>) -> String {
    let (mut out, mut chars) = (String::with_capacity(pattern.len() + 4), pattern.chars());
    while let Some(c) = chars.next() {
        let literal = if Some(c) == sign { chars.next() } else { None };
        match (c, literal) {
            (_, Some(literal @ ('%' | '_' | '\\'))) => out.extend(['\\', literal]),
            (_, Some(literal)) => out.push(literal),
            ('\\', None) => out.push_str("\\\\"),
            (c, None) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn rewritten(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        rewrite(&mut statements[0]);
        statements[0].to_string()
    }

    #[test]
    fn a_value_from_a_catalog_without_rows_is_null_and_others_are_aggregates() {
        for (sql, expected) in [
            (
                "SELECT (SELECT d.adbin FROM pg_catalog.pg_attrdef AS d WHERE d.adnum = a.attnum)",
                "SELECT NULL",
            ),
            ("SELECT (SELECT x FROM pg_type JOIN pg_collation ON a = b)", "SELECT NULL"),
            (
                "SELECT (SELECT t.a = 'c' FROM pg_type AS t LEFT JOIN pg_collation ON a = b)",
                "SELECT (SELECT min(t.a = 'c') FROM pg_type AS t LEFT JOIN pg_collation ON a = b)",
            ),
            ("SELECT (SELECT count(*) FROM pg_type)", "SELECT (SELECT count(*) FROM pg_type)"),
            ("SELECT a FROM pg_index", "SELECT a FROM pg_index"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn patterns_have_the_escape_sign_of_the_engine() {
        let sql = "SELECT a NOT LIKE 'pg/_' || '%' ESCAPE '/'";
        assert_eq!(rewritten(sql), "SELECT a NOT LIKE pg_like_pattern('pg/_' || '%', '/')");
        for (pattern, expected) in [
            ("pg/_%", "pg\\_%"),
            ("a//b", "a/b"),
            ("50/%", "50\\%"),
            ("a\\b", "a\\\\b"),
            ("/\\", "\\\\"),
            ("a/", "a/"),
        ] {
            assert_eq!(with_backslash(pattern, Some('/')), expected);
        }
    }
}
