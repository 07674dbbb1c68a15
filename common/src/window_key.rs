//! The windows of time by which a view groups events, as a function of each event.

use crate::error::Result;
use crate::scan::{Source, source_of};
use crate::windows::{first_window, time_of_window};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// A group key of a view that is a window of time.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowKey {
    /// The stream whose events it groups.
    pub stream: String,
    /// The window, over the stream's event columns: a struct of two timestamps, `start` and `end`. Of the windows of
    /// an event that overlap it is the one that ends first; of a session, that of the event alone.
    pub window: Expr,
}

impl WindowKey {
    /// Whether the window is one in which the time in this column lies, so that it ends after that.
    pub fn is_of(&self, column: &str) -> bool {
        matches!(time_of_window(&self.window), Some(Expr::Column(time)) if time.name == column)
    }
}

/// The windows among the keys of a fold over `input`, for each stream that they group.
pub(crate) fn window_keys(keys: &[Expr], input: &LogicalPlan) -> Result<Vec<WindowKey>> {
    let mut found = Vec::new();
    for key in keys {
        below(key.clone(), input, &mut found)?;
    }
    Ok(found)
}

/// Follows an expression over the columns of `plan` down to the streams.
fn below(expr: Expr, plan: &LogicalPlan, found: &mut Vec<WindowKey>) -> Result<()> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            if let (Some(Source::Stream(stream)), Some(window)) = (source_of(scan), window_in(&expr)?) {
                let window =
                    with_columns(window, |column| Expr::Column(Column::new_unqualified(&column.name)))?;
                let key = WindowKey { stream, window };
                if !found.contains(&key) {
                    found.push(key);
                }
            }
            Ok(())
        }
        LogicalPlan::Projection(projection) => {
            let schema = &projection.schema;
            let inner = |column: &Column| {
                schema
                    .index_of_column(column)
                    .map_or_else(|_| Expr::Column(column.clone()), |i| projection.expr[i].clone())
            };
            below(with_columns(expr, inner)?, &projection.input, found)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            below(at_position(expr, plan, &alias.input)?, &alias.input, found)
        }
        LogicalPlan::Union(union) => {
            for input in &union.inputs {
                below(at_position(expr.clone(), plan, input)?, input, found)?;
            }
            Ok(())
        }
        LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::Sort(_) | LogicalPlan::Unnest(_) => {
            for input in plan.inputs() {
                if expr.column_refs().iter().all(|column| input.schema().has_column(column)) {
                    below(expr.clone(), input, found)?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The window in an expression, which may be its start or end.
fn window_in(expr: &Expr) -> Result<Option<Expr>> {
    let mut found = None;
    expr.apply(|part| {
        found = first_window(part);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The expression over `input` for the one over `plan` whose columns stand in the same places.
fn at_position(expr: Expr, plan: &LogicalPlan, input: &LogicalPlan) -> Result<Expr> {
    with_columns(expr, |column| match plan.schema().index_of_column(column) {
        Ok(i) if i < input.schema().fields().len() => {
            Expr::Column(Column::from(input.schema().qualified_field(i)))
        }
        _ => Expr::Column(column.clone()),
    })
}

fn with_columns(expr: Expr, inner: impl Fn(&Column) -> Expr) -> Result<Expr> {
    let replaced = expr.transform_up(|part| {
        Ok(match &part {
            Expr::Column(column) => Transformed::yes(inner(column)),
            _ => Transformed::no(part),
        })
    })?;
    Ok(crate::expr::unalias(&replaced.data).clone())
}
