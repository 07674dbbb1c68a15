//! The one binary `twofold`: arguments, wiring of the layers, progress, exit codes.
//!
//! A command either does what it says and exits with 0, or prints one line `error: …` on stderr and exits with 2,
//! nothing half-printed. A comparison that found a difference (`batch`, `demo`) exits with 1.

mod args;
mod client;
mod clock;
mod commands;
mod coverage;
mod demo;
mod feed;
mod format;
mod logging;
pub mod node;
mod outcome;
mod progress;
mod text;

pub use args::{
    Args, BatchArgs, CheckArgs, Command, DemoArgs, GcArgs, IngestArgs, InitArgs, Input, QueryArgs, ServeArgs,
    SpeedArgs, StatusArgs, UpArgs,
};
pub use format::{Output, render};
pub use outcome::Outcome;

use clap::Parser;
use std::process::ExitCode;

/// Planning deep queries recurses deeply.
const STACK_BYTES: usize = 16 << 20;

/// Reads the arguments of the process, and does what they say.
pub fn main() -> ExitCode {
    let args = Args::parse();
    logging::start(&args.command);
    run(args)
}

/// Does what the arguments say.
pub fn run(args: Args) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let outcome = runtime.block_on(async { tokio::spawn(commands::run(args)).await });
            // A thread may be waiting for stdin: it has nothing left to do.
            runtime.shutdown_background();
            outcome?
        });
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Different) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {}", text::one_line(&message(&error)));
            ExitCode::from(2)
        }
    }
}

/// What an error and its causes say. The platform's own errors say all that their causes do.
fn message(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<twofold_common::Error>() {
            break;
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use twofold_common::Error;

    #[test]
    fn an_error_is_told_once_with_its_context() {
        let io = std::io::Error::other("disk on fire");
        let error = Err::<(), _>(Error::io("log.redb", io)).context("sealing").context("batch").unwrap_err();
        assert_eq!(message(&error), "batch: sealing: log.redb: disk on fire");
        let error = Err::<(), _>(std::io::Error::other("no")).context("a.csv").unwrap_err();
        assert_eq!(message(&error), "a.csv: no");
    }
}
