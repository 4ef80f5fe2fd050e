//! What there is by who may see it, in order: a list costs what its reader sees, and can go on where it stopped.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use wire::row::{Timestamp, Visibility};

use super::{Registry, SessionView};
use crate::model::{Agent, Caller, Llm, Role, UserId};

/// The names of rows, of agents, or of pools: everybody's, and those of each user.
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
            Visibility::Private => {
                if let Some(names) = self.private.get_mut(owner) {
                    names.remove(name);
                    if names.is_empty() {
                        self.private.remove(owner);
                    }
                }
            }
        }
    }

    /// The names behind `after` that `user` sees, who is no admin.
    fn behind(&self, user: &str, after: Option<&str>) -> impl Iterator<Item = &str> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut public = self.public.range::<str, _>(range).peekable();
        let own = self.private.get(user).into_iter();
        let mut own = own.flat_map(move |names| names.range::<str, _>(range)).peekable();
        std::iter::from_fn(move || match (public.peek(), own.peek()) {
            (Some(one), Some(other)) if other < one => own.next(),
            // A pool may be both.
            (Some(one), Some(other)) if other == one => {
                own.next();
                public.next()
            }
            (Some(_), _) => public.next(),
            (None, _) => own.next(),
        })
        .map(AsRef::as_ref)
    }
}

/// A session's place in lists: newest first.
pub type SessionCursor = (Timestamp, Box<str>);

/// All sessions, and those of each user, by age.
#[derive(Default)]
pub(super) struct SessionsByAge {
    all: BTreeSet<SessionCursor>,
    of: HashMap<UserId, BTreeSet<SessionCursor>>,
}

impl SessionsByAge {
    pub(super) fn insert(&mut self, place: SessionCursor, owner: &str) {
        self.of.entry(owner.to_owned()).or_default().insert(place.clone());
        self.all.insert(place);
    }

    pub(super) fn remove(&mut self, place: &SessionCursor, owner: &str) {
        self.all.remove(place);
        if let Some(places) = self.of.get_mut(owner) {
            places.remove(place);
            if places.is_empty() {
                self.of.remove(owner);
            }
        }
    }
}

impl Registry {
    /// The rows behind `after` that `caller` sees, by name.
    pub fn llms_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a Llm> + 'a> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        if caller.role == Role::Admin {
            return Box::new(self.llms.range::<str, _>(range).map(|(_, entry)| &entry.llm));
        }
        let names = self.visible_llms.behind(&caller.user, after);
        let llms = names.filter_map(|name| Some(&self.llms.get(name)?.llm));
        Box::new(llms.filter(|llm| caller.sees(llm.visibility, &llm.owner)))
    }

    /// The agents behind `after` that `caller` sees, by name.
    pub fn agents_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a Agent> + 'a> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        if caller.role == Role::Admin {
            return Box::new(self.agents.range::<str, _>(range).map(|(_, entry)| &entry.agent));
        }
        let names = self.visible_agents.behind(&caller.user, after);
        let agents = names.filter_map(|name| Some(&self.agents.get(name)?.agent));
        Box::new(agents.filter(|agent| caller.sees(agent.visibility, &agent.owner)))
    }

    /// The pools behind `after` that are named by rows that `caller` sees, by name.
    pub(super) fn pool_names_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        if caller.role == Role::Admin {
            return Box::new(self.pools.range::<str, _>(range).map(|(pool, _)| pool.as_str()));
        }
        Box::new(self.visible_pools.behind(&caller.user, after))
    }

    /// The newest sessions older than `before` that `caller` may see, its own, an admin all: so many that they name some
    /// `most` rows and agents; and whether there are more.
    pub fn sessions_before(
        &self,
        caller: &Caller,
        before: Option<&SessionCursor>,
        most: usize,
    ) -> (Vec<SessionView>, bool) {
        let places = match caller.role {
            Role::Admin => Some(&self.sessions_by_age.all),
            Role::Member => self.sessions_by_age.of.get(&caller.user),
        };
        let range = (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded));
        let older = places.into_iter().flat_map(|places| places.range::<SessionCursor, _>(range).rev());
        let (mut views, mut named) = (Vec::new(), 0);
        for (_, id) in older {
            if named >= most {
                return (views, true);
            }
            let Some(view) = self.session_view(caller, id) else { continue };
            // One without any costs something, too.
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
        /// However names come, go and change hands: each user's list is what a walk over all of them would find.
        #[test]
        fn a_users_names_are_those_of_everybody_and_its_own_in_order(
            ops in prop::collection::vec((0..30_u32, any::<bool>(), 0..3_usize, any::<bool>()), 0..80),
            after in prop::option::of(0..30_u32),
        ) {
            let mut shown = VisibleNames::default();
            let mut all = std::collections::BTreeMap::new();
            for (name, public, owner, gone) in ops {
                let name = format!("n{name:02}");
                let visibility = if public { Visibility::Public } else { Visibility::Private };
                if let Some((visibility, owner)) = all.remove(&name) {
                    shown.remove(&name, visibility, owner);
                }
                if !gone {
                    shown.insert(&name, visibility, USERS[owner]);
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
                let found: Vec<&str> = shown.behind(user, after.as_deref()).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
