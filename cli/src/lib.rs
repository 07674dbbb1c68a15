//! The one binary `twofold`: arguments, wiring of the layers, progress, exit codes.
//!
//! A command either does what it says and exits with 0, or prints one line `error: …` on stderr and exits with 2,
//! nothing half-printed. A comparison that found a difference (`batch`, `audit`, `demo`) exits with 1.
//!
//! Whoever has functions of their own builds the binary with them: see [`main_with`].

mod alert;
mod args;
mod client;
mod clock;
mod commands;
mod coverage;
mod credentials;
mod demo;
mod feed;
mod format;
mod logging;
pub mod node;
mod outcome;
mod progress;
mod server_events;
mod text;

pub use args::{
    Args, AuditArgs, BatchArgs, CheckArgs, Command, DemoArgs, GcArgs, IngestArgs, InitArgs, Input, QueryArgs,
    RepairArgs, ServeArgs, SpeedArgs, StatusArgs, TokenArgs, TokenCommand, WatchArgs, WatchOutput,
};
pub use format::{Output, render};
pub use outcome::Outcome;

// What a `main` with functions of its own names, in the one version that fits.
pub use datafusion;
pub use twofold_common::{Functions, Merging};

use clap::Parser;
use std::process::ExitCode;

/// Planning deep queries recurses deeply.
const STACK_BYTES: usize = 16 << 20;

/// Reads the arguments of the process, and does what they say.
pub fn main() -> ExitCode {
    main_with(|_| Ok(()))
}

/// Like [`main`], with functions of the user's own, which every job then knows: this is the whole `main.rs` of a
/// binary that is `twofold` and has `celsius` besides.
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::sync::Arc;
/// use twofold_cli::datafusion::arrow::array::{ArrayRef, AsArray, Float64Array};
/// use twofold_cli::datafusion::arrow::datatypes::{DataType, Float64Type};
/// use twofold_cli::datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility};
/// use twofold_cli::datafusion::prelude::create_udf;
///
/// fn celsius() -> ScalarUDF {
///     let convert = |arguments: &[ColumnarValue]| {
///         let arrays = ColumnarValue::values_to_arrays(arguments)?;
///         let fahrenheit = arrays[0].as_primitive::<Float64Type>();
///         let celsius: Float64Array = fahrenheit.unary(|f| (f - 32.0) / 1.8);
///         Ok(ColumnarValue::Array(Arc::new(celsius) as ArrayRef))
///     };
///     let double = DataType::Float64;
///     create_udf("celsius", vec![double.clone()], double, Volatility::Immutable, Arc::new(convert))
/// }
///
/// fn main() -> ExitCode {
///     twofold_cli::main_with(|functions| functions.scalar(celsius(), 1).map(drop))
/// }
/// ```
pub fn main_with(register: impl FnOnce(&mut Functions) -> twofold_common::Result<()>) -> ExitCode {
    let args = Args::parse();
    logging::start(&args.command);
    match credentials::Credentials::of(&args) {
        Ok(given) => given.remember(),
        Err(error) => return fail(&error),
    }
    let mut functions = Functions::new();
    match register(&mut functions) {
        Ok(()) => run(args, functions),
        Err(error) => fail(&error.into()),
    }
}

/// Does what the arguments say, in a project that may use `functions`.
pub fn run(args: Args, functions: Functions) -> ExitCode {
    let in_background = matches!(args.command, Command::Batch(_) | Command::Audit(_) | Command::Gc(_));
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(move || {
            if in_background {
                node::give_way();
            }
        })
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let outcome = runtime
                .block_on(async { tokio::spawn(async move { commands::run(args, &functions).await }).await });
            // A thread may be waiting for stdin: it has nothing left to do.
            runtime.shutdown_background();
            outcome?
        });
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Different) => ExitCode::from(1),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", text::one_line(&message(error)));
    ExitCode::from(2)
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
