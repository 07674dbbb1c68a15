//! The catalog: a project's streams, tables and views, planned and ready to be queried.
//!
//! The same name means two things. Where a view is *defined*, the name of a maintained view stands for its query,
//! so that a view over views is one plan over streams. Where something is *queried*, it stands for its finish plan
//! over states. Streams, tables and query-time views are the same in both.
//!
//! The columns that Twofold stores beside a stream's own are there for queries that name one of them, and only
//! then, so that `SELECT *` gives the columns that were declared.

use crate::audit::{AUDIT, Finding};
use crate::coverage::Coverage;
use crate::ddl::ViewDef;
use crate::engine;
use crate::error::{Error, Result};
use crate::functions::Functions;
use crate::late_events::{LATE_EVENTS, LateEvents};
use crate::memory;
use crate::project::Project;
use crate::row_key::row_key;
use crate::scan::{Source, Unbound, sources};
use crate::sql;
use crate::stream::{META_COLUMNS, StreamDef};
use crate::table::Table;
use crate::told_coverage::COVERAGE;
use crate::view::View;
use crate::windowed;
use datafusion::catalog::TableProvider;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::common::TableReference;
use datafusion::datasource::{MemTable, ViewTable};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A project's relations.
pub struct Catalog {
    streams: BTreeMap<String, StreamDef>,
    tables: BTreeMap<String, Arc<Table>>,
    views: BTreeMap<String, Arc<View>>,
    query_views: BTreeMap<String, String>,
    definitions: Sessions,
    queries: Sessions,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("streams", &self.streams.keys())
            .field("tables", &self.tables.keys())
            .field("views", &self.views.keys())
            .field("query_views", &self.query_views.keys())
            .finish()
    }
}

/// Two sessions of the engine that differ in whether streams show the columns stored beside their own.
struct Sessions {
    plain: SessionContext,
    meta: SessionContext,
}

impl Sessions {
    fn new(functions: &Functions, runtime: &Arc<RuntimeEnv>) -> Self {
        let session = || engine::session_over(functions, Arc::clone(runtime));
        Self { plain: session(), meta: session() }
    }

    fn both(&self) -> [&SessionContext; 2] {
        [&self.plain, &self.meta]
    }

    fn of(&self, sql: &str) -> &SessionContext {
        if names_meta_column(sql) { &self.meta } else { &self.plain }
    }

    fn register(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        for session in self.both() {
            session.register_table(TableReference::bare(name), Arc::clone(&table))?;
        }
        Ok(())
    }

    fn register_stream(&self, stream: &StreamDef) -> Result<()> {
        for (session, schema) in self.both().into_iter().zip([stream.schema.clone(), stream.event_schema()]) {
            let table = Unbound::new(Source::Stream(stream.name.clone()), schema);
            session.register_table(TableReference::bare(stream.name.as_str()), Arc::new(table))?;
        }
        Ok(())
    }
}

fn names_meta_column(sql: &str) -> bool {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    tokens
        .iter()
        .any(|token| matches!(token, Token::Word(word) if META_COLUMNS.contains(&word.value.as_str())))
}

impl Catalog {
    /// Plans the views of a project that uses no functions of the user's own.
    ///
    /// # Errors
    /// Those of [`Catalog::with_functions`].
    pub async fn new(project: &Project) -> Result<Self> {
        Self::with_functions(project, &Functions::default()).await
    }

    /// Plans the views of a project. They and all queries may use `functions`.
    ///
    /// # Errors
    /// `Invalid` for a view that cannot be planned or maintained, with the place of its statement.
    pub async fn with_functions(project: &Project, functions: &Functions) -> Result<Self> {
        let runtime = memory::runtime(project.config.memory.limit)?;
        let mut catalog = Self {
            streams: project.all_streams().map(|s| (s.name.clone(), s)).collect(),
            tables: project.tables.clone(),
            views: BTreeMap::new(),
            query_views: BTreeMap::new(),
            definitions: Sessions::new(functions, &runtime),
            queries: Sessions::new(functions, &runtime),
        };
        for sessions in [&catalog.definitions, &catalog.queries] {
            let late_events = Unbound::new(Source::LateEvents, LateEvents::schema());
            sessions.register(LATE_EVENTS, Arc::new(late_events))?;
            sessions.register(AUDIT, Arc::new(Unbound::new(Source::Audit, Finding::schema())))?;
            sessions.register(COVERAGE, Arc::new(Unbound::new(Source::Coverage, Coverage::schema())))?;
            for stream in catalog.streams.values() {
                sessions.register_stream(stream)?;
            }
            for (name, table) in &catalog.tables {
                let schema = Arc::clone(&table.def.schema);
                sessions.register(name, Arc::new(MemTable::try_new(schema, vec![table.batches.clone()])?))?;
            }
        }
        for view in in_order(&project.views)? {
            catalog.add_view(view).await.map_err(|e| match e {
                Error::Internal(_) => e,
                other => view.location.error(other.to_string()),
            })?;
        }
        Ok(catalog)
    }

    async fn add_view(&mut self, def: &ViewDef) -> Result<()> {
        let definition = plan_view(&engine::timeless_state(self.definitions.of(&def.sql)), def).await?;
        if def.materialized {
            let session = self.definitions.of(&def.sql);
            let state = engine::state(session);
            let options = state.config_options();
            let analyzed = state.analyzer().execute_and_check(definition.clone(), options, |_, _| {})?;
            for source in sources(&analyzed)? {
                let (relation, why) = match source {
                    Source::LateEvents => (LATE_EVENTS, "which the speed layer counts beside the views"),
                    Source::Audit => (AUDIT, "which tells of the views"),
                    Source::Coverage => (COVERAGE, "which tells of an answer"),
                    Source::Stream(_) | Source::State { .. } => continue,
                };
                return Err(Error::Invalid(format!(
                    "view {0} reads {relation}, {why}: make it CREATE VIEW {0}",
                    def.name
                )));
            }
            let digest = |name: &str| self.tables.get(name).map(|table| table.digest);
            let view = View::try_new(session, &def.name, &def.sql, analyzed, digest)?;
            self.queries.register(&def.name, view_table(view.finish_plan().clone(), &def.sql))?;
            self.views.insert(def.name.clone(), Arc::new(view));
        } else {
            let query = plan_view(&engine::state(self.queries.of(&def.sql)), def).await?;
            self.queries.register(&def.name, view_table(query, &def.sql))?;
            self.query_views.insert(def.name.clone(), def.sql.clone());
        }
        self.definitions.register(&def.name, view_table(definition, &def.sql))
    }

    /// The session in which plans of this catalog run.
    pub fn session(&self) -> &SessionContext {
        &self.queries.plain
    }

    /// All streams by name, those of rejected events included.
    pub fn streams(&self) -> &BTreeMap<String, StreamDef> {
        &self.streams
    }

    /// A stream.
    ///
    /// # Errors
    /// `NotFound`, with the streams that there are.
    pub fn stream(&self, name: &str) -> Result<&StreamDef> {
        self.streams.get(name).ok_or_else(|| unknown("stream", name, self.streams.keys()))
    }

    /// The tables by name.
    pub fn tables(&self) -> &BTreeMap<String, Arc<Table>> {
        &self.tables
    }

    /// The maintained views by name.
    pub fn views(&self) -> &BTreeMap<String, Arc<View>> {
        &self.views
    }

    /// A maintained view.
    ///
    /// # Errors
    /// `NotFound`, with the views that there are.
    pub fn view(&self, name: &str) -> Result<&Arc<View>> {
        self.views.get(name).ok_or_else(|| unknown("view", name, self.views.keys()))
    }

    /// The query-time views by name, with their SQL.
    pub fn query_views(&self) -> &BTreeMap<String, String> {
        &self.query_views
    }

    /// Plans one query, over unbound scans of streams and states.
    ///
    /// # Errors
    /// `Invalid` if it is not one query that only reads, or names what is not there.
    pub async fn plan(&self, query: &str) -> Result<LogicalPlan> {
        let state = engine::state(self.session_of(query));
        self.plan_statement(Self::parse(query, &state)?, &state).await
    }

    /// The session in which a query is planned: if it names one of the columns that are stored beside a stream's own,
    /// the one that has them.
    pub fn session_of(&self, query: &str) -> &SessionContext {
        self.queries.of(query)
    }

    /// The one statement of `query`, with windows as they may be written.
    ///
    /// # Errors
    /// `Invalid` if it is not one statement.
    pub fn parse(query: &str, state: &SessionState) -> Result<Statement> {
        sql::statement(query, state)
    }

    /// Plans a parsed query in a session that has the relations of this catalog, and may have others too.
    ///
    /// # Errors
    /// `Invalid` if it does not only read, or names what is not there.
    pub async fn plan_statement(&self, statement: Statement, state: &SessionState) -> Result<LogicalPlan> {
        let plan = match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => plan,
            // Of two reasons the one that says what there is.
            Err(e) => return Err(self.check_relations(&statement).err().unwrap_or_else(|| e.into())),
        };
        let read_only =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan)?;
        if !windowed::has_markers(&plan)? {
            return Ok(plan);
        }
        let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
        windowed::session::write_out(windowed::rewrite("of this query", analyzed)?)
    }

    /// The relations that a query names, as the engine resolves them: those that it can read, and no others. A view that
    /// it names is one of them, what that view is made of is not; nor are the lists of names and columns in
    /// `information_schema`.
    ///
    /// # Errors
    /// `Invalid` if it is not one query.
    pub fn relations_of(&self, query: &str) -> Result<BTreeSet<String>> {
        let state = engine::state(self.queries.of(query));
        let statement = sql::statement(query, &state)?;
        // The engine plans over these and can find no others, whatever a WITH may hide them behind.
        let relations = state.resolve_table_references(&statement)?;
        let ours = relations.iter().filter(|r| r.schema() != Some(INFORMATION_SCHEMA));
        Ok(ours.map(|relation| relation.table().to_string()).collect())
    }

    /// Refuses names of relations that are not there, with those that are.
    fn check_relations(&self, statement: &Statement) -> Result<()> {
        let (relations, _) = resolve_table_references(statement, true)?;
        for relation in relations.iter().filter(|relation| matches!(relation, TableReference::Bare { .. })) {
            let name = relation.table();
            let known = self.streams.contains_key(name)
                || self.tables.contains_key(name)
                || self.views.contains_key(name)
                || self.query_views.contains_key(name)
                || [LATE_EVENTS, AUDIT, COVERAGE].contains(&name);
            if !known {
                let names = self.views.keys().chain(self.query_views.keys());
                let names = names.chain(self.streams.keys()).chain(self.tables.keys());
                return Err(unknown("view, stream or table", name, names));
            }
        }
        Ok(())
    }

    /// A scan of one relation, by its name as it is.
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name.
    pub async fn scan_view(&self, name: &str) -> Result<LogicalPlan> {
        if !self.views.contains_key(name) && !self.query_views.contains_key(name) {
            let names = self.views.keys().chain(self.query_views.keys());
            return Err(unknown("view", name, names));
        }
        Ok(self.queries.plain.table(TableReference::bare(name)).await?.into_unoptimized_plan())
    }

    /// The positions of the columns of a view in which no two of its rows are equal, if its query tells of such. Of a
    /// view that has one row at most they are none.
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name.
    pub async fn row_key(&self, view: &str) -> Result<Option<Vec<usize>>> {
        self.scan_view(view).await?;
        let definition = self.definitions.plain.table(TableReference::bare(view)).await?;
        row_key(definition.logical_plan())
    }
}

fn view_table(plan: LogicalPlan, sql: &str) -> Arc<dyn TableProvider> {
    Arc::new(ViewTable::new(plan, Some(sql.to_string())))
}

async fn plan_view(session: &SessionState, def: &ViewDef) -> Result<LogicalPlan> {
    let plan = session.statement_to_plan(statement(def)).await?;
    let fields = plan.schema().fields();
    if !def.columns.is_empty() && def.columns.len() != fields.len() {
        return Err(Error::Invalid(format!(
            "view {} names {} columns, but its query gives {}",
            def.name,
            def.columns.len(),
            fields.len()
        )));
    }
    let names: Vec<String> = match def.columns.as_slice() {
        [] => fields.iter().map(|f| f.name().clone()).collect(),
        names => names.to_vec(),
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(Error::Invalid(format!(
            "view {} has two columns named {twice}: give one of them another name with AS",
            def.name
        )));
    }
    let columns = plan.schema().columns().into_iter().map(Expr::Column).zip(names);
    let columns: Vec<Expr> = columns.map(|(column, name)| column.alias(name)).collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

fn statement(def: &ViewDef) -> Statement {
    Statement::Statement(Box::new(SqlStatement::Query(Box::new(def.query.clone()))))
}

/// The views so that each comes after those that it reads.
fn in_order(views: &[ViewDef]) -> Result<Vec<&ViewDef>> {
    let by_name: BTreeMap<&str, &ViewDef> = views.iter().map(|v| (v.name.as_str(), v)).collect();
    let mut ordered = Vec::new();
    let mut done = BTreeSet::new();
    for view in views {
        visit(view, &by_name, &mut Vec::new(), &mut done, &mut ordered)?;
    }
    Ok(ordered)
}

fn visit<'a>(
    view: &'a ViewDef,
    by_name: &BTreeMap<&str, &'a ViewDef>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    ordered: &mut Vec<&'a ViewDef>,
) -> Result<()> {
    if done.contains(view.name.as_str()) {
        return Ok(());
    }
    if path.contains(&view.name.as_str()) {
        path.push(&view.name);
        let circle = path.join(" -> ");
        return Err(view.location.error(format!("views read each other in a circle: {circle}")));
    }
    path.push(&view.name);
    let (relations, _) = resolve_table_references(&statement(view), true)?;
    for relation in relations {
        if let Some(other) = by_name.get(relation.table()) {
            visit(other, by_name, path, done, ordered)?;
        }
    }
    path.pop();
    done.insert(&view.name);
    ordered.push(view);
    Ok(())
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let known =
        if known.is_empty() { "there are none".into() } else { format!("there are: {}", known.join(", ")) };
    Error::NotFound(format!("there is no {what} {name}; {known}"))
}
