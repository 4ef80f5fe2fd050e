//! The TLS configuration of clients: rustls with ring, the system's root certificates, and optionally a private CA.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use own_files::OwnFile;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::SeenCertificate;
use super::pinned::WithPinned;

/// Largest CA file in bytes: ten times all root certificates of a system.
const LONGEST: u64 = 4 << 20;

/// Why TLS cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read or holds no certificate.
    #[error("cannot use the CA file {file}: {reason}")]
    CaFile {
        /// Path of the file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither the system nor a CA file has a root certificate.
    #[error("this system has no root certificates: install ca-certificates or name a file with --ca-file")]
    NoRoots,
    /// rustls refused its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Creates a configuration for HTTP/1.1 with the system's root certificates and those of `ca_file`. It reads files, so call it at
/// start.
///
/// Without `ca_file`, the result is cached, so that many registrars in one process share it.
pub fn tls_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    match (ca_file, SYSTEM.get()) {
        (None, Some(config)) => Ok(Arc::clone(config)),
        (None, None) => {
            let config = read(None, None)?;
            Ok(Arc::clone(SYSTEM.get_or_init(|| config)))
        }
        (Some(_), _) => read(ca_file, None),
    }
}

/// As [`tls_config`], and notes the certificate of each server in `seen` before it is checked.
pub fn noting_tls_config(
    ca_file: Option<&Path>,
    seen: &SeenCertificate,
) -> Result<Arc<ClientConfig>, TlsError> {
    read(ca_file, Some(seen.clone()))
}

fn read(ca_file: Option<&Path>, seen: Option<SeenCertificate>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // Unreadable certificates are skipped; usually one odd file among many is the cause.
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
        .with_custom_certificate_verifier(Arc::new(WithPinned { usual, pinned, seen }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Adds the certificates in `file` to `roots`, and returns them.
fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = OwnFile::open_given(file).and_then(OwnFile::trusted).and_then(|file| file.read(LONGEST));
    let bytes = read.map_err(|error| plain(&error))?;
    let mut added = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        // The parser's error texts quote nothing of the file.
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        added.push(certificate);
    }
    if added.is_empty() { Err("no certificate in it (PEM is expected)".to_owned()) } else { Ok(added) }
}

/// The text of a system error without the suffix "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
}
