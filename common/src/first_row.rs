//! `row_number() = 1` as an aggregate.
//!
//! ```text
//! SELECT … FROM (SELECT *, row_number() OVER (PARTITION BY p ORDER BY o) AS r FROM t) WHERE r = 1
//!   = SELECT first_value(row ORDER BY o).* FROM t GROUP BY p
//! ```
//!
//! The first keeps every event, the second one row for each `p`, and among rows that are equal in `o` it is the place
//! of the event that decides. The filter stays where it is; below it there are now only rows that it keeps.

use crate::error::Result;
use crate::expr::columns;
use crate::shape::{Shape, shape};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::core::named_struct;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::logical_plan::{Projection, Window};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, col, lit};
use std::sync::Arc;

/// `plan` with an aggregate where a filter keeps the first row of each group of events.
pub(crate) fn first_rows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        for column in split_conjunction(&filter.predicate).into_iter().filter_map(is_one) {
            if let Some(input) = numbered_first(&filter.input, column)? {
                return Ok(Transformed::yes(
                    plan.with_new_exprs(vec![filter.predicate.clone()], vec![input])?,
                ));
            }
        }
        Ok(Transformed::no(plan))
    })?;
    Ok(rewritten.data)
}

/// The column that must be 1 for the predicate to hold, if it is a number from 1 on.
fn is_one(predicate: &Expr) -> Option<&Column> {
    let Expr::BinaryExpr(binary) = predicate else { return None };
    // Row numbers are unsigned, and constants are not: both are cast to be compared.
    let (Expr::Column(column), Expr::Literal(value, _)) = (uncast(&binary.left), uncast(&binary.right))
    else {
        return None;
    };
    let Ok(ScalarValue::Int64(Some(value))) = value.cast_to(&DataType::Int64) else { return None };
    let one = matches!((binary.op, value), (Operator::Eq | Operator::LtEq, 1) | (Operator::Lt, 2));
    one.then_some(column)
}

fn uncast(expr: &Expr) -> &Expr {
    if let Expr::Cast(cast) = expr { uncast(&cast.expr) } else { expr }
}

/// `plan` with only the rows that have 1 in `column`, if that is the number of a row among events.
fn numbered_first(plan: &LogicalPlan, column: &Column) -> Result<Option<LogicalPlan>> {
    let Ok(at) = plan.schema().index_of_column(column) else { return Ok(None) };
    let below = match plan {
        LogicalPlan::Projection(projection) => match crate::expr::unalias(&projection.expr[at]) {
            Expr::Column(column) => numbered_first(&projection.input, column)?,
            _ => None,
        },
        LogicalPlan::SubqueryAlias(alias) => {
            numbered_first(&alias.input, &Column::from(alias.input.schema().qualified_field(at)))?
        }
        LogicalPlan::Window(window) => return first_of_each(window, at),
        _ => None,
    };
    let rebuilt = |input| plan.with_new_exprs(plan.expressions(), vec![input]);
    Ok(below.map(rebuilt).transpose()?)
}

fn first_of_each(window: &Window, at: usize) -> Result<Option<LogicalPlan>> {
    let [numbered] = window.window_expr.as_slice() else { return Ok(None) };
    let Expr::WindowFunction(call) = crate::expr::unalias(numbered) else { return Ok(None) };
    let WindowFunction { fun, params } = call.as_ref();
    let own = window.input.schema().fields().len();
    let fits = fun.name() == "row_number"
        && !params.partition_by.is_empty()
        && params.filter.is_none()
        && at == own
        && shape(&window.input)? == Shape::PerEvent;
    if !fits {
        return Ok(None);
    }
    let fields = columns(window.input.schema()).into_iter().enumerate();
    let row = named_struct().call(fields.flat_map(|(i, column)| [lit(format!("c{i}")), column]).collect());
    let groups = params.partition_by.iter().enumerate().map(|(i, key)| key.clone().alias(format!("g{i}")));
    let order = params.order_by.clone();
    let first = AggregateFunction::new_udf(first_value_udaf(), vec![row], false, None, order, None);
    let first = Expr::AggregateFunction(first).alias("first");
    let plan = LogicalPlanBuilder::from(window.input.as_ref().clone())
        .aggregate(groups.collect::<Vec<_>>(), vec![first])?
        .build()?;
    let values = (0..own).map(|i| get_field(col("first"), format!("c{i}"))).chain([lit(1u64)]);
    let named = values.enumerate().map(|(i, value)| {
        let (qualifier, field) = window.schema.qualified_field(i);
        value.alias_qualified(qualifier.cloned(), field.name())
    });
    let named = named.collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(named, Arc::new(plan))?)))
}
