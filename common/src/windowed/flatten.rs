//! Finds the window that an aggregate groups by, through the projections below it.
//!
//! `GROUP BY k, window_start` over `SELECT *, w['start'] AS window_start FROM (SELECT *, hop(ts, …) AS w FROM s)` is
//! written as an aggregate over `s` whose keys are `k` and `hop(ts, …)['start']`.

use super::{markers, replace};
use crate::error::Result;
use crate::expr::unalias;
use crate::windows::Marker;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col};
use std::sync::Arc;

/// The name that a window goes by above its aggregate.
pub(super) const WINDOW: &str = "__window";

/// An aggregate by a window.
pub(super) struct Flat {
    pub(super) marker: Marker,
    /// The call of the marker.
    pub(super) window: Expr,
    pub(super) parts: Parts,
}

/// What is left of an aggregate without its window.
pub(super) struct Parts {
    /// The aggregate as it was: its names are those of the result.
    pub(super) aggregate: Aggregate,
    pub(super) input: LogicalPlan,
    /// For each key of the aggregate: one of the other keys, or an expression over [`WINDOW`].
    pub(super) keys: Vec<Key>,
    pub(super) calls: Vec<Expr>,
}

pub(super) enum Key {
    Other(Expr),
    OfWindow(Expr),
}

impl Parts {
    /// The keys beside the window.
    pub(super) fn others(&self) -> Vec<Expr> {
        let others = self.keys.iter().filter_map(|key| match key {
            Key::Other(expr) => Some(expr.clone()),
            Key::OfWindow(_) => None,
        });
        others.collect()
    }

    /// The aggregate by the other keys and the window, with columns `g0, …`, [`WINDOW`], `v0, …`.
    pub(super) fn by_window(&self, window: &Expr) -> Result<Aggregate> {
        let groups = self.others().into_iter().enumerate().map(|(i, e)| e.alias(format!("g{i}")));
        let groups = groups.chain([window.clone().alias(WINDOW)]).collect();
        let calls = self.calls.iter().enumerate().map(|(i, e)| e.clone().alias(format!("v{i}"))).collect();
        Ok(Aggregate::try_new(Arc::new(self.input.clone()), groups, calls)?)
    }
}

/// The aggregate as one by a window, if its keys have exactly one window, which they determine, and nothing else of
/// it depends on that.
pub(super) fn flatten(aggregate: &Aggregate) -> Result<Option<Flat>> {
    let mut exprs = aggregate.group_expr.clone();
    let keys = exprs.len();
    exprs.extend(aggregate.aggr_expr.iter().map(|e| unalias(e).clone()));
    let calls = exprs.len();
    // What filters the rows comes last.
    let mut input = aggregate.input.as_ref();
    while below_has_markers(input)? {
        match input {
            LogicalPlan::Projection(projection) => {
                let inner = |i: usize| unalias(&projection.expr[i]).clone();
                exprs = through(exprs, input, inner)?;
                input = &projection.input;
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let inner = |i: usize| Expr::Column(Column::from(alias.input.schema().qualified_field(i)));
                exprs = through(exprs, input, inner)?;
                input = &alias.input;
            }
            LogicalPlan::Filter(filter) => {
                exprs.push(filter.predicate.clone());
                input = &filter.input;
            }
            _ => return Ok(None),
        }
    }
    let filters = exprs.split_off(calls);
    let calls = exprs.split_off(keys);
    let mut windows = Vec::new();
    for expr in &exprs {
        for window in markers(expr)? {
            if !windows.contains(&window) {
                windows.push(window);
            }
        }
    }
    let [(marker, window)] = windows.as_slice() else { return Ok(None) };
    for expr in calls.iter().chain(&filters) {
        if !markers(expr)?.is_empty() {
            return Ok(None);
        }
    }
    let mut found = Vec::new();
    for expr in exprs {
        if markers(&expr)?.is_empty() {
            found.push(Key::Other(expr));
            continue;
        }
        let of_window = replace(expr, window, &col(WINDOW))?;
        if !determines_window(&of_window) {
            return Ok(None);
        }
        found.push(Key::OfWindow(of_window));
    }
    let mut input = LogicalPlanBuilder::from(input.clone());
    for filter in filters {
        input = input.filter(filter)?;
    }
    let parts = Parts { aggregate: aggregate.clone(), input: input.build()?, keys: found, calls };
    Ok(Some(Flat { marker: *marker, window: window.clone(), parts }))
}

fn below_has_markers(plan: &LogicalPlan) -> Result<bool> {
    super::has_markers(plan)
}

/// The expressions over the columns of `plan` as expressions over those of its input; `inner` gives the n-th column.
fn through(exprs: Vec<Expr>, plan: &LogicalPlan, inner: impl Fn(usize) -> Expr) -> Result<Vec<Expr>> {
    let schema = Arc::clone(plan.schema());
    let one = |expr: Expr| {
        let replaced = expr.transform_up(|part| match &part {
            Expr::Column(column) => Ok(Transformed::yes(inner(schema.index_of_column(column)?))),
            _ => Ok(Transformed::no(part)),
        })?;
        Ok(replaced.data)
    };
    exprs.into_iter().map(one).collect()
}

/// Whether no two windows of one kind give the same value: the window, its start or its end.
fn determines_window(expr: &Expr) -> bool {
    match expr {
        Expr::Column(column) => column.name == WINDOW,
        Expr::Alias(alias) => determines_window(&alias.expr),
        Expr::ScalarFunction(call) if call.func.inner().is::<GetFieldFunc>() => {
            call.args.first().is_some_and(determines_window)
        }
        // window_time is the end less a constant.
        Expr::BinaryExpr(binary) => {
            determines_window(&binary.left) && matches!(*binary.right, Expr::Literal(..))
        }
        _ => false,
    }
}
