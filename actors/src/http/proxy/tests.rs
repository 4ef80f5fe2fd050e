use proptest::prelude::*;

use super::*;

/// The proxy that an environment gives for a URL, as `HOST:PORT of VARIABLE`.
fn from(environment: &[(&str, &str)], url: &str) -> Option<String> {
    let variable = |name: &str| {
        let found = environment.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let proxy = from_environment(url, variable).unwrap()?;
    Some(format!("{} of {}", proxy.address(), proxy.source()))
}

/// Checked against curl 7.88.1 by `the_environment_is_read_as_curl_reads_it`.
#[test]
fn the_variable_for_the_scheme_comes_before_all_proxy_and_lower_case_before_upper() {
    let (a, b, c) = ("http://a.test:1", "http://b.test:2", "http://c.test:3");
    let (http, https) = ("http://hub.test", "https://hub.test/path");
    for (environment, url, expected) in [
        (vec![("https_proxy", a), ("HTTPS_PROXY", b)], https, Some("a.test:1 of https_proxy")),
        (vec![("HTTPS_PROXY", b), ("all_proxy", c)], https, Some("b.test:2 of HTTPS_PROXY")),
        (vec![("http_proxy", a), ("ALL_PROXY", c)], http, Some("a.test:1 of http_proxy")),
        (vec![("http_proxy", a), ("ALL_PROXY", c)], https, Some("c.test:3 of ALL_PROXY")),
        (vec![("all_proxy", a), ("ALL_PROXY", c)], http, Some("a.test:1 of all_proxy")),
        (vec![("HTTP_PROXY", a)], http, None),
        (vec![("HTTP_PROXY", a), ("all_proxy", c)], http, Some("c.test:3 of all_proxy")),
        (vec![("http_proxy", a)], https, None),
        (vec![("https_proxy", a)], http, None),
        (vec![("https_proxy", ""), ("all_proxy", c)], https, Some("c.test:3 of all_proxy")),
        (vec![("all_proxy", a), ("no_proxy", "hub.test"), ("NO_PROXY", "x")], https, None),
        (
            vec![("all_proxy", a), ("no_proxy", "x"), ("NO_PROXY", "hub.test")],
            https,
            Some("a.test:1 of all_proxy"),
        ),
        (vec![("all_proxy", a), ("no_proxy", ""), ("NO_PROXY", "hub.test")], https, None),
        (vec![("ALL_PROXY", a)], "https://127.0.0.1:8443", None),
    ] {
        assert_eq!(from(&environment, url).as_deref(), expected, "{environment:?} {url}");
    }
}

/// `(list, host, whether it is excepted)`: the rules of curl 7.88.1.
const EXCEPTIONS: &[(&str, &str, bool)] = &[
    ("*", "hub.test", true),
    ("*", "192.0.2.1", true),
    ("*,other.test", "hub.test", false),
    ("*.test", "hub.test", false),
    ("hub.test", "hub.test", true),
    ("HUB.test", "hub.TEST", true),
    ("hub.test", "eu.hub.test", true),
    ("hub.test", "nothub.test", false),
    ("hub.test", "test", false),
    (".hub.test", "hub.test", true),
    (".hub.test", "eu.hub.test", true),
    (".hub.test", "nothub.test", false),
    ("hub.test.", "hub.test", true),
    ("hub.test", "hub.test.", true),
    ("test", "hub.test", true),
    (".", "hub.test", false),
    ("other.test,hub.test", "hub.test", true),
    ("other.test, hub.test", "hub.test", true),
    (" other.test ,, hub.test ", "hub.test", true),
    ("hub.test:443", "hub.test", false),
    ("hub.test:8080", "hub.test", false),
    ("192.0.2.1", "192.0.2.1", true),
    ("192.0.2.1", "192.0.2.2", false),
    ("192.0.2.0/24", "192.0.2.77", true),
    ("192.0.2.0/24", "192.0.3.77", false),
    ("192.0.2.9/24", "192.0.2.77", true),
    ("192.0.2.1/32", "192.0.2.1", true),
    ("192.0.2.1/0", "192.0.2.1", true),
    ("192.0.2.1/0", "192.0.2.2", false),
    ("192.0.2.0/33", "192.0.2.0", false),
    ("192.0.2.", "192.0.2.1", false),
    ("2.1", "192.0.2.1", false),
    ("10.0.0.0/8", "hub.test", false),
    ("2001:db8::1", "[2001:db8::1]", true),
    ("[2001:db8::1]", "[2001:db8::1]", false),
];

#[test]
fn no_proxy_names_hosts_domains_addresses_and_networks() {
    for &(list, host, excepted) in EXCEPTIONS {
        assert_eq!(no_proxy::contains(list, host), excepted, "{list:?} {host}");
    }
    // Deviations from curl.
    assert!(no_proxy::contains("other.test hub.test", "hub.test"));
    assert!(no_proxy::contains("2001:db8::/32", "[2001:db8:1::1]"));
    assert!(!no_proxy::contains("2001:db8::/32", "[2001:db9:1::1]"));
    assert!(no_proxy::contains("2001:db8::/33", "[2001:db8:1::1]"));
    assert!(!no_proxy::contains("2001:db8::/33", "[2001:db8:8000::1]"));
}

/// Asks the real curl whether it would use a proxy: it fails to connect to the proxy (7) if it would, and to find the name
/// of a host (6) or to connect to it (7, 28) if it would not.
fn curl_uses_proxy(environment: &[(&str, &str)], url: &str, target: u16) -> bool {
    let output = std::process::Command::new("curl")
        .env_clear()
        .envs(environment.iter().copied())
        // A direct connection goes to a port of this machine, too: nothing leaves it.
        .args(["-sv", "--max-time", "5", "--connect-to", &format!("::127.0.0.1:{target}"), url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let tried = |port: u16| said.contains(&format!(":{port}..."));
    assert!(tried(PROXY_PORT) != tried(target), "{environment:?} {url}\n{said}");
    tried(PROXY_PORT)
}

/// Port of the proxy that curl is given: reserved, so nothing listens there.
const PROXY_PORT: u16 = 9;

#[test]
fn the_environment_is_read_as_curl_reads_it() {
    let version = std::process::Command::new("curl").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let is_known = |version: &str| {
        let mut numbers = version.split([' ', '.']).skip(1).map(|number| number.parse().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(7), Some(86))
    };
    if !version.as_ref().is_ok_and(|version| is_known(version)) {
        return testkit::skipped("NO_PROXY against curl: there is no curl 7.86 or newer");
    }
    let target = testkit::free_port();
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    for &(list, host, excepted) in EXCEPTIONS {
        let (environment, url) =
            ([("all_proxy", proxy.as_str()), ("no_proxy", list)], format!("http://{host}/"));
        assert_eq!(curl_uses_proxy(&environment, &url, target), !excepted, "{list:?} {host}");
    }
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    for name in names {
        for url in ["http://hub.test/", "https://hub.test/"] {
            let environment = [(name, proxy.as_str())];
            let ours = from(&environment, url).is_some();
            assert_eq!(curl_uses_proxy(&environment, url, target), ours, "{name} {url}");
        }
    }
}

#[test]
fn a_proxys_url_is_parsed_as_curl_parses_it() {
    for (text, expected, is_tls, authorization) in [
        ("http://proxy.test:3128", "proxy.test:3128", false, None),
        ("proxy.test:3128", "proxy.test:3128", false, None),
        ("HTTP://proxy.test:3128/", "proxy.test:3128", false, None),
        ("http://proxy.test", "proxy.test:1080", false, None),
        ("https://proxy.test", "proxy.test:443", true, None),
        ("https://proxy.test:8443/path?x#y", "proxy.test:8443", true, None),
        ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128", false, None),
        ("http://[2001:db8::1]", "[2001:db8::1]:1080", false, None),
        // `Aladdin:open sesame` is the example of RFC 7617.
        (
            "http://Aladdin:open%20sesame@p.test:1",
            "p.test:1",
            false,
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
        ("Aladdin:open%20sesame@p.test:1", "p.test:1", false, Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ("http://user@p.test:1", "p.test:1", false, Some("Basic dXNlcjo=")),
        ("http://u:a:b@p.test:1", "p.test:1", false, Some("Basic dTphOmI=")),
        ("http://u:%40%3A%2F@p.test:1", "p.test:1", false, Some("Basic dTpAOi8=")),
        ("http://u:p@ss@p.test:1", "p.test:1", false, Some("Basic dTpwQHNz")),
    ] {
        let proxy = Proxy::parse(text, "HTTPS_PROXY").unwrap();
        assert_eq!((proxy.address().as_str(), proxy.is_tls()), (expected, is_tls), "{text}");
        assert_eq!(proxy.authorization.as_ref().map(Secret::reveal), authorization, "{text}");
    }
}

#[test]
fn a_url_that_is_no_proxys_is_refused_without_a_quote() {
    for (text, words) in [
        ("socks5://user:canary@proxy.test:1080", "SOCKS proxy is not supported"),
        ("SOCKS5H://user:canary@proxy.test", "SOCKS proxy is not supported"),
        ("ftp://user:canary@proxy.test", "expected http:// or https://"),
        ("http://user:canary@", "expected http://HOST:PORT"),
        ("http://", "expected http://HOST:PORT"),
        ("http://user:canary@proxy.test:port", "expected http://HOST:PORT"),
        ("http://user:canary@proxy.test:0", "expected http://HOST:PORT"),
        ("http://user:canary@proxy.test:99999", "expected http://HOST:PORT"),
        ("http://user:canary@pro xy.test:1", "expected http://HOST:PORT"),
        ("http://user:canary@[::1:1", "expected http://HOST:PORT"),
        ("http://user:8080/canary@proxy.test:1", "percent-encoded"),
        ("http://user:canary\r\n@proxy.test\r\nx: y", "expected http://HOST:PORT"),
    ] {
        let error = Proxy::parse(text, "HTTPS_PROXY").unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("HTTPS_PROXY"), "{text}: {error}");
        assert!(!error.contains("canary") && !error.contains("user:"), "{error}");
    }
}

#[test]
fn a_proxy_shows_no_credentials() {
    let proxy = Proxy::parse("http://user:canary@proxy.test:1", "--proxy").unwrap();
    let secret = proxy.authorization.as_ref().unwrap().reveal().to_owned();
    let texts = [format!("{proxy:?}"), proxy.address(), proxy.source().to_owned()];
    for text in texts {
        assert!(!text.contains("canary") && !text.contains("user") && !text.contains(&secret), "{text}");
    }
}

#[test]
fn an_unusable_variable_matters_only_where_it_is_used() {
    let variable = |name: &str| (name == "all_proxy").then(|| "socks5://s.test".to_owned());
    assert!(from_environment("https://hub.test", variable).is_err());
    assert_eq!(from_environment("http://localhost:1", variable), Ok(None));
}

/// A host that is this machine.
fn loopback() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 3]>().prop_map(|[a, b, c]| format!("127.{a}.{b}.{c}")),
        any::<[u8; 3]>().prop_map(|[a, b, c]| format!("[::ffff:127.{a}.{b}.{c}]")),
        Just("[::1]".to_owned()),
        Just("[0:0:0:0:0:0:0:1]".to_owned()),
        "([a-zA-Z0-9-]{1,9}\\.){0,3}[lL][oO][cC][aA][lL][hH][oO][sS][tT]\\.?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_loopback_host_has_a_proxy(
        host in loopback(),
        port in prop::option::of(1..=u16::MAX),
        is_https in any::<bool>(),
        no_proxy in prop::option::of("[a-z.,*/0-9 ]{0,12}"),
    ) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let url = format!("http{}://{host}{port}/path", if is_https { "s" } else { "" });
        let variable = |name: &str| match name {
            "no_proxy" => no_proxy.clone(),
            _ => Some("http://proxy.test:3128".to_owned()),
        };
        prop_assert_eq!(from_environment(&url, variable), Ok(None));
        prop_assert_eq!(explicit(&url, "http://proxy.test:3128", "--proxy"), Ok(None));
        let mut credentials = crate::Credentials::new(url, Secret::new("t"));
        credentials.proxy = Some(Proxy::parse("http://proxy.test:3128", "--proxy").unwrap());
        prop_assert_eq!(credentials.proxy_in_use(), None);
        prop_assert!(is_exempt(&host));
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_quote(text in "\\PC{0,40}", password in "[a-z]{12}") {
        let _ = Proxy::parse(&text, "X");
        if let Err(error) = Proxy::parse(&format!("http://u:{password}@{text}"), "X") {
            prop_assert!(!error.to_string().contains(&password));
        }
        let _ = no_proxy::contains(&text, &password);
        let _ = no_proxy::contains(&password, &text);
    }
}
