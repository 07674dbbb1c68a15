//! Whether an address may be listened on as it is.
//!
//! ```text
//! loopback                                     always
//! elsewhere                                    with TLS and a token
//! elsewhere, with --insecure-listen            always
//! ```

use anyhow::{Result, bail};
use std::net::SocketAddr;

/// An address, and what protects it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exposure {
    pub(crate) address: SocketAddr,
    /// The section of `twofold.toml` that it belongs to.
    pub(crate) section: &'static str,
    pub(crate) tls: bool,
    /// Whether `--insecure-listen` was said.
    pub(crate) insecure: bool,
}

impl Exposure {
    /// Whether others than this machine can reach it.
    pub(crate) fn is_beyond_loopback(&self) -> bool {
        !self.address.ip().to_canonical().is_loopback()
    }

    /// Refuses an address where anybody could listen in.
    pub(crate) fn check_tls(&self) -> Result<()> {
        let section = self.section;
        self.check(
            self.tls,
            &format!("without TLS: set `tls_cert` and `tls_key` in [{section}] of twofold.toml"),
        )
    }

    /// Refuses an address where nobody could get in, or anybody could; `tokens` says whether the project has any.
    pub(crate) fn check_tokens(&self, tokens: bool) -> Result<()> {
        self.check(tokens, "without a token: `twofold token create NAME --admin` makes one")
    }

    fn check(&self, good: bool, missing: &str) -> Result<()> {
        if good || self.insecure || !self.is_beyond_loopback() {
            return Ok(());
        }
        let Self { address, section, .. } = self;
        bail!(
            "[{section}] is to listen on {address}, where others than this machine can reach it, {missing}; or say \
             --insecure-listen"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, tls: bool, tokens: bool, insecure: bool) -> Result<()> {
        let address = address.parse().unwrap();
        let exposure = Exposure { address, section: "serve", tls, insecure };
        exposure.check_tls().and_then(|()| exposure.check_tokens(tokens))
    }

    #[test]
    fn loopback_needs_nothing() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(at(address, false, false, false).is_ok(), "{address}");
        }
    }

    #[test]
    fn elsewhere_both_are_needed_and_what_is_missing_is_named() {
        for address in ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "[fe80::1]:1"] {
            for (tls, tokens) in [(false, false), (false, true), (true, false)] {
                let e = at(address, tls, tokens, false).unwrap_err().to_string();
                assert_eq!(e.contains("tls_cert"), !tls, "{e}");
                assert_eq!(e.contains("token create"), tls, "{e}");
                assert!(e.contains("--insecure-listen"), "{e}");
                assert!(at(address, tls, tokens, true).is_ok());
            }
            assert!(at(address, true, true, false).is_ok());
        }
    }
}
