//! How fast JSON parsers alone walk the events of a file, each line a document: what decoding to Arrow is measured
//! against.
//!
//! ```text
//! twofold-bench-parsers FILE RUNS
//! ```
//!
//! Prints a line for each run and parser: its name, and MB/s of one core.

use anyhow::{Context, Result, ensure};
use jiter::{Jiter, Peek};
use mimalloc::MiMalloc;
use std::hint::black_box;
use std::time::Instant;

// As in the binary that is measured.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Parser = (&'static str, fn(&[u8]) -> Result<u64>);

const PARSERS: [Parser; 4] = [
    ("jiter, a token at a time", jiter_tokens),
    ("simd-json, the tape", simd_tape),
    ("simd-json, the tape in kept buffers", simd_tape_kept),
    ("sonic-rs, the document", sonic_document),
];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().context("which file?")?;
    let runs: usize = args.next().context("how many runs?")?.parse()?;
    let text = std::fs::read(&file).with_context(|| file.clone())?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
    for run in 0..=runs {
        for (name, parse) in PARSERS {
            let started = Instant::now();
            let found = parse(&text)?;
            let seconds = started.elapsed().as_secs_f64();
            ensure!(found == lines, "{name} found {found} events of {lines}");
            // The first warms up.
            if run > 0 {
                println!("{name}\t{:.1}", text.len() as f64 / seconds / 1e6);
            }
        }
    }
    Ok(())
}

fn each_line(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Every key and value, none of them kept.
fn jiter_tokens(text: &[u8]) -> Result<u64> {
    let mut events = 0;
    for line in each_line(text) {
        let mut parser = Jiter::new(line);
        let mut key = parser.next_object()?.map(str::len);
        while let Some(length) = key {
            black_box(length);
            match parser.peek()? {
                Peek::String => drop(black_box(parser.known_str()?.len())),
                other => drop(black_box(parser.known_number(other)?)),
            }
            key = parser.next_key()?.map(str::len);
        }
        events += 1;
    }
    Ok(events)
}

fn simd_tape(text: &[u8]) -> Result<u64> {
    let mut events = 0;
    let mut text = text.to_vec();
    for line in text.split_mut(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        drop(black_box(simd_json::to_tape(line)?));
        events += 1;
    }
    Ok(events)
}

fn simd_tape_kept(text: &[u8]) -> Result<u64> {
    let (mut events, mut buffers) = (0, simd_json::Buffers::new(512));
    let mut text = text.to_vec();
    for line in text.split_mut(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        drop(black_box(simd_json::to_tape_with_buffers(line, &mut buffers)?));
        events += 1;
    }
    Ok(events)
}

fn sonic_document(text: &[u8]) -> Result<u64> {
    let mut events = 0;
    for line in each_line(text) {
        drop(black_box(sonic_rs::from_slice::<sonic_rs::Value>(line)?));
        events += 1;
    }
    Ok(events)
}
