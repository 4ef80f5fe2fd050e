//! Makes the agent's way to the hub the one of this program, where the environment would lead it elsewhere.

use actors::{Credentials, http::proxy};

use super::plan::Plan;
use crate::{config, output};

/// Names of the variable with the hosts that are called without a proxy. Programs read one or both.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Variables that name a proxy. Agents read some of them in either case.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

pub(super) fn adapt(plan: &mut Plan, credentials: &Credentials) {
    let environment = proxy::from_environment(&credentials.hub_url, config::variable).ok().flatten();
    match credentials.proxy_in_use() {
        // A loopback hub, or a proxy that an option or the credentials file switches off.
        None if PROXIES.iter().any(|name| config::variable(name).is_some()) => {
            let before = NO_PROXY.iter().find_map(|name| config::variable(name));
            let value = with_host(before, host(&credentials.hub_url));
            for name in NO_PROXY {
                plan.set(name, &value);
            }
        }
        Some(own) if environment.as_ref() != Some(own) => output::note(format!(
            "warning: the agent does not use the proxy {} on its way to the hub: set HTTPS_PROXY for it",
            own.address()
        )),
        _ => {}
    }
}

fn with_host(before: Option<String>, host: &str) -> String {
    match before {
        Some(before) => format!("{before},{host}"),
        None => host.to_owned(),
    }
}

/// Host of a URL, without port and brackets.
fn host(url: &str) -> &str {
    let authority = url.split("://").nth(1).unwrap_or(url).split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_host_is_added_to_those_without_a_proxy() {
        assert_eq!(with_host(None, host("http://127.0.0.1:8787")), "127.0.0.1");
        assert_eq!(with_host(Some("a,b".to_owned()), host("https://hub.example/x")), "a,b,hub.example");
        assert_eq!(host("http://[::1]:1/"), "::1");
    }
}
