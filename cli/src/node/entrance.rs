//! The entrance of a layer: its addresses, one for each protocol, TLS on them, and one gate behind all of them.
//!
//! An address that somebody asked for is taken, or the start is refused. The usual one of a protocol beside HTTP gives
//! way to a free port if it is in use, so that a second project on a machine starts as the first did.

use super::exposure::Exposure;
use super::http::Listener;
use super::run_file::Running;
use super::shutdown::Shutdown;
use super::site::{Site, Stores};
use super::up::Listen;
use crate::clock;
use anyhow::Result;
use axum::Router;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Config, Listening, TlsFiles, Token, Tokens};
use twofold_serving::{Gate, Guard, Origins, PG_ALPN, Pg, Rules, Serving, Tls, flight_app, guard};

const SERVE_SETTING: &str = "--listen, or `listen` in [serve] of twofold.toml";
const SPEED_SETTING: &str = "`listen` in [speed] of twofold.toml";
const FLIGHT_SETTING: &str = "--flight-listen, or `flight_listen` in [serve] of twofold.toml";
const PG_SETTING: &str = "--pg-listen, or `pg_listen` in [serve] of twofold.toml";

/// The settings of an entrance.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    section: &'static str,
    rules: Rules,
    addresses: Vec<Address>,
    tls: Option<TlsFiles>,
    origins: Origins,
    insecure: bool,
}

/// Where a protocol is to be spoken.
#[derive(Debug, Clone, Copy)]
struct Address {
    protocol: Protocol,
    at: SocketAddr,
    setting: &'static str,
    /// Whether another port will do.
    gives_way: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Postgres,
    Flight,
}

/// Addresses that are taken, and where nobody is let in yet.
#[derive(Debug)]
pub(crate) struct Taken {
    doors: Vec<(Protocol, Listener)>,
    exposures: Vec<Exposure>,
    tls: Option<Arc<Tls>>,
    rules: Rules,
    origins: Origins,
}

/// Addresses, and the gate behind them.
#[derive(Debug)]
pub(crate) struct Gated {
    taken: Taken,
    gate: Arc<Gate>,
    local: Token,
}

impl Entrance {
    /// That of users; `listen` goes before what the project says.
    pub(crate) fn of_serving(site: &Site, listen: &Listen) -> Self {
        let config = &site.project.config.serve;
        let at = listen.serve.unwrap_or(config.listen);
        let http = Address { protocol: Protocol::Http, at, setting: SERVE_SETTING, gives_way: false };
        let usual = Config::default().serve;
        let postgres = beside(Protocol::Postgres, PG_SETTING, listen.pg, config.pg_listen, usual.pg_listen);
        let flight = beside(
            Protocol::Flight,
            FLIGHT_SETTING,
            listen.flight,
            config.flight_listen,
            usual.flight_listen,
        );
        Self {
            section: "serve",
            rules: Rules::Serving,
            addresses: [Some(http), postgres, flight].into_iter().flatten().collect(),
            tls: config.tls.clone(),
            origins: Origins::new(&config.allow_origins),
            insecure: listen.insecure,
        }
    }

    /// That of the other processes; `listen` goes before what the project says.
    pub(crate) fn of_speed(site: &Site, listen: &Listen) -> Self {
        let config = &site.project.config.speed;
        let at = listen.speed.unwrap_or(config.listen);
        Self {
            section: "speed",
            rules: Rules::Speed,
            addresses: vec![Address {
                protocol: Protocol::Http,
                at,
                setting: SPEED_SETTING,
                gives_way: false,
            }],
            tls: config.tls.clone(),
            origins: Origins::default(),
            insecure: listen.insecure,
        }
    }

    /// Takes the addresses. Nothing is written.
    ///
    /// # Errors
    /// What is wrong with one of them, or with the certificate.
    pub(crate) async fn take(self) -> Result<Taken> {
        let Self { section, insecure, .. } = self;
        let exposure =
            |address: &Address| Exposure { address: address.at, section, tls: self.tls.is_some(), insecure };
        let exposures: Vec<Exposure> = self.addresses.iter().map(exposure).collect();
        exposures.iter().try_for_each(Exposure::check_tls)?;
        let tls = self.tls.as_ref().map(Tls::load).transpose()?;
        let mut doors = Vec::new();
        for address in &self.addresses {
            let listener = address.take().await?;
            let listener = match (address.protocol, &tls) {
                (Protocol::Http, Some(tls)) => listener.with_tls(tls.acceptor(&["http/1.1"])?),
                (Protocol::Flight, Some(tls)) => listener.with_tls(tls.acceptor(&["h2"])?),
                // Where TLS begins within the protocol.
                (Protocol::Postgres, _) | (_, None) => listener,
            };
            let flight = address.protocol == Protocol::Flight;
            doors.push((address.protocol, if flight { listener.http2() } else { listener }));
        }
        Ok(Taken { doors, exposures, tls, rules: self.rules, origins: self.origins })
    }
}

impl Address {
    async fn take(&self) -> Result<Listener> {
        let Self { at, setting, .. } = *self;
        if !self.gives_way {
            return Listener::bind(at, setting).await;
        }
        Listener::bind_or_free(at, setting).await
    }
}

/// The address of a protocol beside HTTP, if it is to have one.
fn beside(
    protocol: Protocol,
    setting: &'static str,
    asked: Option<Listening>,
    configured: Listening,
    usual: Listening,
) -> Option<Address> {
    let Listening::At(at) = asked.unwrap_or(configured) else { return None };
    Some(Address { protocol, at, setting, gives_way: asked.is_none() && configured == usual })
}

impl Taken {
    /// Puts the gate of the project's tokens behind them.
    ///
    /// # Errors
    /// If there is no token and one is needed, or they cannot be read.
    pub(crate) async fn gated(self, stores: &Stores) -> Result<Gated> {
        let tokens = Tokens::new(stores.store.clone());
        let some = tokens.list().await?.is_some_and(|list| !list.tokens.is_empty());
        let mut needed = false;
        for exposure in &self.exposures {
            exposure.check_tokens(some)?;
            let Exposure { address, insecure, .. } = *exposure;
            let beyond = exposure.is_beyond_loopback();
            if beyond && insecure {
                tracing::warn!(%address, "--insecure-listen: others than this machine can reach this address");
            }
            needed |= beyond && !insecure;
        }
        let local = Token::random()?;
        let gate = Gate::new(tokens, local, needed, Arc::new(clock::nanos)).await?;
        Ok(Gated { taken: self, gate, local })
    }

    /// Where a protocol is found from the same machine.
    fn url(&self, of: Protocol) -> Option<String> {
        let (_, listener) = self.doors.iter().find(|(protocol, _)| *protocol == of)?;
        let (authority, tls) = (listener.authority(), self.tls.is_some());
        Some(match (of, tls) {
            (Protocol::Http, false) => format!("http://{authority}"),
            (Protocol::Http, true) => format!("https://{authority}"),
            (Protocol::Flight, false) => format!("grpc://{authority}"),
            (Protocol::Flight, true) => format!("grpc+tls://{authority}"),
            (Protocol::Postgres, false) => format!("postgresql://{authority}/twofold"),
            (Protocol::Postgres, true) => format!("postgresql://{authority}/twofold?sslmode=require"),
        })
    }
}

impl Gated {
    /// What the run file says of it.
    pub(crate) fn running(&self) -> Running {
        let url = self.taken.url(Protocol::Http).unwrap_or_default();
        let certificate = self.taken.tls.as_ref().map(|tls| tls.certificate().to_path_buf());
        let (pg, flight) = (self.taken.url(Protocol::Postgres), self.taken.url(Protocol::Flight));
        Running { certificate, pg, flight, ..Running::at(&url, Some(&self.local)) }
    }

    /// Lets in who may, to ask `app` over HTTP, until the switch is flipped.
    ///
    /// # Errors
    /// `Internal` if TLS refuses its own defaults.
    pub(crate) fn open(
        self,
        app: Router,
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        self.open_all(app, None, tasks, shutdown)
    }

    /// The same, and `serving` over the other protocols.
    ///
    /// # Errors
    /// `Internal` if TLS refuses its own defaults.
    pub(crate) fn open_serving(
        self,
        app: Router,
        serving: &Arc<Serving>,
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        let (stop, closed) = (shutdown.clone(), Arc::clone(serving));
        // Those who watch views would stay for ever.
        tasks.spawn(async move {
            stop.requested().await;
            closed.close();
            Ok(())
        });
        self.open_all(app, Some(serving), tasks, shutdown)
    }

    fn open_all(
        self,
        app: Router,
        serving: Option<&Arc<Serving>>,
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        let Self { taken: Taken { doors, tls, rules, origins, .. }, gate, .. } = self;
        let app = guard(app, Guard { gate: Arc::clone(&gate), rules, origins });
        for (protocol, listener) in doors {
            if let Some(in_use) = listener.gave_way() {
                let address = listener.authority();
                tracing::warn!(%in_use, address, ?protocol, "the usual address is in use: another one is taken");
            }
            let server = match (protocol, serving) {
                (Protocol::Postgres, Some(serving)) => {
                    let acceptor = tls.as_ref().map(|tls| tls.acceptor(&[PG_ALPN])).transpose()?;
                    let pg = Pg::new(Arc::clone(serving), Arc::clone(&gate), acceptor);
                    let stop = shutdown.clone();
                    listener.answer_each(shutdown.clone(), move |socket| {
                        let (pg, stop) = (Arc::clone(&pg), stop.clone());
                        async move { pg.serve(socket, async move { stop.requested().await }).await }
                    })
                }
                (Protocol::Flight, Some(serving)) => {
                    listener.answer(flight_app(Arc::clone(serving), Arc::clone(&gate)), shutdown.clone())
                }
                _ => listener.answer(app.clone(), shutdown.clone()),
            };
            tasks.spawn(async move { server.await? });
        }
        let stop = shutdown.receiver();
        tasks.spawn(async move {
            gate.run(stop).await;
            Ok(())
        });
        if let Some(tls) = tls {
            let stop = shutdown.receiver();
            tasks.spawn(async move {
                tls.run(stop).await;
                Ok(())
            });
        }
        Ok(())
    }
}
