//! Which plans depend on the order in which their rows come.
//!
//! SQL leaves the order of rows open, and with it the rounding of a sum of doubles, which rows a `LIMIT` keeps among
//! equals, or what an `array_agg` without an order gives. Here such a plan gets its rows in an order that is a
//! function of the rows, so that its answer does not depend on where the horizon is. Plans that do not care are
//! spared the sorting.

use crate::aggregate::{combinator, mergeable};
use crate::error::Result;
use crate::expr::unalias;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan};

/// Whether the rows of a plan, as a multiset, may depend on the order of the rows that it reads.
pub fn depends_on_order(plan: &LogicalPlan) -> Result<bool> {
    let mut depends = false;
    plan.apply_with_subqueries(|node| {
        depends |= match node {
            LogicalPlan::Limit(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(Distinct::On(_)) => true,
            LogicalPlan::Sort(sort) => sort.fetch.is_some(),
            LogicalPlan::Aggregate(aggregate) => aggregate_depends(aggregate)?,
            _ => false,
        };
        Ok(if depends { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(depends)
}

fn aggregate_depends(aggregate: &Aggregate) -> Result<bool> {
    let input = aggregate.input.schema();
    for expr in &aggregate.aggr_expr {
        let Expr::AggregateFunction(call) = unalias(expr) else { return Ok(true) };
        if combinator::is_combinator(&call.func) {
            continue;
        }
        for argument in &call.params.args {
            if argument.get_type(input)?.is_floating() {
                return Ok(true);
            }
        }
        // DISTINCT does not care about order where the function does not.
        let mut plain = call.clone();
        plain.params.distinct = false;
        if mergeable(&plain, input)?.is_err() {
            return Ok(true);
        }
    }
    Ok(false)
}
