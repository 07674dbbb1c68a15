//! The speed layer: how events come in, the log that keeps them, and the loop that folds them as they come.
//!
//! ```text
//! sources ──> decode ──> ingest ──> log ──> epochs
//! ```

mod decode;
mod engine;
#[cfg(test)]
mod faults;
mod http;
mod ingest;
pub mod log;

pub use decode::{Decoded, Decoder, Format, MAX_EVENT};
pub use engine::{Engine, EngineConfig};
pub use http::{app, app_with};
pub use ingest::{Clock, Ingest, with_rejected};
pub use log::{EmbeddedLog, MemoryLog};
