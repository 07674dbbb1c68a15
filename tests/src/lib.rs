//! What crosses crates: the laws, parity of batch and speed, real processes, bad input.
#![cfg(test)]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub)]

mod bad_input;
mod bench_serving;
mod changes;
mod definitions;
mod docs;
mod events;
mod everything;
mod flight;
mod floats;
mod fold_speed;
mod functions;
mod fuzz;
mod hand_off_model;
mod kills;
mod laws;
mod limits;
mod live;
mod nexmark;
mod oracle;
mod owners;
mod parity;
mod postgres;
mod process;
mod repair;
mod scale;
mod sealing;
mod security;
mod shutdown;
mod simulation;
mod slt;
mod staleness;
mod three_processes;
mod versions;
mod watermarks;
mod windows;

mod views;
