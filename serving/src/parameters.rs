//! Parameters of a statement: `$1`, `$2`, … in a plan, and the question marks that stand for them.
//!
//! ```text
//! numbered("a = ? AND b = ?") = "a = $1 AND b = $2"
//! ```
//!
//! Parameters have numbers only; their values are told in this order. Of JSON's, null, a boolean, a whole number or another
//! is that of SQL; text stands for what a literal between quotes would, and so for dates and times too. Numbers beyond
//! 64 bits are sent as text.

use arrow::datatypes::DataType;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use twofold_common::{Error, Result};

/// More parameters than this are a number that is written wrong.
const MOST: usize = 10_000;

/// The types of a plan's parameters from `$1` on, where the query says them.
///
/// # Errors
/// `Invalid` for one that has no number, or two types.
pub(crate) fn parameters(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut types = Vec::new();
    for (name, data_type) in plan.get_parameter_types()? {
        let number = name.get(1..).and_then(|digits| digits.parse::<usize>().ok());
        let Some(place) = number.and_then(|n| n.checked_sub(1)).filter(|place| *place < MOST) else {
            return Err(Error::Invalid(format!("parameters are called $1, $2 and so on; found {name}")));
        };
        if types.len() <= place {
            types.resize(place + 1, None);
        }
        types[place] = data_type;
    }
    Ok(types)
}

/// The plan with values in the place of its parameters.
///
/// # Errors
/// `Invalid` if there are not as many values as parameters.
pub(crate) fn with_values(plan: LogicalPlan, values: &[ScalarValue]) -> Result<LogicalPlan> {
    let expected = parameters(&plan)?.len();
    if expected != values.len() {
        return Err(Error::Invalid(format!(
            "the statement has {}, and {} given: give one value for each",
            count(expected, "parameter", "parameters"),
            count(values.len(), "value was", "values were")
        )));
    }
    if expected == 0 {
        return Ok(plan);
    }
    Ok(plan.replace_params_with_values(&ParamValues::from(values.to_vec()))?)
}

/// The plan with values of JSON in the place of its parameters.
///
/// # Errors
/// `Invalid` if there are more or fewer than it has, or one is a list or an object.
pub(crate) fn with_json(plan: LogicalPlan, values: &[Value]) -> Result<LogicalPlan> {
    let values = values.iter().enumerate().map(|(i, value)| scalar(i + 1, value));
    with_values(plan, &values.collect::<Result<Vec<_>>>()?)
}

fn scalar(number: usize, value: &Value) -> Result<ScalarValue> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::from(*value),
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => ScalarValue::from(value),
            (_, Some(value)) => ScalarValue::from(value),
            _ => ScalarValue::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::Array(_) | Value::Object(_) => {
            let found = if value.is_array() { "a list" } else { "an object" };
            return Err(Error::Invalid(format!(
                "parameter ${number}: expected null, a boolean, a number or text, found {found}"
            )));
        }
    })
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The statement with `$1`, `$2`, … in the place of its question marks. What is no SQL is left as it is.
///
/// # Errors
/// `Invalid` if it has parameters of both kinds.
pub(crate) fn numbered(sql: &str) -> Result<Cow<'_, str>> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap_or_default();
    let placeholders = tokens.iter().filter_map(|token| match &token.token {
        Token::Placeholder(text) => Some((text.as_str(), token.span.start)),
        _ => None,
    });
    let (marks, others): (Vec<_>, Vec<_>) = placeholders.partition(|(text, _)| *text == "?");
    if marks.is_empty() {
        return Ok(Cow::Borrowed(sql));
    }
    if let Some((other, _)) = others.first() {
        return Err(Error::Invalid(format!(
            "the statement has both ? and {other}: write all parameters as ?, or all as $1, $2 and so on"
        )));
    }
    let places: BTreeSet<(u64, u64)> = marks.iter().map(|(_, at)| (at.line, at.column)).collect();
    let (mut out, mut number, mut line, mut column) = (String::with_capacity(sql.len() + 16), 0, 1, 1);
    for c in sql.chars() {
        if c == '?' && places.contains(&(line, column)) {
            number += 1;
            out.push_str(&format!("${number}"));
        } else {
            out.push(c);
        }
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_are_numbered_where_they_are_parameters() {
        let text = |sql: &str| numbered(sql).unwrap().into_owned();
        assert_eq!(text("a = ? AND\n b IN (?,?)"), "a = $1 AND\n b IN ($2,$3)");
        let not = "SELECT 'é?', \"?\" -- ?\n, /* ? */ $1";
        assert_eq!(text(not), not);
        assert_eq!(text("'é?'\n, '\n?' = ? -- ?"), "'é?'\n, '\n?' = $1 -- ?");
        assert_eq!(text("'not closed ?"), "'not closed ?");
    }

    #[test]
    fn two_kinds_of_parameters_are_refused() {
        let message = numbered("? = $1").unwrap_err().to_string();
        assert!(message.contains("both ? and $1"), "{message}");
    }
}
