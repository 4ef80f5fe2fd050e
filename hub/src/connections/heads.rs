//! Where heads of requests end in what was read. Whoever writes a head with bare line feeds is understood, too, as the
//! server does.

use memchr::memmem;

/// Where in what is read it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Before a request, where empty lines are no end of a head.
    Start,
    /// Somewhere else, behind these bytes.
    Within([u8; 2]),
}

impl At {
    /// Where one is behind `bytes`, in which the first head ends there.
    pub(super) fn behind(self, bytes: &[u8], end: Option<usize>) -> Self {
        let is_blank = || self == Self::Start && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if end == Some(bytes.len()) || (end.is_none() && is_blank()) {
            return Self::Start;
        }
        let last = |back: usize| bytes.len().checked_sub(back).map(|at| bytes[at]);
        let before = if let Self::Within(before) = self { before } else { [0; 2] };
        Self::Within([last(2).unwrap_or(before[1]), last(1).unwrap_or(before[1])])
    }
}

/// The end of the first head in `bytes`, and whether there is another one.
pub(super) fn ends(at: At, bytes: &[u8]) -> (Option<usize>, bool) {
    let first = match at {
        At::Start => {
            let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            end(&bytes[blank..]).map(|end| blank + end)
        }
        At::Within(before) => split(before, bytes).or_else(|| end(bytes)),
    };
    let rest = first.and_then(|first| bytes.get(first..));
    (first, rest.is_some_and(|rest| end(rest).is_some()))
}

/// The end of a chunked body in `bytes`, of which `before` was seen already. What looks like one and is none is no harm:
/// there its reader waits for more.
pub(super) fn last_chunk(before: [u8; 4], bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"0\r\n\r\n";
    let (mut seam, more) = ([0; 8], bytes.len().min(4));
    seam[..4].copy_from_slice(&before);
    seam[4..4 + more].copy_from_slice(&bytes[..more]);
    let split = memmem::find(&seam, END).map(|at| at + END.len() - before.len());
    split.or_else(|| Some(memmem::find(bytes, END)? + END.len()))
}

/// The last four of `before` and `bytes`.
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
    // What stands behind the proper end is a body, or another request.
    let bare = memmem::find(&bytes[..proper.unwrap_or(bytes.len())], b"\n\n").map(|at| at + 2);
    bare.or(proper)
}

/// The end of an empty line that began before `bytes`.
fn split(before: [u8; 2], bytes: &[u8]) -> Option<usize> {
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
    fn the_end_of_a_head_is_found_however_its_lines_end() {
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
            assert_eq!(ends(At::Start, bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_end_of_a_chunked_body_is_found_wherever_it_is_cut() {
        let body = b"4\r\nabcd\r\n10\r\n0123456789abcdef\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
        let end = body.len() - 16;
        for cut in 0..body.len() {
            let (first, second) = body.split_at(cut);
            let found = last_chunk([0; 4], first);
            if cut >= end {
                assert_eq!(found, Some(end), "{cut}");
            } else {
                assert_eq!(found, None, "{cut}");
                assert_eq!(last_chunk(tail([0; 4], first), second), Some(end - cut), "{cut}");
            }
        }
    }

    proptest! {
        /// However a head is cut in two, its end is found in the second part.
        #[test]
        fn a_head_in_two_parts_ends_where_it_ends(cut in 1_usize..=20, bare in any::<bool>()) {
            let head: &[u8] = if bare { b"GET / HTTP/1.1\na: b\n\nmore" } else { b"GET / HTTP/1.1\r\na: b\r\n\r\nmore" };
            let whole = head.len() - 4;
            let (first, second) = head.split_at(cut.min(whole - 1));
            prop_assert_eq!(ends(At::Start, first), (None, false));
            let at = At::Start.behind(first, None);
            prop_assert_eq!(ends(at, second), (Some(whole - first.len()), false));
            prop_assert_eq!(At::Start.behind(&head[..whole], Some(whole)), At::Start);
        }
    }
}
