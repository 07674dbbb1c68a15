//! Nodes: what one process runs of a project, wired together.
//!
//! ```text
//! Site      the project's files, planned           reads files only
//! Stores    archive and batch views                needs no lock
//! SpeedNode log, engine, archiver                  owns the data directory while it lives
//! Up        all of it, and HTTP                    what `twofold up` and the demo run
//! ```
//!
//! A site is checked before a store is opened, and a store before a lock is taken, so that what is wrong is told before
//! anything is written.

mod background;
mod door;
mod entrance;
mod exposure;
mod found_speed;
mod held_states;
mod http;
mod http2;
mod lock;
mod reload;
mod run_file;
mod schedule;
mod settling;
mod shutdown;
mod site;
mod speed_node;
mod up;

pub(crate) use background::give_way;
pub(crate) use door::{Door, server};
pub(crate) use entrance::Entrance;
pub use found_speed::FoundSpeed;
pub(crate) use held_states::HeldStates;
#[cfg(test)]
pub(crate) use http::Listener;
pub use lock::DataLock;
pub(crate) use reload::Reload;
pub use run_file::{Layer, RunFile, Running, find};
pub(crate) use schedule::workers;
pub use shutdown::{Shutdown, Stopper};
pub use site::{Site, Stores};
pub use speed_node::SpeedNode;
pub(crate) use speed_node::open_log;
pub(crate) use up::join;
pub use up::{Listen, Up};

#[cfg(test)]
mod ingest_tests;

/// A server for tests: its URL. It answers as long as the test runs.
#[cfg(test)]
pub(crate) async fn test_server(app: axum::Router) -> String {
    let listener = Listener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), "").await.unwrap();
    let url = listener.url();
    let (stopper, shutdown) = Shutdown::new();
    std::mem::forget(stopper);
    drop(listener.answer(app, shutdown));
    url
}
