//! Checks a watermark: a timestamp computed from the event alone.
//!
//! The watermark is a function of a log prefix, so its expression may use the stream's columns and nothing else:
//! no clock, no chance, no other relation.

use super::Location;
use super::columns::message;
use super::stream::WatermarkClause;
use crate::engine;
use crate::error::Result;
use crate::functions::Functions;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::sql::sqlparser::ast::ExprWithAlias;

/// Whether the clause makes sense over a stream with `schema`.
pub(super) fn check(schema: &Schema, clause: &WatermarkClause, functions: &Functions) -> Result<()> {
    let WatermarkClause { column, column_at, expression, expression_at: at } = clause;
    match schema.column_with_name(column) {
        None => {
            return Err(column_at.error(format!("WATERMARK FOR `{column}`: the stream has no such column")));
        }
        Some((_, field)) if !is_timestamp(field.data_type()) => {
            let found = field.data_type();
            return Err(
                column_at.error(format!("WATERMARK FOR `{column}`: expected a TIMESTAMP, found {found}"))
            );
        }
        Some(_) => {}
    }
    let engine = |e: DataFusionError| at.error(format!("WATERMARK FOR `{column}`: {}", message(&e)));
    let schema = DFSchema::try_from(schema.clone()).map_err(engine)?;
    let session = engine::state(&engine::session_with(functions));
    let expression = ExprWithAlias { expr: expression.clone(), alias: None };
    let expression = session.create_logical_expr_from_sql_expr(expression, &schema).map_err(engine)?;
    check_expression(at, column, &expression)?;
    let physical = session.create_physical_expr(expression, &schema).map_err(engine)?;
    match physical.data_type(schema.as_arrow()).map_err(engine)? {
        found if is_timestamp(&found) => Ok(()),
        found => Err(at.error(format!("WATERMARK FOR `{column}`: expected a TIMESTAMP, found {found}"))),
    }
}

fn check_expression(at: &Location, column: &str, expression: &Expr) -> Result<()> {
    if let Some(reason) = refusal(expression) {
        return Err(at.error(format!("WATERMARK FOR `{column}`: {reason}")));
    }
    if !expression.column_refs().iter().any(|c| c.name == column) {
        return Err(at.error(format!("WATERMARK FOR `{column}`: the expression does not use `{column}`")));
    }
    Ok(())
}

/// Why a part of the expression is no function of the event, if there is such a part.
fn refusal(expression: &Expr) -> Option<String> {
    let mut reason = None;
    let walked = expression.apply(|part| {
        reason = match part {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                Some(format!("{}() does not depend on the event alone", call.func.name()))
            }
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                Some("it looks at one event at a time, so there are no aggregates".to_string())
            }
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                Some("it looks at the event alone, so there are no subqueries".to_string())
            }
            _ => None,
        };
        Ok(if reason.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    reason.or_else(|| walked.err().map(|e| message(&e)))
}

fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _))
}
