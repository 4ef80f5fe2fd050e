//! Which headers pass, in either direction. Pure.

use hyper::{
    HeaderMap,
    header::{
        ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderName,
        HeaderValue, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, SET_COOKIE,
        STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA, WWW_AUTHENTICATE,
    },
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Headers about one connection (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers of a request that do not reach the hub: a key that the token replaces, what a browser keeps for this machine, and
/// what only a proxy that the hub knows may say about the caller.
const OF_CALLER: [HeaderName; 15] = [
    AUTHORIZATION,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    COOKIE,
    HOST,
    EXPECT,
    // hyper writes the length of the body that it sends.
    CONTENT_LENGTH,
    ORIGIN,
    REFERER,
    FORWARDED,
    VIA,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
];

/// Headers of an answer that would change what the browser or the tool keeps for this machine's address.
const OF_HUB: [HeaderName; 5] = [
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    ALT_SVC,
    // It asks for the token, which the caller does not have.
    WWW_AUTHENTICATE,
    HeaderName::from_static("clear-site-data"),
];

/// Changes the headers of a request to those for the hub. `bearer` is the value of `Authorization`, `key` the bare token.
pub(super) fn to_hub(headers: &mut HeaderMap, bearer: HeaderValue, key: HeaderValue) {
    remove_hop_by_hop(headers);
    for name in &OF_CALLER {
        headers.remove(name);
    }
    remove_prefixes(headers, &["x-forwarded-", "sec-", "access-control-"]);
    // The hub answers for the list of models in Anthropic's form if it sees this header.
    if headers.contains_key(API_KEY) {
        headers.insert(API_KEY, key);
    }
    headers.insert(AUTHORIZATION, bearer);
}

/// Changes the headers of the hub's answer to those for the caller.
pub(super) fn to_caller(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in &OF_HUB {
        headers.remove(name);
    }
    remove_prefixes(headers, &["access-control-"]);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn remove_prefixes(headers: &mut HeaderMap, prefixes: &[&str]) {
    let is_named = |name: &&HeaderName| prefixes.iter().any(|prefix| name.as_str().starts_with(prefix));
    let names: Vec<HeaderName> = headers.keys().filter(is_named).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    fn sent(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = headers(given);
        to_hub(&mut headers, HeaderValue::from_static("Bearer tok"), HeaderValue::from_static("tok"));
        headers
    }

    #[test]
    fn the_token_replaces_what_the_caller_sent() {
        for key in ["authorization", "api-key", "x-goog-api-key", "cookie"] {
            let headers = sent(&[(key, "Bearer theirs"), (key, "another")]);
            assert_eq!(lines(&headers), [("authorization", "Bearer tok")], "{key}");
        }
        let headers = sent(&[("x-api-key", "theirs"), ("anthropic-version", "2023-06-01")]);
        let expected =
            [("anthropic-version", "2023-06-01"), ("authorization", "Bearer tok"), ("x-api-key", "tok")];
        assert_eq!(lines(&headers), expected);
    }

    #[test]
    fn headers_of_the_connection_and_about_the_caller_do_not_pass() {
        let headers = sent(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("host", "localhost"),
            ("content-length", "3"),
            ("origin", "http://localhost"),
            ("referer", "http://localhost/x"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=10.0.0.1"),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("x-request-id", "r"),
            ("user-agent", "tool/1"),
        ]);
        let expected = [
            ("authorization", "Bearer tok"),
            ("content-encoding", "gzip"),
            ("content-type", "application/json"),
            ("user-agent", "tool/1"),
            ("x-request-id", "r"),
        ];
        assert_eq!(lines(&headers), expected);
    }

    #[test]
    fn answers_set_nothing_for_this_machines_address() {
        let mut headers = headers(&[
            ("connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a=1"),
            ("strict-transport-security", "max-age=1"),
            ("alt-svc", "h3=\":443\""),
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("content-type", "text/event-stream"),
            ("retry-after", "5"),
            ("x-virtual-llm-row", "qwen"),
        ]);
        to_caller(&mut headers);
        let expected =
            [("content-type", "text/event-stream"), ("retry-after", "5"), ("x-virtual-llm-row", "qwen")];
        assert_eq!(lines(&headers), expected);
    }
}
