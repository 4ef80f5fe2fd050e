//! The hub's own TLS: a certificate chain and a key, PEM files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::HubError;
use crate::options::TlsFiles;
use crate::store::plain;

pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, HubError> {
    let cert_error = |cause: String| HubError::Tls(files.cert.clone(), cause);
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| cert_error(pem_reason(&error)))?;
    if chain.is_empty() {
        return Err(cert_error("no certificate in it (PEM is expected)".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| HubError::Tls(files.key.clone(), pem_reason(&error)))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| cert_error(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| cert_error(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// The system's words for a file that cannot be read; nothing of a key is quoted.
fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => plain(error),
        pem::Error::NoItemsFound => "no private key in it (PEM is expected)".to_owned(),
        other => other.to_string(),
    }
}
