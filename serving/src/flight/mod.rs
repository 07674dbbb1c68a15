//! Arrow Flight SQL: answers as Arrow, for ADBC, JDBC and whoever speaks it.
//!
//! ```text
//! GetFlightInfo(statement)   plans it: its schema, and a ticket that holds it      nothing is run
//! DoGet(ticket)              one answer, batch by batch, of one moment             see `asked`
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
//! Who asks is found out before every call, by its token: see [`admission`].

mod admission;
mod asked;
mod info;
mod message;
mod prepared;
mod relations;
mod rows;
mod running;
mod service;
mod status;

use crate::access::Gate;
use crate::query::Serving;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::middleware::from_fn_with_state;
use service::Flight;
use std::sync::Arc;
use tonic::Status;

/// How many bytes one message of a client may have.
const MESSAGE_LIMIT: usize = 4 << 20;
/// How many bytes a statement may have.
const SQL_LIMIT: usize = 1 << 20;

/// The Flight SQL interface of a serving layer for those whom the gate lets in, to be served over HTTP/2.
pub fn flight_app(serving: Arc<Serving>, gate: Arc<Gate>) -> Router {
    let service = FlightServiceServer::new(Flight::new(serving)).max_decoding_message_size(MESSAGE_LIMIT);
    Router::new()
        .route_service("/arrow.flight.protocol.FlightService/{call}", service)
        .fallback(async || no_such_service().into_http::<tonic::body::Body>())
        .layer(from_fn_with_state(gate, admission::pass))
}

fn no_such_service() -> Status {
    Status::unimplemented(
        "Arrow Flight SQL is answered here; for HTTP ask the address of `listen` in [serve]",
    )
}

#[cfg(test)]
mod tests;
