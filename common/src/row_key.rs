//! The key of a plan's rows: columns that no two rows have in common.
//!
//! It is read off the query as it was written: the rows of an aggregate differ in what it groups by, and most operators
//! above one leave its rows as they are or drop some. What multiplies rows, or hides one of those columns, has no key
//! that is known; and grouping sets have none, since a null of theirs looks like a null of the data.

use crate::error::Result;
use crate::expr::unalias;
use crate::windowed::markers;
use datafusion::common::Column;
use datafusion::logical_expr::logical_plan::{Aggregate, Distinct, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The positions of the columns that are the key of the plan's rows, if it has one. Of one row at most it is empty.
pub(crate) fn row_key(plan: &LogicalPlan) -> Result<Option<Vec<usize>>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => Ok(of_groups(aggregate)),
        LogicalPlan::Projection(projection) => of_projection(projection),
        LogicalPlan::Filter(filter) => row_key(&filter.input),
        LogicalPlan::Sort(sort) => row_key(&sort.input),
        LogicalPlan::Limit(limit) => row_key(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => row_key(&alias.input),
        // It adds its columns behind those of its input.
        LogicalPlan::Window(window) => row_key(&window.input),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            Ok(row_key(input)?.or_else(|| Some((0..input.schema().fields().len()).collect())))
        }
        _ => Ok(None),
    }
}

/// For each key column of a state, the position of the column that has it: where the plan finishes one state, and a row
/// comes of the states of one key alone.
pub(crate) fn state_key(plan: &LogicalPlan) -> Option<Vec<usize>> {
    match plan {
        LogicalPlan::Aggregate(aggregate)
            if matches!(aggregate.input.as_ref(), LogicalPlan::TableScan(_)) =>
        {
            let key = |(i, expr): (usize, &Expr)| match unalias(expr) {
                Expr::Column(column) => column.name == format!("k{i}"),
                _ => false,
            };
            let keys = aggregate.group_expr.len();
            (keys > 0 && aggregate.group_expr.iter().enumerate().all(key)).then(|| (0..keys).collect())
        }
        LogicalPlan::Projection(projection) => through(projection, state_key(&projection.input)?),
        LogicalPlan::Filter(filter) => state_key(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => state_key(&alias.input),
        _ => None,
    }
}

/// Where a projection has these columns of its input, if it has them all.
fn through(projection: &Projection, columns: Vec<usize>) -> Option<Vec<usize>> {
    let schema = projection.input.schema();
    let position = |column: usize| {
        let column = Column::from(schema.qualified_field(column));
        projection.expr.iter().position(|expr| matches!(unalias(expr), Expr::Column(c) if *c == column))
    };
    columns.into_iter().map(position).collect()
}

fn of_groups(aggregate: &Aggregate) -> Option<Vec<usize>> {
    let sets = aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
    (!sets).then(|| (0..aggregate.group_expr.len()).collect())
}

fn of_projection(projection: &Projection) -> Result<Option<Vec<usize>>> {
    for expr in &projection.expr {
        // A marker that no aggregate groups by gives a row for each of its windows.
        if !markers(expr)?.is_empty() {
            return Ok(None);
        }
    }
    Ok(row_key(&projection.input)?.and_then(|key| through(projection, key)))
}
