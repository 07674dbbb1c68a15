//! A statement of Flight SQL as it is asked of [`Serving`]: what it gives and takes, and its answer.
//!
//! ```text
//! describe(sql) has the schema of the answer of sql, as long as the project stays the same
//! ```
//!
//! All that an answer is made of is taken at one moment, before its first batch: the rows come as they are asked for, and
//! are of that moment. Columns are in plain types, see [`plain`](crate::plain). An answer that is dropped stops.

use crate::access::Access;
use crate::parameters::{parameters, with_values};
use crate::plain::plain_schema;
use crate::query::{Planner, Serving, Streamed};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use std::sync::{Arc, Mutex, PoisonError};
use twofold_common::{Catalog, Error, Result};

/// What a statement gives and takes.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// The columns of its rows.
    pub(super) schema: SchemaRef,
    /// The types of its parameters from `$1` on, where it says them.
    pub(super) parameters: Vec<Option<DataType>>,
}

/// A statement, and maybe values for its parameters.
struct Asked<'a> {
    serving: &'a Serving,
    sql: &'a str,
    values: Option<&'a [ScalarValue]>,
    /// What was planned last.
    described: Mutex<Option<Description>>,
}

#[async_trait]
impl Planner for Asked<'_> {
    fn statement(&self) -> &str {
        self.sql
    }

    async fn plan(&self, catalog: &Arc<Catalog>) -> Result<LogicalPlan> {
        Access::current().may_query(catalog, self.sql)?;
        let plan = self.serving.plan_of(catalog, self.sql).await?;
        let plan = match self.values {
            Some(values) => with_values(plan, values)?,
            None => plan,
        };
        let parameters = parameters(&plan)?;
        let schema = match columns(catalog, &plan) {
            // Types may follow from values that are not there yet.
            Err(_) if !parameters.is_empty() => plain_schema(plan.schema().as_arrow()),
            schema => schema?,
        };
        let description = Description { schema, parameters };
        *self.described.lock().unwrap_or_else(PoisonError::into_inner) = Some(description);
        Ok(plan)
    }
}

impl<'a> Asked<'a> {
    fn new(serving: &'a Serving, sql: &'a str, values: Option<&'a [ScalarValue]>) -> Self {
        Self { serving, sql, values, described: Mutex::default() }
    }

    fn description(self) -> Result<Description> {
        let described = self.described.into_inner().unwrap_or_else(PoisonError::into_inner);
        described.ok_or_else(|| Error::Internal("a statement was answered without its plan".into()))
    }
}

/// What a statement gives and takes; it is not run. Without values its parameters are left open.
///
/// # Errors
/// `Invalid` or `NotFound` if the statement is wrong.
pub(super) async fn describe(
    serving: &Serving,
    sql: &str,
    values: Option<&[ScalarValue]>,
) -> Result<Description> {
    let asked = Asked::new(serving, sql, values);
    serving.plan(&asked).await?;
    asked.description()
}

/// The answer to a statement with values for its parameters, and its columns in plain types.
///
/// # Errors
/// Those of [`Serving::query`]; and `Invalid` if there are not as many values as parameters.
pub(super) async fn stream(
    serving: &Arc<Serving>,
    sql: &str,
    values: &[ScalarValue],
) -> Result<(Streamed, SchemaRef)> {
    let asked = Asked::new(serving, sql, Some(values));
    let streamed = serving.stream(&asked).await?;
    Ok((streamed, asked.description()?.schema))
}

/// The columns of a plan, with the types that its analysis gives them: those that it will run with.
fn columns(catalog: &Catalog, plan: &LogicalPlan) -> Result<SchemaRef> {
    let state = catalog.session().state();
    let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    Ok(plain_schema(analyzed.schema().as_arrow()))
}
