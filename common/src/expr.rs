//! Expressions and columns of plans, whatever they mean.

use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;

/// The expression below all aliases.
pub(crate) fn unalias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unalias(&alias.expr),
        other => other,
    }
}

/// The columns of a schema as expressions.
pub(crate) fn columns(schema: &DFSchema) -> Vec<Expr> {
    (0..schema.fields().len()).map(|i| Expr::Column(Column::from(schema.qualified_field(i)))).collect()
}
