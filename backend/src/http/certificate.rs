//! What a server's certificate says of itself, for people.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// Most names that are read: certificates of large sites have hundreds.
const MAX_NAMES: usize = 4;
/// Longest text, in characters.
const MAX_TEXT: usize = 64;

/// The parts of a certificate that a person checks. A server may write anything into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Common name of the authority, else its organization.
    pub issuer: String,
    /// The first names and addresses that it is for.
    pub names: Vec<String>,
    /// End of its validity.
    pub not_after: jiff::Timestamp,
}

/// The last certificate that a server showed, also one that was refused.
#[derive(Debug, Clone, Default)]
pub struct SeenCertificate(Arc<Mutex<Option<CertificateInfo>>>);

impl SeenCertificate {
    /// Takes the last certificate.
    pub fn take(&self) -> Option<CertificateInfo> {
        self.0.lock().take()
    }

    pub(super) fn set(&self, certificate: &CertificateDer<'_>) {
        *self.0.lock() = CertificateInfo::read(certificate);
    }
}

impl CertificateInfo {
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.iter().flat_map(|names| names.value.general_names.iter());
        let names: Vec<_> = names.filter_map(general_name).take(MAX_NAMES).collect();
        let not_after = parsed.validity().not_after.timestamp();
        Some(Self {
            issuer: own_name(parsed.issuer()),
            names,
            not_after: jiff::Timestamp::from_second(not_after).ok()?,
        })
    }
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(short(name)),
        GeneralName::IPAddress(bytes) => {
            let ip = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            ip.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn own_name(name: &X509Name<'_>) -> String {
    let mut parts = name.iter_common_name().chain(name.iter_organization());
    short(parts.find_map(|part| part.as_str().ok()).unwrap_or("an authority without a name"))
}

/// One line of at most [`MAX_TEXT`] characters.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use testkit::certificate::Certificate;

    use super::*;

    #[test]
    fn a_certificate_shows_issuer_names_and_end() {
        let certificate = Certificate::own_authority("hub.example", (2020, 2040));
        let info = CertificateInfo::read(&certificate.der()).unwrap();
        assert_eq!(info.names, ["hub.example"]);
        assert_eq!(info.not_after.to_string(), "2040-01-01T00:00:00Z");
        assert!(!info.issuer.is_empty());
        assert_eq!(CertificateInfo::read(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
