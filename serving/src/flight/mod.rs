//! Arrow Flight SQL: answers as Arrow, for ADBC, JDBC and whoever speaks it.
//!
//! ```text
//! GetFlightInfo(statement)   plans it: its schema, and a ticket that holds it      nothing is run
//! DoGet(ticket)              one answer, batch by batch, of one moment             see `answer`
//! CreatePreparedStatement    a handle; DoPut binds one row of values to it         see `prepared`
//! CancelFlightInfo           stops what runs under a ticket                        see `running`
//! GetTables and its kin      the relations of the project                          see `relations`
//! ```
//!
//! Queries only read: updates, DDL, ingest and transactions are refused with what to do instead. The schema of an answer
//! has its coverage, its watermark and its version in its metadata, under the names that the Arrow of HTTP has. What goes
//! wrong is a gRPC status, see [`status`].
//!
//! Statements and values are bounded in size, prepared statements in number and time. A client that goes away, or takes
//! nothing for a long time, stops its query; the caller of [`flight_app`] bounds connections and the calls on each.
//!
//! Everybody who reaches the address may ask. Who that is would be checked in [`admit`], which every call goes through.

mod info;
mod message;
mod prepared;
mod relations;
mod rows;
mod running;
mod service;
mod status;

use crate::query::Serving;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use service::Flight;
use std::sync::Arc;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

/// How many bytes one message of a client may have.
const MESSAGE_LIMIT: usize = 4 << 20;
/// How many bytes a statement may have.
const SQL_LIMIT: usize = 1 << 20;

/// The Flight SQL interface of a serving layer, to be served over HTTP/2.
pub fn flight_app(serving: Arc<Serving>) -> Router {
    let service = FlightServiceServer::new(Flight::new(serving)).max_decoding_message_size(MESSAGE_LIMIT);
    let service = InterceptedService::new(service, admit);
    Router::new()
        .route_service("/arrow.flight.protocol.FlightService/{call}", service)
        .fallback(async || no_such_service().into_http::<tonic::body::Body>())
}

/// Lets a call in, or refuses it: the one place where user and token of a call are looked at, that of a handshake too.
#[allow(clippy::result_large_err, reason = "tonic's interceptors are of this type")]
fn admit(call: Request<()>) -> Result<Request<()>, Status> {
    Ok(call)
}

fn no_such_service() -> Status {
    Status::unimplemented(
        "Arrow Flight SQL is answered here; for HTTP ask the address of `listen` in [serve]",
    )
}

#[cfg(test)]
mod tests;
