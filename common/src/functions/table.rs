//! Table functions whose calls can be told from the plan.
//!
//! The engine plans `FROM f(1, 2)` as a scan named `f()` of what the function gave: the arguments are gone. They are
//! part of the view's meaning, so each relation that a table function gives is kept together with its call.
//!
//! What the function gives is read when the plan runs, again in each run; the function promises the same rows for the
//! same arguments.

use crate::Digest;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableScan, TableType, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use std::any::Any;
use std::sync::Arc;

/// Makes every table function of a session one that keeps its calls.
pub(crate) fn record_calls(session: &SessionContext) {
    for (name, function) in session.state().table_functions() {
        let function = Arc::clone(function.function());
        session.register_udtf(name, Arc::new(Recording { name: name.clone(), function }));
    }
}

/// A call of a table function: what is part of the meaning of a view that reads its rows.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) function: String,
    /// The arguments and the columns, as text. Constants are told whole.
    pub(super) text: String,
}

/// The call whose rows a scan reads, if a table function gave them.
pub(super) fn call_of(scan: &TableScan) -> Option<Call> {
    let provider = source_as_provider(&scan.source).ok()?;
    let called = (provider.as_ref() as &dyn Any).downcast_ref::<Called>()?;
    Some(called.call.clone())
}

#[derive(Debug)]
struct Recording {
    name: String,
    function: Arc<dyn TableFunctionImpl>,
}

impl TableFunctionImpl for Recording {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let arguments = args.exprs().iter().map(|a| argument(&self.name, a)).collect::<Result<Vec<_>>>()?;
        let rows = self.function.call_with_args(args)?;
        let columns = rows.schema();
        let columns = columns.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
        let columns: Vec<String> = columns.collect();
        let text = format!("{}({}): {}", self.name, arguments.join(", "), columns.join(", "));
        Ok(Arc::new(Called { call: Call { function: self.name.clone(), text }, rows }))
    }
}

/// An argument as text: the text of an expression may cut constants short, so their digests follow.
fn argument(function: &str, argument: &Expr) -> Result<String> {
    let mut text = argument.to_string();
    argument.apply(|part| {
        match part {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                let called = call.func.name();
                return plan_err!(
                    "an argument of {function} calls {called}, whose value is another one in each run: \
                     give a constant"
                );
            }
            Expr::Literal(value, _) => {
                let converter = RowConverter::new(vec![SortField::new(value.data_type())])?;
                let row = converter.convert_columns(&[value.to_array()?])?;
                text += &format!(" {} {}", value.data_type(), Digest::of(row.row(0).data()));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(text)
}

/// What a call gave.
#[derive(Debug)]
struct Called {
    call: Call,
    rows: Arc<dyn TableProvider>,
}

#[async_trait]
impl TableProvider for Called {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.rows.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.rows.scan(session, projection, filters, limit).await
    }
}
