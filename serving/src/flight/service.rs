//! The calls of Flight, as the messages of Flight SQL that they carry.

use super::asked::{self, Description, describe};
use super::message::{self, Statement};
use super::prepared::{Prepared, PreparedStatements, unguessable};
use super::relations::relations;
use super::rows::{self, Messages};
use super::running::{Runs, stopped};
use super::status::{invalid, read_only, status};
use crate::plain::plain_type;
use crate::query::Serving;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, Command,
    CommandPreparedStatementQuery, DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty,
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    IpcMessage, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use twofold_common::Error;

type Answer<T> = Result<Response<BoxStream<'static, Result<T, Status>>>, Status>;

/// What is not for this interface, and what is.
const INSTEAD: &str =
    "events are taken in over HTTP (POST /v1/streams/{name}), definitions from the project's files";

/// The Flight service of a serving layer.
#[derive(Debug)]
pub(super) struct Flight {
    serving: Arc<Serving>,
    pub(super) prepared: PreparedStatements,
    pub(super) runs: Runs,
}

impl Flight {
    pub(super) fn new(serving: Arc<Serving>) -> Self {
        Self { serving, prepared: PreparedStatements::default(), runs: Runs::default() }
    }

    /// The schema of what a command asks for, and the ticket to get it with; nothing is run.
    async fn plan(&self, command: &[u8]) -> Result<(Schema, Ticket), Status> {
        let run = unguessable();
        let (sql, values, statement) = match decoded(command)? {
            Command::CommandStatementQuery(asked) => {
                no_transaction(asked.transaction_id.as_ref())?;
                let sql = message::sql(&asked.query)?;
                let statement = Statement { run, sql: sql.clone(), ..Statement::default() };
                (sql.into(), Vec::new().into(), statement)
            }
            Command::CommandPreparedStatementQuery(asked) => {
                let Prepared { sql, values, binding } = self.prepared(&asked)?;
                let handle = asked.prepared_statement_handle;
                (sql, values, Statement { run, handle, binding, ..Statement::default() })
            }
            other => {
                let batch = relations(&other, &self.serving.catalog()).await.map_err(status)?;
                let batch = batch.ok_or_else(|| unknown(&other))?;
                return Ok((batch.schema().as_ref().clone(), Ticket::new(command.to_vec())));
            }
        };
        let description = describe(&self.serving, &sql, Some(&values)).await.map_err(status)?;
        Ok((description.schema.as_ref().clone(), statement.ticket()))
    }

    fn prepared(&self, asked: &CommandPreparedStatementQuery) -> Result<Prepared, Status> {
        self.prepared.get(&asked.prepared_statement_handle).map_err(status)
    }

    async fn answer(&self, statement: Statement) -> Result<Messages, Status> {
        let run = self.runs.begin(&statement.run)?;
        let (sql, values): (Arc<str>, Arc<[_]>) = if statement.handle.is_empty() {
            (message::sql(&statement.sql)?.into(), Arc::new([]))
        } else {
            let prepared = self.prepared.get(&statement.handle).map_err(status)?;
            if prepared.binding != statement.binding {
                return Err(status(Error::Conflict(
                    "other values were bound to the prepared statement since GetFlightInfo: ask that again"
                        .into(),
                )));
            }
            (prepared.sql, prepared.values)
        };
        let answer = tokio::select! {
            biased;
            () = run.until_stopped() => return Err(stopped()),
            answer = asked::stream(&self.serving, &sql, &values) => answer,
        };
        let (answer, schema) = answer.map_err(status)?;
        Ok(rows::answer(answer, &schema, run))
    }

    async fn prepare(&self, body: &[u8]) -> Result<ActionCreatePreparedStatementResult, Status> {
        let asked: ActionCreatePreparedStatementRequest = unpacked(body)?;
        no_transaction(asked.transaction_id.as_ref())?;
        let sql = message::sql(&asked.query)?;
        let Description { schema, parameters } = describe(&self.serving, &sql, None).await.map_err(status)?;
        let fields = parameters
            .into_iter()
            .enumerate()
            .map(|(place, known)| Field::new(format!("${}", place + 1), asked_for(known), true));
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.prepared.add(&sql),
            dataset_schema: ipc(&schema)?,
            parameter_schema: ipc(&Schema::new(fields.collect::<Vec<_>>()))?,
        })
    }

    /// Stops what runs under the tickets of an answer; false if they are not of a query.
    fn cancel(&self, info: &FlightInfo) -> bool {
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
        let of_queries = tickets.filter_map(|ticket| match decoded(&ticket.ticket) {
            Ok(Command::TicketStatementQuery(ticket)) => Statement::from_ticket(&ticket).ok(),
            _ => None,
        });
        of_queries.map(|statement| self.runs.stop(&statement.run)).count() > 0
    }
}

#[async_trait]
impl FlightService for Flight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = Messages;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<HandshakeResponse> {
        Ok(one(HandshakeResponse::default()))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<FlightInfo> {
        Err(Status::unimplemented("there are no flights but those that are asked for: use GetTables"))
    }

    async fn get_flight_info(
        &self,
        asked: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = asked.into_inner();
        let (schema, ticket) = self.plan(&descriptor.cmd).await?;
        let info = FlightInfo::new().try_with_schema(&schema).map_err(status)?;
        let info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)).with_descriptor(descriptor);
        Ok(Response::new(info.with_ordered(true)))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("queries are not run ahead: use GetFlightInfo"))
    }

    async fn get_schema(&self, asked: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let (schema, _) = self.plan(&asked.into_inner().cmd).await?;
        Ok(Response::new(SchemaResult { schema: ipc(&schema)? }))
    }

    async fn do_get(&self, asked: Request<Ticket>) -> Answer<FlightData> {
        let statement = match decoded(&asked.into_inner().ticket)? {
            Command::TicketStatementQuery(ticket) => Statement::from_ticket(&ticket)?,
            Command::CommandPreparedStatementQuery(asked) => {
                let binding = self.prepared(&asked)?.binding;
                let handle = asked.prepared_statement_handle;
                Statement { run: unguessable(), handle, binding, ..Statement::default() }
            }
            other => {
                let batch = relations(&other, &self.serving.catalog()).await.map_err(status)?;
                return Ok(Response::new(rows::table(batch.ok_or_else(|| unknown(&other))?)));
            }
        };
        Ok(Response::new(self.answer(statement).await?))
    }

    async fn do_put(&self, sent: Request<Streaming<FlightData>>) -> Answer<PutResult> {
        let mut messages = sent.into_inner();
        let first = messages.message().await?;
        let descriptor = first.as_ref().and_then(|first| first.flight_descriptor.clone());
        let (Some(first), Some(descriptor)) = (first, descriptor) else {
            return Err(invalid("the first message has no descriptor that says what it is for"));
        };
        match decoded(&descriptor.cmd)? {
            Command::CommandPreparedStatementQuery(asked) => {
                self.prepared(&asked)?;
                let values = message::values(stream::iter([Ok(first)]).chain(messages)).await?;
                let handle = asked.prepared_statement_handle;
                self.prepared.bind(&handle, values).map_err(status)?;
                let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
                Ok(one(PutResult { app_metadata: result.encode_to_vec().into() }))
            }
            Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => {
                Err(read_only("an update", INSTEAD))
            }
            Command::CommandStatementIngest(_) => Err(read_only("rows to be taken in", INSTEAD)),
            other => Err(unknown(&other)),
        }
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<FlightData> {
        Err(Status::unimplemented("there is nothing to exchange: use GetFlightInfo and DoGet"))
    }

    async fn do_action(&self, asked: Request<Action>) -> Answer<arrow_flight::Result> {
        let Action { r#type, body } = asked.into_inner();
        let result = match r#type.as_str() {
            CREATE => self.prepare(&body).await?.as_any().encode_to_vec(),
            CLOSE => {
                let asked: ActionClosePreparedStatementRequest = unpacked(&body)?;
                self.prepared.close(&asked.prepared_statement_handle);
                return Ok(Response::new(stream::empty().boxed()));
            }
            CANCEL_QUERY => {
                let asked: ActionCancelQueryRequest = unpacked(&body)?;
                let result = cancelled(self.cancel(&message(&asked.info)?)) as i32;
                ActionCancelQueryResult { result }.as_any().encode_to_vec()
            }
            CANCEL_INFO => {
                let asked: CancelFlightInfoRequest = message(&body)?;
                let info = asked.info.ok_or_else(|| invalid("the request names no answer to cancel"))?;
                CancelFlightInfoResult::new(cancelled(self.cancel(&info))).encode_to_vec()
            }
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                return Err(read_only("a transaction", "each query is answered of one moment without any"));
            }
            other => {
                return Err(Status::unimplemented(format!("there is no action {other}: see ListActions")));
            }
        };
        Ok(one(arrow_flight::Result::new(result)))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<ActionType> {
        let action = |(name, what): &(&str, &str)| {
            Ok(ActionType { r#type: (*name).to_string(), description: (*what).to_string() })
        };
        Ok(Response::new(stream::iter(ACTIONS.iter().map(action)).boxed()))
    }
}

const CREATE: &str = "CreatePreparedStatement";
const CLOSE: &str = "ClosePreparedStatement";
const CANCEL_QUERY: &str = "CancelQuery";
const CANCEL_INFO: &str = "CancelFlightInfo";
const ACTIONS: &[(&str, &str)] = &[
    (CREATE, "Plans a statement, and keeps it under a handle: ActionCreatePreparedStatementRequest"),
    (CLOSE, "Lets go of a prepared statement: ActionClosePreparedStatementRequest"),
    (CANCEL_INFO, "Stops a query, now and for later: CancelFlightInfoRequest"),
    (CANCEL_QUERY, "The same, as older clients ask for it: ActionCancelQueryRequest"),
];

/// The type in which a client is asked for a value. It may send another; what it sends is what counts.
fn asked_for(known: Option<DataType>) -> DataType {
    match known {
        // What most values can be read from.
        None | Some(DataType::Null) => DataType::Utf8,
        // The JDBC driver has milliseconds, and writes their number whatever the unit that is asked for.
        Some(DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Millisecond, zone),
        Some(DataType::Time32(_) | DataType::Time64(_)) => DataType::Time32(TimeUnit::Millisecond),
        Some(known) => plain_type(&known),
    }
}

fn one<T: Send + 'static>(message: T) -> Response<BoxStream<'static, Result<T, Status>>> {
    Response::new(stream::once(async { Ok(message) }).boxed())
}

/// What a cancellation has come to. Both results have the same numbers.
fn cancelled(stopped: bool) -> CancelStatus {
    if stopped { CancelStatus::Cancelled } else { CancelStatus::NotCancellable }
}

#[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
fn no_transaction(transaction: Option<&Bytes>) -> Result<(), Status> {
    match transaction.filter(|id| !id.is_empty()) {
        Some(_) => Err(read_only("a transaction", "each query is answered of one moment without any")),
        None => Ok(()),
    }
}

#[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
fn decoded(command: &[u8]) -> Result<Command, Status> {
    Command::try_from(message::<Any>(command)?).map_err(|e| invalid(e.to_string()))
}

#[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|e| invalid(format!("the request is no message of Arrow Flight SQL: {e}")))
}

#[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
fn unpacked<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let unpacked = message::<Any>(body)?.unpack().map_err(|e| invalid(e.to_string()))?;
    unpacked.ok_or_else(|| invalid("the body of the action is the message of another one"))
}

#[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &IpcWriteOptions::default()));
    Ok(message.map_err(status)?.0)
}

fn unknown(command: &Command) -> Status {
    match command {
        Command::CommandStatementUpdate(_)
        | Command::CommandPreparedStatementUpdate(_)
        | Command::CommandStatementIngest(_) => read_only("an update", INSTEAD),
        Command::CommandStatementSubstraitPlan(_) => {
            Status::unimplemented("plans are not taken: write the query in SQL")
        }
        other => {
            Status::unimplemented(format!("there is no command {:?} of Flight SQL here", other.type_url()))
        }
    }
}
