//! TLS as a client: rustls with ring, the system's roots, and a private CA where one is given.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

use super::pinned::WithPinned;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read or holds no certificate.
    #[error("cannot use the CA file {file}: {reason}")]
    CaFile {
        /// The file as it was given.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither the system nor a CA file gave a single root.
    #[error("this system has no root certificates: install ca-certificates or name a file with --ca-file")]
    NoRoots,
    /// rustls refused its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The system's roots and those of `ca_file`, HTTP/1.1 only. Reads files: call it at start.
///
/// The system's roots alone are read once a process: many registrars in one share them.
pub fn tls_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    match (ca_file, SYSTEM.get()) {
        (None, Some(config)) => Ok(Arc::clone(config)),
        (None, None) => {
            let config = read(None)?;
            Ok(Arc::clone(SYSTEM.get_or_init(|| config)))
        }
        (Some(_), _) => read(ca_file),
    }
}

fn read(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be read are most often one odd file among many; those that can be read serve.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut pinned = Vec::new();
    if let Some(file) = ca_file {
        pinned = add_file(&mut roots, file)
            .map_err(|reason| TlsError::CaFile { file: file.to_owned(), reason })?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let provider = Arc::new(ring::default_provider());
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(WithPinned { usual, pinned }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates in `file`, which are roots from here on.
fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| pem_reason(&error))?;
    let mut added = Vec::new();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| pem_reason(&error))?;
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        added.push(certificate);
    }
    if added.is_empty() { Err("no certificate in it (PEM is expected)".to_owned()) } else { Ok(added) }
}

/// The system's words for a file that cannot be read; a parser's words quote nothing of the file.
fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => {
            let text = error.to_string();
            text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
        }
        other => other.to_string(),
    }
}
