//! Constant intervals: how long a window is.
//!
//! Windows have a fixed length, so an interval here is days and time, a day being 24 hours; months have no fixed
//! length and are refused. Lengths are nanoseconds until the unit of the timestamps is known, and then ticks of it.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// The nanoseconds of a constant interval of days and time, negative ones included.
///
/// # Errors
/// A plan error if the expression is not constant, no interval, null, or has months.
pub(crate) fn nanos(expr: &Expr) -> Result<i64> {
    let constant = ExprSimplifier::new(SimplifyContext::default()).simplify(expr.clone())?;
    match constant {
        Expr::Literal(value, _) => scalar_nanos(&value),
        other => plan_err!("expected a constant INTERVAL, such as INTERVAL '10 seconds', found {other}"),
    }
}

/// [`nanos`] of a value.
pub(super) fn scalar_nanos(value: &ScalarValue) -> Result<i64> {
    let wide = DataType::Interval(IntervalUnit::MonthDayNano);
    let interval = match value {
        ScalarValue::IntervalMonthDayNano(_)
        | ScalarValue::IntervalDayTime(_)
        | ScalarValue::IntervalYearMonth(_) => value.cast_to(&wide)?,
        other => {
            let found = other.data_type();
            return plan_err!("expected an INTERVAL, such as INTERVAL '10 seconds', found {found}");
        }
    };
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = interval else {
        return plan_err!("expected an INTERVAL, such as INTERVAL '10 seconds', found null");
    };
    if interval.months != 0 {
        return plan_err!(
            "an interval of months or years has no fixed length: use days, or group by date_trunc('month', ts)"
        );
    }
    let days = i64::from(interval.days).checked_mul(NANOS_PER_DAY);
    match days.and_then(|days| days.checked_add(interval.nanoseconds)) {
        Some(nanos) => Ok(nanos),
        None => plan_err!("the interval of {} days is too long: the most is 292 years", interval.days),
    }
}

/// A length in ticks of timestamps with this unit.
pub(super) fn ticks(nanos: i64, unit: TimeUnit) -> Result<i64> {
    let (tick, name) = match unit {
        TimeUnit::Second => (1_000_000_000, "seconds"),
        TimeUnit::Millisecond => (1_000_000, "milliseconds"),
        TimeUnit::Microsecond => (1_000, "microseconds"),
        TimeUnit::Nanosecond => (1, "nanoseconds"),
    };
    if nanos % tick != 0 {
        return plan_err!(
            "the time is in whole {name}, and {nanos} ns is not: CAST the time to a TIMESTAMP that is finer"
        );
    }
    Ok(nanos / tick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{IntervalDayTime, IntervalMonthDayNano};
    use datafusion::logical_expr::lit;

    fn interval(months: i32, days: i32, nanos: i64) -> Expr {
        lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos))))
    }

    #[test]
    fn days_and_time_have_a_length() {
        assert_eq!(nanos(&interval(0, 2, 5)).unwrap(), 2 * NANOS_PER_DAY + 5);
        assert_eq!(nanos(&interval(0, 0, -5).alias("x")).unwrap(), -5);
        let day_time = lit(ScalarValue::IntervalDayTime(Some(IntervalDayTime::new(1, 1))));
        assert_eq!(nanos(&day_time).unwrap(), NANOS_PER_DAY + 1_000_000);
        assert_eq!(nanos(&(interval(0, 0, 5) + interval(0, 0, 6))).unwrap(), 11);
    }

    #[test]
    fn what_has_no_length_is_refused() {
        for (expr, part) in [
            (interval(1, 0, 0), "date_trunc"),
            (interval(0, i32::MAX, 0), "too long"),
            (lit(5), "expected an INTERVAL"),
            (lit(ScalarValue::IntervalMonthDayNano(None)), "found null"),
            (datafusion::logical_expr::col("a"), "expected a constant INTERVAL"),
        ] {
            let message = nanos(&expr).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_length_is_a_whole_number_of_ticks() {
        assert_eq!(ticks(1_500_000_000, TimeUnit::Millisecond).unwrap(), 1500);
        assert!(ticks(1_500_000_000, TimeUnit::Second).unwrap_err().to_string().contains("whole seconds"));
    }
}
