//! What identifies the conversation of a call.

use memchr::{memchr2, memmem};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher, RandomState};

/// Headers that name a session, in order of precedence.
pub(crate) const SESSION_HEADERS: [&str; 5] =
    ["x-session-affinity", "x-session-id", "session-id", "thread-id", "x-claude-code-session-id"];

/// Bytes of a block. Prompts are compared by whole blocks: about 500 tokens, which a backend computes in the time of a
/// few calls of the hub.
pub(crate) const BLOCK: usize = 2 << 10;
/// Most blocks that are compared: 512 KiB, the context of the largest models. Hashing them takes half a millisecond.
const MAX_BLOCKS: usize = 256;

/// Begins a line that Claude Code puts in front of its system text. It differs in each session, and backends do not get it.
const ATTRIBUTION: &[u8] = b"x-anthropic-billing-header:";
/// The first bytes of a system prompt in which the line is looked for: `[{"type":"text","text":"` and its like are before.
const ATTRIBUTION_WITHIN: usize = 128;

/// The same in all hubs of one build: they place a conversation alike without talking.
type Agreed = BuildHasherDefault<DefaultHasher>;

/// A call's conversation in one pool, for one user. All values are hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(super) user: u64,
    pub(super) pool: u64,
    /// The key in the table. It differs between processes.
    pub(super) id: u64,
    /// Ranks the members in the same order at each hub. It is not kept.
    pub(super) rank: u64,
    /// Keys of prefixes of the opening, longest first. Read only if the conversation is new.
    pub(super) prefixes: Vec<u64>,
}

/// What a call tells about its conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallKeys<'a> {
    /// The name that the caller gave it.
    pub(crate) name: Option<&'a [u8]>,
    /// Tools, system prompt and first messages, as JSON: those before the first answer, and at least a block if the prompt
    /// has as much.
    pub(crate) opening: [&'a [u8]; 3],
    /// Bytes of the whole prompt.
    pub(crate) prompt: usize,
}

impl Conversation {
    /// The conversation of a call of `user` for `pool`; `None` for a short prompt without a name, which costs a backend
    /// less than keeping it in one place is worth.
    pub(crate) fn of(keys: &RandomState, user: &str, pool: &str, call: CallKeys<'_>) -> Option<Self> {
        if call.name.is_none() && call.prompt < BLOCK {
            return None;
        }
        let mut rank = Agreed::default().build_hasher();
        for text in [user, pool] {
            rank.write(text.as_bytes());
            // No UTF-8 text has this byte.
            rank.write_u8(0xff);
        }
        match call.name {
            Some(name) => {
                rank.write_u8(0);
                rank.write(name);
            }
            None => each_block(call.opening, |block, _| rank.write(block)),
        }
        let rank = rank.finish();
        let (user, pool) = (keys.hash_one((0, user)), keys.hash_one((1, pool)));
        Some(Self { user, pool, id: keys.hash_one((2, user, pool, rank)), rank, prefixes: Vec::new() })
    }

    /// Adds the prefixes of the opening: those of 1, 2, 4, … blocks, and all of its blocks. Another conversation with the
    /// same system prompt then shares at least half of the prefix, in a few entries of the table.
    #[must_use]
    pub(crate) fn with_prefixes(mut self, keys: &RandomState, call: CallKeys<'_>) -> Self {
        let mut chain = keys.build_hasher();
        chain.write_u64(self.user);
        chain.write_u64(self.pool);
        let mut blocks = Vec::new();
        each_block(call.opening, |part, ends_block| {
            chain.write(part);
            if ends_block {
                blocks.push(chain.finish());
            }
        });
        let kept =
            (1..=blocks.len()).rev().filter(|number| number.is_power_of_two() || *number == blocks.len());
        self.prefixes = kept.map(|number| blocks[number - 1]).collect();
        self
    }

    /// Whether two hubs rank members alike for it and `other`.
    #[cfg(test)]
    pub(super) fn ranks_like(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

/// A system prompt, as JSON, behind the attribution line, so that sessions which differ only there share a prefix.
pub(crate) fn behind_attribution(system: &[u8]) -> &[u8] {
    let head = &system[..system.len().min(ATTRIBUTION_WITHIN)];
    let Some(line) = memmem::find(head, ATTRIBUTION).map(|at| &system[at..]) else { return system };
    // The line ends with an escaped line end, or with its text.
    let end = memchr2(b'\\', b'"', line).unwrap_or(line.len());
    &line[end..]
}

/// Calls `each` with the parts of `texts`, in order, cut at each [`BLOCK`] bytes of all of them together, and whether a
/// block ends with the part. What is behind [`MAX_BLOCKS`] is left out.
fn each_block(texts: [&[u8]; 3], mut each: impl FnMut(&[u8], bool)) {
    let (mut room, mut blocks) = (BLOCK, 0);
    for mut text in texts {
        while let Some((part, rest)) = text.split_at_checked(room) {
            each(part, true);
            blocks += 1;
            if blocks == MAX_BLOCKS {
                return;
            }
            (text, room) = (rest, BLOCK);
        }
        each(text, false);
        room -= text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_differ_in_the_attribution_line_have_one_prefix() {
        let line = |session: &str| format!("x-anthropic-billing-header: cc_version=2.1; cch={session};");
        for session in ["a1", "f00"] {
            let blocks = format!(r#"[{{"type":"text","text":"{}"}},{{"text":"You"}}]"#, line(session));
            assert_eq!(behind_attribution(blocks.as_bytes()), br#""},{"text":"You"}]"#);
            let text = format!(r#""{}\nYou are""#, line(session));
            assert_eq!(behind_attribution(text.as_bytes()), br#"\nYou are""#);
        }
        for other in ["", r#""You are x-anthropic""#, &format!(r#""{}{}""#, "y".repeat(200), line("a"))] {
            assert_eq!(behind_attribution(other.as_bytes()), other.as_bytes());
        }
    }
}
