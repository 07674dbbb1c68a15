//! Windows that overlap.
//!
//! ```text
//! state(window) = merge of state(pane) over the panes of the window
//! ```
//!
//! so that an aggregate by windows becomes an aggregate by panes, whose states are merged once for each window that a
//! pane is in. An aggregate over streams was split before (see [`crate::split`]), so that its calls have such states.
//! Over anything else, such as the rows of a view, calls whose states do not merge exactly are made for each window:
//! then a row costs as much as it has windows.

use super::flatten::{Key, Parts, WINDOW};
use super::{markers, replace};
use crate::aggregate::ordered;
use crate::calls::{calls, names, narrowed};
use crate::error::Result;
use crate::expr::{columns, unalias};
use crate::windows::{Marker, cumulate_windows, hop_pane, hop_windows, pane_windows, tumble};
use datafusion::common::{Column, UnnestOptions};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, col};
use std::sync::Arc;

const PANE: &str = "__pane";

/// The aggregate over panes, with their states merged into windows; `None` if a call has no state that merges.
pub(super) fn over_panes(
    relation: &str,
    marker: Marker,
    window: Expr,
    parts: Parts,
) -> Result<Option<LogicalPlan>> {
    let names = names(parts.others().iter().chain([&window]));
    let arguments = arguments(window);
    let Ok(calls) = calls(&parts.calls, parts.input.schema())? else { return Ok(None) };
    // Their order among equals needs the place of the event, which only events have.
    if parts
        .calls
        .iter()
        .any(|call| matches!(unalias(call), Expr::AggregateFunction(f) if ordered(f, 0).is_some()))
    {
        return Ok(None);
    }
    let (pane, windows) = match (marker, arguments.as_slice()) {
        (Marker::Hop, [_, lengths @ ..]) => {
            (hop_pane(arguments.clone()), pane_windows([&[col(PANE)], lengths].concat()))
        }
        (_, [time, step, _, offset @ ..]) => {
            let pane = tumble([&[time.clone(), step.clone()], offset].concat());
            let start = get_field(col(PANE), "start");
            (pane, cumulate_windows([&[start], &arguments[1..]].concat()))
        }
        _ => return Ok(None),
    };
    let others = parts.others();
    let keys: Vec<Expr> = (0..others.len()).map(|i| col(format!("g{i}"))).collect();
    let groups = others.into_iter().enumerate().map(|(i, e)| e.alias(format!("g{i}")));
    let groups: Vec<Expr> = groups.chain([pane.alias(PANE)]).collect();
    let states = calls.iter().enumerate().map(|(i, (m, filter))| {
        aggregate(m.state(), m.arguments.clone(), filter.clone()).alias(format!("s{i}"))
    });
    let by_pane =
        LogicalPlanBuilder::from(parts.input.clone()).aggregate(groups, states.collect::<Vec<_>>())?;

    let states = (0..calls.len()).map(|i| col(format!("s{i}")));
    let of_pane = keys.iter().cloned().chain([windows.alias(WINDOW)]).chain(states);
    let merged = calls
        .iter()
        .enumerate()
        .map(|(i, (m, _))| aggregate(m.finish(), vec![col(format!("s{i}"))], None).alias(format!("v{i}")));
    let by_window = by_pane
        .project(of_pane)?
        .unnest_column_with_options(Column::new_unqualified(WINDOW), UnnestOptions::default())?
        .aggregate(keys.into_iter().chain([col(WINDOW)]), merged.collect::<Vec<_>>())?
        .build()?;
    let by_window = narrowed(by_window, &calls, relation, &names)?;
    Ok(Some(under_its_names(by_window, &parts)?))
}

/// A plan of columns `g0, …`, [`WINDOW`], `v0, …` under the names of the aggregate that it stands for.
pub(super) fn under_its_names(plan: LogicalPlan, parts: &Parts) -> Result<LogicalPlan> {
    let mut next = 0;
    let keys = parts.keys.iter().map(|key| match key {
        Key::Other(_) => {
            next += 1;
            col(format!("g{}", next - 1))
        }
        Key::OfWindow(expr) => expr.clone(),
    });
    let keys: Vec<Expr> = keys.collect();
    let calls = (0..parts.calls.len()).map(|i| col(format!("v{i}")));
    let named = keys.into_iter().chain(calls).enumerate().map(|(i, expr)| {
        let (qualifier, field) = parts.aggregate.schema.qualified_field(i);
        expr.alias_qualified(qualifier.cloned(), field.name())
    });
    let named = named.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(named, Arc::new(plan))?))
}

/// A select list in which windows stand, with one row for each window of each row; `None` if there is none.
pub(super) fn expand(projection: &Projection) -> Result<Option<LogicalPlan>> {
    let Some((input, exprs)) = expanded(projection.input.as_ref().clone(), projection.expr.clone())? else {
        return Ok(None);
    };
    let named = exprs.into_iter().enumerate().map(|(i, expr)| {
        let (qualifier, field) = projection.schema.qualified_field(i);
        unalias(&expr).clone().alias_qualified(qualifier.cloned(), field.name())
    });
    let named = named.collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(named, Arc::new(input))?)))
}

/// An aggregate by windows that was not brought into panes, over one row for each window of each row.
pub(super) fn expand_below(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let keys = aggregate.group_expr.len();
    let exprs = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
    let Some((input, mut exprs)) = expanded(aggregate.input.as_ref().clone(), exprs)? else {
        return Ok(None);
    };
    let calls = exprs.split_off(keys);
    let expanded = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), exprs, calls)?);
    let named = columns(expanded.schema()).into_iter().enumerate().map(|(i, column)| {
        let (qualifier, field) = aggregate.schema.qualified_field(i);
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    let named = named.collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(named, Arc::new(expanded))?)))
}

/// `input` with a row for each window of the markers in `exprs`, and the expressions over that.
fn expanded(input: LogicalPlan, mut exprs: Vec<Expr>) -> Result<Option<(LogicalPlan, Vec<Expr>)>> {
    let mut windows = Vec::new();
    for expr in &exprs {
        for (marker, call) in markers(expr)? {
            if marker != Marker::Session && !windows.contains(&(marker, call.clone())) {
                windows.push((marker, call));
            }
        }
    }
    if windows.is_empty() {
        return Ok(None);
    }
    let mut plan = LogicalPlanBuilder::from(input);
    for (i, (marker, call)) in windows.into_iter().enumerate() {
        let name = format!("{WINDOW}{i}");
        let list = match marker {
            Marker::Hop => hop_windows(arguments(call.clone())),
            _ => cumulate_windows(arguments(call.clone())),
        };
        let all = columns(plan.schema()).into_iter().chain([list.alias(&name)]);
        plan = plan
            .project(all)?
            .unnest_column_with_options(Column::new_unqualified(&name), UnnestOptions::default())?;
        exprs = exprs.into_iter().map(|e| replace(e, &call, &col(&name))).collect::<Result<_>>()?;
    }
    Ok(Some((plan.build()?, exprs)))
}

fn arguments(call: Expr) -> Vec<Expr> {
    if let Expr::ScalarFunction(call) = call { call.args } else { Vec::new() }
}

fn aggregate(function: Arc<AggregateUDF>, arguments: Vec<Expr>, filter: Option<Box<Expr>>) -> Expr {
    Expr::AggregateFunction(AggregateFunction::new_udf(function, arguments, false, filter, vec![], None))
}
