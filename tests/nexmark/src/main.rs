//! `nexmark`: writes Nexmark's events as NDJSON, one file for each stream.

use anyhow::{Context, Result};
use clap::Parser;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use twofold_nexmark::{Config, Generator, STREAMS};

/// So many that their times fit, even at one event a second.
const MOST_EVENTS: u64 = 1_000_000_000_000;

/// Writes the events of the Nexmark benchmark to person.ndjson, auction.ndjson and bid.ndjson
#[derive(Debug, Parser)]
#[command(name = "nexmark")]
struct Args {
    /// How many events, of all streams together: of 50, one is a person, three are auctions, and 46 are bids
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=MOST_EVENTS))]
    events: u64,
    /// The directory for the files; it is made if it is not there
    #[arg(long)]
    out: PathBuf,
    /// Another seed, other events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many events happen in a second of event time
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How many events in a hundred arrive late
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    late_percent: u64,
    /// How late these are at most, in milliseconds
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(..=86_400_000))]
    late_ms: u64,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: Args) -> Result<()> {
    let Args { events, out, seed, rate, late_percent, late_ms } = args;
    let config = Config { seed, rate, late_percent, late_ms, ..Config::default() };
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make the directory {}", out.display()))?;
    for (path, written) in write(Generator::new(config, events), &out)? {
        println!("{}: {written} events", path.display());
    }
    Ok(())
}

/// Writes each event to the file of its stream, and gives the files with how many events they got.
fn write(events: Generator, out: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for stream in STREAMS {
        let path = out.join(format!("{stream}.ndjson"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        files.push((stream, path, BufWriter::new(file), 0));
    }
    let mut line = String::new();
    for event in events {
        line.clear();
        event.write_json(&mut line);
        line.push('\n');
        for (stream, path, file, written) in &mut files {
            if *stream == event.stream() {
                file.write_all(line.as_bytes())
                    .with_context(|| format!("cannot write {}", path.display()))?;
                *written += 1;
            }
        }
    }
    let finish = |(_, path, mut file, written): (_, PathBuf, BufWriter<File>, u64)| {
        file.flush().with_context(|| format!("cannot write {}", path.display()))?;
        Ok((path, written))
    };
    files.into_iter().map(finish).collect()
}
