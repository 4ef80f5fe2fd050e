//! Ordered lists of what a caller sees: a page costs what its reader sees, and the next one starts where it ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use wire::row::{Timestamp, Visibility};

use super::Registry;
use super::session::SessionView;
use crate::model::{Agent, Caller, Llm, Role, UserId};

/// Names of rows, agents or pools: the public ones, and the private ones of each user.
#[derive(Default)]
pub(super) struct VisibleNames {
    public: BTreeSet<Box<str>>,
    private: HashMap<UserId, BTreeSet<Box<str>>>,
}

impl VisibleNames {
    pub(super) fn insert(&mut self, name: &str, visibility: Visibility, owner: &str) {
        let names = match visibility {
            Visibility::Public => &mut self.public,
            Visibility::Private => self.private.entry(owner.to_owned()).or_default(),
        };
        names.insert(name.into());
    }

    pub(super) fn remove(&mut self, name: &str, visibility: Visibility, owner: &str) {
        match visibility {
            Visibility::Public => drop(self.public.remove(name)),
            Visibility::Private => remove_of(&mut self.private, owner, name),
        }
    }

    /// The names behind `after` that a member `user` sees, each once.
    fn after(&self, user: &str, after: Option<&str>) -> impl Iterator<Item = &str> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut public = self.public.range::<str, _>(range).peekable();
        let own = self.private.get(user).into_iter();
        let mut own = own.flat_map(move |names| names.range::<str, _>(range)).peekable();
        std::iter::from_fn(move || match (public.peek(), own.peek()) {
            (Some(one), Some(other)) if other < one => own.next(),
            // A pool may have public rows and private ones.
            (Some(one), Some(other)) if other == one => {
                own.next();
                public.next()
            }
            (Some(_), _) => public.next(),
            (None, _) => own.next(),
        })
        .map(AsRef::as_ref)
    }

    /// The entries of `map` behind `after` whose names `caller` sees; for an admin all.
    fn entries_after<'a, T>(
        &'a self,
        map: &'a BTreeMap<String, T>,
        caller: &'a Caller,
        after: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = (&'a String, &'a T)> + 'a> {
        if caller.role == Role::Admin {
            let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            return Box::new(map.range::<str, _>(range));
        }
        Box::new(self.after(&caller.user, after).filter_map(|name| map.get_key_value(name)))
    }
}

/// Removes `value` from the user's set, and the set if it is empty.
pub(super) fn remove_of<T: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized>(
    sets: &mut HashMap<UserId, BTreeSet<T>>,
    user: &str,
    value: &Q,
) {
    if let Some(set) = sets.get_mut(user) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(user);
        }
    }
}

/// A session's position in lists, newest first: its creation time and its id.
pub type SessionCursor = (Timestamp, Box<str>);

/// All sessions, and those of each user, by creation time.
#[derive(Default)]
pub(super) struct SessionsByAge {
    all: BTreeSet<SessionCursor>,
    per_user: HashMap<UserId, BTreeSet<SessionCursor>>,
}

impl SessionsByAge {
    pub(super) fn insert(&mut self, cursor: SessionCursor, owner: &str) {
        self.per_user.entry(owner.to_owned()).or_default().insert(cursor.clone());
        self.all.insert(cursor);
    }

    pub(super) fn remove(&mut self, cursor: &SessionCursor, owner: &str) {
        self.all.remove(cursor);
        remove_of(&mut self.per_user, owner, cursor);
    }
}

impl Registry {
    /// The rows behind `after` that `caller` sees, by name.
    pub fn llms_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Llm> + 'a {
        let entries = self.visible_llms.entries_after(&self.llms, caller, after);
        entries
            .map(|(_, entry)| &entry.llm)
            .filter(|llm| caller.sees(llm.visibility, &llm.owner) && caller.models.has(&llm.name))
    }

    /// The agents behind `after` that `caller` sees, by name.
    pub fn agents_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Agent> + 'a {
        let entries = self.visible_agents.entries_after(&self.agents, caller, after);
        entries.map(|(_, entry)| &entry.agent).filter(|agent| caller.sees_agent(agent))
    }

    /// The pools behind `after` that are named by rows that `caller` sees, by name.
    pub fn pool_names_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let entries = self.visible_pools.entries_after(&self.pools, caller, after);
        entries.map(|(pool, _)| pool.as_str()).filter(|pool| caller.models.has(pool))
    }

    /// The newest sessions before `before` that are `caller`'s (for an admin all), and whether more follow.
    ///
    /// A page ends when its sessions name about `most` rows and agents.
    pub fn sessions_before(
        &self,
        caller: &Caller,
        before: Option<&SessionCursor>,
        most: usize,
    ) -> (Vec<SessionView>, bool) {
        let cursors = match caller.role {
            Role::Admin => Some(&self.sessions_by_age.all),
            Role::Member => self.sessions_by_age.per_user.get(&caller.user),
        };
        let range = (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded));
        let older = cursors.into_iter().flat_map(|cursors| cursors.range::<SessionCursor, _>(range).rev());
        let (mut views, mut named) = (Vec::new(), 0);
        for (_, id) in older {
            if named >= most {
                return (views, true);
            }
            let Some(view) = self.session_view(caller, id) else { continue };
            // The fixed cost of a session is that of about 8 names.
            named += 8 + view.llms.len() + view.agents.len();
            views.push(view);
        }
        (views, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USERS: [&str; 3] = ["alice", "bob", "carol"];

    proptest! {
        #[test]
        fn a_users_list_has_exactly_the_visible_names(
            ops in prop::collection::vec((0..30_u32, any::<bool>(), 0..3_usize, any::<bool>()), 0..80),
            after in prop::option::of(0..30_u32),
        ) {
            let mut visible = VisibleNames::default();
            let mut all = BTreeMap::new();
            for (name, public, owner, removed) in ops {
                let name = format!("n{name:02}");
                let visibility = if public { Visibility::Public } else { Visibility::Private };
                if let Some((visibility, owner)) = all.remove(&name) {
                    visible.remove(&name, visibility, owner);
                }
                if !removed {
                    visible.insert(&name, visibility, USERS[owner]);
                    all.insert(name, (visibility, USERS[owner]));
                }
            }
            let after = after.map(|after| format!("n{after:02}"));
            for user in USERS {
                let sees = |(name, (visibility, owner)): &(&String, &(Visibility, &str))| {
                    (*visibility == Visibility::Public || *owner == user)
                        && after.as_ref().is_none_or(|after| *name > after)
                };
                let expected: Vec<&str> = all.iter().filter(sees).map(|(name, _)| name.as_str()).collect();
                let found: Vec<&str> = visible.after(user, after.as_deref()).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
