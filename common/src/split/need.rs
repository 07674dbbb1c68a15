//! What a call needs of the events.

use super::grouping::VALUE;
use crate::aggregate::{counted, in_order};
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{AggregateUDF, Expr, col, lit};
use std::sync::Arc;

/// What a call needs of the events.
pub(super) enum Need {
    /// A partial aggregate: what the call is over the columns of the partial relation.
    Partial(Expr),
    /// Its values, each once.
    Values(AggregateFunction),
    /// How often it saw each value: the function over values and their counts.
    Counts(AggregateFunction, Arc<AggregateUDF>),
    /// Everything, in an order that leaves no ties.
    Rows(AggregateFunction),
}

impl Need {
    /// What a call without a small state needs.
    pub(super) fn of(call: &AggregateFunction, place: &[Expr]) -> Self {
        match counted(call) {
            _ if needs_values(call) => Self::Values(call.clone()),
            Some(weighted) => Self::Counts(call.clone(), weighted),
            None => Self::Rows(completed(call, place)),
        }
    }
}

pub(super) fn depends_on_place(call: &AggregateFunction) -> bool {
    !needs_values(call) && counted(call).is_none()
}

/// Whether the call is over one expression, each of its values once, in no order but that of the values.
fn needs_values(call: &AggregateFunction) -> bool {
    let params = &call.params;
    let Some((value, rest)) = params.args.split_first() else { return false };
    params.distinct
        && rest.iter().all(|e| matches!(e, Expr::Literal(..)))
        && match params.order_by.as_slice() {
            [] => true,
            [one] => &one.expr == value,
            _ => false,
        }
}

/// What the call is over, and its further arguments.
pub(super) fn value_and_constants(call: &AggregateFunction) -> (Expr, &[Expr]) {
    call.params.args.split_first().map_or((lit(1i64), &[]), |(value, constants)| (value.clone(), constants))
}

/// The call over values that come once, those that are `kept`.
pub(super) fn over_values(call: &AggregateFunction, kept: Option<Box<Expr>>) -> AggregateFunction {
    // Only functions that keep the order of their values take one here: it is that of the values.
    let order = match call.params.order_by.first() {
        Some(sort) => vec![Sort::new(col(VALUE), sort.asc, sort.nulls_first)],
        None if in_order(call.func.name()) => vec![Sort::new(col(VALUE), true, false)],
        None => Vec::new(),
    };
    let (_, constants) = value_and_constants(call);
    let args = std::iter::once(col(VALUE)).chain(constants.iter().cloned()).collect();
    AggregateFunction::new_udf(Arc::clone(&call.func), args, false, kept, order, call.params.null_treatment)
}

/// The call over values and how often each came.
pub(super) fn over_counts(
    call: &AggregateFunction,
    weighted: &Arc<AggregateUDF>,
    count: Expr,
) -> AggregateFunction {
    let (_, constants) = value_and_constants(call);
    let args = [col(VALUE), count].into_iter().chain(constants.iter().cloned()).collect();
    AggregateFunction::new_udf(Arc::clone(weighted), args, false, None, Vec::new(), None)
}

/// The call with an order that leaves no ties: its own, then the place of the event, then the values. A function that
/// takes no order gets its rows in the order of their places as it is.
fn completed(call: &AggregateFunction, place: &[Expr]) -> AggregateFunction {
    let mut call = call.clone();
    if !call.params.distinct && in_order(call.func.name()) {
        let values = call.params.args.iter().filter(|e| !matches!(e, Expr::Literal(..)));
        let more = place.iter().chain(values).map(|e| Sort::new(e.clone(), true, false));
        call.params.order_by.extend(more.collect::<Vec<_>>());
    }
    call
}
