//! Finds the ends of request heads and chunked bodies in a byte stream. Bare line feeds count as line ends, as in the
//! server.

use memchr::memmem;

/// The position in the request stream at which a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Before a request: empty lines are skipped.
    Start,
    /// Anywhere else, behind these two bytes.
    Within([u8; 2]),
}

impl Position {
    /// The position behind `bytes`, in which the first head ends at `end`.
    pub(super) fn after(self, bytes: &[u8], end: Option<usize>) -> Self {
        let is_blank = || self == Self::Start && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if end == Some(bytes.len()) || (end.is_none() && is_blank()) {
            return Self::Start;
        }
        let last = |back: usize| bytes.len().checked_sub(back).map(|at| bytes[at]);
        let before = if let Self::Within(before) = self { before } else { [0; 2] };
        Self::Within([last(2).unwrap_or(before[1]), last(1).unwrap_or(before[1])])
    }
}

/// The end of the first head in `bytes`, and whether a second head ends there too.
pub(super) fn head_ends(position: Position, bytes: &[u8]) -> (Option<usize>, bool) {
    let first = match position {
        Position::Start => {
            let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            end(&bytes[blank..]).map(|end| blank + end)
        }
        Position::Within(before) => split_end(before, bytes).or_else(|| end(bytes)),
    };
    let rest = first.and_then(|first| bytes.get(first..));
    (first, rest.is_some_and(|rest| end(rest).is_some()))
}

/// The end of a chunked body in `bytes`, behind the bytes `before`. A false positive inside of a chunk is harmless: the
/// handler waits for more, and more is read.
pub(super) fn chunked_end(before: [u8; 4], bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"0\r\n\r\n";
    let (mut seam, more) = ([0; 8], bytes.len().min(4));
    seam[..4].copy_from_slice(&before);
    seam[4..4 + more].copy_from_slice(&bytes[..more]);
    let split = memmem::find(&seam, END).map(|at| at + END.len() - before.len());
    split.or_else(|| Some(memmem::find(bytes, END)? + END.len()))
}

/// The last four bytes of `before` and `bytes`.
pub(super) fn tail(before: [u8; 4], bytes: &[u8]) -> [u8; 4] {
    let mut all = before;
    for byte in &bytes[bytes.len().saturating_sub(4)..] {
        all.rotate_left(1);
        all[3] = *byte;
    }
    all
}

/// The end of the first empty line.
fn end(bytes: &[u8]) -> Option<usize> {
    let proper = memmem::find(bytes, b"\n\r\n").map(|at| at + 3);
    // Bytes behind the proper end belong to a body or to the next request.
    let bare = memmem::find(&bytes[..proper.unwrap_or(bytes.len())], b"\n\n").map(|at| at + 2);
    bare.or(proper)
}

/// The end of an empty line that began before `bytes`.
fn split_end(before: [u8; 2], bytes: &[u8]) -> Option<usize> {
    match (before, bytes) {
        ([_, b'\n'] | [b'\n', b'\r'], [b'\n', ..]) => Some(1),
        ([_, b'\n'], [b'\r', b'\n', ..]) => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_ends_at_an_empty_line_with_any_line_end() {
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", (Some(18), false)),
            ("GET / HTTP/1.1\n\n", (Some(16), false)),
            ("GET / HTTP/1.1\n\r\n", (Some(17), false)),
            ("GET / HTTP/1.1\r\na: b\r\n", (None, false)),
            ("POST / HTTP/1.1\r\n\r\n{\"a\":\r\n1}", (Some(19), false)),
            ("\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", (Some(24), false)),
            ("G\r\n\r\nG\r\n\r\n", (Some(5), true)),
            ("G\r\n\r\nG\n\n", (Some(5), true)),
            ("", (None, false)),
        ] {
            assert_eq!(head_ends(Position::Start, bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_chunked_body_ends_in_the_second_of_two_parts() {
        let body = b"4\r\nabcd\r\n10\r\n0123456789abcdef\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
        let end = body.len() - 16;
        for cut in 0..body.len() {
            let (first, second) = body.split_at(cut);
            let found = chunked_end([0; 4], first);
            if cut >= end {
                assert_eq!(found, Some(end), "{cut}");
            } else {
                assert_eq!(found, None, "{cut}");
                assert_eq!(chunked_end(tail([0; 4], first), second), Some(end - cut), "{cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_head_ends_in_the_second_of_two_parts(cut in 1_usize..=20, bare in any::<bool>()) {
            let head: &[u8] = if bare { b"GET / HTTP/1.1\na: b\n\nmore" } else { b"GET / HTTP/1.1\r\na: b\r\n\r\nmore" };
            let whole = head.len() - 4;
            let (first, second) = head.split_at(cut.min(whole - 1));
            prop_assert_eq!(head_ends(Position::Start, first), (None, false));
            let position = Position::Start.after(first, None);
            prop_assert_eq!(head_ends(position, second), (Some(whole - first.len()), false));
            prop_assert_eq!(Position::Start.after(&head[..whole], Some(whole)), Position::Start);
        }
    }
}
