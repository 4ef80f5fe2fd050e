//! Whether a string is data, or says where data is.

use crate::json::letters::{fold, letters};

/// The longest path of any system (Windows: 32,767 letters), and longer than an address that a server takes.
const LONGEST: usize = 32 * 1024;

/// The text between the quotes.
fn inner(quoted: &[u8]) -> &[u8] {
    &quoted[1..quoted.len() - 1]
}

/// Its letters behind the blanks at its beginning, which readers of addresses leave out.
fn trimmed(quoted: &[u8]) -> impl Iterator<Item = u16> {
    letters(inner(quoted)).skip_while(|letter| *letter <= b' '.into())
}

/// Whether a string, with its quotes, holds its data itself; or nothing.
pub(super) fn is_data(quoted: &[u8]) -> bool {
    let mut text = trimmed(quoted).map(fold).take(5).peekable();
    text.peek().is_none() || text.eq(*b"data:")
}

/// Whether a string, with its quotes, can only be data: a `data:` URL, or letters of base64 that are no path. What is
/// longer than any path is none; `/9j/` is how a JPEG begins.
pub(super) fn is_plain_data(quoted: &[u8]) -> bool {
    if is_data(quoted) {
        return true;
    }
    // A picture without an escape, as nearly all are.
    if inner(quoted).get(..LONGEST).is_some_and(|start| start.iter().copied().all(is_base64)) {
        return true;
    }
    let mut count = 0;
    for letter in trimmed(quoted).take(LONGEST) {
        if !u8::try_from(letter).is_ok_and(is_base64) {
            return false;
        }
        count += 1;
    }
    let mut text = trimmed(quoted);
    count == LONGEST || text.next() != Some(b'/'.into()) || text.take(3).eq(b"9j/".map(u16::from))
}

/// Whether a string, with its quotes, is an address or a path from a root, and no data.
pub(super) fn says_where(quoted: &[u8]) -> bool {
    /// No scheme is so long.
    const LONGEST_SCHEME: usize = 64;
    let is_slash = |letter: u16| letter == u16::from(b'/') || letter == u16::from(b'\\');

    let mut text = trimmed(quoted).take(LONGEST_SCHEME);
    let begins = match text.next() {
        None => false,
        Some(first) if is_slash(first) => true,
        Some(first) if first == u16::from(b'~') => text.next().is_some_and(is_slash),
        Some(first) => {
            // `https://`, `file:/`, `C:\`.
            let is_scheme = |letter: u16| {
                u8::try_from(letter).is_ok_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            };
            let mut rest = text.skip_while(|letter| is_scheme(*letter));
            is_scheme(first) && rest.next() == Some(b':'.into()) && rest.next().is_some_and(is_slash)
        }
    };
    begins && !is_plain_data(quoted)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte)
}
