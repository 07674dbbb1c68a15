//! The serving layer: batch and speed views merged into one exact, fresh answer, over SQL and HTTP.
//!
//! ```text
//! answer = finish( merge( batch[0, H), speed[H, now) ) )      for any horizon H
//! ```
//!
//! [`Serving`] answers queries in this process, [`app`] over HTTP, [`flight_app`] over Arrow Flight SQL, [`Pg`] over the PostgreSQL wire; [`HttpSpeed`] is the speed layer of
//! another process.

mod access;
mod audits;
mod basis;
mod batch_states;
mod changes;
mod coverage;
mod encode;
mod events;
mod filter;
mod flight;
mod http;
mod limits;
mod lookup;
mod metrics;
mod moment;
mod order;
mod page;
mod parameters;
mod pg;
mod place;
mod plain;
mod plan_cache;
mod query;
mod rows;
mod speed_client;
mod state_cache;
mod status;
mod switch;
#[cfg(test)]
mod testing;
mod tls;
mod trust;

pub use access::{Access, Clock, Gate, Guard, Origins, Rules, guard};
pub use encode::Format;
pub use flight::flight_app;
pub use http::{INGEST_LIMIT, app, app_with};
pub use limits::{Limits, Permit};
pub use page::{Page, ViewQuery};
pub use pg::{PG_ALPN, Pg};
pub use query::Serving;
pub use rows::Rows;
pub use speed_client::HttpSpeed;
pub use status::{
    AuditStatus, BatchStatus, Building, LayerStatus, SpeedStates, Status, StreamPartition, StreamStatus,
    TableStatus, ViewState, ViewStatus,
};
pub use tls::Tls;
pub use trust::Trust;
