//! What decoding, folding and the speed layer cost, beside the engine and arrow-json, in one run. What each part measures
//! stands in its file. By hand, on an optimized build:
//!
//! ```text
//! cargo run --release -p twofold-bench -- --runs 5
//! ```
//!
//! A figure is the median of several runs with the least and the most; the sides of a comparison take turns within each
//! run, so that a busy machine slows both. Processor time is that of this process and all its threads, whatever else the
//! machine does.

#![expect(clippy::disallowed_methods, reason = "time is what is measured")]

mod decode;
mod events;
mod fold;
mod measure;
mod project;
mod report;
mod speed;

use anyhow::{Result, bail};
use clap::Parser;
use mimalloc::MiMalloc;
use report::Report;
use std::path::PathBuf;

// As in the binary.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What is to be measured, and how often.
#[derive(Debug, Parser)]
struct Args {
    /// decode, fold, speed; all of them if none is named.
    parts: Vec<String>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How many events, in thousands.
    #[arg(long, default_value_t = 1_000)]
    thousands: u64,
    /// Writes what was measured there, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

const PARTS: &[&str] = &["decode", "fold", "speed"];

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(unknown) = args.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part {unknown}: there are {}", PARTS.join(", "));
    }
    let wanted = |part: &str| args.parts.is_empty() || args.parts.iter().any(|p| p == part);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(16 << 20).build()?;
    let mut report = Report::new(args.runs.max(1));
    let events = args.thousands * 1_000;
    if wanted("decode") {
        decode::measure(&mut report, events)?;
    }
    if wanted("fold") {
        runtime.block_on(fold::measure(&mut report, events))?;
    }
    if wanted("speed") {
        runtime.block_on(speed::measure(&mut report, events))?;
    }
    if let Some(path) = args.json {
        std::fs::write(path, report.json()?)?;
    }
    Ok(())
}
