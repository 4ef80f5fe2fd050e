//! The address of a caller: that of its connection, or the one in a trusted proxy's headers.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use ipnet::IpNet;

use crate::hub::HubData;

/// Trusted reverse proxies (`hub --trusted-proxy`).
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<IpNet>);

/// The text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address such as 10.0.0.7, or a network such as 10.0.0.0/24 or fd00::/64")]
pub struct NotANetwork;

impl Proxies {
    /// Trusts an address or a network.
    pub fn trust(&mut self, text: &str) -> Result<(), NotANetwork> {
        let one = text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
        let network = one.or_else(|_| text.parse::<IpNet>()).map_err(|_| NotANetwork)?;
        self.0.push(network.trunc());
        Ok(())
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// The address of the caller behind `peer`: the last hop that is no trusted proxy. An unreadable hop, or two headers that
    /// disagree, give the proxy's address.
    fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.contains(peer) {
            return peer;
        }
        let given = [(X_FORWARDED_FOR, parse_hop as fn(&str) -> _), (FORWARDED, parse_forwarded)]
            .map(|(name, hop)| headers.contains_key(&name).then(|| self.last_hop(peer, headers, &name, hop)));
        match given {
            [Some(one), Some(other)] if one != other => peer,
            [one, other] => one.or(other).unwrap_or(peer),
        }
    }

    fn last_hop(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        name: &HeaderName,
        hop: fn(&str) -> Option<IpAddr>,
    ) -> IpAddr {
        let mut nearest = peer;
        let values: Vec<_> = headers.get_all(name).collect();
        let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        for text in hops {
            let Some(ip) = hop(text) else { return nearest };
            nearest = ip.to_canonical();
            if !self.contains(nearest) {
                break;
            }
        }
        nearest
    }
}

/// Parses an element of `X-Forwarded-For`: an address with or without a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()))
}

/// Parses an element of `Forwarded`.
fn parse_forwarded(text: &str) -> Option<IpAddr> {
    let mut pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    parse_hop(node.trim().trim_matches('"'))
}

/// The address of a request's caller; `None` if the connection has none.
pub(crate) fn of(req: &HttpRequest) -> Option<IpAddr> {
    let peer = req.peer_addr()?.ip().to_canonical();
    let proxies = req.app_data::<HubData>().map(|hub| &hub.options.machine.trusted_proxies);
    Some(proxies.map_or(peer, |proxies| proxies.caller(peer, req.headers())))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn proxies() -> Proxies {
        let mut proxies = Proxies::default();
        for text in ["10.0.0.0/8", "fd00::/64", "192.0.2.1"] {
            proxies.trust(text).unwrap();
        }
        proxies
    }

    fn caller(peer: &str, headers: &[(&str, &str)]) -> String {
        let mut req = TestRequest::get();
        for header in headers {
            req = req.append_header(*header);
        }
        proxies().caller(peer.parse().unwrap(), req.to_http_request().headers()).to_string()
    }

    #[test]
    fn the_last_hop_that_is_not_a_trusted_proxy_is_the_caller() {
        let xff = "x-forwarded-for";
        for (peer, headers, expected) in [
            // Headers of a client that is not a trusted proxy are ignored.
            ("198.51.100.7", &[(xff, "203.0.113.9")][..], "198.51.100.7"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &[(xff, "203.0.113.9")], "203.0.113.9"),
            // The proxy appends its value to the caller's header.
            ("10.1.2.3", &[(xff, "127.0.0.1, 203.0.113.9")], "203.0.113.9"),
            ("10.1.2.3", &[(xff, "1.1.1.1"), (xff, "203.0.113.9")], "203.0.113.9"),
            // Two proxies in a row.
            ("10.1.2.3", &[(xff, "1.1.1.1, 203.0.113.9 , 10.9.9.9")], "203.0.113.9"),
            ("fd00::1", &[(xff, "2001:db8::5")], "2001:db8::5"),
            ("::ffff:10.1.2.3", &[(xff, "203.0.113.9:4711")], "203.0.113.9"),
            ("10.1.2.3", &[(xff, "[2001:db8::5]:4711")], "2001:db8::5"),
            ("10.1.2.3", &[(xff, "203.0.113.9, unknown")], "10.1.2.3"),
            ("10.1.2.3", &[(xff, "203.0.113.9, nonsense, 10.4.4.4")], "10.4.4.4"),
            ("10.1.2.3", &[(xff, "10.5.5.5")], "10.5.5.5"),
            ("192.0.2.1", &[("forwarded", "for=203.0.113.9;proto=https")], "203.0.113.9"),
            (
                "192.0.2.1",
                &[("forwarded", "for=1.1.1.1, proto=https;For=\"[2001:db8::5]:80\"")],
                "2001:db8::5",
            ),
            ("192.0.2.1", &[("forwarded", "for=1.1.1.1, for=_hidden")], "192.0.2.1"),
            // Two kinds of headers that disagree, and two that agree.
            ("192.0.2.1", &[("forwarded", "for=1.1.1.1"), (xff, "203.0.113.9")], "192.0.2.1"),
            ("192.0.2.1", &[("forwarded", "for=203.0.113.9"), (xff, "203.0.113.9")], "203.0.113.9"),
        ] {
            assert_eq!(caller(peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn an_invalid_network_is_refused() {
        for bad in ["", "proxy.example", "10.0.0.0/33", "10.0.0", "10.0.0.1:80", "fd00::/129"] {
            assert_eq!(Proxies::default().trust(bad), Err(NotANetwork), "{bad}");
        }
        assert!(!Proxies::default().contains("127.0.0.1".parse().unwrap()));
    }
}
