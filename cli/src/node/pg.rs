//! The address for clients of PostgreSQL.
//!
//! It is another one than that of HTTP, and on by default. The default address gives way if it is in use, so that a second
//! project on a machine starts as before; one that somebody has asked for does not.

use super::http::Listener;
use super::shutdown::Shutdown;
use anyhow::Result;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Config, Listening};
use twofold_serving::{Pg, Serving};

const SETTING: &str = "--pg-listen, or `pg_listen` in [serve] of twofold.toml";

/// Takes the address that was asked for on the command line, or else the one of `config`; none if that says so.
pub(crate) async fn bind(asked: Option<Listening>, config: &Config) -> Result<Option<Listener>> {
    let Listening::At(address) = asked.unwrap_or(config.serve.pg_listen) else { return Ok(None) };
    if asked.is_some() || config.serve.pg_listen != Config::default().serve.pg_listen {
        return Listener::bind(address, SETTING).await.map(Some);
    }
    let listener = Listener::bind_or_free(address, SETTING).await?;
    let taken = listener.authority();
    if taken != address.to_string() {
        tracing::warn!(in_use = %address, address = taken, "clients of PostgreSQL are answered at another address");
    }
    Ok(Some(listener))
}

/// Where clients connect to.
pub(crate) fn url(listener: &Listener) -> String {
    format!("postgresql://{}/twofold", listener.authority())
}

/// Answers until the switch is flipped, and then what is still being asked.
pub(crate) fn spawn(
    tasks: &mut JoinSet<Result<()>>,
    listener: Listener,
    serving: &Arc<Serving>,
    shutdown: &Shutdown,
) {
    let (pg, stop) = (Pg::new(Arc::clone(serving)), shutdown.clone());
    let answer = move |socket| {
        let (pg, stop) = (Arc::clone(&pg), stop.clone());
        async move { pg.serve(socket, async move { stop.requested().await }).await }
    };
    let server = listener.answer_each(shutdown.clone(), answer);
    tasks.spawn(async move { server.await? });
}
