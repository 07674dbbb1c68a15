//! Arrow Flight SQL beside HTTP: which address it takes, and answering there.
//!
//! An address that somebody asked for is taken, or the start is refused. If nobody did, it is the usual one if that is
//! free: on a machine with two projects the second goes on without, and says so. A server that takes a free port for
//! HTTP takes one for Flight.

use super::http::Listener;
use super::shutdown::Shutdown;
use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Listening, ServeConfig};
use twofold_serving::{Serving, flight_app};

const SETTING: &str = "--flight-listen, or `flight_listen` in [serve] of twofold.toml";

/// Takes the address of Flight: what is `asked` for goes before what `config` says. `http` is the address of HTTP.
pub(crate) async fn bind_flight(
    config: &ServeConfig,
    asked: Option<Listening>,
    http: SocketAddr,
) -> Result<Option<Listener>> {
    let address = match asked.or(config.flight_listen) {
        Some(Listening::Off) => return Ok(None),
        Some(Listening::At(address)) => return Listener::bind(address, SETTING).await.map(Some),
        None if http.port() == 0 => SocketAddr::new(ServeConfig::FLIGHT.ip(), 0),
        None => ServeConfig::FLIGHT,
    };
    match Listener::bind(address, SETTING).await {
        Ok(listener) => Ok(Some(listener)),
        Err(e) => {
            tracing::warn!(reason = %e, "Arrow Flight SQL is not answered");
            Ok(None)
        }
    }
}

/// Answers until the switch is flipped; gives where, as drivers are told it.
pub(crate) fn spawn_flight(
    tasks: &mut JoinSet<Result<()>>,
    listener: Listener,
    serving: Arc<Serving>,
    shutdown: &Shutdown,
) -> String {
    let url = listener.url().replacen("http://", "grpc://", 1);
    let server = listener.http2().answer(flight_app(serving), shutdown.clone());
    tasks.spawn(async move { server.await? });
    url
}

/// The line that says where Flight is answered, if it is.
pub(crate) fn told(flight: Option<&str>) -> String {
    flight.map(|url| format!("Arrow Flight SQL at {url}\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: SocketAddr = SocketAddr::new(ServeConfig::FLIGHT.ip(), 0);

    fn config(flight_listen: Option<Listening>) -> ServeConfig {
        ServeConfig { listen: FREE, flight_listen }
    }

    #[tokio::test]
    async fn what_is_asked_for_goes_before_what_is_configured_and_before_what_is_usual() {
        let off = bind_flight(&config(None), Some(Listening::Off), FREE).await.unwrap();
        assert!(off.is_none());
        let off = bind_flight(&config(Some(Listening::Off)), None, FREE).await.unwrap();
        assert!(off.is_none());
        let on = bind_flight(&config(Some(Listening::Off)), Some(Listening::At(FREE)), FREE).await.unwrap();
        assert!(on.is_some());
        let beside = bind_flight(&config(None), None, FREE).await.unwrap().unwrap();
        assert!(!beside.url().ends_with(":8663"), "HTTP takes a free port, and so does Flight");
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused_if_it_was_asked_for_and_done_without_if_not() {
        let http = SocketAddr::from(([127, 0, 0, 1], 1));
        // The usual port: ours, or that of whoever has it.
        let held = bind_flight(&config(None), None, http).await.unwrap();
        assert!(bind_flight(&config(None), None, http).await.unwrap().is_none());
        let asked = Some(Listening::At(ServeConfig::FLIGHT));
        for (config, asked) in [(config(None), asked), (config(asked), None)] {
            let message = bind_flight(&config, asked, http).await.unwrap_err().to_string();
            assert!(message.contains("is in use") && message.ends_with(SETTING), "{message}");
        }
        drop(held);
    }
}
