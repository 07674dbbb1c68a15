//! What a ticket holds, and the rows of values that clients send.

use super::SQL_LIMIT;
use super::status::{invalid, status};
use crate::parameters::numbered;
use crate::plain::{conform, plain_schema};
use arrow::ipc::root_as_message;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::utils::flight_data_to_batches;
use arrow_flight::{FlightData, Ticket};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{Stream, StreamExt};
use prost::Message;
use tonic::Status;
use twofold_common::foreign::guard;

/// How many bytes of values are taken for one statement.
const VALUES_LIMIT: usize = 1 << 20;

/// A statement to be run, as a ticket holds it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Statement {
    /// Which run this is, for whoever wants to stop it.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) run: Bytes,
    /// The statement; empty for a prepared one.
    #[prost(string, tag = "2")]
    pub(super) sql: String,
    /// The handle of the prepared statement; empty for any other.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) handle: Bytes,
    /// Which of the values that were bound to it, counted.
    #[prost(uint64, tag = "4")]
    pub(super) binding: u64,
}

impl Statement {
    pub(super) fn ticket(&self) -> Ticket {
        let ticket = TicketStatementQuery { statement_handle: self.encode_to_vec().into() };
        Ticket::new(ticket.as_any().encode_to_vec())
    }

    #[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
    pub(super) fn from_ticket(ticket: &TicketStatementQuery) -> Result<Self, Status> {
        let statement = Self::decode(ticket.statement_handle.clone());
        statement.map_err(|_| invalid("the ticket is not one that GetFlightInfo gave: ask it for another"))
    }
}

/// A statement as it is planned, if it is not too long.
#[allow(clippy::result_large_err, reason = "a status is what the caller answers with")]
pub(super) fn sql(text: &str) -> Result<String, Status> {
    if text.len() > SQL_LIMIT {
        return Err(invalid(format!("the statement is larger than {} MiB: shorten it", SQL_LIMIT >> 20)));
    }
    Ok(numbered(text).map_err(status)?.into_owned())
}

/// One row of values, from the messages that a client sends; none if there is no row.
pub(super) async fn values(
    mut messages: impl Stream<Item = Result<FlightData, Status>> + Unpin,
) -> Result<Vec<ScalarValue>, Status> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while let Some(message) = messages.next().await {
        let message = message?;
        bytes += message.data_header.len() + message.data_body.len();
        if bytes > VALUES_LIMIT {
            let limit = VALUES_LIMIT >> 20;
            return Err(invalid(format!(
                "the values of the parameters are larger than {limit} MiB: send less"
            )));
        }
        // Some clients send the descriptor alone first.
        if !message.data_header.is_empty() {
            taken.push(message);
        }
    }
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    guard(|| row(&taken))
        .unwrap_or_else(Err)
        .map_err(|reason| invalid(format!("the values of the parameters: {reason}")))
}

fn row(messages: &[FlightData]) -> Result<Vec<ScalarValue>, String> {
    for message in &messages[1..] {
        let header = root_as_message(&message.data_header).map_err(|e| e.to_string())?;
        let batch =
            header.header_as_record_batch().ok_or("expected rows after the schema; no dictionaries")?;
        // The reader would take memory for what a client says that it comes to.
        if batch.compression().is_some() {
            return Err("they are compressed: send them as they are".into());
        }
    }
    let batches = flight_data_to_batches(messages).map_err(|e| e.to_string())?;
    let rows = batches.iter().fold(0usize, |rows, batch| rows.saturating_add(batch.num_rows()));
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
    if rows > 1 {
        return Err(format!("expected one row, found {rows}: run the statement once for each"));
    }
    let plain = conform(batch, &plain_schema(&batch.schema())).map_err(|e| e.to_string())?;
    let values = plain.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
    values.collect::<Result<_, _>>().map_err(|e| e.to_string())
}
