//! The list of hosts in `NO_PROXY`, by curl's rules since 7.86.
//!
//! Two deviations: white space separates entries like a comma (curl ends its list there), and IPv6 networks match as curl
//! documents it (curl 7.88 does not match them).

use std::net::IpAddr;

use ipnet::IpNet;

use super::unbracketed;

/// Whether `list` names `host`. An IPv6 address in `host` may have brackets; those of the list have none.
pub(super) fn contains(list: &str, host: &str) -> bool {
    // The only wildcard of curl: `*` alone.
    if list.trim() == "*" {
        return true;
    }
    let host = unbracketed(host);
    let mut entries = list.split(|c: char| c == ',' || c.is_ascii_whitespace());
    match host.parse::<IpAddr>() {
        Ok(ip) => entries.any(|entry| matches_ip(entry, ip)),
        Err(_) => entries.any(|entry| matches_name(entry, host)),
    }
}

fn matches_ip(entry: &str, ip: IpAddr) -> bool {
    match entry.strip_suffix("/0").unwrap_or(entry).parse::<IpAddr>() {
        // To curl, 0 bits are all bits.
        Ok(address) => address == ip,
        Err(_) => entry.parse::<IpNet>().is_ok_and(|network| network.contains(&ip)),
    }
}

/// Whether `entry` is `host` or a domain above it. A port in `entry` is part of the name, so it matches nothing.
fn matches_name(entry: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let entry = entry.strip_suffix('.').unwrap_or(entry);
    let entry = entry.strip_prefix('.').unwrap_or(entry);
    if entry.is_empty() || entry.len() > host.len() || !host.is_char_boundary(host.len() - entry.len()) {
        return false;
    }
    let (above, tail) = host.split_at(host.len() - entry.len());
    tail.eq_ignore_ascii_case(entry) && (above.is_empty() || above.ends_with('.'))
}
