//! Twofold's batch layer: the archiver, which brings sealed segments from the log into the archive, and the batch
//! run, which folds the archive into batch views.

mod archiver;
mod repair;
mod run;
mod segments;

pub use archiver::Archiver;
pub use repair::{Damage, Remedy, Repair};
pub use run::{Batch, Clock, Options, Outcome, Progress, ViewReport};
