//! TLS for all protocols: one certificate, which is read again when its files change.
//!
//! An acceptor that was given out goes on to be right: what it shows to a new connection is what the files held when
//! they last were a certificate and its key. Files that are not, such as those of which only one has been replaced so
//! far, are told once and change nothing. TLS 1.2 and 1.3, by rustls on ring; no certificates of clients.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use twofold_common::{Error, Result, TlsFiles};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// A certificate and its key.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    shown: Arc<Shown>,
    /// The bytes that were read last.
    seen: Mutex<Option<[Vec<u8>; 2]>>,
}

/// What connections are shown.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>> {
        let seen = bytes(files)?;
        let shown = Arc::new(Shown(RwLock::new(Arc::new(certified(files, &seen)?))));
        Ok(Arc::new(Self { files: files.clone(), shown, seen: Mutex::new(Some(seen)) }))
    }

    /// Where the certificate is.
    pub fn certificate(&self) -> &Path {
        &self.files.cert
    }

    /// What takes connections over, for a protocol of these names (ALPN), such as `http/1.1`; none: any.
    ///
    /// # Errors
    /// `Internal` if rustls refuses its own defaults.
    pub fn acceptor(&self, protocols: &[&str]) -> Result<TlsAcceptor> {
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(|e| Error::Internal(format!("TLS: {e}")))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&self.shown) as _);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again if they have changed: whether they had.
    ///
    /// # Errors
    /// What is wrong with which of them; then all stays as it was.
    pub fn reload(&self) -> Result<bool> {
        let now = bytes(&self.files)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() == Some(&now) {
            return Ok(false);
        }
        let certified = certified(&self.files, &now);
        *seen = Some(now);
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified?);
        Ok(true)
    }

    /// Reads them again and again until `stop` is true.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut told = None;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match self.reload() {
                Ok(false) => {}
                Ok(true) => {
                    told = None;
                    tracing::info!(certificate = %self.files.cert.display(), "the certificate was read again");
                }
                Err(error) => {
                    let reason = error.to_string();
                    if told.as_ref() != Some(&reason) {
                        tracing::warn!(%error, "the certificate has changed and is not taken over");
                        told = Some(reason);
                    }
                }
            }
        }
    }
}

fn bytes(files: &TlsFiles) -> Result<[Vec<u8>; 2]> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|e| Error::io(path, e));
    Ok([read(&files.cert)?, read(&files.key)?])
}

fn certified(files: &TlsFiles, [cert, key]: &[Vec<u8>; 2]) -> Result<CertifiedKey> {
    let chain = certificates(&files.cert, cert)?;
    let wrong = |what: &str, e: String| Error::Invalid(format!("{}: {what} ({e})", files.key.display()));
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|e| wrong("expected a private key as PEM, without a password", e.to_string()))?;
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map_err(|e| wrong("this is not the key of the certificate", e.to_string()))
}

/// The certificates of a PEM file, of which there is one at least.
pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |e: &str| Error::Invalid(format!("{}: expected certificates as PEM ({e})", path.display()));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|e| wrong(&e.to_string()))?;
    if found.is_empty() { Err(wrong("there is none in it")) } else { Ok(found) }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What rustls says, for messages.
pub(crate) fn failed(e: rustls::Error) -> Error {
    Error::Internal(format!("TLS: {e}"))
}
