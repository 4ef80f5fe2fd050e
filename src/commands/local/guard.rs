//! Who may ask: programs of this machine, and pages that it trusts. Pure.
//!
//! Any web page can make a browser send requests to 127.0.0.1, and a page whose host name is made to resolve to 127.0.0.1
//! (DNS rebinding) can also read the answers. The first names itself in `Origin` or `Sec-Fetch-Site`, the second in `Host`,
//! and scripts can set none of them. Ollama has the same rules (`OLLAMA_ORIGINS`), except that it also accepts private
//! addresses and names under `.local` and `.internal` as its own.

use backend::http::is_loopback;
use hub::Origins;
use hyper::{
    HeaderMap, Uri, Version,
    header::{HOST, HeaderName, HeaderValue, ORIGIN, USER_AGENT},
    http::{request::Parts, uri::Authority},
};

use super::dialect::Refusal;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Schemes of pages that desktop applications bring along (Electron, Tauri, Visual Studio Code). No web site has them: the
/// origin of a page that a browser loads from a file is `null`.
const APP_SCHEMES: [&str; 5] = ["app", "tauri", "file", "vscode-webview", "vscode-file"];

/// The origin of an admitted request of a page; `None` if no page sent it.
pub(super) type Admitted = Option<HeaderValue>;

/// Checks who sent a request.
pub(super) fn check(head: &Parts, allowed: &Origins) -> Result<Admitted, Refusal> {
    check_host(&head.uri, &head.headers, head.version)?;
    let origin = check_origin(&head.headers, allowed)?;
    let agent = head.headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    if agent == Some(backend::http::USER_AGENT.as_bytes()) {
        return Err(Refusal::circle());
    }
    Ok(origin)
}

/// Every name by which a request calls this server has to be one of this machine.
fn check_host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let is_named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_own_host),
        // Browsers always send the header.
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    };
    if is_named && uri.authority().is_none_or(|authority| is_own_host(authority.as_str())) {
        Ok(())
    } else {
        Err(Refusal::forbidden(
            "this port serves its own machine only: call it as 127.0.0.1, localhost or [::1]",
        ))
    }
}

/// Whether `HOST[:PORT]` is this machine. The port may be another one, as behind a tunnel.
fn is_own_host(text: &str) -> bool {
    !text.contains('@') && text.parse::<Authority>().is_ok_and(|authority| is_loopback(authority.host()))
}

fn check_origin(headers: &HeaderMap, allowed: &Origins) -> Result<Admitted, Refusal> {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => {
            // Requests for images and scripts, and navigation, have no origin.
            let is_foreign = headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site");
            if is_foreign { Err(Refusal::foreign_page(None)) } else { Ok(None) }
        }
        (Some(origin), None) => match origin.to_str() {
            Ok(text) if is_own_page(text) || allowed.allow_origin(text).is_some() => Ok(Some(origin.clone())),
            text => Err(Refusal::foreign_page(text.ok())),
        },
        (Some(_), Some(_)) => Err(Refusal::foreign_page(None)),
    }
}

/// Whether an origin is a page of this machine or of a desktop application.
fn is_own_page(origin: &str) -> bool {
    match origin.split_once("://") {
        Some(("http" | "https", host)) => is_own_host(host),
        Some((scheme, _)) => APP_SCHEMES.contains(&scheme),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn status(lines: &[(&str, &str)], allowed: &[&str]) -> u16 {
        status_of("/v1/models", Version::HTTP_11, lines, allowed)
    }

    fn status_of(uri: &str, version: Version, lines: &[(&str, &str)], allowed: &[&str]) -> u16 {
        let mut origins = Origins::default();
        for origin in allowed {
            origins.allow(origin).unwrap();
        }
        let mut request = Request::builder().uri(uri).version(version);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head, &origins).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn a_host_that_is_not_this_machine_is_refused() {
        for host in
            ["localhost:11434", "127.0.0.1", "127.0.0.1:80", "[::1]:11434", "LOCALHOST", "localhost.:1"]
        {
            assert_eq!(status(&[("host", host)], &[]), 200, "{host}");
        }
        for host in [
            "evil.example:11434",
            "localhost.evil.example",
            "127.0.0.1.nip.io:11434",
            "evil@localhost",
            "localhost@evil.example",
            "0.0.0.0:11434",
            "192.168.1.7",
            "laptop.local",
            "",
            "a b",
        ] {
            assert_eq!(status(&[("host", host)], &[]), 403, "{host}");
        }
        assert_eq!(status(&[("host", "localhost"), ("host", "evil.example")], &[]), 403);
    }

    #[test]
    fn a_request_without_a_host_is_one_of_http_1_0() {
        assert_eq!(status_of("/", Version::HTTP_10, &[], &[]), 200);
        assert_eq!(status_of("/", Version::HTTP_11, &[], &[]), 403);
    }

    #[test]
    fn the_host_of_an_absolute_target_counts_too() {
        let status = |uri: &str| status_of(uri, Version::HTTP_11, &[("host", "localhost")], &[]);
        assert_eq!(status("http://localhost:11434/v1/models"), 200);
        assert_eq!(status("http://evil.example/v1/models"), 403);
    }

    #[test]
    fn pages_of_other_machines_are_refused() {
        let status = |origin: &str| status(&[("host", "localhost"), ("origin", origin)], &[]);
        for own in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:8080",
            "app://obsidian.md",
            "tauri://localhost",
            "file://",
            "vscode-webview://0abc",
        ] {
            assert_eq!(status(own), 200, "{own}");
        }
        for foreign in [
            "https://evil.example",
            "http://localhost.evil.example",
            "http://evil.example:11434",
            "http://192.168.1.7:3000",
            "null",
            "",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://4d2f",
            "apps://x",
            "localhost",
        ] {
            assert_eq!(status(foreign), 403, "{foreign}");
        }
    }

    #[test]
    fn an_origin_of_the_option_is_admitted() {
        let extension = "chrome-extension://abcdefghijklmnopabcdefghijklmnop";
        let own = ("host", "localhost");
        assert_eq!(status(&[own, ("origin", extension)], &[extension]), 200);
        let lines = [own, ("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
        assert_eq!(status(&lines, &["https://app.example"]), 200);
        assert_eq!(status(&lines, &[extension]), 403);
        assert_eq!(status(&[own, ("origin", extension), ("origin", "null")], &[extension]), 403);
    }

    #[test]
    fn requests_of_foreign_pages_without_an_origin_are_refused() {
        let status = |site: &str| status(&[("host", "localhost"), ("sec-fetch-site", site)], &[]);
        assert_eq!(["cross-site", "same-site", "same-origin", "none"].map(status), [403, 200, 200, 200]);
    }

    #[test]
    fn a_registrar_that_would_publish_the_hubs_own_models_is_refused() {
        assert_eq!(status(&[("host", "localhost"), ("user-agent", backend::http::USER_AGENT)], &[]), 508);
        assert_eq!(status(&[("host", "localhost"), ("user-agent", "curl/8")], &[]), 200);
    }
}
