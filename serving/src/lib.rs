//! The serving layer: batch and speed views merged into one exact, fresh answer, over SQL and HTTP.
//!
//! ```text
//! answer = finish( merge( batch[0, H), speed[H, now) ) )      for any horizon H
//! ```
//!
//! [`Serving`] answers queries in this process, [`app`] over HTTP, [`flight_app`] over Arrow Flight SQL; [`HttpSpeed`] is the speed layer of
//! another process.

mod answer;
mod audits;
mod basis;
mod encode;
mod events;
mod filter;
mod flight;
mod http;
mod metrics;
mod parameters;
mod plain;
mod query;
mod rows;
mod speed_client;
mod state_cache;
mod status;
mod switch;
#[cfg(test)]
mod testing;
mod yielding;

pub use encode::Format;
pub use flight::flight_app;
pub use http::{INGEST_LIMIT, app, app_with};
pub use query::Serving;
pub use rows::Rows;
pub use speed_client::HttpSpeed;
pub use status::{
    AuditStatus, BatchStatus, Building, LayerStatus, SpeedStates, Status, StreamPartition, StreamStatus,
    TableStatus, ViewState, ViewStatus,
};
