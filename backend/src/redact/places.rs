//! What an error's text tells of a machine and its network: home directories, private addresses, names of a local network.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HIDDEN;

/// Ends of names that only a local network knows.
const LOCAL: [&str; 7] = ["local", "lan", "internal", "localdomain", "home", "intranet", "corp"];
/// Folders of everybody's home.
const HOMES: [&str; 4] = ["/home/", "/Users/", "C:\\Users\\", "/var/home/"];

/// `text` without them; `home` is the home directory of this program's user.
pub(super) fn cut<'a>(text: &'a str, home: Option<&str>) -> Cow<'a, str> {
    match cut_addresses(text) {
        Some(text) => Cow::Owned(cut_homes(&text, home).unwrap_or(text)),
        None => cut_homes(text, home).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// Each path in a home directory becomes its file name.
fn cut_homes(text: &str, home: Option<&str>) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some((start, inner)) = next_home(text, at, home) {
        let ends =
            |next: char| next.is_whitespace() || next.is_control() || "'\"`()[]{}<>,;:|?*".contains(next);
        let end = text[inner..].find(ends).map_or(text.len(), |length| inner + length);
        let (_, file) = text[inner..end].rsplit_once(['/', '\\']).unwrap_or_default();
        out.push_str(&text[copied..start]);
        out.push_str(HIDDEN);
        if !file.is_empty() {
            out.push('/');
            out.push_str(file);
        }
        (copied, at) = (end, end);
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// Where the next path in a home directory begins, and where in it its user's own part does.
fn next_home(text: &str, from: usize, home: Option<&str>) -> Option<(usize, usize)> {
    let own = home.map(|home| home.trim_end_matches('/')).filter(|home| home.len() > 1);
    let begins =
        |start: usize| !text[..start].ends_with(|before: char| before.is_alphanumeric() || before == '.');
    let goes_on =
        |end: usize| text[end..].starts_with(|next: char| next.is_alphanumeric() || "-_.".contains(next));
    let find = |prefix: &str, is_own: bool| {
        let found = text[from..].match_indices(prefix).map(|(at, _)| (from + at, from + at + prefix.len()));
        // Of a common folder some user's name has to follow, and none goes on behind one's own.
        found.into_iter().find(|&(start, end)| begins(start) && goes_on(end) != is_own)
    };
    let common = HOMES.iter().filter_map(|prefix| find(prefix, false));
    common
        .chain(own.and_then(|own| find(own, true)))
        .min_by_key(|&(start, end)| (start, std::cmp::Reverse(end)))
}

/// Each private address and local name, with its port.
fn cut_addresses(text: &str) -> Option<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| is_part(*byte)).map(|skipped| at + skipped) {
        let end =
            bytes[start..].iter().position(|byte| !is_part(*byte)).map_or(bytes.len(), |more| start + more);
        let in_url = text[..start].ends_with("//");
        for (from, to) in addresses(&text[start..end], in_url) {
            out.push_str(&text[copied..start + from]);
            out.push_str(HIDDEN);
            copied = start + to;
        }
        at = end;
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// Where the private addresses in one run of letters, digits and marks stand.
fn addresses(run: &str, in_url: bool) -> Vec<(usize, usize)> {
    if let Some((start, end)) = ipv6(run) {
        let behind = addresses(&run[end..], false).into_iter().map(|(from, to)| (from + end, to + end));
        return std::iter::once((start, end)).chain(behind).collect();
    }
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    let mut parts = run.split(':').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        let name = part.trim_matches(['.', '-', '_', '[', ']', '%']);
        let start = at + part.find(name).unwrap_or(0);
        let name = ipv4_in_front(name).unwrap_or(name);
        let mut end = start + name.len();
        at += part.len() + 1;
        let port =
            parts.peek().map(|next| next.bytes().take_while(u8::is_ascii_digit).count()).filter(|n| *n > 0);
        let is_host = in_url && is_first && !name.contains('.');
        let is_loopback = name.eq_ignore_ascii_case("localhost") && port.is_some();
        is_first = false;
        if name.is_empty() || !(is_host || is_loopback || is_private(name)) {
            continue;
        }
        if let Some(digits) = port.filter(|_| end + 1 == at) {
            end = at + digits;
            at += parts.next().map_or(0, |next| next.len() + 1);
        }
        found.push((start, end));
    }
    found
}

/// A private IPv6 address, in brackets with or without a port, or bare.
fn ipv6(run: &str) -> Option<(usize, usize)> {
    let is_private = |text: &str| {
        let address = text.split('%').next().unwrap_or_default().parse::<Ipv6Addr>();
        address.is_ok_and(|address| is_private_address(IpAddr::V6(address)))
    };
    if let Some(open) = run.find('[') {
        let close = open + run[open..].find(']')?;
        let port = run[close + 1..].strip_prefix(':').unwrap_or_default();
        let digits = port.bytes().take_while(u8::is_ascii_digit).count();
        let end = if digits > 0 { close + 2 + digits } else { close + 1 };
        return is_private(&run[open + 1..close]).then_some((open, end));
    }
    let bare = run.trim_end_matches(['.', ':', '-']);
    // Node writes a port behind a bare address.
    let host = bare.rsplit_once(':').map_or(bare, |(host, _port)| host);
    (bare.matches(':').count() > 1 && (is_private(bare) || is_private(host))).then_some((0, bare.len()))
}

/// A private IPv4 address in front of more of a name: the next sentence, or a name that stands for the address.
fn ipv4_in_front(name: &str) -> Option<&str> {
    let (end, _) = name.match_indices('.').nth(3)?;
    let is_longer = name[end + 1..].starts_with(|next: char| next.is_ascii_digit());
    Some(&name[..end]).filter(|address| !is_longer && is_private(address))
}

fn is_private(name: &str) -> bool {
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return is_private_address(IpAddr::V4(address));
    }
    let lower = name.to_ascii_lowercase();
    let lower = lower.strip_suffix(".home.arpa").map_or(lower.as_str(), |_| "x.home");
    lower.rsplit_once('.').is_some_and(|(host, end)| !host.is_empty() && LOCAL.contains(&end))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut_text(text: &str) -> String {
        cut(text, Some("/srv/people/carol")).into_owned()
    }

    #[test]
    fn private_addresses_and_local_names_go_with_their_ports_and_public_ones_stay() {
        for (text, left) in [
            ("dial tcp 192.168.7.20:8000: connect: refused", "dial tcp ***: connect: refused"),
            ("no route to 172.31.255.1, 172.32.0.1 or 169.254.3.4.", "no route to ***, 172.32.0.1 or ***."),
            ("lookup nas.lan on 100.127.0.9:53: no such host", "lookup *** on ***: no such host"),
            ("peer=10.0.0.7 port=1", "peer=*** port=1"),
            (
                "http://gpu-2:8000/v1/x and https://api.example.com/v1",
                "http://***/v1/x and https://api.example.com/v1",
            ),
            ("at [fd00::7]:9000, fe80::1%eth0 and [::1]:80", "at ***, *** and ***"),
            ("[2001:db8::1]:9000 and 8.8.8.8:53 stay", "[2001:db8::1]:9000 and 8.8.8.8:53 stay"),
            ("Host('Printer.Local', 631)", "Host('***', 631)"),
            ("ws://10.1.2.3:4/socket", "ws://***/socket"),
            ("localhost:5432 is down, localhost is not", "*** is down, localhost is not"),
            ("at ::ffff:10.0.0.1", "at ***"),
            ("connect ECONNREFUSED ::1:11434", "connect ECONNREFUSED ***"),
            ("[::1]:80-[::1]:81", "***-***"),
            ("std::vec at 12:30:45 of 1.2.3 is local", "std::vec at 12:30:45 of 1.2.3 is local"),
            ("settings.local.json and com.foo.internal.Bar", "settings.local.json and com.foo.internal.Bar"),
            ("0.5.0.1 10.0 10.0.0.300", "0.5.0.1 10.0 10.0.0.300"),
        ] {
            assert_eq!(cut_text(text), left, "{text}");
        }
    }

    #[test]
    fn a_path_in_anybodys_home_is_its_file_name() {
        for (text, left) in [
            ("No such file: '/home/bob/models/q 4.gguf'", "No such file: '***/q 4.gguf'"),
            ("File \"/Users/bob/vllm/engine.py\", line 7", "File \"***/engine.py\", line 7"),
            ("at /srv/people/carol/.cache/x/y.bin:12", "at ***/y.bin:12"),
            (
                "/srv/people/carol is full, /srv/people/caroline is not",
                "*** is full, /srv/people/caroline is not",
            ),
            ("open C:\\Users\\bob\\m.gguf failed", "open ***/m.gguf failed"),
            (
                "/home/ is a folder, https://x.example/home/bob a page",
                "/home/ is a folder, https://x.example/home/bob a page",
            ),
            ("/usr/lib/x.so", "/usr/lib/x.so"),
        ] {
            assert_eq!(cut_text(text), left, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_private_address_is_left_in_any_text(
            a in any::<u8>(), b in any::<u8>(), c in any::<u8>(), kind in 0..4_u8,
            before in "[ =('\"/@,]", after in "([ .,)'\"/:]|:[0-9]{2,5} )", words in "[a-zé/ ]{0,20}"
        ) {
            let address = match kind {
                0 => format!("10.{a}.{b}.{c}"),
                1 => format!("192.168.{b}.{c}"),
                2 => format!("172.{}.{b}.{c}", 16 + a % 16),
                _ => format!("host-{a}.lan"),
            };
            // What follows a name without a blank is a part of it.
            prop_assume!(kind < 3 || after != ".");
            let text = format!("{words}{before}{address}{after}{words}");
            prop_assert!(!cut_text(&text).contains(&address), "{}", cut_text(&text));
        }

        #[test]
        fn any_text_can_be_cut(text in "[a-z0-9.:/\\[\\]% é-]{0,60}") {
            let _ = cut_text(&text);
        }
    }
}
