//! How a connection begins: who asks, with what settings, and the key by which its statements can be cancelled.

use super::failure::{Failure, state};
use super::service::session;
use super::settings::Settings;
use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::{
    ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::{
    ClientInfo, METADATA_USER, PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::Sink;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// The running connections, by the number that each was given.
#[derive(Default)]
pub(super) struct Connections {
    numbers: RandomPidSecretKeyGenerator,
    running: Mutex<HashMap<i32, (SecretKey, Arc<Notify>)>>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// A connection that can be told to cancel, until this is dropped.
pub(super) struct Registered {
    number: i32,
    connections: Arc<Connections>,
    pub(super) cancelled: Arc<Notify>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = self.connections.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.number);
    }
}

impl Connections {
    fn register(self: &Arc<Self>, client: &mut impl ClientInfo) -> Registered {
        let (number, key) = self.numbers.generate(&*client);
        client.set_pid_and_secret_key(number, key.clone());
        let cancelled = Arc::new(Notify::new());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(number, (key, Arc::clone(&cancelled)));
        Registered { number, connections: Arc::clone(self), cancelled }
    }

    /// Ends what the connection of this number is at, if the key is its own. A connection that is at nothing goes on.
    pub(super) fn cancel(&self, number: i32, key: &SecretKey) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, cancelled)) = running.get(&number)
            && is_same(&known.to_bytes(), &key.to_bytes())
        {
            cancelled.notify_waiters();
        }
    }
}

/// Whether two keys are the same, in a time that does not tell where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let different = one.iter().zip(other).fold(0, |different, (one, other)| different | (one ^ other));
    one.len() == other.len() && different == 0
}

/// Lets clients in.
pub(super) struct Startup {
    pub(super) connections: Arc<Connections>,
}

/// Who may come in: everybody, since only this machine reaches the address. This is the one place where a client's user
/// and what it knows (a password, a token) would be looked at, before it is told that it is in.
fn admit(client: &impl ClientInfo) -> Result<(), Failure> {
    match client.metadata().get(METADATA_USER) {
        Some(user) if !user.is_empty() => Ok(()),
        _ => Err(Failure::fatal("28000", "a user is needed to connect")),
    }
}

/// The settings that a client sends when it connects.
fn settings(client: &impl ClientInfo) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    for (name, value) in client.metadata() {
        match name.as_str() {
            "options" => {
                for (name, value) in options(value) {
                    settings.set_at_start(name, value)?;
                }
            }
            "replication" if !["false", "off", "no", "0"].contains(&value.as_str()) => {
                return Err(Failure::new(state::NOT_SUPPORTED, "there is no replication here".into()));
            }
            name => settings.set_at_start(name, value)?,
        }
    }
    Ok(settings)
}

/// `-c name=value --name=value`, as libpq passes them on.
fn options(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = text.split_whitespace().map(|word| word.trim_start_matches("--").trim_start_matches("-c"));
    words.filter_map(|word| word.split_once('='))
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let PgWireFrontendMessage::Startup(startup) = message else {
            return Err(
                Failure::fatal(state::PROTOCOL, "expected the message that starts a connection").into()
            );
        };
        protocol_negotiation(client, &startup).await?;
        save_startup_parameters_to_metadata(client, &startup);
        admit(client)?;
        let settings = settings(client).map_err(Failure::into_fatal)?;
        *session(client).settings() = settings;
        let registered = self.connections.register(client);
        client.session_extensions().insert(registered);
        finish_authentication(client, self).await
    }
}

impl ServerParameterProvider for Startup {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        let session = session(client);
        let mut told: HashMap<String, String> =
            session.settings().told().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
        told.insert("session_authorization".into(), user);
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_libpq_writes_them() {
        let all: Vec<_> = options("-c statement_timeout=5s --search_path=public -c  x").collect();
        assert_eq!(all, [("statement_timeout", "5s"), ("search_path", "public")]);
    }

    #[test]
    fn keys_are_the_same_if_all_of_them_is() {
        assert!(is_same(b"abcd", b"abcd"));
        assert!(!is_same(b"abcd", b"abce"));
        assert!(!is_same(b"abcd", b"abc"));
        assert!(!is_same(b"", b"abc"));
    }
}
