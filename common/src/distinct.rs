//! Exact `DISTINCT` inside aggregates, as a relation of its own.
//!
//! A set of values in each group would make states that grow without bound in one row. Instead
//!
//! ```text
//! SELECT g, f(x), d(DISTINCT y) FROM t GROUP BY g
//! ```
//!
//! becomes an aggregate of the plain calls, joined to an aggregate over the distinct pairs (g, y):
//!
//! ```text
//! (SELECT g, f(x) FROM t GROUP BY g)  JOIN  (SELECT g, d(y) FROM (SELECT DISTINCT g, y FROM t) GROUP BY g)
//! ```
//!
//! on `g`, nulls equal. Cutting the plan then gives one cut for the groups and one for the pairs, each a sorted
//! relation that folds and merges like any other; the join and `d` run in finish. A `FILTER` becomes part of the
//! pair's key, so that a group in which it keeps nothing is still there.

use crate::cut::{Shape, shape, unalias};
use crate::error::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col};
use std::sync::Arc;

/// `plan` with the aggregates over streams rewritten that take DISTINCT over one expression.
pub(crate) fn rewrite_distinct(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Aggregate(aggregate)
            if shape(&aggregate.input)? == Shape::PerEvent && rewritable(aggregate) =>
        {
            Ok(Transformed::yes(rewrite(aggregate)?))
        }
        _ => Ok(Transformed::no(plan)),
    })?;
    Ok(rewritten.data)
}

fn rewritable(aggregate: &Aggregate) -> bool {
    let grouping_sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
    !grouping_sets
        && aggregate.aggr_expr.iter().any(|e| distinct_argument(e).is_some())
        && aggregate.aggr_expr.iter().all(|e| distinct_argument(e).is_some() || !is_distinct(e))
}

fn function(expr: &Expr) -> Option<&AggregateFunction> {
    if let Expr::AggregateFunction(function) = unalias(expr) { Some(function) } else { None }
}

fn is_distinct(expr: &Expr) -> bool {
    function(expr).is_some_and(|f| f.params.distinct)
}

/// The call, and what it is distinct over, if that is one expression and the order of the values does not matter.
fn distinct_argument(expr: &Expr) -> Option<(&AggregateFunction, &Expr)> {
    let call = function(expr).filter(|f| f.params.distinct && f.params.order_by.is_empty())?;
    let order_free =
        ["count", "sum", "avg", "min", "max", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or"];
    match call.params.args.as_slice() {
        [argument] if order_free.contains(&call.func.name()) => Some((call, argument)),
        _ => None,
    }
}

fn rewrite(aggregate: &Aggregate) -> datafusion::error::Result<LogicalPlan> {
    let keys = aggregate.group_expr.len();
    let (distinct, plain): (Vec<usize>, Vec<usize>) =
        (0..aggregate.aggr_expr.len()).partition(|&i| is_distinct(&aggregate.aggr_expr[i]));
    // For each output column of the aggregate: the column that holds it in the rewritten plan.
    let mut outputs = vec![String::new(); aggregate.aggr_expr.len()];

    let groups = aggregate.group_expr.iter().enumerate().map(|(i, e)| e.clone().alias(format!("g{i}")));
    let groups: Vec<Expr> = groups.collect();
    let mut plan = if plain.is_empty() && distinct.len() == 1 {
        None
    } else {
        let calls = plain.iter().map(|&i| {
            outputs[i] = format!("p{i}");
            unalias(&aggregate.aggr_expr[i]).clone().alias(format!("p{i}"))
        });
        let calls: Vec<Expr> = calls.collect();
        match (keys, calls.is_empty()) {
            (0, true) => None,
            _ => Some(
                LogicalPlanBuilder::from(aggregate.input.as_ref().clone())
                    .aggregate(groups.clone(), calls)?
                    .build()?,
            ),
        }
    };
    for &i in &distinct {
        let Some((call, argument)) = distinct_argument(&aggregate.aggr_expr[i]) else { continue };
        outputs[i] = format!("d{i}");
        let relation = distinct_relation(aggregate, &groups, call, argument, i)?;
        plan = Some(match plan {
            None => relation,
            Some(left) => join_on_groups(left, relation, keys, i)?,
        });
    }
    let plan = match plan {
        Some(plan) => plan,
        None => return Ok(LogicalPlan::Aggregate(aggregate.clone())),
    };

    // Under the names that the aggregate had.
    let columns = (0..keys).map(|i| {
        let index = plan.schema().fields().iter().position(|f| *f.name() == format!("g{i}"));
        Column::from(plan.schema().qualified_field(index.unwrap_or(i)))
    });
    let columns = columns.chain(outputs.iter().map(Column::new_unqualified));
    let named = columns.enumerate().map(|(i, column)| {
        let (qualifier, field) = aggregate.schema.qualified_field(i);
        Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
    });
    let named = named.collect();
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(
        named,
        Arc::new(plan),
        Arc::clone(&aggregate.schema),
    )?))
}

/// `SELECT g…, call(y) AS d<i> FROM (SELECT DISTINCT g…, y FROM input) GROUP BY g…`
fn distinct_relation(
    aggregate: &Aggregate,
    groups: &[Expr],
    call: &AggregateFunction,
    argument: &Expr,
    i: usize,
) -> datafusion::error::Result<LogicalPlan> {
    let mut pair = groups.to_vec();
    pair.push(argument.clone().alias("y"));
    if let Some(filter) = &call.params.filter {
        pair.push(filter.as_ref().clone().is_true().alias("kept"));
    }
    let filter = call.params.filter.as_ref().map(|_| Box::new(col("kept")));
    let over_pairs = Expr::AggregateFunction(AggregateFunction::new_udf(
        Arc::clone(&call.func),
        vec![col("y")],
        false,
        filter,
        vec![],
        call.params.null_treatment,
    ));
    let keys: Vec<Expr> = (0..groups.len()).map(|g| col(format!("g{g}"))).collect();
    LogicalPlanBuilder::from(aggregate.input.as_ref().clone())
        .aggregate(pair, Vec::<Expr>::new())?
        .aggregate(keys, vec![over_pairs.alias(format!("d{i}"))])?
        .build()
}

/// `left JOIN right` on their groups, which are the same on both sides, nulls equal, keeping the columns of `left` and the value of `right`.
fn join_on_groups(
    left: LogicalPlan,
    right: LogicalPlan,
    keys: usize,
    i: usize,
) -> datafusion::error::Result<LogicalPlan> {
    let keep: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    if keys == 0 {
        return LogicalPlanBuilder::from(left).cross_join(right)?.build();
    }
    let renamed: Vec<Expr> = (0..keys)
        .map(|g| col(format!("g{g}")).alias(format!("d{i}g{g}")))
        .chain([col(format!("d{i}"))])
        .collect();
    let right = LogicalPlanBuilder::from(right).project(renamed)?.build()?;
    let on = (
        (0..keys).map(|g| Column::new_unqualified(format!("g{g}"))).collect(),
        (0..keys).map(|g| Column::new_unqualified(format!("d{i}g{g}"))).collect::<Vec<Column>>(),
    );
    let on: (Vec<Column>, Vec<Column>) = on;
    LogicalPlanBuilder::from(left)
        .join_detailed(right, JoinType::Inner, on, None, NullEquality::NullEqualsNull)?
        .project(keep.into_iter().chain([col(format!("d{i}"))]))?
        .build()
}
