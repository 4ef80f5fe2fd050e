//! Whether a host is this machine.

use std::net::IpAddr;

/// Whether `host`, which may be an IPv6 address in brackets, is a loopback address (127.0.0.0/8, `::1`, the first also as an
/// IPv4-mapped address) or `localhost`. What is sent there certainly stays on this machine: a resolver may send a name under
/// `localhost` elsewhere.
pub fn is_loopback(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_address_of_this_machine_alone_or_localhost() {
        for host in
            ["127.0.0.1", "127.9.9.9", "[::1]", "::1", "[::ffff:127.0.0.1]", "LocalHost", "localhost."]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "0.0.0.0", "[::]", "10.0.0.1", "[::ffff:10.0.0.1]", "x.localhost", "localhost.example"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
