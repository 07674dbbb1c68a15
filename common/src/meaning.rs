//! Expressions of a plan as people would write them.

use crate::expr::unalias;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::Expr;

/// An expression as close to SQL as the text of a plan gets: without the types of constants.
pub(crate) fn meaning(expr: &Expr) -> String {
    let plain = unalias(expr).clone().transform_up(|part| {
        Ok(match &part {
            Expr::Literal(value, _) => Transformed::yes(verbatim(constant(value))),
            Expr::Alias(alias) => Transformed::yes(alias.expr.as_ref().clone()),
            _ => Transformed::no(part),
        })
    });
    let text = plain.map_or_else(|_| expr.to_string(), |plain| plain.data.to_string());
    // The names of what functions became on the way.
    let names = [
        ("_state(", "("),
        ("count(1)", "count(*)"),
        ("pick_first(", "first_value("),
        ("pick_last(", "last_value("),
        ("pick_nth(", "nth_value("),
    ];
    names.into_iter().fold(text, |text, (from, to)| text.replacen(from, to, 1))
}

/// An expression that is printed as this text.
fn verbatim(text: String) -> Expr {
    Expr::Column(Column::new_unqualified(text))
}

fn constant(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Utf8(Some(text)) => format!("'{}'", text.replace('\'', "''")),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let seconds = interval.nanoseconds as f64 / 1e9;
            let parts = [
                (f64::from(interval.months), "months"),
                (f64::from(interval.days), "days"),
                (seconds, "seconds"),
            ];
            let parts = parts.iter().filter(|(n, _)| *n != 0.0).map(|(n, unit)| format!("{n} {unit}"));
            let text = parts.collect::<Vec<_>>().join(" ");
            format!("INTERVAL '{}'", if text.is_empty() { "0 seconds" } else { &text })
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    #[test]
    fn constants_are_without_their_types() {
        let interval = lit(ScalarValue::new_interval_mdn(0, 1, 1_500_000_000));
        assert_eq!(meaning(&interval), "INTERVAL '1 days 1.5 seconds'");
        assert_eq!(meaning(&col("a").lt(lit(3i64)).alias("x")), "a < 3");
        assert_eq!(meaning(&col("a").eq(lit("it's"))), "a = 'it''s'");
    }
}
