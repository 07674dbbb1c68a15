//! What decoding, folding and the speed layer cost, beside the engine and arrow-json, in one run. What each part measures
//! stands in its file. `scripts/bench` runs it, with what other processes are needed for; alone, on an optimized build:
//!
//! ```text
//! cargo run --release -p twofold-cli -p twofold-bench --bin twofold-bench -- --runs 5
//! ```
//!
//! A figure is the median of several runs with the least and the most; the sides of a comparison take turns within each
//! run, so that a busy machine slows both. Processor time is that of this process and all its threads, whatever else the
//! machine does.

#![expect(clippy::disallowed_methods, reason = "time is what is measured")]

mod decode;
mod events;
mod fold;
mod guard;
mod measure;
mod parquet;
mod project;
mod report;
mod speed;

use anyhow::{Context, Result, bail};
use clap::Parser;
use mimalloc::MiMalloc;
use report::Report;
use std::io::Write;
use std::path::PathBuf;

// As in the binary.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What is to be measured, and how often.
#[derive(Debug, Parser)]
struct Args {
    /// decode, fold, speed; all of them if none is named. parquet, events, project and guard, which need options, only if
    /// named.
    parts: Vec<String>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How many events, in thousands.
    #[arg(long, default_value_t = 1_000)]
    thousands: u64,
    /// guard: decode, or windows or users, which fold as well.
    #[arg(long, default_value = "decode")]
    of: String,
    /// guard: the file of events.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Writes what was measured there, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// speed: only the project of this name, such as "20 views".
    #[arg(long)]
    only: Option<String>,
    /// parquet: the archive of the stream, whose files the engine reads alone.
    #[arg(long)]
    archive: Option<PathBuf>,
    /// events and project: the file, or the empty directory, that they are written to.
    #[arg(long)]
    to: Option<PathBuf>,
    /// events: the first one, in thousands.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// events: of how many users, in thousands.
    #[arg(long, default_value_t = 1_000)]
    users: u64,
    /// project: its views, of campaigns_10s, campaigns_10m, campaigns_sliding, users; all of them if none is named.
    #[arg(long)]
    view: Vec<String>,
}

const PARTS: &[&str] = &["decode", "fold", "speed", "parquet", "events", "project", "guard"];

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(unknown) = args.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part {unknown}: there are {}", PARTS.join(", "));
    }
    let named = |part: &str| args.parts.iter().any(|p| p == part);
    let wanted = |part: &str| args.parts.is_empty() || named(part);
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
        runtime.block_on(speed::measure(&mut report, events, args.only.as_deref()))?;
    }
    if named("parquet") {
        let archive = args.archive.context("parquet: --archive says where the files are")?;
        runtime.block_on(parquet::measure(&mut report, &archive))?;
    }
    if named("events") {
        let to = args.to.as_ref().context("events: --to says where they go")?;
        let mut file = std::io::BufWriter::new(std::fs::File::create(to)?);
        let (from, step) = (args.from * 1_000, 10_000);
        for at in (from..from + events).step_by(step as usize) {
            let text = events::ndjson(at, (at + step).min(from + events), args.users * 1_000);
            file.write_all(text.as_bytes())?;
        }
        file.flush()?;
    }
    if named("project") {
        let to = args.to.context("project: --to says where it goes")?;
        let views = [project::TUMBLING, project::TUMBLING_10M, project::SLIDING, project::USERS];
        let kept = |name: &str| args.view.is_empty() || args.view.iter().any(|view| view == name);
        let views: Vec<_> = views.into_iter().filter(|(name, _)| kept(name)).collect();
        runtime.block_on(project::catalog(&to, &views))?;
    }
    if named("guard") {
        let file = args.file.context("guard: --file says where the events are")?;
        runtime.block_on(guard::work(&args.of, &file))?;
    }
    if let Some(path) = args.json {
        std::fs::write(path, report.json()?)?;
    }
    Ok(())
}
