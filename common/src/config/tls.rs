//! `tls_cert` and `tls_key`, in `[serve]` and `[speed]`.

use super::{Section, absolute};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// The files by which an address speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// `tls_cert`: the certificate and those of the authorities between it and the root, in this order, as PEM.
    pub cert: PathBuf,
    /// `tls_key`: its private key, as PEM.
    pub key: PathBuf,
}

pub(super) fn read(section: &Section<'_>) -> Result<Option<TlsFiles>> {
    match (section.file("tls_cert")?, section.file("tls_key")?) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(section.lacks("tls_cert", "tls_key, the file of its private key")),
        (None, Some(_)) => Err(section.lacks("tls_key", "tls_cert, the file of its certificate")),
    }
}

pub(super) fn resolve(files: &mut Option<TlsFiles>, dir: &Path) -> Result<()> {
    if let Some(files) = files {
        files.cert = absolute(dir, &files.cert)?;
        files.key = absolute(dir, &files.key)?;
    }
    Ok(())
}
