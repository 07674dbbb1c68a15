//! The tokens of a project, in its store, so that serving and speed see the same ones wherever they run.
//!
//! ```text
//! tokens/manifest/<version>.json      a manifest whose body is {"tokens": [TokenRecord, …]}
//! ```
//!
//! Making and revoking publish a new version, so that of two at once none is lost; older versions are deleted but for
//! one. A project whose store has no such manifest has never had a token: that is what "no authentication" means. One
//! whose list is empty has had some, and stays closed.

use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifests, Versioned};
use crate::store::Store;
use crate::token::{Token, TokenRecord};
use chrono::DateTime;
use serde::{Deserialize, Serialize};

/// Where they are in the store.
pub const TOKENS: &str = "tokens";
const MANIFEST: &str = "list of tokens";
/// How often a change is tried while others change the list.
const TRIES: usize = 8;
/// How many versions stay.
const KEPT: usize = 2;

/// All tokens at one time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TokenList {
    /// In the order in which they were made.
    pub tokens: Vec<TokenRecord>,
}

/// Where the tokens of a project are kept.
#[derive(Debug, Clone)]
pub struct Tokens {
    manifests: Manifests<TokenList>,
}

impl Tokens {
    /// Those in `store`.
    pub fn new(store: Store) -> Self {
        Self { manifests: Manifests::new(store, format!("{TOKENS}/manifest"), MANIFEST) }
    }

    /// All of them; `None` if there has never been one.
    ///
    /// # Errors
    /// `Corrupt` if the list is damaged, `Unavailable` if the store is.
    pub async fn list(&self) -> Result<Option<TokenList>> {
        Ok(self.manifests.latest().await?.map(|found| found.body))
    }

    /// Keeps another token.
    ///
    /// # Errors
    /// `Invalid` if there is one of that name.
    pub async fn add(&self, record: &TokenRecord) -> Result<()> {
        self.change(record.created, |list| {
            if let Some(known) = list.named(&record.name) {
                let until = if known.is_expired(record.created) { " (it has expired)" } else { "" };
                return Err(Error::Invalid(format!(
                    "there is a token {0} already{until}: `twofold token revoke {0}` first, or choose another name",
                    record.name
                )));
            }
            list.tokens.push(record.clone());
            Ok(())
        })
        .await
    }

    /// Forgets a token: how many are left. `now` is in nanoseconds since 1970.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name.
    pub async fn revoke(&self, name: &str, now: i64) -> Result<usize> {
        let mut left = 0;
        self.change(now, |list| {
            let before = list.tokens.len();
            list.tokens.retain(|record| record.name != name);
            left = list.tokens.len();
            if left < before { Ok(()) } else { Err(list.unknown(name)) }
        })
        .await?;
        Ok(left)
    }

    async fn change(&self, now: i64, mut change: impl FnMut(&mut TokenList) -> Result<()>) -> Result<()> {
        let mut tries = 0;
        loop {
            let latest = self.manifests.latest().await?;
            let (after, mut list) = match latest {
                Some(Versioned { version, body }) => (Some(version), body),
                None => (None, TokenList::default()),
            };
            change(&mut list)?;
            tries += 1;
            match self.manifests.publish(after, list).await {
                Err(e) if e.kind() == Kind::Conflict && tries < TRIES => {}
                Err(e) => return Err(e),
                Ok(_) => break,
            }
        }
        // What was revoked is of no use to a thief, and all the same it need not lie about.
        if let Err(error) = self.manifests.prune(KEPT, DateTime::from_timestamp_nanos(now)).await {
            tracing::debug!(%error, "older lists of tokens stay");
        }
        Ok(())
    }
}

impl TokenList {
    /// The token that was shown, if it is one of these and valid at `now`, in nanoseconds since 1970.
    ///
    /// # Errors
    /// `Unauthenticated`, with the reason.
    pub fn find(&self, token: &Token, now: i64) -> Result<&TokenRecord> {
        let mut found = None;
        for record in &self.tokens {
            // All of them, so that the time does not tell which.
            if record.hash.is_of(token) {
                found = Some(record);
            }
        }
        let unknown = "this token is not known here: it was revoked, or is another project's";
        let record = found.ok_or_else(|| Error::Unauthenticated(unknown.into()))?;
        valid(record, now)
    }

    /// The token of that name, if it is valid at `now`.
    ///
    /// # Errors
    /// `Unauthenticated`, with the reason.
    pub fn valid(&self, name: &str, now: i64) -> Result<&TokenRecord> {
        let unknown = || Error::Unauthenticated(format!("there is no token called {name}"));
        valid(self.named(name).ok_or_else(unknown)?, now)
    }

    fn named(&self, name: &str) -> Option<&TokenRecord> {
        self.tokens.iter().find(|record| record.name == name)
    }

    fn unknown(&self, name: &str) -> Error {
        let names: Vec<_> = self.tokens.iter().map(|record| record.name.as_str()).collect();
        let known = if names.is_empty() {
            "there are none".into()
        } else {
            format!("there are: {}", names.join(", "))
        };
        Error::NotFound(format!("there is no token {name}; {known}"))
    }
}

fn valid(record: &TokenRecord, now: i64) -> Result<&TokenRecord> {
    if record.is_expired(now) {
        let name = &record.name;
        return Err(Error::Unauthenticated(format!("the token {name} has expired: ask for another")));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Scopes;

    async fn add(tokens: &Tokens, name: &str, expires: Option<i64>) -> Token {
        let token = Token::random().unwrap();
        tokens.add(&TokenRecord::new(name, &token, Scopes::all(), 5, expires).unwrap()).await.unwrap();
        token
    }

    #[tokio::test]
    async fn a_token_is_known_until_it_is_revoked_or_expires() {
        let tokens = Tokens::new(Store::memory());
        assert!(tokens.list().await.unwrap().is_none());
        let (a, b) = (add(&tokens, "a", None).await, add(&tokens, "b", Some(10)).await);
        let list = tokens.list().await.unwrap().unwrap();
        assert_eq!(list.find(&a, 9).unwrap().name, "a");
        assert_eq!(list.find(&b, 9).unwrap().name, "b");
        assert!(list.find(&b, 10).unwrap_err().to_string().contains("has expired"));
        assert!(list.valid("b", 10).is_err() && list.valid("c", 0).is_err());
        assert_eq!(tokens.revoke("a", 6).await.unwrap(), 1);
        let list = tokens.list().await.unwrap().unwrap();
        let e = list.find(&a, 9).unwrap_err();
        assert_eq!((e.kind(), e.to_string().contains("revoked")), (Kind::Unauthenticated, true));
        assert_eq!(tokens.revoke("b", 6).await.unwrap(), 0);
        assert!(tokens.list().await.unwrap().unwrap().tokens.is_empty(), "it stays closed");
        assert_eq!(
            tokens.revoke("b", 6).await.unwrap_err().to_string(),
            "there is no token b; there are none"
        );
    }

    #[tokio::test]
    async fn a_name_is_taken_once_and_two_makers_at_once_lose_nothing() {
        let tokens = Tokens::new(Store::memory());
        add(&tokens, "a", None).await;
        let token = Token::random().unwrap();
        let record = |name: &str| TokenRecord::new(name, &token, Scopes::all(), 5, None).unwrap();
        let e = tokens.add(&record("a")).await.unwrap_err();
        assert!(e.to_string().contains("token revoke a"), "{e}");
        let (b, c, d) = (record("b"), record("c"), record("d"));
        let done = futures::join!(tokens.add(&b), tokens.add(&c), tokens.add(&d));
        assert!(done.0.is_ok() && done.1.is_ok() && done.2.is_ok());
        assert_eq!(tokens.list().await.unwrap().unwrap().tokens.len(), 4);
    }

    #[tokio::test]
    async fn a_damaged_list_is_an_error_and_not_an_empty_one() {
        let store = Store::memory();
        let tokens = Tokens::new(store.clone());
        add(&tokens, "a", None).await;
        let path = "tokens/manifest/00000000000000000001.json";
        let bytes = store.get(path).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap().replace("\"admin\":true", "\"admin\":null");
        store.put(path, text.into()).await.unwrap();
        assert_eq!(tokens.list().await.unwrap_err().kind(), Kind::Corrupt);
    }
}
