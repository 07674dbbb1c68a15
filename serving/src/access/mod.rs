//! Who asks, and what they may.
//!
//! ```text
//! Gate    a token, or none  ->  Access, or why not      one for each process and project
//! Access  may_read(relation), may_ingest(stream), must_be_admin()
//! guard   both, around a router of HTTP
//! ```
//!
//! A query needs the right to each relation that it names, and no right to what a view that it names is made of: so a
//! view shows a part of a stream to those who may not read the stream. The names of relations and their columns, in
//! `information_schema`, are there for everybody who gets in.
//!
//! Each protocol finds out once who asks, and runs what they ask within [`Access::scope`]; [`Serving`](crate::Serving)
//! looks there. Work that is begun in another task has to be scoped again: outside of any scope nobody from outside
//! asks, but the process itself.

mod gate;
mod http;
mod origin;

pub use gate::{Clock, Gate};
pub use http::{Guard, Rules, guard};
pub use origin::Origins;

use std::sync::Arc;
use twofold_common::{Catalog, Digest, Error, Result, Scopes};

tokio::task_local! {
    static CURRENT: Access;
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Access {
    scopes: Arc<Scopes>,
    by: By,
}

/// By what they got in.
#[derive(Debug, Clone)]
enum By {
    /// No token was needed.
    Open,
    /// This process, or a command that knows its secret.
    Process,
    /// A token. The hash tells those of one name that were made one after the other apart.
    Token { name: Arc<str>, hash: Digest, expires: Option<i64> },
}

impl Access {
    /// Everything: for this process itself, and commands on the same machine.
    pub fn trusted() -> Self {
        Self { scopes: Arc::new(Scopes::all()), by: By::Process }
    }

    /// Nothing: for what is there for everybody.
    fn nobody() -> Self {
        Self { scopes: Arc::default(), by: By::Open }
    }

    /// One of a token of that name, which may do everything.
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        let by = By::Token { name: name.into(), hash: Digest::of(name.as_bytes()), expires: None };
        Self { by, ..Self::trusted() }
    }

    /// The name of the token; `None` if there is none.
    pub fn name(&self) -> Option<&str> {
        match &self.by {
            By::Token { name, .. } => Some(name),
            By::Open | By::Process => None,
        }
    }

    /// Whether a relation may be read.
    ///
    /// # Errors
    /// `Forbidden`, naming the scope that is missing.
    pub fn may_read(&self, relation: &str) -> Result<()> {
        if self.scopes.may_read(relation) { Ok(()) } else { Err(self.lacks(&format!("read {relation}"))) }
    }

    /// Whether events may be sent to a stream.
    ///
    /// # Errors
    /// `Forbidden`, naming the scope that is missing.
    pub fn may_ingest(&self, stream: &str) -> Result<()> {
        if self.scopes.may_ingest(stream) { Ok(()) } else { Err(self.lacks(&format!("ingest {stream}"))) }
    }

    /// Whether it is an administrator's.
    pub fn is_admin(&self) -> bool {
        self.scopes.admin
    }

    /// For what is of no one stream or relation.
    ///
    /// # Errors
    /// `Forbidden`, naming the scope that is missing.
    pub fn must_be_admin(&self) -> Result<()> {
        if self.is_admin() { Ok(()) } else { Err(self.lacks("admin")) }
    }

    /// Whether all that a query names may be read.
    ///
    /// # Errors
    /// `Forbidden`, naming the scope that is missing; `Invalid` if it is not one query.
    pub fn may_query(&self, catalog: &Catalog, sql: &str) -> Result<()> {
        if self.is_admin() {
            return Ok(());
        }
        catalog.relations_of(sql)?.iter().try_for_each(|relation| self.may_read(relation))
    }

    /// Runs `work` as asked by this one.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    /// Who asks for what runs now; everything is allowed to the process itself.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_else(|_| Self::trusted())
    }

    fn lacks(&self, scope: &str) -> Error {
        let name = self.name().unwrap_or_default();
        Error::Forbidden(format!(
            "the token {name} lacks the scope `{scope}` (it has: {}): use another, or make one that has it",
            self.scopes
        ))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
