//! Redacts private addresses and local host names, with their ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HIDDEN;

/// Top-level domains of local networks.
const LOCAL_DOMAINS: [&str; 7] = ["local", "lan", "internal", "localdomain", "home", "intranet", "corp"];
/// Texts before a host in the errors of Python's requests, urllib3 and aiohttp, of curl and of Node.
const BEFORE_HOST: [&str; 7] =
    ["host='", "host=\"", "connect to host ", "resolve host: ", "resolve host '", "ENOTFOUND ", "EAI_AGAIN "];
/// Maximum length of user and password in a URL, in bytes.
const MAX_USER: usize = 256;
/// Maximum length of an address in bytes: 45 (RFC 4291) plus the name of an interface (15) and a margin.
const MAX_ADDRESS: usize = 80;

/// Start and end offsets in the text.
type Place = (usize, usize);

/// Redacts `text`, including the user of each URL; `None` if nothing was redacted.
pub(super) fn remove(text: &str) -> Option<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    let bytes = text.as_bytes();
    let mut hidden = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| is_part(*byte)).map(|skipped| at + skipped) {
        // Two slashes without a colon can be part of a path.
        let in_url = text[..start].ends_with("://");
        let host = if in_url { start + user(&bytes[start..]) } else { start };
        if host > start {
            hidden.push((start, host - 1));
        }
        let length = bytes[host..].iter().position(|byte| !is_part(*byte));
        at = length.map_or(bytes.len(), |length| host + length);
        let is_host = in_url || names_host(&text[..start], &text[at..]);
        find_bracketed(&Run { text: &text[host..at], at: host, is_host }, &mut hidden);
    }
    let mut out = String::new();
    let mut copied = 0;
    for (from, to) in hidden {
        out.push_str(&text[copied..from]);
        out.push_str(HIDDEN);
        copied = to;
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// Whether a host is between `before` and `after`. Go writes `lookup NAME: no such host` or `lookup NAME on 10.0.0.1:53: …`.
fn names_host(before: &str, after: &str) -> bool {
    let is_lookup = || {
        let server = after.strip_prefix(" on ").unwrap_or_default();
        after.starts_with(" no such host")
            || server.starts_with(|first: char| first.is_ascii_digit() || first == '[')
    };
    BEFORE_HOST.iter().any(|words| before.ends_with(words)) || before.ends_with("lookup ") && is_lookup()
}

/// Returns the length of the user before a URL's host, `@` included; 0 if there is none.
fn user(url: &[u8]) -> usize {
    let authority = url.iter().take(MAX_USER).take_while(|byte| {
        !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"/?#\"'<>\\".contains(byte)
    });
    let length = authority.count();
    url[..length].iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1)
}

/// A sequence of characters that can belong to names and addresses, or a part of one.
struct Run<'a> {
    text: &'a str,
    /// Offset in the whole text.
    at: usize,
    /// Whether a host begins here, in a URL or in an error.
    is_host: bool,
}

impl<'a> Run<'a> {
    fn part(&self, from: usize, to: usize) -> Run<'a> {
        Run { text: &self.text[from..to], at: self.at + from, is_host: self.is_host && from == 0 }
    }

    fn place(&self, from: usize, to: usize) -> Place {
        (self.at + from, self.at + to)
    }
}

/// Finds addresses in brackets; searches the parts between them for others.
fn find_bracketed(run: &Run<'_>, hidden: &mut Vec<Place>) {
    let bytes = run.text.as_bytes();
    let (mut at, mut open) = (0, None);
    for (place, byte) in bytes.iter().enumerate() {
        match (byte, open) {
            (b'[', _) => open = Some(place),
            (b']', Some(start)) => {
                open = None;
                if is_private_v6(&run.text[start + 1..place]) {
                    find_v6(&run.part(at, start), hidden);
                    at = place + 1 + port(&run.text[place + 1..]);
                    hidden.push(run.place(start, at));
                }
            }
            _ => (),
        }
    }
    find_v6(&run.part(at, bytes.len()), hidden);
}

/// Returns the length of the port at the beginning of `rest`, colon included.
fn port(rest: &str) -> usize {
    let digits = rest.strip_prefix(':').map_or(0, digits);
    if digits > 0 { 1 + digits } else { 0 }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Finds IPv6 addresses without brackets; searches the parts between them for names.
fn find_v6(run: &Run<'_>, hidden: &mut Vec<Place>) {
    let bytes = run.text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let (mut done, mut at) = (0, 0);
    while let Some(start) = bytes[at..].iter().position(is_part).map(|skipped| at + skipped) {
        at = bytes[start..].iter().position(|byte| !is_part(byte)).map_or(bytes.len(), |more| start + more);
        let is_after_word = start > 0 && bytes[start - 1].is_ascii_alphanumeric();
        let goes_on = bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
        let Some((from, to)) = bare_v6(&run.text[start..at], is_after_word).filter(|_| !goes_on) else {
            continue;
        };
        let (from, mut to) = (start + from, start + to);
        if to == at && bytes.get(at) == Some(&b'%') {
            let zone = bytes[at + 1..].iter().take_while(|byte| !b":[]%".contains(byte)).count();
            at += 1 + zone;
            to = at;
        }
        find_names(&run.part(done, from), hidden);
        hidden.push(run.place(from, to));
        done = to;
    }
    find_names(&run.part(done, bytes.len()), hidden);
}

/// Finds a private IPv6 address in `text`, which has hexadecimal digits, colons and dots. After a word, the first colon is punctuation.
fn bare_v6(text: &str, is_after_word: bool) -> Option<Place> {
    if text.len() > MAX_ADDRESS || text.bytes().filter(|byte| *byte == b':').count() < 2 {
        return None;
    }
    // A full stop or colon can follow, or a port without brackets (Node).
    let ends = |text: &str| {
        let trimmed = text.trim_end_matches(['.', ':']);
        let host = trimmed.rsplit_once(':').map_or(trimmed, |(host, _port)| host);
        [(text, text), (trimmed, trimmed), (host, trimmed)].map(|(address, all)| (address.len(), all.len()))
    };
    let begins = [(!is_after_word).then_some(0), text.find(':').map(|colon| colon + 1)];
    for start in begins.into_iter().flatten() {
        let address = &text[start..];
        let found = ends(address).map(|(length, all)| (address[..length].parse::<Ipv6Addr>().ok(), all));
        let private = found.iter().find(|(found, _)| found.is_some_and(|v6| is_private_address(v6.into())));
        if let Some((_, all)) = private {
            return Some((start, start + all));
        }
        // The end of a public address is not a private one.
        if found.iter().any(|(found, _)| found.is_some()) {
            return None;
        }
    }
    None
}

/// Finds names and IPv4 addresses between colons.
fn find_names(run: &Run<'_>, hidden: &mut Vec<Place>) {
    const MARKS: [char; 6] = ['.', '-', '_', '[', ']', '%'];

    let mut start = 0;
    while start < run.text.len() {
        let end = run.text[start..].find(':').map_or(run.text.len(), |length| start + length);
        let part = &run.text[start..end];
        let name = part.trim_start_matches(MARKS);
        let from = end - name.len();
        let name = name.trim_end_matches(MARKS);
        let to = from + name.len();
        let behind = port(&run.text[end..]);
        let begins_host = run.is_host && start == 0;
        // Two digits after a colon can be a time.
        let is_short = (begins_host || behind > 3) && is_short_v4(name);
        let is_host = begins_host && !name.contains('.') || is_short;
        let is_loopback = name.eq_ignore_ascii_case("localhost") && behind > 0;
        let known = hidden.len();
        if !name.is_empty() && (is_host || is_loopback || is_local(name)) {
            hidden.push(run.place(from, to));
        } else {
            hidden.extend(ipv4(name).map(|(first, last)| run.place(from + first, from + last)));
        }
        start = end + 1;
        // Redact the port together with its host.
        if behind > 0
            && let Some(last) = hidden[known..].last_mut()
            && last.1 == run.at + end
        {
            last.1 += behind;
            start = end + behind;
        }
    }
}

/// Finds private IPv4 addresses in `name`.
fn ipv4(name: &str) -> impl Iterator<Item = Place> {
    let bytes = name.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + bytes[at..].iter().position(u8::is_ascii_digit)?;
            let end = bytes[start..].iter().position(|byte| !is_part(byte));
            at = end.map_or(bytes.len(), |more| start + more);
            let quad = name[start..at].trim_end_matches('.');
            if is_private_quad(quad) {
                return Some((start, start + quad.len()));
            }
        }
    })
}

/// Whether `quad` is a private address, with leading zeros read as decimal or as octal.
fn is_private_quad(quad: &str) -> bool {
    let of = |radix| {
        let mut parts = quad.split('.');
        let mut octets = [0; 4];
        for octet in &mut octets {
            let part = parts.next()?;
            let radix = if part.len() > 1 && part.starts_with('0') { radix } else { 10 };
            *octet = u8::from_str_radix(part, radix).ok().filter(|_| part.len() <= 4)?;
        }
        parts.next().is_none().then(|| Ipv4Addr::from(octets))
    };
    [10, 8].into_iter().filter_map(of).any(|address| is_private_address(address.into()))
}

/// Whether `name` is a private address of fewer than four numbers, as `inet_aton` accepts it: `127.1`.
fn is_short_v4(name: &str) -> bool {
    let number = |part: &str| match part.as_bytes() {
        [b'0', b'x' | b'X', ..] => u32::from_str_radix(&part[2..], 16).ok(),
        [b'0', _, ..] => u32::from_str_radix(part, 8).ok(),
        [first, ..] if first.is_ascii_digit() => part.parse().ok(),
        _ => None,
    };
    let (first, last) = match name.split('.').collect::<Vec<_>>()[..] {
        [a, last] => (number(a).map(|a| [a, 0, 0]), number(last).filter(|last| *last < 1 << 24)),
        [a, b, last] => {
            (number(a).zip(number(b)).map(|(a, b)| [a, b, 0]), number(last).filter(|last| *last < 1 << 16))
        }
        _ => (None, None),
    };
    let Some(([a, b, _], last)) = first.zip(last).filter(|([a, b, _], _)| a.max(b) < &256) else {
        return false;
    };
    is_private_address(Ipv4Addr::from(a << 24 | b << 16 | last).into())
}

/// Whether a name belongs to a local network.
fn is_local(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let (host, end) = lower.rsplit_once('.').unwrap_or_default();
    !host.is_empty() && (LOCAL_DOMAINS.contains(&end) || lower.ends_with(".home.arpa"))
}

fn is_private_v6(text: &str) -> bool {
    let address = text.split('%').next().unwrap_or_default();
    text.len() <= MAX_ADDRESS
        && address.parse::<Ipv6Addr>().is_ok_and(|address| is_private_address(address.into()))
}

fn is_private_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            // 100.64.0.0/10: carrier-grade NAT and Tailscale.
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    }
}
