//! What a connection that has begun is answered: its statements one by one, and the simple protocol of texts. The extended
//! one is in [`extended`](super::extended).
//!
//! An answer is written as it comes, so that only what is on its way is in memory.

use super::Pg;
use super::failure::{Failure, state};
use super::query::Prepared;
use super::session::{Session, Source};
use super::statement::{Statement, read, split};
use super::types;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{SimpleQueryHandler, send_query_response};
use datafusion_postgres::pgwire::api::results::{
    DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag,
};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, METADATA_USER, PgWireConnectionState, Type,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, NoticeResponse, ReadyForQuery, TransactionStatus,
};
use datafusion_postgres::pgwire::messages::simplequery::Query;
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use futures::{Sink, SinkExt};
use std::fmt::Debug;
use std::sync::Arc;

/// Answers for one server.
pub(super) struct Service {
    pub(super) pg: Arc<Pg>,
}

/// A query that is to run, and with what.
pub(super) enum Run<'a> {
    Text(&'a str),
    Portal(&'a Portal<Prepared>),
}

pub(super) fn session(client: &impl ClientInfo) -> Arc<Session> {
    client.session_extensions().get_or_insert_with(Session::default)
}

fn user(client: &impl ClientInfo) -> String {
    client.metadata().get(METADATA_USER).cloned().unwrap_or_default()
}

impl Service {
    /// Runs one statement.
    pub(super) async fn answer<C>(
        &self,
        client: &mut C,
        statement: &Statement,
        run: Run<'_>,
        format: &Format,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = session(client);
        let in_transaction = client.transaction_status();
        let ends =
            matches!(statement, Statement::Commit | Statement::Rollback | Statement::Savepoint("ROLLBACK"));
        if in_transaction == TransactionStatus::Error && !ends {
            let message = "the transaction has failed: only ROLLBACK is answered until it ends";
            return Err(Failure::new(state::FAILED_TRANSACTION, message.into()).into());
        }
        let tag = match statement {
            Statement::Query(_) => {
                let (schema, source) = self.started(client, run).await?;
                return Ok(Response::Query(response(&schema, source, format)));
            }
            Statement::Declare { name, hold, .. } => {
                if in_transaction == TransactionStatus::Idle && !hold {
                    let message = "DECLARE CURSOR needs a transaction: BEGIN first, or declare it WITH HOLD";
                    return Err(Failure::new(state::NO_TRANSACTION, message.into()).into());
                }
                let (schema, source) = self.started(client, run).await?;
                session.declare(name.clone(), schema, *hold, source)?;
                "DECLARE CURSOR".to_string()
            }
            Statement::Fetch { name, rows } => {
                let cursor = session.cursor(name)?;
                let fields = Arc::new(types::fields(&cursor.schema, format));
                return Ok(Response::Query(cursor.fetch(fields, *rows).await));
            }
            Statement::Move { name, rows } => {
                let cursor = session.cursor(name)?;
                let fields = Arc::new(types::fields(&cursor.schema, &Format::UnifiedText));
                format!("MOVE {}", cursor.skip(fields, *rows).await?)
            }
            Statement::Close(name) => {
                session.close(name.as_deref())?;
                if name.is_some() { "CLOSE CURSOR".into() } else { "CLOSE CURSOR ALL".into() }
            }
            Statement::Set { name, value } => {
                let told = session.settings().set(name, value.as_deref())?;
                if let Some((name, value)) = told {
                    let status = ParameterStatus::new(name, value);
                    client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
                }
                "SET".into()
            }
            Statement::SetNothing => "SET".into(),
            Statement::ResetAll => {
                session.settings().reset();
                "RESET".into()
            }
            Statement::Show(name) => return Ok(Response::Query(shown(&session, name)?)),
            Statement::Begin => {
                client.set_transaction_status(TransactionStatus::Transaction);
                "BEGIN".into()
            }
            Statement::Commit | Statement::Rollback => {
                let committed = *statement == Statement::Commit && in_transaction != TransactionStatus::Error;
                end_transaction(client, &session);
                if committed { "COMMIT".into() } else { "ROLLBACK".into() }
            }
            Statement::Savepoint(tag) => {
                if in_transaction == TransactionStatus::Idle {
                    let message = format!("{tag} needs a transaction: BEGIN first");
                    return Err(Failure::new(state::NO_TRANSACTION, message).into());
                }
                client.set_transaction_status(TransactionStatus::Transaction);
                (*tag).into()
            }
            Statement::Discard => {
                session.settings().reset();
                session.close(None)?;
                forget_statements(client, &session, None)?;
                "DISCARD ALL".into()
            }
            Statement::Deallocate(name) => {
                forget_statements(client, &session, name.as_deref())?;
                if name.is_some() { "DEALLOCATE".into() } else { "DEALLOCATE ALL".into() }
            }
            Statement::Unlisten => "UNLISTEN".into(),
        };
        Ok(Response::Execution(Tag::new(&tag)))
    }

    async fn started<C>(&self, client: &mut C, run: Run<'_>) -> PgWireResult<(SchemaRef, Source)>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let user = user(client);
        let (schema, source, previous) = match run {
            Run::Text(text) => self.pg.run(text, &user).await?,
            Run::Portal(portal) => {
                let query = portal.statement.statement.query.as_ref();
                let query =
                    query.ok_or_else(|| Failure::new(state::INTERNAL, "a query without its plan".into()))?;
                self.pg.run_prepared(query, query.expected.values(portal)?, &user).await?
            }
        };
        if previous {
            let message = "answered by the project before the current one, which is still being built";
            let mut notice = ErrorInfo::new("NOTICE".into(), "00000".into(), message.into());
            notice.severity_nonlocalized = Some("NOTICE".into());
            client.feed(PgWireBackendMessage::NoticeResponse(NoticeResponse::from(notice))).await?;
        }
        Ok((schema, source))
    }
}

fn response(schema: &Schema, source: Source, format: &Format) -> QueryResponse {
    let fields = Arc::new(types::fields(schema, format));
    QueryResponse::new(Arc::clone(&fields), source.all(fields))
}

fn end_transaction<C>(client: &mut C, session: &Session)
where
    C: ClientInfo + ClientPortalStore,
    C::PortalStore: PortalStore,
{
    client.set_transaction_status(TransactionStatus::Idle);
    client.portal_store().clear_portals();
    session.end_transaction();
}

fn forget_statements<C>(client: &C, session: &Session, name: Option<&str>) -> Result<(), Failure>
where
    C: ClientPortalStore,
    C::PortalStore: PortalStore,
{
    let mut statements = session.statements();
    match name {
        Some(name) if statements.remove(name) => client.portal_store().rm_statement(name),
        Some(name) => {
            let message = format!("prepared statement \"{name}\" does not exist");
            return Err(Failure::new(state::NO_STATEMENT, message));
        }
        None => {
            std::mem::take(&mut *statements).iter().for_each(|name| client.portal_store().rm_statement(name))
        }
    }
    Ok(())
}

fn text_field(name: &str) -> FieldInfo {
    FieldInfo::new(name.to_string(), None, None, Type::TEXT, FieldFormat::Text)
}

fn shown_fields(name: &str) -> Vec<FieldInfo> {
    if name == "all" { vec![text_field("name"), text_field("setting")] } else { vec![text_field(name)] }
}

fn shown(session: &Session, name: &str) -> PgWireResult<QueryResponse> {
    let settings = session.settings();
    let rows: Vec<Vec<&str>> = match name {
        "all" => settings.all().map(|(name, value)| vec![name, value]).collect(),
        name => vec![vec![settings.get(name)?]],
    };
    let fields = Arc::new(shown_fields(name));
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    let mut encoded = Vec::with_capacity(rows.len());
    for row in rows {
        for cell in row {
            encoder.encode_field(&Some(cell))?;
        }
        encoded.push(Ok(encoder.take_row()));
    }
    let mut response = QueryResponse::new(fields, futures::stream::iter(encoded));
    response.set_command_tag("SHOW");
    Ok(response)
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        client.set_state(PgWireConnectionState::QueryInProgress);
        let statements = split(&query.query)?;
        if statements.is_empty() {
            client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        }
        for text in statements {
            for response in SimpleQueryHandler::do_query(self, client, text).await? {
                match response {
                    Response::Query(rows) => send_query_response(client, rows, true).await?,
                    Response::Execution(tag) => {
                        client
                            .feed(PgWireBackendMessage::CommandComplete(CommandComplete::from(tag)))
                            .await?;
                    }
                    _ => {}
                }
            }
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let ready = ReadyForQuery::new(client.transaction_status());
        client.send(PgWireBackendMessage::ReadyForQuery(ready)).await?;
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statement = read(query)?;
        let text = match &statement {
            Statement::Query(text) | Statement::Declare { query: text, .. } => Arc::clone(text),
            _ => Arc::from(""),
        };
        Ok(vec![self.answer(client, &statement, Run::Text(&text), &Format::UnifiedText).await?])
    }
}

#[async_trait]
impl QueryParser for Service {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        Ok(self.pg.prepare(sql, types, &user(client)).await?)
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(prepared.query.as_ref().map(|query| query.expected.types()).unwrap_or_default())
    }

    fn get_result_schema(
        &self,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let format = format.unwrap_or(&Format::UnifiedText);
        Ok(match (&prepared.statement, &prepared.query) {
            (Statement::Query(_), Some(query)) => types::fields(&query.schema, format),
            (Statement::Show(name), _) => shown_fields(name),
            _ => Vec::new(),
        })
    }
}
