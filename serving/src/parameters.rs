//! `$1, $2, …`: the values of a statement that is sent apart from them.
//!
//! A JSON null, boolean, whole number or other number is that of SQL; text stands for what a literal between quotes
//! would, and so for dates and times too. Numbers beyond 64 bits are sent as text.

use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use serde_json::Value;
use twofold_common::{Error, Result};

/// The plan with values in the place of its parameters.
///
/// # Errors
/// `Invalid` if there are more or fewer than it has, or one is a list or an object.
pub(crate) fn with_parameters(plan: LogicalPlan, values: &[Value]) -> Result<LogicalPlan> {
    let names = plan.get_parameter_names()?;
    let numbers = names.iter().map(|name| {
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| Error::Invalid(format!("parameter {name}: they are called $1, $2 and so on")))
    });
    let numbers = numbers.collect::<Result<Vec<_>>>()?;
    let wanted = numbers.into_iter().max().unwrap_or(0);
    if wanted != values.len() {
        return Err(Error::Invalid(format!(
            "the statement has parameters up to ${wanted}, but `parameters` has {} values",
            values.len()
        )));
    }
    if values.is_empty() {
        return Ok(plan);
    }
    let values = values.iter().enumerate().map(|(i, value)| scalar(i + 1, value));
    let values = ParamValues::from(values.collect::<Result<Vec<_>>>()?);
    Ok(plan.replace_params_with_values(&values)?)
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
