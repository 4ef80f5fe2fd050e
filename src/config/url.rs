//! Checks of URLs in files and options.

use actix_web::http::Uri;
use backend::http::is_loopback;

/// Parses an http or https URL; a slash at its end is removed.
pub(crate) fn http(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err("expected an address that begins with http:// or https://");
    }
    let uri: Uri = text.parse().map_err(|_| "expected an address such as http://localhost:8000")?;
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err("expected an address with a host");
    };
    let port = authority.as_str().rsplit_once(authority.host()).map_or("", |(_, port)| port);
    if !port.is_empty()
        && !port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|n| n > 0))
    {
        return Err("expected a port from 1 to 65535");
    }
    if authority.as_str().contains('@') {
        return Err("expected an address without a user or password in it");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Parses the base URL of an API: `/v1` is appended unless a part of the path is a version, as in `https://host/v1beta/openai`.
pub(crate) fn api_base(text: &str) -> Result<String, &'static str> {
    let base = http(text)?;
    if base.contains(['?', '#']) {
        return Err("expected an address without '?' or '#'");
    }
    let path = base.splitn(4, '/').nth(3).unwrap_or_default();
    let is_version = |part: &str| {
        part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    Ok(if path.split('/').any(is_version) { base } else { format!("{base}/v1") })
}

/// Whether requests to `url` leave this machine unencrypted.
pub(crate) fn is_plain_and_remote(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return true };
    uri.scheme_str() != Some("https") && !uri.host().is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_is_appended_to_urls_without_a_version() {
        for (text, expected) in [
            ("http://localhost:8000", "http://localhost:8000/v1"),
            ("http://localhost:8000/", "http://localhost:8000/v1"),
            ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
            ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1"),
            ("https://example.com/v1beta/openai", "https://example.com/v1beta/openai"),
            ("https://example.com/llm", "https://example.com/llm/v1"),
        ] {
            assert_eq!(api_base(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_refused() {
        for text in [
            "",
            "localhost:8000",
            "http://x:99999",
            "http://x:",
            "http://[::1]:0",
            "http://x:8a",
            "ftp://x",
            "file:///etc/passwd",
            "http://",
            "http://user:pw@host/",
            "a b",
        ] {
            assert!(http(text).is_err(), "{text}");
        }
        assert!(api_base("http://host/v1?key=1").is_err());
    }

    /// A47: plain http is allowed to loopback addresses only.
    #[test]
    fn plain_http_is_local_on_loopback_only() {
        for local in
            ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:80", "http://LOCALHOST", "https://far"]
        {
            assert!(!is_plain_and_remote(local), "{local}");
        }
        for far in [
            "http://hub.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://127.0.0.1.nip.io",
            "http://0.0.0.0",
        ] {
            assert!(is_plain_and_remote(far), "{far}");
        }
    }
}
