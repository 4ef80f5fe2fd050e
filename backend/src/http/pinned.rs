//! Trusts a server certificate that is itself in `--ca-file`.
//!
//! `openssl req -x509` creates certificates that are their own authority. rustls accepts such a certificate as the authority of
//! others but not as a server certificate; curl, Python and Go accept both. A user who lists the very certificate trusts its
//! server, so only its name and its validity period are checked.

use std::sync::Arc;

use super::certificate::SeenCertificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// A verifier that adds the certificates of the CA file to the usual verification.
#[derive(Debug)]
pub(super) struct WithPinned {
    pub(super) usual: Arc<WebPkiServerVerifier>,
    pub(super) pinned: Vec<CertificateDer<'static>>,
    /// Gets each server's certificate before it is checked.
    pub(super) seen: Option<SeenCertificate>,
}

impl ServerCertVerifier for WithPinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(seen) = &self.seen {
            seen.set(end_entity);
        }
        let usual = self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if usual.is_ok() || !self.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) {
            return usual;
        }
        check_time(end_entity, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let now = ASN1Time::from_timestamp(seconds).map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::crypto::ring;
    use testkit::certificate::Certificate;

    use super::*;

    fn own_authority(years: (i32, i32)) -> Certificate {
        Certificate::own_authority("hub.example", years)
    }

    fn verify(certificate: &Certificate, pinned: bool, name: &'static str) -> Result<(), Error> {
        let (roots, provider) = (Arc::new(certificate.roots()), Arc::new(ring::default_provider()));
        let usual = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
        let certificate = certificate.der();
        let pinned = if pinned { vec![certificate.clone()] } else { Vec::new() };
        // 2026-01-01.
        let now = UnixTime::since_unix_epoch(Duration::from_hours(490_896));
        let name = ServerName::try_from(name).unwrap();
        WithPinned { usual, pinned, seen: None }
            .verify_server_cert(&certificate, &[], &name, &[], now)
            .map(|_| ())
    }

    #[test]
    fn a_server_certificate_in_the_ca_file_is_trusted_for_its_name_and_period() {
        let valid = own_authority((2020, 2040));
        assert_eq!(verify(&valid, true, "hub.example"), Ok(()));
        assert!(
            verify(&valid, false, "hub.example").is_err(),
            "a certificate outside the CA file is not trusted"
        );
        assert!(verify(&valid, true, "other.example").is_err());
        let expired = verify(&own_authority((2020, 2021)), true, "hub.example");
        assert_eq!(expired, Err(CertificateError::Expired.into()));
        let early = verify(&own_authority((2030, 2040)), true, "hub.example");
        assert_eq!(early, Err(CertificateError::NotValidYet.into()));
    }
}
