//! The names that a client of PostgreSQL may use: the project's relations, and the system catalogs that tell of them.
//!
//! One database, `twofold`, with the project in its schema `public`, and beside it `pg_catalog` and
//! `information_schema`. These are made once for each version of the project, from its relations as they stand; a
//! query over them reads no data. Streams and tables are tables there, views are views, and maintained views are
//! materialized views.
//!
//! A query is planned as everywhere else, and if that cannot be, once more as PostgreSQL would read it. For queries of
//! the system catalogs, which drivers and tools send, it is the other way round.

use super::functions;
use super::information::{self, Relation};
use super::rewrite::rewrite;
use super::system;
use crate::access::Access;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OnceCell;
use twofold_common::{Catalog, Error, Result};

/// The one database.
pub(super) const DATABASE: &str = "twofold";
const PUBLIC: &str = "public";
const PG_CATALOG: &str = "pg_catalog";
const INFORMATION_SCHEMA: &str = "information_schema";

/// The names of one version of a project.
pub(super) struct Names {
    pub(super) catalog: Arc<Catalog>,
    plain: OnceCell<SessionContext>,
    /// Where streams show the columns that are stored beside their own.
    meta: OnceCell<SessionContext>,
    parser: PostgresCompatibilityParser,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

impl Names {
    pub(super) fn new(catalog: &Arc<Catalog>) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            plain: OnceCell::new(),
            meta: OnceCell::new(),
            parser: PostgresCompatibilityParser::new(),
        }
    }

    /// The plan of a query, asked by `user`.
    pub(super) async fn plan(&self, query: &str, user: &str) -> Result<LogicalPlan> {
        let session = self.session(query).await?;
        let plan = if is_of_system_catalogs(query) {
            match self.plan_as_postgresql(query, session).await {
                Ok(plan) => plan,
                Err(e) => self.plan_as_ours(query, session).await.map_err(|_| e)?,
            }
        } else {
            match self.plan_as_ours(query, session).await {
                Ok(plan) => plan,
                Err(e) => self.plan_as_postgresql(query, session).await.map_err(|_| e)?,
            }
        };
        functions::with_user(plan, user)
    }

    async fn plan_as_ours(&self, query: &str, session: &SessionContext) -> Result<LogicalPlan> {
        let state = session.state();
        self.plan_allowed(Catalog::parse(query, &state)?, &state).await
    }

    async fn plan_as_postgresql(&self, query: &str, session: &SessionContext) -> Result<LogicalPlan> {
        let parsed = self.parser.parse(query);
        let parsed = parsed.map_err(|e| Error::Engine(DataFusionError::SQL(Box::new(e), None)))?;
        let [mut statement] = <[_; 1]>::try_from(parsed)
            .map_err(|found| Error::Invalid(format!("expected one query, found {}", found.len())))?;
        rewrite(&mut statement);
        self.plan_allowed(Statement::Statement(Box::new(statement)), &session.state()).await
    }

    /// The plan of a statement whose relations who asks may read; the system catalogs are there for everybody.
    async fn plan_allowed(&self, statement: Statement, state: &SessionState) -> Result<LogicalPlan> {
        let access = Access::current();
        if !access.is_admin() {
            for relation in state.resolve_table_references(&statement)? {
                if !matches!(relation.schema(), Some(PG_CATALOG | INFORMATION_SCHEMA)) {
                    access.may_read(relation.table())?;
                }
            }
        }
        self.catalog.plan_statement(statement, state).await
    }

    async fn session(&self, query: &str) -> Result<&SessionContext> {
        let ours = self.catalog.session_of(query);
        let cell = if std::ptr::eq(ours, self.catalog.session()) { &self.plain } else { &self.meta };
        cell.get_or_try_init(|| session(&self.catalog, ours)).await
    }

    /// The configuration by which plans of these names are analyzed.
    pub(super) fn state(&self) -> SessionState {
        self.catalog.session().state()
    }
}

/// An expression in PostgreSQL's SQL.
pub(super) fn parse_expression(text: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_expr().ok()
}

/// Whether a query is one that a driver or a tool asks, rather than a person or a dashboard.
fn is_of_system_catalogs(query: &str) -> bool {
    const WORDS: &[&str] = &[
        "information_schema",
        "current_catalog",
        "current_database",
        "current_role",
        "current_schema",
        "current_schemas",
        "current_setting",
        "current_user",
        "session_user",
        "regclass",
        "regnamespace",
        "regproc",
        "regprocedure",
        "regrole",
        "regtype",
    ];
    let query = query.to_lowercase();
    let mut words = query.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word.starts_with("pg_") || WORDS.contains(&word)) || query.contains("version()")
}

/// A session that has what `ours` has, and the system catalogs that tell of it.
async fn session(catalog: &Catalog, ours: &SessionContext) -> Result<SessionContext> {
    let public = ours.catalog(DATABASE).and_then(|database| database.schema(PUBLIC));
    let public = public.ok_or_else(|| Error::Internal("the engine has no schema public".into()))?;
    let mut relations = Vec::new();
    let mut names = public.table_names();
    names.sort();
    for name in names {
        if let Some(table) = public.table(&name).await? {
            relations.push(Relation::new(catalog, name, table.schema()));
        }
    }
    let database = Arc::new(MemoryCatalogProvider::new());
    let information: Arc<dyn SchemaProvider> = Arc::new(Tables(information::tables(&relations)?));
    database.register_schema(PUBLIC, public)?;
    database.register_schema(INFORMATION_SCHEMA, information)?;
    let list = Arc::new(MemoryCatalogProviderList::new());
    list.register_catalog(DATABASE.into(), Arc::clone(&database) as _);
    let mut config = ours.copied_config();
    // There is one of our own.
    config.options_mut().catalog.information_schema = false;
    let state = SessionStateBuilder::new_from_existing(ours.state())
        .with_config(config.with_create_default_catalog_and_schema(false))
        .with_catalog_list(list)
        .build();
    let session = SessionContext::new_with_state(state);
    setup_pg_catalog(&session, DATABASE, EmptyContextProvider).map_err(|e| Error::Engine(*e))?;
    functions::register(&session);
    let of_library = database.schema(PG_CATALOG);
    let of_library = of_library.ok_or_else(|| Error::Internal("there is no schema pg_catalog".into()))?;
    let own = system::tables(&session, &relations).await?;
    database.register_schema(PG_CATALOG, Arc::new(Over { own: Tables(own), beneath: of_library }))?;
    Ok(session)
}

/// Relations that do not change.
#[derive(Debug)]
struct Tables(BTreeMap<String, Arc<dyn TableProvider>>);

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Relations of our own in the place of some of the library's.
#[derive(Debug)]
struct Over {
    own: Tables,
    beneath: Arc<dyn SchemaProvider>,
}

#[async_trait]
impl SchemaProvider for Over {
    fn table_names(&self) -> Vec<String> {
        self.beneath.table_names()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        match self.own.table(name).await? {
            Some(table) => Ok(Some(table)),
            None => self.beneath.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.own.table_exist(name) || self.beneath.table_exist(name)
    }
}
