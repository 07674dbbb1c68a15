//! The calls of an aggregate as events → state, states → state and states → value.

use crate::aggregate::{Mergeable, mergeable};
use crate::error::Result;
use crate::expr::{columns, unalias};
use crate::meaning::meaning;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, col};
use std::sync::Arc;

/// A call of an aggregate whose states merge exactly, and its filter.
pub(crate) type Call = (Mergeable, Option<Box<Expr>>);

/// The calls of an aggregate, or why the states of one of them cannot be merged exactly.
pub(crate) fn calls(exprs: &[Expr], input: &DFSchema) -> Result<Result<Vec<Call>, String>> {
    let mut calls = Vec::new();
    for expr in exprs {
        let Expr::AggregateFunction(function) = unalias(expr) else {
            return Ok(Err(format!("{expr} is no plain aggregate")));
        };
        match mergeable(function, input)? {
            Ok(mergeable) => calls.push((mergeable, function.params.filter.clone())),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(calls))
}

/// The calls as events → state.
pub(crate) fn states(calls: &[Call]) -> Vec<Expr> {
    let state = |(m, filter): &Call| call(m.state(), m.arguments.clone(), filter.clone());
    calls.iter().map(state).enumerate().map(|(i, e)| e.alias(format!("s{i}"))).collect()
}

/// The calls as states → state.
pub(crate) fn merged(calls: &[Call]) -> Vec<Expr> {
    over_states(calls, Mergeable::merge_state)
}

/// The calls as states → value.
pub(crate) fn finished(calls: &[Call]) -> Vec<Expr> {
    over_states(calls, Mergeable::finish)
}

fn over_states(calls: &[Call], function: fn(&Mergeable) -> Arc<AggregateUDF>) -> Vec<Expr> {
    let over = |(i, (m, _)): (usize, &Call)| {
        call(function(m), vec![col(format!("s{i}"))], None).alias(format!("m{i}"))
    };
    calls.iter().enumerate().map(over).collect()
}

/// What messages call keys.
pub(crate) fn names<'a>(keys: impl IntoIterator<Item = &'a Expr>) -> Vec<String> {
    let name = |key: &'a Expr| match key {
        Expr::GroupingSet(sets) => {
            let keys = sets.distinct_expr().into_iter().map(meaning);
            keys.chain(["grouping set".to_string()]).collect()
        }
        Expr::Column(column) => vec![column.name.clone()],
        key => vec![meaning(key).replacen("event_session(", "session(", 1)],
    };
    keys.into_iter().flat_map(name).collect()
}

/// `plan`, whose last columns are what the calls finished to, with sums in their own type. The first columns are the
/// key; `names` is what a message calls them.
pub(crate) fn narrowed(
    plan: LogicalPlan,
    calls: &[Call],
    view: &str,
    names: &[String],
) -> Result<LogicalPlan> {
    if !calls.iter().any(|(call, _)| call.has_total()) {
        return Ok(plan);
    }
    let all = columns(plan.schema());
    let (keys, values) = all.split_at(all.len() - calls.len());
    let values = values.iter().zip(calls).map(|(value, (call, _))| {
        let name = value.schema_name().to_string();
        call.narrowed(value.clone(), view, names, keys).alias(name)
    });
    let columns: Vec<Expr> = keys.iter().cloned().chain(values).collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// A plain call: no order, no DISTINCT.
pub(crate) fn call(function: Arc<AggregateUDF>, arguments: Vec<Expr>, filter: Option<Box<Expr>>) -> Expr {
    Expr::AggregateFunction(AggregateFunction::new_udf(function, arguments, false, filter, vec![], None))
}
