//! Tells inline data from URLs and file paths. Strings are passed with their quotes.

use crate::json::letters::{fold, letters};

/// Upper bound for a path, in UTF-16 units: 32,767 on Windows, less elsewhere. Servers limit URLs to less than that.
const MAX_LOCATION: usize = 32 * 1024;

/// The text between the quotes.
fn inner(quoted: &[u8]) -> &[u8] {
    &quoted[1..quoted.len() - 1]
}

/// The letters without leading blanks, which URL parsers skip.
fn trimmed(quoted: &[u8]) -> impl Iterator<Item = u16> {
    letters(inner(quoted)).skip_while(|letter| *letter <= b' '.into())
}

/// Whether a string is a `data:` URL, or empty.
pub(super) fn is_data_url(quoted: &[u8]) -> bool {
    let mut text = trimmed(quoted).map(fold).take(5).peekable();
    text.peek().is_none() || text.eq(*b"data:")
}

/// Whether a string can only be inline data: a `data:` URL, or base64 that is no path. Base64 longer than any path is data,
/// and so is what begins with `/9j/`, a JPEG.
pub(super) fn is_inline_data(quoted: &[u8]) -> bool {
    if is_data_url(quoted) {
        return true;
    }
    // Fast path: large media nearly always has no escape.
    if inner(quoted).get(..MAX_LOCATION).is_some_and(|start| start.iter().copied().all(is_base64)) {
        return true;
    }
    let mut count = 0;
    for letter in trimmed(quoted).take(MAX_LOCATION) {
        if !u8::try_from(letter).is_ok_and(is_base64) {
            return false;
        }
        count += 1;
    }
    let mut text = trimmed(quoted);
    count == MAX_LOCATION || text.next() != Some(b'/'.into()) || text.take(3).eq(b"9j/".map(u16::from))
}

/// Whether a string is a URL or an absolute path (`https://`, `file:/`, `C:\`, `/x`, `\\host`, `~/x`), and not inline data.
pub(super) fn is_location(quoted: &[u8]) -> bool {
    /// Longer than any scheme in use.
    const MAX_SCHEME: usize = 64;
    let is_slash = |letter: u16| letter == u16::from(b'/') || letter == u16::from(b'\\');

    let mut text = trimmed(quoted).take(MAX_SCHEME);
    let has_prefix = match text.next() {
        None => false,
        Some(first) if is_slash(first) => true,
        Some(first) if first == u16::from(b'~') => text.next().is_some_and(is_slash),
        Some(first) => {
            let is_scheme = |letter: u16| {
                u8::try_from(letter).is_ok_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            };
            let mut rest = text.skip_while(|letter| is_scheme(*letter));
            is_scheme(first) && rest.next() == Some(b':'.into()) && rest.next().is_some_and(is_slash)
        }
    };
    has_prefix && !is_inline_data(quoted)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte)
}
