//! Merges states once where they would be merged twice.
//!
//! ```text
//! merge of (merge of states by (key, pane)) by key = merge of states by key
//! ```
//!
//! An aggregate by windows stands above one by panes. Where a query leaves one window, both merge the same states, the
//! lower one by a key that nobody asks for. This rule of the optimizer takes it out.

use crate::aggregate::combinator;
use crate::expr::unalias;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// The rule.
#[derive(Debug)]
pub(crate) struct MergeOnce;

impl OptimizerRule for MergeOnce {
    fn name(&self) -> &str {
        "merge_once"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        Ok(match once(&plan)? {
            Some(merged) => Transformed::yes(merged),
            None => Transformed::no(plan),
        })
    }
}

fn once(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Aggregate(above) = plan else { return Ok(None) };
    let LogicalPlan::Projection(projection) = above.input.as_ref() else { return Ok(None) };
    let LogicalPlan::Aggregate(below) = projection.input.as_ref() else { return Ok(None) };
    let Some(merges) = below.aggr_expr.iter().map(merge).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let merges_states = |(function, _): &(&AggregateUDF, &Column)| {
        combinator::of_merge(function).is_some_and(|call| combinator::merge_state(call).as_ref() == *function)
    };
    if !merges.iter().all(merges_states) || below.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)))
    {
        return Ok(None);
    }
    let keys = below.group_expr.len();
    let place = |column: &Column| below.schema.maybe_index_of_column(column);
    // What is merged above is what was merged below, by the same function; all else is of the keys.
    for expr in &above.aggr_expr {
        let Some((function, column)) = merge(expr) else { return Ok(None) };
        let Some(at) = projection.schema.maybe_index_of_column(column) else { return Ok(None) };
        let Expr::Column(state) = unalias(&projection.expr[at]) else { return Ok(None) };
        let same = place(state)
            .and_then(|i| merges.get(i.checked_sub(keys)?))
            .is_some_and(|(lower, _)| combinator::of_merge(lower) == combinator::of_merge(function));
        if !same {
            return Ok(None);
        }
    }
    let of_input = |column: &Column| {
        let at = place(column)?;
        match at.checked_sub(keys) {
            None => below.group_expr.get(at).map(|key| unalias(key).clone()),
            Some(i) => merges.get(i).map(|(_, state)| Expr::Column((*state).clone())),
        }
    };
    let exprs = projection.expr.iter().enumerate().map(|(i, expr)| {
        let (qualifier, field) = projection.schema.qualified_field(i);
        let over_input = unalias(expr).clone().transform(|part| {
            Ok(match &part {
                Expr::Column(column) => {
                    of_input(column).map_or_else(|| Transformed::no(part), Transformed::yes)
                }
                _ => Transformed::no(part),
            })
        });
        Ok(over_input?.data.alias_qualified(qualifier.cloned(), field.name()))
    });
    let exprs = exprs.collect::<Result<Vec<Expr>>>()?;
    if !groups_by_keys(above, projection, &below.schema, keys) {
        return Ok(None);
    }
    let input = LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&below.input))?);
    let merged = Aggregate::try_new_with_schema(
        Arc::new(input),
        above.group_expr.clone(),
        above.aggr_expr.clone(),
        Arc::clone(&above.schema),
    )?;
    Ok(Some(LogicalPlan::Aggregate(merged)))
}

/// Whether the upper aggregate groups by nothing but what the lower one groups by.
fn groups_by_keys(above: &Aggregate, projection: &Projection, below: &DFSchema, keys: usize) -> bool {
    let is_key = |column: &Column| below.maybe_index_of_column(column).is_some_and(|i| i < keys);
    above.group_expr.iter().all(|key| {
        let Expr::Column(column) = unalias(key) else { return false };
        let at = projection.schema.maybe_index_of_column(column);
        at.is_some_and(|at| projection.expr[at].column_refs().into_iter().all(is_key))
    })
}

/// The function and the state of an expression that merges one column of states, and does nothing else.
fn merge(expr: &Expr) -> Option<(&AggregateUDF, &Column)> {
    let Expr::AggregateFunction(call) = unalias(expr) else { return None };
    let [Expr::Column(state)] = call.params.args.as_slice() else { return None };
    let plain = call.params.filter.is_none() && !call.params.distinct && call.params.order_by.is_empty();
    (plain && combinator::of_merge(&call.func).is_some()).then_some((call.func.as_ref(), state))
}
