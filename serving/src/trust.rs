//! Whom a client of ours trusts over TLS.
//!
//! For a server on this machine it is the very certificate that the server's run file names: whoever may read the data
//! directory has it from the server itself. For one elsewhere it is the authorities in a file that the user names; those
//! that come with the operating system are not looked for, so name their file if it is them.

use crate::tls::{certificates, failed, provider};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use twofold_common::{Error, Result};

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The authorities in this PEM file.
    Authorities(PathBuf),
    /// The first certificate in this PEM file, whatever names it bears, as the file is when a connection is made.
    Exactly(PathBuf),
}

impl Trust {
    /// A client of HTTP that trusts so.
    ///
    /// # Errors
    /// If the file has no certificates.
    pub fn apply(&self, client: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder> {
        Ok(client.use_preconfigured_tls(self.config()?))
    }

    /// What rustls makes connections with.
    ///
    /// # Errors
    /// If the file has no certificates.
    pub fn config(&self) -> Result<ClientConfig> {
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Trust::Exactly(path) => Arc::new(Exactly { path: path.clone(), provider: provider() }),
            Trust::Authorities(path) => {
                let mut roots = RootCertStore::empty();
                let pem = std::fs::read(path).map_err(|e| Error::io(path, e))?;
                for certificate in certificates(path, &pem)? {
                    let wrong = |e| Error::Invalid(format!("{}: {e}", path.display()));
                    roots.add(certificate).map_err(wrong)?;
                }
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
                verifier.map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?
            }
        };
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(failed)?.dangerous().with_custom_certificate_verifier(verifier);
        Ok(config.with_no_client_auth())
    }
}

/// Lets one certificate through.
#[derive(Debug)]
struct Exactly {
    path: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let pem = std::fs::read(&self.path).map_err(|e| TlsError::General(e.to_string()))?;
        let known = certificates(&self.path, &pem).map_err(|e| TlsError::General(e.to_string()))?;
        if known.first().is_some_and(|known| known == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
