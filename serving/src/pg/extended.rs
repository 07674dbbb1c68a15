//! The extended protocol: statements that are parsed, bound and executed in messages of their own.
//!
//! A portal that is left before its end goes on where it was, and is let go of when its transaction ends, or at any
//! error.

use super::failure::{Failure, state};
use super::query::Prepared;
use super::service::{Run, Service, session};
use super::statement::Statement;
use super::types;
use async_trait::async_trait;
use datafusion_postgres::pgwire::api::portal::{Format, Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, send_partial_query_response};
use datafusion_postgres::pgwire::api::results::{
    DescribePortalResponse, DescribeStatementResponse, FieldInfo, Response, Tag,
};
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::data::{NoData, ParameterDescription, RowDescription};
use datafusion_postgres::pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, Sync as PgSync,
    TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use datafusion_postgres::pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus,
};
use futures::{Sink, SinkExt};
use std::fmt::Debug;
use std::sync::Arc;

impl Service {
    /// The columns that a statement will answer with; those of a cursor are known to the connection only.
    fn columns(
        &self,
        client: &impl ClientInfo,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        match &prepared.statement {
            Statement::Fetch { name, .. } => {
                let cursor = session(client).cursor(name)?;
                Ok(types::fields(&cursor.schema, format.unwrap_or(&Format::UnifiedText)))
            }
            _ => self.get_result_schema(prepared, format),
        }
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = Prepared;
    type QueryParser = Self;

    fn query_parser(&self) -> Arc<Self> {
        Arc::new(Self { pg: Arc::clone(&self.pg) })
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME).to_string();
        let stored = StoredStatement::parse(client, &message, self.query_parser()).await?;
        session(client).prepared(&name)?;
        match stored {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(&name),
        }
        client.feed(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statement = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let entry = client.portal_store().get_statement(statement);
        let entry = entry.ok_or_else(|| PgWireError::StatementNotFound(statement.to_owned()))?;
        let told = match &entry {
            Entry::Empty => 0,
            Entry::Value(statement) => {
                let expected = statement.statement.query.as_ref().map_or(0, |query| query.expected.len());
                expected.max(statement.parameter_types.len())
            }
        };
        let sent = message.parameters.len();
        let wrong = |what: &str, told: usize, sent: usize| {
            Failure::new(state::PROTOCOL, format!("bind: expected {told} {what}, found {sent}"))
        };
        if sent != told {
            return Err(wrong("parameters", told, sent).into());
        }
        let formats = message.parameter_format_codes.len();
        if formats > 1 && formats != sent {
            return Err(wrong("formats of parameters", sent, formats).into());
        }
        match entry {
            Entry::Empty => {
                let name = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
                client.portal_store().put_empty_portal(name);
            }
            Entry::Value(statement) => {
                let columns = self.columns(client, &statement.statement, None)?.len();
                let formats = message.result_column_format_codes.len();
                if formats > 1 && formats != columns {
                    return Err(wrong("formats of columns", columns, formats).into());
                }
                client.portal_store().put_portal(Arc::new(Portal::try_new(&message, statement)?));
            }
        }
        client.feed(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let fields = match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let described = match client.portal_store().get_statement(name) {
                    Some(Entry::Value(statement)) => self.do_describe_statement(client, &statement).await?,
                    Some(Entry::Empty) => DescribeStatementResponse::new(Vec::new(), Vec::new()),
                    None => return Err(PgWireError::StatementNotFound(name.to_owned())),
                };
                let types = described.parameters.iter().map(Type::oid).collect();
                let parameters = ParameterDescription::new(types);
                client.feed(PgWireBackendMessage::ParameterDescription(parameters)).await?;
                described.fields
            }
            TARGET_TYPE_BYTE_PORTAL => match client.portal_store().get_portal(name) {
                Some(Entry::Value(portal)) => self.do_describe_portal(client, &portal).await?.fields,
                Some(Entry::Empty) => Vec::new(),
                // A cursor that was declared is a portal of its name.
                None => match session(client).cursor(name) {
                    Ok(cursor) => types::fields(&cursor.schema, &Format::UnifiedText),
                    Err(_) => return Err(PgWireError::PortalNotFound(name.to_owned())),
                },
            },
            other => return Err(PgWireError::InvalidTargetType(other)),
        };
        let described = if fields.is_empty() {
            PgWireBackendMessage::NoData(NoData::new())
        } else {
            PgWireBackendMessage::RowDescription(RowDescription::new(fields.iter().map(Into::into).collect()))
        };
        client.feed(described).await?;
        Ok(())
    }

    async fn do_describe_statement<C>(
        &self,
        client: &mut C,
        target: &StoredStatement<Prepared>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let of_plan = self.get_parameter_types(&target.statement)?;
        let told = &target.parameter_types;
        let one = |i: usize| {
            let told = told.get(i).cloned().flatten().filter(|told| *told != Type::UNKNOWN);
            told.or_else(|| of_plan.get(i).cloned()).unwrap_or(Type::TEXT)
        };
        let types = (0..of_plan.len().max(told.len())).map(one).collect();
        Ok(DescribeStatementResponse::new(types, self.columns(client, &target.statement, None)?))
    }

    async fn do_describe_portal<C>(
        &self,
        client: &mut C,
        target: &Portal<Prepared>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let format = Some(&target.result_column_format);
        Ok(DescribePortalResponse::new(self.columns(client, &target.statement.statement, format)?))
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        client.set_state(PgWireConnectionState::QueryInProgress);
        let most = usize::try_from(message.max_rows).unwrap_or(0);
        let mut execution = portal.state().lock_owned().await;
        if matches!(*execution, PortalExecutionState::Initial) {
            match ExtendedQueryHandler::do_query(self, client, portal.as_ref(), most).await? {
                Response::Query(rows) => *execution = PortalExecutionState::Suspended(rows),
                Response::Execution(tag) => {
                    client.feed(PgWireBackendMessage::CommandComplete(CommandComplete::from(tag))).await?;
                    client.set_state(PgWireConnectionState::ReadyForQuery);
                    *execution = PortalExecutionState::Finished;
                    return Ok(());
                }
                _ => {}
            }
        }
        match &mut *execution {
            PortalExecutionState::Suspended(rows) => {
                if !send_partial_query_response(client, rows, most).await? {
                    *execution = PortalExecutionState::Finished;
                }
            }
            _ => {
                let tag = Tag::new("SELECT").with_rows(0);
                client.feed(PgWireBackendMessage::CommandComplete(CommandComplete::from(tag))).await?;
            }
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statement = &portal.statement.statement.statement;
        self.answer(client, statement, Run::Portal(portal), &portal.result_column_format).await
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                session(client).statements().remove(name);
                client.portal_store().rm_statement(name);
            }
            TARGET_TYPE_BYTE_PORTAL => client.portal_store().rm_portal(name),
            other => return Err(PgWireError::InvalidTargetType(other)),
        }
        client.feed(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?;
        Ok(())
    }

    async fn on_sync<C>(&self, client: &mut C, _: PgSync) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // Outside of a transaction it ends what was begun without one.
        if client.transaction_status() == TransactionStatus::Idle {
            client.portal_store().clear_portals();
        }
        let ready = ReadyForQuery::new(client.transaction_status());
        client.send(PgWireBackendMessage::ReadyForQuery(ready)).await?;
        Ok(())
    }
}
