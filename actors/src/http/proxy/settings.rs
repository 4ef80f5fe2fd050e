//! Which proxy a hub is reached through: the setting of the user, or the environment as curl reads it.
//!
//! hyper-util's `Matcher` is not used: it accepts `HTTP_PROXY`, prefers upper case, and drops a value that it cannot use
//! without an error.

use awc::http::Uri;

use super::{InvalidProxy, Proxy, is_exempt, no_proxy};

/// The proxy of a setting, which overrides the environment including `NO_PROXY`. An empty `text` means no proxy. `source`
/// names the setting in errors.
pub fn explicit(hub_url: &str, text: &str, source: &str) -> Result<Option<Proxy>, InvalidProxy> {
    // An error is reported for a loopback hub, too: the setting is meant for the next one.
    let proxy = if text.trim().is_empty() { None } else { Some(Proxy::parse(text, source)?) };
    Ok(proxy.filter(|_| target(hub_url).is_some()))
}

/// The proxy that the environment names for this hub, as curl reads it: `http_proxy` (lower case only: a CGI program finds
/// a request's `Proxy` header in `HTTP_PROXY`) or `https_proxy`, else `all_proxy`, except for hosts in `no_proxy`. Lower case is
/// preferred, and an empty value counts as unset. `variable` reads a variable.
pub fn from_environment(
    hub_url: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, InvalidProxy> {
    let Some((is_https, host)) = target(hub_url) else { return Ok(None) };
    let names: &[&str] = if is_https {
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        &["http_proxy", "all_proxy", "ALL_PROXY"]
    };
    let first = |names: &[&'static str]| {
        names.iter().find_map(|&name| Some((name, variable(name).filter(|value| !value.is_empty())?)))
    };
    let Some((name, text)) = first(names) else { return Ok(None) };
    let exceptions = first(&["no_proxy", "NO_PROXY"]);
    if exceptions.is_some_and(|(_, list)| no_proxy::contains(&list, &host)) {
        return Ok(None);
    }
    Proxy::parse(&text, name).map(Some)
}

/// Whether the server at `url` is reached through a proxy, if there is one: its host is not this machine.
pub fn is_remote(url: &str) -> bool {
    target(url).is_some()
}

/// Whether the hub's URL is https, and its host; `None` for a loopback host.
fn target(hub_url: &str) -> Option<(bool, String)> {
    let uri: Uri = hub_url.trim().parse().ok()?;
    let host = uri.host().filter(|host| !is_exempt(host))?.to_owned();
    Some((uri.scheme_str() == Some("https"), host))
}
