//! Error texts of failed connects, which say what to do.

use std::io;

use rustls::{CertificateError, Error};

/// The text of a failed connect to the hub. The texts of rustls for certificates are names of its variants.
pub(crate) fn connect_reason(error: &io::Error) -> String {
    reason(error, |error| match error {
        Error::InvalidCertificate(certificate) => Some(hubs_certificate(certificate)),
        Error::InvalidMessage(_) => Some("it does not speak TLS on this port: try http:// in its URL"),
        _ => None,
    })
}

/// The text of a failed connect to the proxy itself.
pub(crate) fn proxy_connect_reason(error: &io::Error) -> String {
    reason(error, |error| match error {
        Error::InvalidCertificate(certificate) => Some(proxys_certificate(certificate)),
        Error::InvalidMessage(_) => {
            Some("it does not speak TLS on this port: most proxies are http://, also for an https hub")
        }
        _ => None,
    })
}

fn reason(error: &io::Error, of_tls: impl FnOnce(&Error) -> Option<&'static str>) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if let Some(reason) = inner.and_then(of_tls) {
        return reason.to_owned();
    }
    // Without the "(os error 111)" of `io::Error`.
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
}

fn hubs_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by an authority that this system does not know: name its CA, or that of a proxy \
             which opens TLS, with --ca-file"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: whoever runs the hub must renew it (or this machine's clock is wrong)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name than the URL's"
        }
        other => anybodys_certificate(other)
            .unwrap_or("its certificate is not accepted; if it is the hub's own, name it with --ca-file"),
    }
}

fn proxys_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "the proxy's certificate is signed by an authority that this system does not know: name the proxy's CA with \
             --ca-file"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the proxy's certificate has expired: whoever runs the proxy must renew it (or this machine's clock is wrong)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the proxy's certificate is for another name than the one in the setting"
        }
        other => anybodys_certificate(other).unwrap_or(
            "the proxy's certificate is not accepted; if it is the proxy's own, name it with --ca-file",
        ),
    }
}

/// The text about a certificate for which it does not matter whose it is.
fn anybodys_certificate(error: &CertificateError) -> Option<&'static str> {
    match error {
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("its certificate is not valid yet: check this machine's clock")
        }
        CertificateError::Revoked => Some("its certificate was revoked"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_proxys_own_tls_speaks_of_the_proxy_and_not_of_the_hub() {
        for error in [
            CertificateError::UnknownIssuer,
            CertificateError::Expired,
            CertificateError::NotValidForName,
            CertificateError::BadEncoding,
        ] {
            let text = proxy_connect_reason(&io::Error::other(Error::InvalidCertificate(error)));
            assert!(text.contains("the proxy's certificate") && !text.contains("hub"), "{text}");
            assert!(!text.contains("URL"), "{text}");
        }
        let plain = Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let text = proxy_connect_reason(&io::Error::other(plain));
        assert!(text.contains("most proxies are http://"), "{text}");
    }

    #[test]
    fn a_certificate_error_says_what_to_do() {
        for (error, words) in [
            (CertificateError::UnknownIssuer, "--ca-file"),
            (CertificateError::Expired, "expired"),
            (CertificateError::NotValidForName, "another name"),
            (CertificateError::BadEncoding, "not accepted"),
        ] {
            let text = connect_reason(&io::Error::other(Error::InvalidCertificate(error)));
            assert!(text.contains(words) && !text.contains("InvalidCertificate"), "{text}");
        }
        let refused = io::Error::from_raw_os_error(nix::libc::ECONNREFUSED);
        assert_eq!(connect_reason(&refused), "Connection refused");
    }
}
