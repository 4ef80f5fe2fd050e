//! Change feed of rows and sessions for watchers (SPEC.md section 5, watching).
//!
//! Each row and session has the version of its last change, and stands once in an index of versions. A watcher keeps a
//! [`FeedCursor`] and no rows: a page is what lies behind the cursor, from version 0 everything.

use std::collections::{BTreeMap, VecDeque};

use wire::row::Visibility;

use super::session::SessionView;
use super::{LiveLlm, Registry};
use crate::model::{Caller, UserId};

/// Bytes of JSON at which a page ends, about.
const PAGE_BYTES: usize = 64 << 10;
/// Bytes of a row or a session in JSON, without its longer texts.
const ENTRY_BYTES: usize = 768;
/// Number of removals that are kept: a watcher that missed more of them starts again.
const MAX_REMOVALS: usize = 4096;

/// What watchers are told of: a row by name, or a session by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FeedKey {
    Llm(Box<str>),
    Session(Box<str>),
}

#[derive(Default)]
pub(super) struct ChangeFeed {
    version: u64,
    changed: BTreeMap<u64, FeedKey>,
    removals: VecDeque<Removal>,
    /// Version of the last removal that was dropped.
    dropped_version: u64,
}

/// A row or session that was removed, or hidden from all but its owner, with what decides who could see it before.
struct Removal {
    version: u64,
    key: FeedKey,
    visibility: Visibility,
    owner: UserId,
}

/// A watcher's position in the feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedCursor {
    /// Version up to which changes were read.
    version: u64,
    /// Version at which the watcher started: earlier removals do not concern it. `None` before the first page.
    started: Option<u64>,
}

/// A page of the feed; `None` stands for what was removed.
#[derive(Debug, Default)]
pub struct FeedPage {
    pub llms: BTreeMap<String, Option<LiveLlm>>,
    pub sessions: BTreeMap<String, Option<SessionView>>,
    /// Whether the feed starts again: earlier pages are void.
    pub reset: bool,
    /// Whether more pages follow.
    pub more: bool,
}

impl ChangeFeed {
    /// Moves the key from `version` to a new version.
    pub(super) fn change(&mut self, version: &mut u64, key: impl FnOnce() -> FeedKey) {
        let key = self.changed.remove(version).unwrap_or_else(key);
        self.version += 1;
        *version = self.version;
        self.changed.insert(self.version, key);
    }

    /// The keys changed behind `version`, with the versions of their last changes.
    pub(super) fn behind(&self, version: u64) -> impl Iterator<Item = (u64, &FeedKey)> {
        self.changed.range(version.saturating_add(1)..).map(|(version, key)| (*version, key))
    }

    /// Counts a change that watchers do not get.
    pub(super) fn touch(&mut self) {
        self.version += 1;
    }

    /// Removes the key at `version`.
    pub(super) fn remove(&mut self, version: u64, visibility: Visibility, owner: &str) {
        if let Some(key) = self.changed.remove(&version) {
            self.hide(key, visibility, owner);
        }
    }

    /// Records a removal for the callers who see what has this visibility and owner.
    pub(super) fn hide(&mut self, key: FeedKey, visibility: Visibility, owner: &str) {
        self.version += 1;
        self.removals.push_back(Removal { version: self.version, key, visibility, owner: owner.to_owned() });
        if self.removals.len() > MAX_REMOVALS {
            self.dropped_version = self.removals.pop_front().map_or(0, |removal| removal.version);
        }
    }
}

/// Bytes of a text in JSON.
fn json_length(text: &str) -> usize {
    let length = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

impl Registry {
    /// Reads the next page for `caller`, of at most `most` changes, and advances `cursor`.
    pub fn feed_page(&self, caller: &Caller, cursor: &mut FeedCursor, most: usize) -> FeedPage {
        let feed = &self.feed;
        let mut page = FeedPage::default();
        let started = match cursor.started {
            Some(started) if cursor.version.max(started) >= feed.dropped_version => started,
            _ => {
                page.reset = true;
                *cursor = FeedCursor { version: 0, started: Some(feed.version) };
                feed.version
            }
        };
        let since = cursor.version;
        let first = feed.removals.partition_point(|removal| removal.version <= since.max(started));
        let mut removals = feed.removals.range(first..).peekable();
        let mut changed = feed.changed.range(since + 1..).peekable();
        let mut bytes = 0;
        for _ in 0..most {
            if bytes >= PAGE_BYTES {
                break;
            }
            let next_removal = removals.peek().map_or(u64::MAX, |removal| removal.version);
            let next_change = changed.peek().map_or(u64::MAX, |(version, _)| **version);
            let (key, removed) = if next_removal < next_change {
                let Some(removal) = removals.next() else { break };
                cursor.version = removal.version;
                if !caller.sees(removal.visibility, &removal.owner) {
                    continue;
                }
                // A caller who still sees a row that was hidden from others gets its later change after this.
                (&removal.key, true)
            } else {
                let Some((version, key)) = changed.next() else { break };
                cursor.version = *version;
                (key, false)
            };
            match key {
                FeedKey::Llm(name) => {
                    let live = if removed { None } else { self.live_llm(caller, name) };
                    if removed || live.is_some() {
                        let text = live.as_ref().and_then(|live| live.row.description.as_deref());
                        bytes += ENTRY_BYTES + text.map_or(0, json_length);
                        page.llms.insert(name.to_string(), live);
                    }
                }
                FeedKey::Session(id) => {
                    let view = if removed { None } else { self.session_view(caller, id) };
                    if removed || view.is_some() {
                        let names = view.iter().flat_map(|view| view.llms.iter().chain(&view.agents));
                        bytes += ENTRY_BYTES + names.map(|name| name.len() + 3).sum::<usize>();
                        page.sessions.insert(id.to_string(), view);
                    }
                }
            }
        }
        page.more = removals.peek().is_some() || changed.peek().is_some();
        if !page.more {
            cursor.version = feed.version;
        }
        page
    }

    /// The version of the table: differs after every change.
    pub fn version(&self) -> u64 {
        self.feed.version
    }

    /// Puts a change of the row into the feed.
    pub fn mark_changed(&mut self, row: &str) {
        if let Some(entry) = self.llms.get_mut(row) {
            self.feed.change(&mut entry.version, || FeedKey::Llm(row.into()));
        }
    }

    /// Puts a change of the session into the feed; a heartbeat alone is no change.
    pub(super) fn mark_session_changed(&mut self, id: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            self.feed.change(&mut session.version, || FeedKey::Session(id.into()));
        }
    }
}
