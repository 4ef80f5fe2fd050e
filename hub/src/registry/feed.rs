//! What changed in the table, in order: for those who watch it.
//!
//! Each row and each session has the version of its last change, and stands under it in one index. A watcher keeps the
//! version up to which it was told and nothing else: what it has to be told lies behind that. From version 0 on that is
//! all there is.

use std::collections::{BTreeMap, VecDeque};

use wire::row::Visibility;

use super::{LiveLlm, Registry, SessionView};
use crate::model::{Caller, UserId};

/// What is gone is remembered so long: a watcher that was told nothing for more of it begins anew.
const GONE: usize = 4096;

/// A thing that watchers are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FeedKey {
    Llm(Box<str>),
    Session(Box<str>),
}

#[derive(Default)]
pub(super) struct ChangeFeed {
    version: u64,
    changed: BTreeMap<u64, FeedKey>,
    gone: VecDeque<Removal>,
    /// The version of the last one that is remembered no longer.
    forgotten: u64,
}

/// A thing that is not there any more, or is hidden from others than its owner, and who could see it before.
struct Removal {
    version: u64,
    thing: FeedKey,
    visibility: Visibility,
    owner: UserId,
}

/// How far a watcher has been told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedCursor {
    /// Up to this change.
    version: u64,
    /// What was gone by then it was never told of. Nothing for one who was told nothing at all.
    began: Option<u64>,
}

/// A page of what a watcher has to be told: `None` stands for what is gone.
#[derive(Debug, Default)]
pub struct FeedPage {
    /// By name.
    pub llms: BTreeMap<String, Option<LiveLlm>>,
    /// By id.
    pub sessions: BTreeMap<String, Option<SessionView>>,
    /// Whether this begins anew: what the watcher was told before means nothing any more.
    pub reset: bool,
    /// Whether there is more.
    pub more: bool,
}

impl ChangeFeed {
    /// The thing whose last change was `version` changes now.
    pub(super) fn change(&mut self, version: &mut u64, thing: impl FnOnce() -> FeedKey) {
        let thing = self.changed.remove(version).unwrap_or_else(thing);
        self.version += 1;
        *version = self.version;
        self.changed.insert(self.version, thing);
    }

    /// Something changed that watchers are not told of.
    pub(super) fn touch(&mut self) {
        self.version += 1;
    }

    /// The thing whose last change was `version` is there no longer.
    pub(super) fn remove(&mut self, version: u64, visibility: Visibility, owner: &str) {
        if let Some(thing) = self.changed.remove(&version) {
            self.hide(thing, visibility, owner);
        }
    }

    /// Who could see a thing of this visibility may see it no longer.
    pub(super) fn hide(&mut self, thing: FeedKey, visibility: Visibility, owner: &str) {
        self.version += 1;
        self.gone.push_back(Removal { version: self.version, thing, visibility, owner: owner.to_owned() });
        if self.gone.len() > GONE {
            self.forgotten = self.gone.pop_front().map_or(0, |gone| gone.version);
        }
    }
}

impl Registry {
    /// What is new for `caller` since `seen`, which is then brought up to it: a page of at most `most` things.
    pub fn feed_page(&self, caller: &Caller, seen: &mut FeedCursor, most: usize) -> FeedPage {
        let feed = &self.feed;
        let mut news = FeedPage::default();
        let began = match seen.began {
            Some(began) if seen.version.max(began) >= feed.forgotten => began,
            _ => {
                news.reset = true;
                *seen = FeedCursor { version: 0, began: Some(feed.version) };
                feed.version
            }
        };
        let since = seen.version;
        let first_gone = feed.gone.partition_point(|gone| gone.version <= since.max(began));
        let mut gone = feed.gone.range(first_gone..).peekable();
        let mut changed = feed.changed.range(since + 1..).peekable();
        for _ in 0..most {
            let next_gone = gone.peek().map_or(u64::MAX, |gone| gone.version);
            let next_changed = changed.peek().map_or(u64::MAX, |(version, _)| **version);
            if next_gone < next_changed {
                let Some(gone) = gone.next() else { break };
                seen.version = gone.version;
                if caller.sees(gone.visibility, &gone.owner) {
                    // What is hidden is not gone for those who see it all the same: its change follows.
                    match &gone.thing {
                        FeedKey::Llm(name) => drop(news.llms.insert(name.to_string(), None)),
                        FeedKey::Session(id) => drop(news.sessions.insert(id.to_string(), None)),
                    }
                }
            } else {
                let Some((version, thing)) = changed.next() else { break };
                seen.version = *version;
                match thing {
                    FeedKey::Llm(name) => {
                        if let Some(live) = self.live_llm(caller, name) {
                            news.llms.insert(name.to_string(), Some(live));
                        }
                    }
                    FeedKey::Session(id) => {
                        if let Some(view) = self.session_view(caller, id) {
                            news.sessions.insert(id.to_string(), Some(view));
                        }
                    }
                }
            }
        }
        news.more = gone.peek().is_some() || changed.peek().is_some();
        if !news.more {
            seen.version = feed.version;
        }
        news
    }

    /// Another number than before when anything of the table is different.
    pub fn version(&self) -> u64 {
        self.feed.version
    }

    /// The row changed in what watchers see of it.
    pub fn mark_changed(&mut self, row: &str) {
        if let Some(entry) = self.llms.get_mut(row) {
            self.feed.change(&mut entry.version, || FeedKey::Llm(row.into()));
        }
    }

    /// The session changed in what watchers see of it; a sign of life alone is no change.
    pub(super) fn mark_session_changed(&mut self, id: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            self.feed.change(&mut session.version, || FeedKey::Session(id.into()));
        }
    }
}
