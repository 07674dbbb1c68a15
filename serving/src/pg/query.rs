//! Queries: their plans, and their answers through [`Serving`].

use super::Pg;
use super::failure::{Failure, state};
use super::parameters::Expected;
use super::session::Source;
use super::statement::{Statement, read, split};
use crate::query::{Planner, Streamed};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion_postgres::pgwire::api::Type;
use std::sync::{Arc, Weak};
use twofold_common::{Catalog, Result};

/// A statement that is prepared to be run, maybe more than once.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) statement: Statement,
    /// What it needs, if it has a query in it.
    pub(super) query: Option<Arc<PreparedQuery>>,
}

#[derive(Debug)]
pub(super) struct PreparedQuery {
    text: Arc<str>,
    /// The plan, and the version of the project that it is of.
    plan: LogicalPlan,
    of: Weak<Catalog>,
    pub(super) expected: Expected,
    /// The columns of the answer.
    pub(super) schema: Schema,
}

/// What is asked of [`Serving`](crate::Serving).
struct Ask<'a> {
    pg: &'a Pg,
    text: &'a str,
    user: &'a str,
    known: Option<&'a PreparedQuery>,
    values: Option<ParamValues>,
}

#[async_trait]
impl Planner for Ask<'_> {
    fn statement(&self) -> &str {
        self.text
    }

    async fn plan(&self, catalog: &Arc<Catalog>) -> Result<LogicalPlan> {
        let known = self.known.filter(|known| std::ptr::eq(known.of.as_ptr(), Arc::as_ptr(catalog)));
        let plan = match known {
            Some(known) => known.plan.clone(),
            None => self.pg.names(catalog).plan(self.text, self.user).await?,
        };
        match &self.values {
            Some(values) => Ok(plan.replace_params_with_values(values)?),
            None => Ok(plan),
        }
    }
}

impl Pg {
    /// Prepares the one statement of a text; `None` if it is empty.
    pub(super) async fn prepare(
        &self,
        text: &str,
        types: &[Option<Type>],
        user: &str,
    ) -> Result<Option<Prepared>, Failure> {
        let one = match split(text)?.as_slice() {
            [] => return Ok(None),
            [one] => *one,
            _ => {
                let message = "a prepared statement is one statement: send each by itself";
                return Err(Failure::new(state::SYNTAX, message.into()));
            }
        };
        let statement = read(one)?;
        let query = match &statement {
            Statement::Query(query) | Statement::Declare { query, .. } => {
                Some(Arc::new(self.prepare_query(query, types, user).await?))
            }
            _ => None,
        };
        Ok(Some(Prepared { statement, query }))
    }

    async fn prepare_query(
        &self,
        text: &Arc<str>,
        types: &[Option<Type>],
        user: &str,
    ) -> Result<PreparedQuery, Failure> {
        let ask = Ask { pg: self, text, user, known: None, values: None };
        let (catalog, plan) = self.serving.plan(&ask).await?;
        let of = Arc::downgrade(&catalog);
        let expected = Expected::of(&plan, types)?;
        // With values in it, so that it has types where they come from these.
        let typed = plan.clone().replace_params_with_values(&expected.nulls()?)?;
        let session = self.names(&catalog).state();
        let analyzed = session.analyzer().execute_and_check(typed, session.config_options(), |_, _| {})?;
        let schema = analyzed.schema().as_arrow().clone();
        Ok(PreparedQuery { text: Arc::clone(text), plan, of, expected, schema })
    }

    /// Runs a query that came as it is.
    pub(super) async fn run(&self, text: &str, user: &str) -> Result<(SchemaRef, Source, bool), Failure> {
        let ask = Ask { pg: self, text, user, known: None, values: None };
        let Streamed { schema, batches, previous, deadline, .. } = self.serving.stream(&ask).await?;
        Ok((schema, Source::new(batches, deadline), previous))
    }

    /// Runs a prepared query with these values.
    pub(super) async fn run_prepared(
        &self,
        query: &PreparedQuery,
        values: ParamValues,
        user: &str,
    ) -> Result<(SchemaRef, Source, bool), Failure> {
        let ask = Ask { pg: self, text: &query.text, user, known: Some(query), values: Some(values) };
        let Streamed { schema, batches, previous, deadline, .. } = self.serving.stream(&ask).await?;
        let types = |schema: &Schema| -> Vec<Type> {
            schema.fields().iter().map(|field| super::types::pg_type(field)).collect()
        };
        // The client reads what it was told.
        if types(&schema) != types(&query.schema) {
            let message =
                "the columns of the answer have changed since the statement was prepared: prepare it again";
            return Err(Failure::new(state::NOT_SUPPORTED, message.into()));
        }
        Ok((schema, Source::new(batches, deadline), previous))
    }
}
