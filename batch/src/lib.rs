//! Twofold's batch layer: the archiver, which brings sealed segments from the log into the archive, the batch run,
//! which folds the archive into batch views, and the audit, which compares both layers' states.

mod accumulator;
mod archiver;
mod audit;
mod findings;
mod published;
mod repair;
mod run;
mod segments;
mod spilled;
mod teller;
#[cfg(test)]
mod testing;
mod units;

pub use archiver::Archiver;
pub use audit::{AuditOptions, AuditReport};
pub use repair::{Damage, Remedy, Repair};
pub use run::{Batch, Clock, Options, Outcome, Progress, ViewReport};
