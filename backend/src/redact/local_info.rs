//! What an error's text tells of a machine and its network: home directories, private addresses, names of a local network.
//!
//! The text may be a caller's own, up to the limit of an error's body: each byte is looked at a fixed number of times, and
//! nothing here recurs.

mod addresses;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memchr3;

use super::{HIDDEN, word_before};

/// Folders of everybody's home.
const HOMES: [&str; 2] = ["home", "Users"];
/// Root's home.
const ROOT: &str = "root";
/// Longest name of a user, in bytes (useradd: 32), with room.
const MAX_NAME: usize = 64;
/// So many folders may stand before such a one: `/var/home`, `/export/home`, `/mnt/c/Users`.
const ABOVE: usize = 3;

/// `text` without them; `home` is the home directory of this program's user.
pub(super) fn remove<'a>(text: &'a str, home: Option<&str>) -> Cow<'a, str> {
    match addresses::remove(text) {
        Some(text) => Cow::Owned(cut_homes(&text, home).unwrap_or(text)),
        None => cut_homes(text, home).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// Each path in a home directory becomes its file name.
fn cut_homes(text: &str, home: Option<&str>) -> Option<String> {
    let own = home.map(|home| home.trim_end_matches('/')).filter(|home| home.len() > 1);
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(first) = memchr3(b'/', b'\\', b'%', &bytes[at..]).map(|skipped| at + skipped) {
        let Some(slashes) = Slashes::at(bytes, first) else {
            at = first + 1;
            continue;
        };
        at = slashes.end;
        let Some((start, inner)) = home_at(text, copied, &slashes, own) else { continue };
        // A path in a query ends where the next of its values does.
        let is_value = bytes[first] == b'%';
        let ends = |next: char| ends_path(next) || is_value && next == '&';
        let path = text[inner..].find(ends).map_or(&text[inner..], |length| &text[inner..inner + length]);
        // Of a quote in JSON within a text the backslash is the quote's.
        let path = path.trim_end_matches('\\');
        out.push_str(&text[copied..start]);
        out.push_str(HIDDEN);
        if let Some(file) = file_name(path) {
            out.push('/');
            out.push_str(file);
        }
        copied = inner + path.len();
        at = copied;
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// What separates the folders of a path: one slash of either kind or many, as such or as a URL writes them.
struct Slashes {
    first: usize,
    /// Where the last of them begins.
    last: usize,
    end: usize,
}

impl Slashes {
    /// Those that begin at `first`.
    fn at(bytes: &[u8], first: usize) -> Option<Self> {
        let mut slashes = Self { first, last: first, end: first };
        while let Some(length) = slash(&bytes[slashes.end..]) {
            slashes.last = slashes.end;
            slashes.end += length;
        }
        (slashes.end > first).then_some(slashes)
    }
}

/// Length of the slash that `bytes` begin with: `/`, `\`, `%2F`, `%5C`, `%252F`.
fn slash(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'/' | b'\\', ..] => Some(1),
        [b'%', b'2', b'F' | b'f', ..] | [b'%', b'5', b'C' | b'c', ..] => Some(3),
        [b'%', b'2', b'5', b'2', b'F' | b'f', ..] | [b'%', b'2', b'5', b'5', b'C' | b'c', ..] => Some(5),
        _ => None,
    }
}

/// Whether a path ends before this.
fn ends_path(next: char) -> bool {
    next.is_whitespace() || next.is_control() || "'\"`()[]{}<>,;:|?*".contains(next)
}

/// What stands behind the last slash of a path, if there is one and something behind it.
fn file_name(path: &str) -> Option<&str> {
    let bytes = path.as_bytes();
    let (mut at, mut file) = (0, None);
    while let Some(first) = memchr3(b'/', b'\\', b'%', &bytes[at..]).map(|skipped| at + skipped) {
        at = first + slash(&bytes[first..]).unwrap_or(1);
        if slash(&bytes[first..]).is_some() {
            file = Some(&path[at..]);
        }
    }
    file.filter(|file| !file.is_empty())
}

/// Where a path in a home directory begins, whose root is at `slashes`, and where its user's own part does; `None` where
/// there is no such path behind `from`.
fn home_at(text: &str, from: usize, slashes: &Slashes, own: Option<&str>) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let goes_on =
        |end: usize| text[end..].starts_with(|next: char| next.is_alphanumeric() || "-_.%".contains(next));
    let follows_word =
        |at: usize| word_before(&text[..at]).is_some_and(|before| before.is_alphanumeric() || before == '.');
    if let Some(start) = tilde_before(text, from, slashes.first) {
        return Some((start, slashes.first));
    }
    let drive = slashes.first - drive_before(&bytes[from..slashes.first]);
    let (start, is_drive) = if drive < slashes.first && !follows_word(drive) {
        (drive, true)
    } else if follows_word(slashes.first) {
        return None;
    } else {
        (slashes.last, false)
    };
    // None goes on behind one's own.
    let own = own
        .filter(|own| text[start..].starts_with(own))
        .map(|own| start + own.len())
        .filter(|end| !goes_on(*end) || text[*end..].starts_with('%'));
    if own.is_some() {
        return own.map(|end| (start, end));
    }
    // What follows is a host.
    if text[slashes.first..slashes.end] == *"//" && text[..slashes.first].ends_with(':') && !is_drive {
        return None;
    }
    let (mut at, mut is_drive) = (slashes.end, is_drive);
    let root = at + ROOT.len();
    if text[at..].starts_with(ROOT) && Slashes::at(bytes, root).is_some_and(|next| goes_on(next.end)) {
        return Some((start, root));
    }
    for _ in 0..=ABOVE {
        let (length, colon) = folder(&text[at..]);
        let name = &text[at..at + length];
        let next = Slashes::at(bytes, at + length + colon).filter(|_| length > 0)?.end;
        let is_home = HOMES.contains(&name) || is_drive && name.eq_ignore_ascii_case("users");
        // Of a common folder some user's name has to follow.
        if is_home && colon == 0 && goes_on(next) {
            return Some((start, next));
        }
        is_drive = is_letter(name.as_bytes());
        at = next;
    }
    None
}

/// Where `~NAME` begins that ends at `end`, a user's home as a shell writes it, behind `from`; in a URL it is a page.
fn tilde_before(text: &str, from: usize, end: usize) -> Option<usize> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let bytes = &text.as_bytes()[from..end];
    let name = bytes.iter().rev().take(MAX_NAME).take_while(|byte| is_part(byte)).count();
    let tilde = bytes.len().checked_sub(name + 1).filter(|at| name > 0 && bytes[*at] == b'~')?;
    let follows = word_before(&text[..from + tilde]);
    (!follows.is_some_and(|before| before.is_alphanumeric() || before == '/')).then_some(from + tilde)
}

fn is_letter(name: &[u8]) -> bool {
    matches!(name, [letter] if letter.is_ascii_alphabetic())
}

/// Length of the colon of a drive, as such or as a URL writes it, that `bytes` begin with.
fn colon(bytes: &[u8]) -> usize {
    match bytes {
        [b':', ..] => 1,
        [b'%', b'3', b'A' | b'a', ..] => 3,
        _ => 0,
    }
}

/// Length of the drive that `bytes` end with: `C:`.
fn drive_before(bytes: &[u8]) -> usize {
    [1, 3]
        .into_iter()
        .filter_map(|length| Some((length, bytes.len().checked_sub(length + 1)?)))
        .find(|(length, start)| is_letter(&bytes[*start..=*start]) && colon(&bytes[start + 1..]) == *length)
        .map_or(0, |(length, _)| length + 1)
}

/// Length of the name of the folder that `text` begins with, and of the colon behind it where it is a drive.
fn folder(text: &str) -> (usize, usize) {
    let bytes = text.as_bytes();
    let drive = bytes.get(..1).filter(|first| is_letter(first)).map_or(0, |_| colon(&bytes[1..]));
    if drive > 0 && slash(&bytes[1 + drive..]).is_some() {
        return (1, drive);
    }
    let mut ends =
        text.char_indices().filter(|(at, next)| ends_path(*next) || slash(&bytes[*at..]).is_some());
    (ends.next().map_or(text.len(), |(at, _)| at), 0)
}
