//! PostgreSQL's wire protocol: psql, drivers and dashboards ask as they ask PostgreSQL.
//!
//! ```text
//! connection   messages with their bounds; cancelling; a client that leaves     wire: its socket
//! startup      who asks, and the keys to cancel
//! service      statements one by one, transactions, cursors, simple protocol    session: what a connection remembers
//! extended     the extended protocol
//! statement    what a text asks for                                             settings: SET and SHOW
//! query        a query's plan and answer                                        parameters: what it expects, and gets
//! names        relations and system catalogs                                    information, system, functions, rewrite
//! encode       rows as text and binary                                          types, value
//! failure      SQLSTATEs
//! ```
//!
//! A query is answered by [`Serving`], as over HTTP: each statement wholly from one snapshot, by the same plan over
//! the same sources. Only the system catalogs are made here. Everything is for reading: what would change something is
//! refused, and a transaction is accepted but binds nothing together, as each statement sees its own moment.
//!
//! The protocol is that of the pgwire crate; the system catalogs are those of datafusion-pg-catalog, corrected.

mod connection;
mod encode;
mod extended;
mod failure;
mod functions;
mod information;
mod names;
mod parameters;
mod query;
mod rewrite;
mod service;
mod session;
mod settings;
mod startup;
mod statement;
mod system;
mod types;
mod value;
mod wire;

use crate::access::Gate;
use crate::query::Serving;
use names::Names;
use startup::Connections;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use twofold_common::Catalog;

/// The name of the protocol within TLS (ALPN).
pub const PG_ALPN: &str = "postgresql";
/// How many versions of a project have their names ready: the current one, and the one before it.
const VERSIONS: usize = 2;

/// A server that speaks PostgreSQL's wire protocol.
pub struct Pg {
    serving: Arc<Serving>,
    gate: Arc<Gate>,
    tls: Option<TlsAcceptor>,
    connections: Arc<Connections>,
    /// The newest last.
    names: Mutex<Vec<Arc<Names>>>,
}

impl std::fmt::Debug for Pg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pg").field("serving", &self.serving).finish_non_exhaustive()
    }
}

impl Pg {
    /// Answers from this serving layer to those whom the gate lets in, over TLS if that is spoken here.
    pub fn new(serving: Arc<Serving>, gate: Arc<Gate>, tls: Option<TlsAcceptor>) -> Arc<Self> {
        let (connections, names) = (Arc::default(), Mutex::default());
        Arc::new(Self { serving, gate, tls, connections, names })
    }

    /// Answers on one connection, until it ends or `stop` does and nothing is being answered on it.
    pub async fn serve(self: Arc<Self>, socket: TcpStream, stop: impl Future<Output = ()> + Send) {
        connection::serve(self, socket, connection::STARTUP_WITHIN, stop).await;
    }

    fn names(&self, catalog: &Arc<Catalog>) -> Arc<Names> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.iter().find(|known| Arc::ptr_eq(&known.catalog, catalog)) {
            return Arc::clone(known);
        }
        let new = Arc::new(Names::new(catalog));
        if names.len() == VERSIONS {
            names.remove(0);
        }
        names.push(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests;
