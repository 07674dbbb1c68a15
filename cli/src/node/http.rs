//! Sockets: taking an address, and answering on it until the switch is flipped.

use super::shutdown::Shutdown;
use anyhow::{Context, Result, anyhow};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long open requests may take to end after the switch was flipped.
const GRACE: Duration = Duration::from_secs(10);

/// A taken address.
#[derive(Debug)]
pub(crate) struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes an address; `setting` says where another can be chosen.
    pub(crate) async fn bind(address: SocketAddr, setting: &str) -> Result<Self> {
        let inner = TcpListener::bind(address).await.map_err(|e| refused(address, setting, &e))?;
        let address = inner.local_addr().context("the address that was taken")?;
        Ok(Self { inner, address })
    }

    /// Where this is found from the same machine.
    pub(crate) fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}")
    }

    /// Answers until the switch is flipped, and then what is still being asked.
    pub(crate) fn answer(self, app: axum::Router, shutdown: Shutdown) -> JoinHandle<Result<()>> {
        tokio::spawn(async move {
            let stop = shutdown.clone();
            let server =
                axum::serve(self.inner, app).with_graceful_shutdown(async move { stop.requested().await });
            let late = async {
                shutdown.requested().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                done = async { server.await } => done.context("answering HTTP"),
                () = late => Ok(()),
            }
        })
    }
}

fn refused(address: SocketAddr, setting: &str, e: &std::io::Error) -> anyhow::Error {
    match e.kind() {
        ErrorKind::AddrInUse => {
            anyhow!(
                "the address {address} is in use: stop what listens there, or choose another with {setting}"
            )
        }
        ErrorKind::PermissionDenied | ErrorKind::AddrNotAvailable => {
            anyhow!("the address {address} cannot be listened on ({e}): choose another with {setting}")
        }
        _ => anyhow!("listening on {address}: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn an_address_in_use_is_named_with_the_way_out() {
        let first = Listener::bind(ANY, "--listen").await.unwrap();
        let message = Listener::bind(first.address, "--listen").await.unwrap_err().to_string();
        let expected = format!("the address {} is in use", first.address);
        assert!(message.starts_with(&expected) && message.ends_with("--listen"), "{message}");
    }

    #[tokio::test]
    async fn it_answers_until_the_switch_is_flipped() {
        let listener = Listener::bind(ANY, "--listen").await.unwrap();
        let url = listener.url();
        let (stopper, shutdown) = Shutdown::new();
        let app = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
        let server = listener.answer(app, shutdown);
        assert_eq!(reqwest::get(&url).await.unwrap().text().await.unwrap(), "here");
        stopper.stop();
        server.await.unwrap().unwrap();
        assert!(reqwest::get(&url).await.is_err());
    }

    #[tokio::test]
    async fn an_address_for_everybody_is_found_on_loopback() {
        let listener = Listener::bind("0.0.0.0:0".parse().unwrap(), "").await.unwrap();
        assert_eq!(listener.url(), format!("http://127.0.0.1:{}", listener.address.port()));
    }
}
