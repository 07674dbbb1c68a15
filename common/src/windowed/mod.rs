//! What `hop`, `cumulate` and `session` mean in a plan.
//!
//! The three are [markers](crate::windows::Marker): no function of one event gives their windows. Here a plan is
//! rewritten so that it has plain relational operators in their place, the same in a view and in a query:
//!
//! - an aggregate by windows that overlap keeps *panes*, the longest windows one after the other of which each window
//!   is made: one state update for each event, however many windows it is in. Above it the states of the panes are
//!   merged into those of the windows ([`hop`]);
//! - an aggregate by sessions becomes a [`session::SessionAggregate`], which the cut knows how to keep as mergeable
//!   sessions, and which is otherwise written out with window functions;
//! - anywhere else in a select list each event gives one row for each of its windows.

pub(crate) mod blocks;
mod flatten;
mod hop;
pub(crate) mod once;
pub(crate) mod prune;

pub(crate) mod session;

use crate::error::{Error, Result};
use crate::split::split_aggregate;
use crate::windows::{Marker, is_marker};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use flatten::{Flat, Parts, flatten};
use hop::under_its_names;

/// `plan`, analyzed, with plain operators in the place of markers, but for session aggregates. `relation` is what
/// errors at run time call the plan.
///
/// # Errors
/// `Invalid` where a marker has no meaning.
pub(crate) fn rewrite(relation: &str, plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_markers(&plan)? {
        return Ok(plan);
    }
    let plan = rewrite_aggregates(relation, plan, true)?;
    let plan = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Projection(projection) => Ok(match hop::expand(projection)? {
            Some(expanded) => Transformed::yes(expanded),
            None => Transformed::no(plan),
        }),
        LogicalPlan::Aggregate(aggregate) => Ok(match hop::expand_below(aggregate)? {
            Some(expanded) => Transformed::yes(expanded),
            None => Transformed::no(plan),
        }),
        _ => Ok(Transformed::no(plan)),
    })?;
    refuse_what_is_left(&plan.data)?;
    Ok(plan.data)
}

/// `split` says whether aggregates may be split by what their calls need; what one was split into is not split again.
fn rewrite_aggregates(relation: &str, plan: LogicalPlan, split: bool) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let rewritten = match flatten(aggregate)? {
            None => None,
            Some(Flat { marker: Marker::Session, window, parts }) => Some(session::aggregate(window, parts)?),
            Some(Flat { marker, window, parts }) if split => over_windows(relation, marker, window, parts)?,
            Some(Flat { marker, window, parts }) => hop::over_panes(relation, marker, window, parts)?,
        };
        Ok(rewritten.map_or_else(|| Transformed::no(plan), Transformed::yes))
    })?;
    Ok(plan.data)
}

/// An aggregate by windows that overlap: each relation that it is split into keeps panes.
fn over_windows(relation: &str, marker: Marker, window: Expr, parts: Parts) -> Result<Option<LogicalPlan>> {
    match split_aggregate(&parts.by_window(&window)?)? {
        Some(split) => Ok(Some(under_its_names(rewrite_aggregates(relation, split, false)?, &parts)?)),
        None => hop::over_panes(relation, marker, window, parts),
    }
}

/// The distinct markers in an expression.
pub(crate) fn markers(expr: &Expr) -> Result<Vec<(Marker, Expr)>> {
    let mut found: Vec<(Marker, Expr)> = Vec::new();
    expr.apply(|expr| {
        if let Some(marker) = is_marker(expr)
            && !found.iter().any(|(_, known)| known == expr)
        {
            found.push((marker, expr.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Whether there is a marker in the plan.
pub(crate) fn has_markers(plan: &LogicalPlan) -> Result<bool> {
    let mut has = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            has |= !markers(expr)?.is_empty();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(has)
}

fn refuse_what_is_left(plan: &LogicalPlan) -> Result<()> {
    let mut left = None;
    plan.apply_with_subqueries(|node| {
        if session::is_session(node) {
            return Ok(TreeNodeRecursion::Continue);
        }
        node.apply_expressions(|expr| {
            left = left.take().or(markers(expr)?.pop());
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    match left {
        None => Ok(()),
        Some((Marker::Session, call)) => Err(Error::Invalid(format!(
            "{call}: a session depends on other events, so it must be what an aggregate groups by, once, by itself or \
             as its start and end: SELECT k, session(ts, gap) AS w, count(*) FROM s GROUP BY k, w"
        ))),
        Some((_, call)) => Err(Error::Invalid(format!(
            "{call}: a time is in several of these windows, so they must stand in GROUP BY or in a select list: put \
             them into a subquery, and filter or join outside of it"
        ))),
    }
}

/// The expression with each part that equals `from` replaced by `to`.
fn replace(expr: Expr, from: &Expr, to: &Expr) -> Result<Expr> {
    let replaced = expr.transform_down(|part| {
        if &part == from {
            return Ok(Transformed::new(to.clone(), true, TreeNodeRecursion::Jump));
        }
        Ok(Transformed::no(part))
    })?;
    Ok(replaced.data)
}
