//! What the layers say while they run: events of `tracing`, as lines on stderr.
//!
//! `TWOFOLD_LOG` chooses what is shown, as a level or a filter of tracing-subscriber; without it, servers show what is
//! worth knowing, and commands say what went wrong in their one line.

use crate::args::Command;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

const VARIABLE: &str = "TWOFOLD_LOG";

/// Shows events from now on.
pub(crate) fn start(command: &Command) {
    let default = if command.is_server() { "warn,twofold=info" } else { "off" };
    let wanted = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default)).unwrap_or_else(|e| {
        eprintln!("warning: {VARIABLE}: {e}; showing {default}");
        EnvFilter::new(default)
    });
    let stderr = std::io::stderr;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // A second start in one process (tests) keeps the first.
    let _ = lines.with_ansi(stderr().is_terminal()).try_init();
}
