//! The gate: who gets in with which token, and whether one is needed.
//!
//! A token is needed as soon as the project has ever had one, and wherever others than this machine can reach the
//! address. The list is read again every [`EVERY`], so that a token that is made or revoked anywhere counts everywhere
//! within seconds. If it cannot be read any more, or is gone, the last one that was read counts until a restart.

use super::{Access, By};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use twofold_common::{Digest, Error, Result, Scram, Token, TokenList, TokenRecord, Tokens};

/// How often the list of tokens is read again.
const EVERY: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// What time it is, in nanoseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Who gets in.
pub struct Gate {
    tokens: Option<Tokens>,
    /// The token of this process, which commands on this machine find in its run file.
    local: Option<Token>,
    /// What nobody knows.
    secret: Digest,
    exposed: bool,
    list: watch::Sender<Option<Arc<TokenList>>>,
    clock: Clock,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("exposed", &self.exposed).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that lets everybody do everything.
    pub fn open() -> Arc<Self> {
        let list = watch::Sender::new(None);
        let secret = Digest::of(b"");
        Arc::new(Self { tokens: None, local: None, secret, exposed: false, list, clock: Arc::new(|| 0) })
    }

    /// The gate of a project with these tokens, and that of this process. `exposed` says that others than this machine
    /// can reach it: then a token is needed even if there is none.
    ///
    /// # Errors
    /// If the tokens cannot be read.
    pub async fn new(tokens: Tokens, local: Token, exposed: bool, clock: Clock) -> Result<Arc<Self>> {
        let list = watch::Sender::new(tokens.list().await?.map(Arc::new));
        let secret = Token::random()?.hash().digest();
        Ok(Arc::new(Self { tokens: Some(tokens), local: Some(local), secret, exposed, list, clock }))
    }

    /// Whether a token is needed.
    pub fn is_required(&self) -> bool {
        self.exposed || self.list.borrow().is_some()
    }

    /// Who shows this token, or no token.
    ///
    /// # Errors
    /// `Unauthenticated`, saying what is wrong with the token, or that one is needed.
    pub fn admit(&self, shown: Option<&str>) -> Result<Access> {
        let Some(shown) = shown else {
            if self.is_required() {
                return Err(Error::Unauthenticated(
                    "a token is needed: send it as `Authorization: Bearer twofold_…`; who runs the server makes one with \
                     `twofold token create`"
                        .into(),
                ));
            }
            return Ok(Access { by: By::Open, ..Access::trusted() });
        };
        let token = Token::parse(shown)?;
        if self.local.is_some_and(|local| local.hash().is_of(&token)) {
            return Ok(Access::trusted());
        }
        let list = self.list.borrow().clone().unwrap_or_default();
        list.find(&token, (self.clock)()).map(access)
    }

    /// What SCRAM checks the password of a user against, and who it is if that is right: the user is a token's name, the
    /// password the token. A user that nobody is gets what no password fits, the same each time.
    pub fn scram(&self, user: &str) -> (Scram, Option<Access>) {
        let list = self.list.borrow().clone().unwrap_or_default();
        match list.valid(user, (self.clock)()) {
            Ok(record) => (record.scram, Some(access(record))),
            Err(_) => (Scram::of_nobody(user, &self.secret), None),
        }
    }

    /// Whether who once got in would still: not if the token was revoked, has expired, or is needed by now.
    pub fn still_admits(&self, access: &Access) -> bool {
        let By::Token { hash, .. } = &access.by else {
            return matches!(access.by, By::Process) || !self.is_required();
        };
        let list = self.list.borrow().clone().unwrap_or_default();
        let now = (self.clock)();
        list.tokens.iter().any(|record| record.hash.digest() == *hash && !record.is_expired(now))
    }

    /// Waits until [`still_admits`](Self::still_admits) no longer holds: for answers and connections that go on for long.
    pub async fn shut_out(&self, access: &Access) {
        let mut changes = self.list.subscribe();
        while self.still_admits(access) {
            let left = match access.by {
                By::Token { expires: Some(at), .. } => at.saturating_sub((self.clock)()),
                _ => i64::MAX,
            };
            let left = Duration::from_nanos(u64::try_from(left).unwrap_or(0));
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(left.min(DAY)) => {}
            }
        }
    }

    /// Reads the list again and again until `stop` is true.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Some(tokens) = &self.tokens else { return };
        let mut told = false;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match tokens.list().await {
                Ok(list) => {
                    told = false;
                    self.adopt(list);
                }
                Err(error) if told => tracing::debug!(%error, "the tokens cannot be read"),
                Err(error) => {
                    told = true;
                    tracing::warn!(%error, "the tokens cannot be read: those that were known count on");
                }
            }
        }
    }

    fn adopt(&self, list: Option<TokenList>) {
        let Some(list) = list else { return };
        let hashes = |list: &TokenList| list.tokens.iter().map(|t| t.hash.digest()).collect::<Vec<_>>();
        self.list.send_if_modified(|known| {
            if known.as_deref().map(hashes) == Some(hashes(&list)) {
                return false;
            }
            *known = Some(Arc::new(list));
            true
        });
    }
}

fn access(record: &TokenRecord) -> Access {
    let by =
        By::Token { name: record.name.as_str().into(), hash: record.hash.digest(), expires: record.expires };
    Access { scopes: Arc::new(record.scopes.clone()), by }
}
