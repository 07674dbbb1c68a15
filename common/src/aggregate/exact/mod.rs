//! Arithmetic aggregates whose value does not depend on the order of the events: `sum`, `avg`, `min`, `max`, the
//! variances, covariances, correlation and linear regression, over the engine's functions of the same names.
//!
//! ```text
//! f(A + B) = f(B + A) = f_merge(f_state(A), f_state(B))        to the bit, states included
//! ```
//!
//! Their states are exact: sums without rounding, as [`number`] has them, in the one form that [`stored`] gives each;
//! so a state depends on the multiset of its values alone. What is rounded is the value, once, as [`rational`] does.
//!
//! | over | `sum` | `avg` |
//! | --- | --- | --- |
//! | doubles | nearest double | nearest double to the exact mean |
//! | integers | exact, or an error | nearest double to the exact mean |
//! | decimals | exact, or an error | exact mean, cut to the digits of its type |
//!
//! What is left to the engine: durations and intervals, `min` and `max` over all but floats, lists and structs, and
//! frames that slide in window functions. In lists and structs a null comes after all values.

mod counts;
mod decimals;
mod distinct_values;
mod extreme;
mod floats;
mod function;
mod integers;
mod limbs;
mod moments;
mod narrow;
mod number;
mod rational;
mod recipe;
mod rows;
mod single_distinct;
mod sliding;
mod statistic;
mod stored;
mod sums;
#[cfg(test)]
mod tests;
mod total;

use datafusion::functions_aggregate::{
    average, correlation, covariance, min_max, regr, stddev, sum, variance,
};
use datafusion::logical_expr::{AggregateUDF, AggregateUDFImpl};
use function::Function;
pub(crate) use narrow::narrowing;
use recipe::Kind;
pub(crate) use single_distinct::optimizer_rules;
use statistic::Statistic;
use std::cmp::Ordering;
use std::sync::Arc;

/// The functions, to be registered over the engine's.
pub(super) fn functions() -> Vec<AggregateUDF> {
    let statistics = [
        (variance::var_samp_udaf(), Statistic::VarSamp),
        (variance::var_pop_udaf(), Statistic::VarPop),
        (stddev::stddev_udaf(), Statistic::StddevSamp),
        (stddev::stddev_pop_udaf(), Statistic::StddevPop),
        (covariance::covar_samp_udaf(), Statistic::CovarSamp),
        (covariance::covar_pop_udaf(), Statistic::CovarPop),
        (correlation::corr_udaf(), Statistic::Corr),
        (regr::regr_slope_udaf(), Statistic::RegrSlope),
        (regr::regr_intercept_udaf(), Statistic::RegrIntercept),
        (regr::regr_count_udaf(), Statistic::RegrCount),
        (regr::regr_r2_udaf(), Statistic::RegrR2),
        (regr::regr_avgx_udaf(), Statistic::RegrAvgX),
        (regr::regr_avgy_udaf(), Statistic::RegrAvgY),
        (regr::regr_sxx_udaf(), Statistic::RegrSxx),
        (regr::regr_syy_udaf(), Statistic::RegrSyy),
        (regr::regr_sxy_udaf(), Statistic::RegrSxy),
    ];
    [
        (sum::sum_udaf(), Kind::Sum),
        (average::avg_udaf(), Kind::Avg),
        (min_max::min_udaf(), Kind::Extreme(Ordering::Less)),
        (min_max::max_udaf(), Kind::Extreme(Ordering::Greater)),
    ]
    .into_iter()
    .chain(statistics.map(|(engine, statistic)| (engine, Kind::Statistic(statistic))))
    .map(|(engine, kind)| AggregateUDF::from(Function::new(engine, kind)))
    .collect()
}

/// For our `sum`: the function with the same name and state whose value is the exact total, to be narrowed by
/// [`narrowing`] where the key is known. Over integers that is a `DECIMAL(38, 0)`, over decimals the exact sum as it
/// is stored; over all else it is `sum` itself. `None` for any other function.
pub(crate) fn wide_sum(function: &AggregateUDF) -> Option<Arc<AggregateUDF>> {
    let inner: &dyn AggregateUDFImpl = function.inner().as_ref();
    let ours = (inner as &dyn std::any::Any).downcast_ref::<Function>()?;
    Some(Arc::new(AggregateUDF::from(ours.wide()?)))
}
