//! Affinity: a pool's calls of one conversation go to the member whose prompt cache has it (SPEC.md section 5, pools).
//!
//! ```text
//! conversation  Conversation::of  what identifies a call's conversation: its name, else the opening of its prompt
//! table         AffinityTable     the members that served a conversation, or a prefix of a prompt, before
//! activity      Activity          how many conversations use each member of a pool
//! place         choose            the member for a call, a pure function of loads and of what the table knows
//! ```
//!
//! Keys of the table are hashes with a key that is random for each process, and include the user: nothing of a prompt is
//! kept, and no user's calls depend on another user's prompts. Affinity is a preference among members with room: no call
//! waits for its member.

mod activity;
mod conversation;
mod place;
mod table;

pub(crate) use conversation::{BLOCK, CallKeys, Conversation, SESSION_HEADERS, behind_attribution};
pub(crate) use place::{Member, member_id};
pub(crate) use table::AffinityTable;

#[cfg(test)]
mod tests;
