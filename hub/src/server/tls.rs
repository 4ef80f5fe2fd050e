//! The hub's TLS configuration, from PEM files.

use std::path::Path;
use std::sync::Arc;

use own_files::OwnFile;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::HubError;
use crate::options::TlsFiles;
use crate::store::plain;

/// Longest PEM file, in bytes: a chain and its key are some tens of KiB.
const MAX_FILE: u64 = 1 << 20;

pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, HubError> {
    let cert_error = |cause: String| HubError::Tls(files.cert.clone(), cause);
    let (_, pem) = read(&files.cert)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| cert_error(pem_reason(&error)))?;
    if chain.is_empty() {
        return Err(cert_error("no certificate in it (PEM is expected)".into()));
    }
    let (file, pem) = read(&files.key)?;
    if let Some(warning) = readable_by_all(&files.key, &file) {
        log::warn!("{warning}");
    }
    let key = PrivateKeyDer::from_pem_slice(&pem)
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

/// Reads a file that no other user can write.
fn read(path: &Path) -> Result<(OwnFile, Vec<u8>), HubError> {
    let read = || {
        let file = OwnFile::open_given(path)?.trusted()?;
        let bytes = file.read(MAX_FILE)?;
        Ok((file, bytes))
    };
    read().map_err(|error| HubError::Tls(path.to_owned(), plain(&error)))
}

/// A warning if every user of the machine can read the key. A key that a group can read is often intended.
fn readable_by_all(path: &Path, file: &OwnFile) -> Option<String> {
    let (path, mode) = (path.display(), file.mode());
    (file.metadata().is_file() && mode & 0o004 != 0).then(|| {
        format!(
            "everybody on this machine can read the TLS key {path} (mode {mode:04o}): run `chmod o-r {path}`"
        )
    })
}

/// The reason in words, without a quote of the key.
fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "no private key in it (PEM is expected)".to_owned(),
        other => other.to_string(),
    }
}
