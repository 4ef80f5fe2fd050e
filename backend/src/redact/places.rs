//! What an error's text tells of a machine and its network: home directories, private addresses, names of a local network.
//!
//! The text may be a caller's own, up to the limit of an error's body: each byte is looked at a fixed number of times, and
//! nothing here recurs.

mod addresses;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memchr2_iter;

use super::HIDDEN;

/// Folders of everybody's home.
const HOMES: [&str; 4] = ["/home/", "/Users/", "C:\\Users\\", "/var/home/"];

/// `text` without them; `home` is the home directory of this program's user.
pub(super) fn cut<'a>(text: &'a str, home: Option<&str>) -> Cow<'a, str> {
    match addresses::cut(text) {
        Some(text) => Cow::Owned(cut_homes(&text, home).unwrap_or(text)),
        None => cut_homes(text, home).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// Each path in a home directory becomes its file name.
fn cut_homes(text: &str, home: Option<&str>) -> Option<String> {
    let own = home.map(|home| home.trim_end_matches('/')).filter(|home| home.len() > 1);
    let mut out = String::new();
    let mut copied = 0;
    // Every one of these folders begins with one of the two, and so does `$HOME`.
    for start in memchr2_iter(b'/', b'C', text.as_bytes()) {
        if start < copied {
            continue;
        }
        let Some(inner) = home_at(text, start, own) else { continue };
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
        copied = end;
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// Where its user's own part begins in the path in a home directory that begins at `start`; `None` where none does.
fn home_at(text: &str, start: usize, own: Option<&str>) -> Option<usize> {
    let goes_on =
        |end: usize| text[end..].starts_with(|next: char| next.is_alphanumeric() || "-_.".contains(next));
    let end_of = |folder: &str| text[start..].starts_with(folder).then_some(start + folder.len());
    if text[..start].ends_with(|before: char| before.is_alphanumeric() || before == '.') {
        return None;
    }
    // Of a common folder some user's name has to follow, and none goes on behind one's own.
    let common = HOMES.iter().find_map(|folder| end_of(folder)).filter(|end| goes_on(*end));
    let own = own.and_then(end_of).filter(|end| !goes_on(*end));
    own.max(common)
}
