//! Error texts of failed connects, which say what to do.

use std::io;

use rustls::{CertificateError, Error};

/// The text of a failed connect. The texts of rustls for certificates are names of its variants.
pub(crate) fn connect_reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(certificate)) => certificate_reason(certificate).to_owned(),
        Some(Error::InvalidMessage(_)) => {
            "it does not speak TLS on this port: try http:// in its URL".to_owned()
        }
        _ => {
            // Without the "(os error 111)" of `io::Error`.
            let text = error.to_string();
            text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
        }
    }
}

fn certificate_reason(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by an authority that this system does not know: name its CA, or that of a proxy \
             which opens TLS, with --ca-file"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: whoever runs the hub must renew it (or this machine's clock is wrong)"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check this machine's clock"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name than the URL's"
        }
        CertificateError::Revoked => "its certificate was revoked",
        _ => "its certificate is not accepted; if it is the hub's own, name it with --ca-file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
