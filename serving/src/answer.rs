//! An answer batch by batch, and what is known of one before it is run.
//!
//! ```text
//! describe(sql) has the schema of stream(sql), as long as the project stays the same
//! ```
//!
//! All that an answer is made of is taken at one moment, before its first batch: the rows come as they are asked for, and
//! are of that moment. Columns are in plain types, see [`plain`](crate::plain). An answer that is dropped stops.

use crate::parameters::parameters;
use crate::plain::plain_schema;
use crate::query::{Question, Ready, Serving};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use twofold_common::{Catalog, Coverage, Kind, Result};

/// What a statement gives and takes.
#[derive(Debug)]
pub(crate) struct Description {
    /// The columns of its rows.
    pub(crate) schema: SchemaRef,
    /// The types of its parameters from `$1` on, where it says them.
    pub(crate) parameters: Vec<Option<DataType>>,
}

/// An answer that begins.
pub(crate) struct Streamed {
    /// The columns, in plain types.
    pub(crate) schema: SchemaRef,
    /// The rows as the engine has them: the same columns, perhaps in other types.
    pub(crate) batches: SendableRecordBatchStream,
    pub(crate) coverage: Vec<Coverage>,
    /// Whether it is of the project before the current one, which is still being built.
    pub(crate) previous: bool,
}

impl Serving {
    /// What a statement gives and takes; it is not run. Without values its parameters are left open.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` if the statement is wrong.
    pub(crate) async fn describe(&self, sql: &str, values: Option<&[ScalarValue]>) -> Result<Description> {
        let description = self.described(&Question::Bound { sql, values }).await;
        description.inspect_err(|e| self.metrics.failed(e.kind()))
    }

    async fn described(&self, question: &Question<'_>) -> Result<Description> {
        let project = self.project();
        let (catalog, plan) = match self.of_previous(&project, question).await? {
            Some(found) => found,
            None => (project.current().as_ref(), question.plan(project.current()).await?),
        };
        let parameters = parameters(&plan)?;
        let schema = match columns(catalog, &plan) {
            // Types may follow from values that are not there yet.
            Err(_) if !parameters.is_empty() => plain_schema(plan.schema().as_arrow()),
            schema => schema?,
        };
        Ok(Description { schema, parameters })
    }

    /// The answer to a statement with values for its parameters.
    ///
    /// # Errors
    /// Those of [`query`](Self::query); and `Invalid` if there are not as many values as parameters.
    pub(crate) async fn stream(&self, sql: &str, values: &[ScalarValue]) -> Result<Streamed> {
        let question = Question::Bound { sql, values: Some(values) };
        let project = self.project();
        if let Some((catalog, plan)) = self.of_previous(&project, &question).await? {
            match self.streamed(catalog, plan).await {
                // For the reasons that `query` goes on for.
                Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Invalid) => {}
                answer => return answer.map(|answer| Streamed { previous: true, ..answer }),
            }
        }
        self.streamed(project.current(), question.plan(project.current()).await?).await
    }

    async fn streamed(&self, catalog: &Catalog, plan: LogicalPlan) -> Result<Streamed> {
        let schema = columns(catalog, &plan)?;
        let Ready { plan, context, coverage } = self.ready(catalog, plan).await?;
        Ok(Streamed { schema, batches: execute_stream(plan, context)?, coverage, previous: false })
    }
}

/// The columns of a plan, with the types that its analysis gives them: those that it will run with.
fn columns(catalog: &Catalog, plan: &LogicalPlan) -> Result<SchemaRef> {
    let state = catalog.session().state();
    let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    Ok(plain_schema(analyzed.schema().as_arrow()))
}
