//! Redacts information about a machine and its network in errors: home directories, private addresses and local host names.
//!
//! A caller can control the text, so the time is linear in its length and nothing recurses.

mod addresses;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memchr3;

use super::HIDDEN;
use super::strings::char_before;

/// Folders that contain home directories.
const HOMES: [&str; 2] = ["home", "Users"];
/// The home directory of root.
const ROOT: &str = "root";
/// Maximum length of a user name in bytes; useradd allows 32.
const MAX_NAME: usize = 64;
/// Maximum number of folders above one of [`HOMES`]: `/var/home`, `/mnt/c/Users`.
const MAX_ABOVE: usize = 3;

/// Redacts `text`. `home` is the home directory of the user of this process.
pub(super) fn remove<'a>(text: &'a str, home: Option<&str>) -> Cow<'a, str> {
    match addresses::remove(text) {
        Some(text) => Cow::Owned(redact_homes(&text, home).unwrap_or(text)),
        None => redact_homes(text, home).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// Replaces each path in a home directory by its file name.
fn redact_homes(text: &str, home: Option<&str>) -> Option<String> {
    let own = home.map(|home| home.trim_end_matches('/')).filter(|home| home.len() > 1);
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(first) = memchr3(b'/', b'\\', b'%', &bytes[at..]).map(|skipped| at + skipped) {
        let Some(slashes) = Separator::at(bytes, first) else {
            at = first + 1;
            continue;
        };
        at = slashes.end;
        let Some((start, inner)) = home_at(text, copied, &slashes, own) else { continue };
        // A path in the query of a URL ends at the next parameter.
        let is_value = bytes[first] == b'%';
        let ends = |next: char| ends_path(next) || is_value && next == '&';
        let path = text[inner..].find(ends).map_or(&text[inner..], |length| &text[inner..inner + length]);
        // A backslash at the end belongs to an escaped quote.
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

/// A separator of path components: one or more slashes of either kind, plain or URL-encoded.
struct Separator {
    first: usize,
    /// Offset of the last slash.
    last: usize,
    end: usize,
}

impl Separator {
    /// Parses a separator at `first`.
    fn at(bytes: &[u8], first: usize) -> Option<Self> {
        let mut slashes = Self { first, last: first, end: first };
        while let Some(length) = slash(&bytes[slashes.end..]) {
            slashes.last = slashes.end;
            slashes.end += length;
        }
        (slashes.end > first).then_some(slashes)
    }
}

/// Returns the length of the slash at the beginning of `bytes`: `/`, `\`, `%2F`, `%5C`, `%252F`.
fn slash(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'/' | b'\\', ..] => Some(1),
        [b'%', b'2', b'F' | b'f', ..] | [b'%', b'5', b'C' | b'c', ..] => Some(3),
        [b'%', b'2', b'5', b'2', b'F' | b'f', ..] | [b'%', b'2', b'5', b'5', b'C' | b'c', ..] => Some(5),
        _ => None,
    }
}

/// Whether a path ends before this character.
fn ends_path(next: char) -> bool {
    next.is_whitespace() || next.is_control() || "'\"`()[]{}<>,;:|?*".contains(next)
}

/// Returns the part of a path after its last slash, unless it is empty.
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

/// Returns the start of a path in a home directory whose root is at `slashes`, and the start of the part below the folder of homes;
/// `None` if there is no such path after `from`.
fn home_at(text: &str, from: usize, slashes: &Separator, own: Option<&str>) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let continues =
        |end: usize| text[end..].starts_with(|next: char| next.is_alphanumeric() || "-_.%".contains(next));
    let is_after_word =
        |at: usize| char_before(&text[..at]).is_some_and(|before| before.is_alphanumeric() || before == '.');
    if let Some(start) = tilde_before(text, from, slashes.first) {
        return Some((start, slashes.first));
    }
    let drive = slashes.first - drive_before(&bytes[from..slashes.first]);
    let (start, is_drive) = if drive < slashes.first && !is_after_word(drive) {
        (drive, true)
    } else if is_after_word(slashes.first) {
        return None;
    } else {
        (slashes.last, false)
    };
    // The home of this user, unless a longer name continues it.
    let own = own
        .filter(|own| text[start..].starts_with(own))
        .map(|own| start + own.len())
        .filter(|end| !continues(*end) || text[*end..].starts_with('%'));
    if own.is_some() {
        return own.map(|end| (start, end));
    }
    // A URL: a host follows.
    if text[slashes.first..slashes.end] == *"//" && text[..slashes.first].ends_with(':') && !is_drive {
        return None;
    }
    let (mut at, mut is_drive) = (slashes.end, is_drive);
    let root = at + ROOT.len();
    if text[at..].starts_with(ROOT) && Separator::at(bytes, root).is_some_and(|next| continues(next.end)) {
        return Some((start, root));
    }
    for _ in 0..=MAX_ABOVE {
        let (length, colon) = folder(&text[at..]);
        let name = &text[at..at + length];
        let next = Separator::at(bytes, at + length + colon).filter(|_| length > 0)?.end;
        let is_home = HOMES.contains(&name) || is_drive && name.eq_ignore_ascii_case("users");
        // A user name has to follow.
        if is_home && colon == 0 && continues(next) {
            return Some((start, next));
        }
        is_drive = is_letter(name.as_bytes());
        at = next;
    }
    None
}

/// Returns the start of a `~NAME` (a home directory in a shell) that ends at `end` and starts after `from`. In a URL it is a page.
fn tilde_before(text: &str, from: usize, end: usize) -> Option<usize> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let bytes = &text.as_bytes()[from..end];
    let name = bytes.iter().rev().take(MAX_NAME).take_while(|byte| is_part(byte)).count();
    let tilde = bytes.len().checked_sub(name + 1).filter(|at| name > 0 && bytes[*at] == b'~')?;
    let follows = char_before(&text[..from + tilde]);
    (!follows.is_some_and(|before| before.is_alphanumeric() || before == '/')).then_some(from + tilde)
}

fn is_letter(name: &[u8]) -> bool {
    matches!(name, [letter] if letter.is_ascii_alphabetic())
}

/// Returns the length of a colon, plain or URL-encoded, at the beginning of `bytes`.
fn colon(bytes: &[u8]) -> usize {
    match bytes {
        [b':', ..] => 1,
        [b'%', b'3', b'A' | b'a', ..] => 3,
        _ => 0,
    }
}

/// Returns the length of a drive (`C:`) at the end of `bytes`.
fn drive_before(bytes: &[u8]) -> usize {
    [1, 3]
        .into_iter()
        .filter_map(|length| Some((length, bytes.len().checked_sub(length + 1)?)))
        .find(|(length, start)| is_letter(&bytes[*start..=*start]) && colon(&bytes[start + 1..]) == *length)
        .map_or(0, |(length, _)| length + 1)
}

/// Returns the length of the folder name at the beginning of `text`, and of the colon after it if it is a drive.
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
