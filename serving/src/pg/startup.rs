//! How a connection begins: who asks, with what settings, and the key by which its statements can be cancelled.
//!
//! Where a token is needed, the user is its name, and the password the token. It is checked by SCRAM-SHA-256 (RFC 7677),
//! over which neither side sends it. What a client proves is of random numbers of this one connection, so how long the
//! check takes tells nothing that helps with the next. A name that no token has is asked for its password as the others
//! are.

use super::failure::{Failure, state};
use super::service::session;
use super::settings::Settings;
use crate::access::{Access, Gate};
use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::sasl::SCRAM_SHA_256_METHOD;
use datafusion_postgres::pgwire::api::auth::sasl::scram::{
    ScramServerAuth, ScramServerAuthWaitingForClientFinal,
};
use datafusion_postgres::pgwire::api::auth::{
    Password, ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::{
    ClientInfo, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::{Authentication, PasswordMessageFamily, SecretKey};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, SinkExt};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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

/// Lets one client in.
pub(super) struct Startup {
    pub(super) connections: Arc<Connections>,
    pub(super) gate: Arc<Gate>,
    /// Whether it may come without TLS.
    pub(super) plain: bool,
    /// What its proof is checked against, and who it is if it has it.
    asked: Mutex<Option<(ScramServerAuthWaitingForClientFinal, Option<Access>)>>,
    access: OnceLock<Access>,
}

impl Startup {
    pub(super) fn new(connections: Arc<Connections>, gate: Arc<Gate>, plain: bool) -> Self {
        Self { connections, gate, plain, asked: Mutex::default(), access: OnceLock::new() }
    }

    /// Who is in, if somebody is.
    pub(super) fn access(&self) -> Option<&Access> {
        self.access.get()
    }

    /// Asks for the password, or lets in who needs none.
    async fn admit<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !self.gate.is_required() {
            return self.enter(client, self.gate.admit(None).map_err(Failure::from)?).await;
        }
        client.set_state(PgWireConnectionState::AuthenticationInProgress);
        let ways = Authentication::SASL(vec![SCRAM_SHA_256_METHOD.to_string()]);
        client.send(PgWireBackendMessage::Authentication(ways)).await?;
        Ok(())
    }

    /// One of the client's two messages of SCRAM.
    async fn check<C>(&self, client: &mut C, message: PasswordMessageFamily) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let user = user(client)?;
        if let Some((asked, access)) = asked {
            let proved = asked.on_client_final_message(&message.into_sasl_response()?.data);
            let (Ok(proof), Some(access)) = (proved, access) else {
                return Err(wrong_password(&user).into());
            };
            let proof = Authentication::SASLFinal(proof.into());
            client.send(PgWireBackendMessage::Authentication(proof)).await?;
            return self.enter(client, access).await;
        }
        let first = message.into_sasl_initial_response()?;
        if first.auth_method != SCRAM_SHA_256_METHOD {
            let message =
                format!("there is no way in called {}: use {SCRAM_SHA_256_METHOD}", first.auth_method);
            return Err(Failure::fatal(state::NOT_LET_IN, &message).into());
        }
        let (scram, access) = self.gate.scram(&user);
        let mut server = ScramServerAuth::new();
        server.set_iterations(usize::try_from(scram.iterations()).unwrap_or(usize::MAX));
        let known = Password::new(Some(scram.salt().to_vec()), scram.salted_password().to_vec());
        let (question, asked) = server.on_client_first_message(&first.data.unwrap_or_default(), known)?;
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, access));
        let question = Authentication::SASLContinue(question.into());
        client.send(PgWireBackendMessage::Authentication(question)).await?;
        Ok(())
    }

    async fn enter<C>(&self, client: &mut C, access: Access) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let registered = self.connections.register(client);
        client.session_extensions().insert(registered);
        self.access.get_or_init(|| access);
        finish_authentication(client, self).await
    }
}

fn user(client: &impl ClientInfo) -> Result<String, Failure> {
    let user = client.metadata().get(METADATA_USER).filter(|user| !user.is_empty());
    user.cloned().ok_or_else(|| Failure::fatal(state::NOT_LET_IN, "a user is needed to connect"))
}

fn wrong_password(user: &str) -> Failure {
    let message = format!(
        "password authentication failed for user \"{user}\": the user is the name of a token, and the password the token"
    );
    Failure::fatal(state::WRONG_PASSWORD, &message)
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
        let startup = match message {
            PgWireFrontendMessage::Startup(startup) => startup,
            PgWireFrontendMessage::PasswordMessageFamily(message) => {
                return self.check(client, message).await;
            }
            _ => {
                let message = "expected the message that starts a connection";
                return Err(Failure::fatal(state::PROTOCOL, message).into());
            }
        };
        protocol_negotiation(client, &startup).await?;
        save_startup_parameters_to_metadata(client, &startup);
        user(client)?;
        if !self.plain && !client.is_secure() {
            let message = "this server speaks TLS: connect with sslmode=require, or a stricter one";
            return Err(Failure::fatal(state::NOT_LET_IN, message).into());
        }
        let settings = settings(client).map_err(Failure::into_fatal)?;
        *session(client).settings() = settings;
        self.admit(client).await
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
