//! Fuzzing: whatever bytes come from a wire, a disk or a user's file, no decoder panics or asks for memory without bound.
//!
//! `targets` are plain functions of bytes. Here they run on stable, on mutations of valid inputs drawn from a seed, in a
//! process of its own whose memory is bounded; `tests/fuzz` gives the same functions to `cargo fuzz`.

mod corpus;
mod mutate;
mod targets;

use corpus::corpus;
use mutate::Mutator;
use std::panic::catch_unwind;
use std::process::Command;
use std::time::{Duration, Instant};
use targets::TARGETS;

/// For how many milliseconds each target runs, if nobody says.
const MILLIS: u64 = 1200;
/// How much address space the process may take in all, in KiB: a decoder that believes a length field asks for more.
const MEMORY_KIB: u64 = 4 << 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name}={n} is no number")))
}

/// Runs [`child`] with little memory.
#[test]
#[cfg(target_os = "linux")]
fn no_input_panics_or_takes_memory_without_bound() {
    let exe = std::env::current_exe().unwrap();
    let run = format!(
        "ulimit -v {MEMORY_KIB}; exec \"$0\" --exact fuzz::child --ignored --nocapture --test-threads=1"
    );
    let output = Command::new("sh").args(["-c", &run]).arg(exe).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert_eq!(out.matches(" inputs").count(), TARGETS.len(), "{out}");
}

/// Each target on its valid inputs, and on mutations of them. `TWOFOLD_SEED` and `TWOFOLD_FUZZ_MS` say which and how long.
#[test]
#[ignore = "run by the test above, in a process of its own"]
fn child() {
    let seed = number("TWOFOLD_SEED").unwrap_or(1);
    let millis = Duration::from_millis(number("TWOFOLD_FUZZ_MS").unwrap_or(MILLIS));
    let corpus = corpus();
    std::panic::set_hook(Box::new(|_| ()));
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        let valid = &corpus[name];
        let mut mutator = Mutator::new(seed, valid);
        let (started, mut inputs) = (Instant::now(), 0u64);
        let mut worst = Duration::ZERO;
        let mut next = valid.clone();
        while inputs < valid.len() as u64 || started.elapsed() < millis {
            let input = next.pop().unwrap_or_else(|| mutator.input());
            let began = Instant::now();
            if let Err(panic) = catch_unwind(|| target(&input)) {
                failures
                    .push(format!("{name}: input {inputs} of seed {seed}: {}\n{input:?}", message(&*panic)));
                break;
            }
            worst = worst.max(began.elapsed());
            inputs += 1;
        }
        println!("{name}: {inputs} inputs, the slowest took {worst:?}; peak of resident memory {}", peak());
    }
    let _ = std::panic::take_hook();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// How much memory the process ever had.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("unknown").trim().to_string()
}
