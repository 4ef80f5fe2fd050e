//! Member names, normalized as the most lenient servers compare them.

use super::known::is_nearly_known;
use crate::json::letters::{fold, letters};

/// A member name in ASCII lower case without underscores.
pub(super) struct MemberName {
    letters: [u8; Self::MAX_LEN],
    len: usize,
    /// The last four letters of a name that is longer than `MAX_LEN`.
    end: [u8; 4],
    is_exact: bool,
    has_underscore: bool,
}

impl MemberName {
    /// Longer than any name with a role.
    const MAX_LEN: usize = 40;

    /// Normalizes a name, given with its quotes.
    pub(super) fn of(quoted: &[u8]) -> Self {
        let inner = &quoted[1..quoted.len() - 1];
        let mut name =
            Self { letters: [0; Self::MAX_LEN], len: 0, end: [0; 4], is_exact: true, has_underscore: false };
        // Fast path for nearly all names, of which a request can have many thousands.
        if inner.len() <= Self::MAX_LEN && inner.iter().all(|byte| byte.is_ascii() && *byte != b'\\') {
            for byte in inner {
                name.letters[name.len] = byte.to_ascii_lowercase();
                name.len += usize::from(*byte != b'_');
                name.has_underscore |= *byte == b'_';
                name.is_exact &= !byte.is_ascii_uppercase();
            }
            return name;
        }
        for letter in letters(inner) {
            let folded = fold(letter);
            name.is_exact &= letter == u16::from(folded);
            if folded == b'_' {
                name.has_underscore = true;
                continue;
            }
            if let Some(slot) = name.letters.get_mut(name.len) {
                *slot = folded;
            }
            name.len += 1;
            let [_, b, c, d] = name.end;
            name.end = [b, c, d, folded];
        }
        name
    }

    /// The normalized letters; empty if the name is longer than any name with a role.
    pub(super) fn letters(&self) -> &[u8] {
        self.letters.get(..self.len).unwrap_or_default()
    }

    /// Whether the name is in ASCII lower case as written. Only then may its value be exempt from inspection, because strict
    /// servers do not recognize other spellings.
    pub(super) fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Whether an API defines a request member of this name in some spelling.
    pub(super) fn is_nearly_known(&self) -> bool {
        is_nearly_known(self.letters())
    }

    /// Whether the name is exactly `store`, which every server reads.
    pub(super) fn is_store(&self) -> bool {
        self.is_exact && !self.has_underscore && self.letters() == b"store"
    }

    /// Whether the name ends like that of a URL: `image_url`, `fileUri`, `video_urls`.
    pub(super) fn is_url(&self) -> bool {
        let letters = if self.len > Self::MAX_LEN { &self.end } else { self.letters() };
        matches!(letters, [.., b'u', b'r', b'l' | b'i'] | [.., b'u', b'r', b'l' | b'i', b's'])
    }

    /// Whether the name begins like that of media or a file: `image_url`, `input_audio`.
    pub(super) fn begins_like_media(&self) -> bool {
        [&b"image"[..], b"video", b"audio", b"file", b"input"]
            .iter()
            .any(|kind| self.letters().starts_with(kind))
    }

    /// Whether a member of this name is media or a file in any form.
    pub(super) fn is_media(&self) -> bool {
        self.letters() != b"input" && self.begins_like_media()
    }

    /// Whether a member of this name is text, which servers never fetch.
    pub(super) fn is_text(&self) -> bool {
        const END: [&[u8]; 10] = [
            b"text",
            b"title",
            b"context",
            b"content",
            b"name",
            b"caption",
            b"prompt",
            b"description",
            b"transcript",
            b"summary",
        ];
        END.iter().any(|end| self.letters().ends_with(end))
    }
}
