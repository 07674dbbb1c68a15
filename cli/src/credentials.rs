//! What this process shows to servers: its token, and whom it trusts over TLS.
//!
//! `--server`, `--token` and `--ca` of any command, else `TWOFOLD_SERVER`, `TWOFOLD_TOKEN` and `TWOFOLD_CA`. A command
//! on the same machine needs none of them: it finds the server's own secret and certificate by the run file, if it may
//! read the data directory.

use crate::args::Args;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::OnceLock;
use twofold_common::Token;

/// What was given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    /// The server to ask, instead of the one that runs over the data directory.
    pub(crate) server: Option<String>,
    /// The token to show.
    pub(crate) token: Option<Token>,
    /// Whom to trust over TLS.
    pub(crate) ca: Option<PathBuf>,
}

static GIVEN: OnceLock<Credentials> = OnceLock::new();

impl Credentials {
    /// What the arguments or the environment give.
    pub(crate) fn of(args: &Args) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let token = match (&args.token, variable("TWOFOLD_TOKEN")) {
            (Some(text), _) => Some(Token::parse(text).context("--token")?),
            (None, Some(text)) => Some(Token::parse(&text).context("TWOFOLD_TOKEN")?),
            (None, None) => None,
        };
        let server = args.server.clone().or_else(|| variable("TWOFOLD_SERVER"));
        let ca = args.ca.clone().or_else(|| variable("TWOFOLD_CA").map(PathBuf::from));
        Ok(Self { server, token, ca })
    }

    /// Makes them those of this process; the first that are made so stay.
    pub(crate) fn remember(self) {
        drop(GIVEN.set(self));
    }

    /// Those of this process.
    pub(crate) fn given() -> Self {
        GIVEN.get().cloned().unwrap_or_default()
    }
}
