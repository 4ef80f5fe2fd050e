//! Private addresses and names of a local network, with their ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HIDDEN;

/// Ends of names that only a local network knows.
const LOCAL: [&str; 7] = ["local", "lan", "internal", "localdomain", "home", "intranet", "corp"];
/// What a host stands behind, as Python's requests and urllib3, aiohttp, curl and Node write it.
const BEFORE_HOST: [&str; 7] =
    ["host='", "host=\"", "connect to host ", "resolve host: ", "resolve host '", "ENOTFOUND ", "EAI_AGAIN "];
/// Longest user and password in a URL, in bytes: what is longer is no URL that somebody configured.
const MAX_USER: usize = 256;
/// Longest text of an address (RFC 4291: 45 characters) with its zone (an interface, 15) and room.
const MAX_ADDRESS: usize = 80;

/// Where a part of a text is: its first byte, and the one behind its last.
type Place = (usize, usize);

/// `text` with each of them hidden, and with the user of each URL; `None` where none is there.
pub(super) fn remove(text: &str) -> Option<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    let bytes = text.as_bytes();
    let mut hidden = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| is_part(*byte)).map(|skipped| at + skipped) {
        // Two slashes alone stand in paths as well, and three in front of one.
        let in_url = text[..start].ends_with("://");
        let host = if in_url { start + user(&bytes[start..]) } else { start };
        if host > start {
            hidden.push((start, host - 1));
        }
        let length = bytes[host..].iter().position(|byte| !is_part(*byte));
        at = length.map_or(bytes.len(), |length| host + length);
        let is_host = in_url || names_host(&text[..start], &text[at..]);
        in_run(&Run { text: &text[host..at], at: host, is_host }, &mut hidden);
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

/// Whether a host stands between `before` and `after`; in Go's words: `lookup NAME: no such host`, `lookup NAME on 10.0.0.1:53: …`.
fn names_host(before: &str, after: &str) -> bool {
    let is_lookup = || {
        let server = after.strip_prefix(" on ").unwrap_or_default();
        after.starts_with(" no such host")
            || server.starts_with(|first: char| first.is_ascii_digit() || first == '[')
    };
    BEFORE_HOST.iter().any(|words| before.ends_with(words)) || before.ends_with("lookup ") && is_lookup()
}

/// Length of the user in front of a URL's host, with its `@`; 0 where there is none.
fn user(url: &[u8]) -> usize {
    let authority = url.iter().take(MAX_USER).take_while(|byte| {
        !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"/?#\"'<>\\".contains(byte)
    });
    let length = authority.count();
    url[..length].iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1)
}

/// Letters, digits and marks without a gap, or a part of such.
struct Run<'a> {
    text: &'a str,
    /// Where it begins in the whole text.
    at: usize,
    /// Whether it begins where a URL has its host, or an error names one.
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

/// Addresses in brackets, and what stands between them.
fn in_run(run: &Run<'_>, hidden: &mut Vec<Place>) {
    let bytes = run.text.as_bytes();
    let (mut at, mut open) = (0, None);
    for (place, byte) in bytes.iter().enumerate() {
        match (byte, open) {
            (b'[', _) => open = Some(place),
            (b']', Some(start)) => {
                open = None;
                if is_private_v6(&run.text[start + 1..place]) {
                    between(&run.part(at, start), hidden);
                    at = place + 1 + port(&run.text[place + 1..]);
                    hidden.push(run.place(start, at));
                }
            }
            _ => (),
        }
    }
    between(&run.part(at, bytes.len()), hidden);
}

/// Length of the port, with its colon, that `rest` begins with.
fn port(rest: &str) -> usize {
    let digits = rest.strip_prefix(':').map_or(0, digits);
    if digits > 0 { 1 + digits } else { 0 }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Bare IPv6 addresses, and what stands between them.
fn between(run: &Run<'_>, hidden: &mut Vec<Place>) {
    let bytes = run.text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let (mut done, mut at) = (0, 0);
    while let Some(start) = bytes[at..].iter().position(is_part).map(|skipped| at + skipped) {
        at = bytes[start..].iter().position(|byte| !is_part(byte)).map_or(bytes.len(), |more| start + more);
        let follows_word = start > 0 && bytes[start - 1].is_ascii_alphanumeric();
        let goes_on = bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
        let Some((from, to)) = bare(&run.text[start..at], follows_word).filter(|_| !goes_on) else {
            continue;
        };
        let (from, mut to) = (start + from, start + to);
        if to == at && bytes.get(at) == Some(&b'%') {
            let zone = bytes[at + 1..].iter().take_while(|byte| !b":[]%".contains(byte)).count();
            at += 1 + zone;
            to = at;
        }
        names(&run.part(done, from), hidden);
        hidden.push(run.place(from, to));
        done = to;
    }
    names(&run.part(done, bytes.len()), hidden);
}

/// A private IPv6 address in `text`, hexadecimal digits, colons and dots; behind a word its first colon is a colon.
fn bare(text: &str, follows_word: bool) -> Option<Place> {
    if text.len() > MAX_ADDRESS || text.bytes().filter(|byte| *byte == b':').count() < 2 {
        return None;
    }
    // A sentence ends behind it, or Node's port follows without a bracket.
    let ends = |text: &str| {
        let trimmed = text.trim_end_matches(['.', ':']);
        let host = trimmed.rsplit_once(':').map_or(trimmed, |(host, _port)| host);
        [(text, text), (trimmed, trimmed), (host, trimmed)].map(|(address, all)| (address.len(), all.len()))
    };
    let begins = [(!follows_word).then_some(0), text.find(':').map(|colon| colon + 1)];
    for start in begins.into_iter().flatten() {
        let address = &text[start..];
        let found = ends(address).map(|(length, all)| (address[..length].parse::<Ipv6Addr>().ok(), all));
        let private = found.iter().find(|(found, _)| found.is_some_and(|v6| is_private_address(v6.into())));
        if let Some((_, all)) = private {
            return Some((start, start + all));
        }
        // The end of a public one is none.
        if found.iter().any(|(found, _)| found.is_some()) {
            return None;
        }
    }
    None
}

/// Names and IPv4 addresses between colons.
fn names(run: &Run<'_>, hidden: &mut Vec<Place>) {
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
        // A time, and half of a fraction, has one digit or two behind its colon.
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
        // The port goes with what it is of.
        if behind > 0
            && let Some(last) = hidden[known..].last_mut()
            && last.1 == run.at + end
        {
            last.1 += behind;
            start = end + behind;
        }
    }
}

/// Where private IPv4 addresses stand in `name`.
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

/// Whether `quad` is a private address, also with zeros in front of its numbers: to some readers these are octal then.
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

/// Whether `name` is a private address of fewer than four numbers, as C's library reads it: `127.1`.
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

/// Whether only a local network knows the name.
fn is_local(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let (host, end) = lower.rsplit_once('.').unwrap_or_default();
    !host.is_empty() && (LOCAL.contains(&end) || lower.ends_with(".home.arpa"))
}

fn is_private_v6(text: &str) -> bool {
    let address = text.split('%').next().unwrap_or_default();
    text.len() <= MAX_ADDRESS
        && address.parse::<Ipv6Addr>().is_ok_and(|address| is_private_address(address.into()))
}

fn is_private_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            // 100.64.0.0/10: addresses of a carrier's network, and of Tailscale's.
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    }
}
