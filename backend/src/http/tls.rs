//! TLS as a client: rustls with ring, the system's roots, and a private CA where one is given.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use own_files::OwnFile;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::pinned::WithPinned;

/// Longest CA file: ten times all roots of a system.
const LONGEST: u64 = 4 << 20;

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
    let read = OwnFile::open_given(file).and_then(OwnFile::trusted).and_then(|file| file.read(LONGEST));
    let bytes = read.map_err(|error| plain(&error))?;
    let mut added = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        // A parser's words quote nothing of the file.
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        added.push(certificate);
    }
    if added.is_empty() { Err("no certificate in it (PEM is expected)".to_owned()) } else { Ok(added) }
}

/// The system's words without Rust's "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
}
