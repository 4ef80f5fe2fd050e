//! Which row, pool or agent a call for a name goes to: the one of that name, or what an alias stands for (SPEC.md section 5,
//! aliases).

use std::collections::HashMap;

use wire::row::{Kind, Status};

use super::table::{AliasTable, Aliases};
use super::{MAX_NAME, is_name_byte};
use crate::model::{Alias, AliasScope, Caller, OwnedName};
use crate::registry::Registry;

/// The name for calls without a model.
const DEFAULT: &str = "default";
/// The pattern for all names: it comes last.
const ANY: &str = "*";
/// Maximum length of the name in a call, in bytes. A longer one is unknown, without a copy or a look-up.
const MAX_CALLED: usize = 512;

/// The aliases that match the name in a call of a user.
#[derive(Default)]
struct Matching<'a> {
    own: Option<&'a Alias>,
    shared: Option<&'a Alias>,
    /// Patterns that begin with text, by falling length; of two equal ones the user's own is first.
    patterns: Vec<&'a Alias>,
    /// The pattern for all names, the user's own first.
    any: Vec<&'a Alias>,
}

impl Matching<'_> {
    /// Whether an alias was set for this name: then other users' names do not count.
    fn is_reserved(&self) -> bool {
        self.own.is_some() || self.shared.is_some() || !self.patterns.is_empty()
    }
}

impl<'a> Matching<'a> {
    /// The aliases in the order in which they count.
    fn all(self) -> impl Iterator<Item = &'a Alias> {
        self.own.into_iter().chain(self.shared).chain(self.patterns).chain(self.any)
    }
}

impl AliasTable {
    fn matching(&self, user: &str, name: &str) -> Matching<'_> {
        if self.0.is_empty() || name.len() > MAX_CALLED {
            return Matching::default();
        }
        let own = self.0.get(&AliasScope::User(user.to_owned()));
        let shared = self.0.get(&AliasScope::All);
        let scopes = own.into_iter().chain(shared);
        let mut patterns: Vec<&Alias> = scopes.clone().flat_map(|aliases| patterns(aliases, name)).collect();
        // Stable: of two equal ones the user's own stays first.
        patterns.sort_by_key(|alias| std::cmp::Reverse(alias.name.len()));
        Matching {
            own: own.and_then(|aliases| aliases.get(name)),
            shared: shared.and_then(|aliases| aliases.get(name)),
            patterns,
            any: scopes.filter_map(|aliases| aliases.get(ANY)).collect(),
        }
    }
}

/// The patterns of one scope that begin with text and match `name`.
///
/// Each look-up finds the greatest alias up to what is left of the name. All patterns that still can match begin as both do.
fn patterns<'a>(aliases: &'a Aliases, name: &str) -> Vec<&'a Alias> {
    // A pattern matches no longer part of a name than aliases have characters for.
    let mut end = name.bytes().take(MAX_NAME - 1).take_while(|byte| is_name_byte(*byte)).count();
    let mut found = Vec::new();
    while end > 0 {
        let Some((known, alias)) = aliases.range(..=format!("{}*", &name[..end])).next_back() else { break };
        let stem = known.strip_suffix('*');
        let common = common_length(stem.unwrap_or(known), &name[..end]);
        if stem.is_some_and(|stem| stem.len() == common) && common > 0 {
            found.push(alias);
            end = common - 1;
        } else {
            // Patterns for this name that are left begin no later than here.
            end = common.min(end - 1);
        }
    }
    found
}

fn common_length(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

/// Remembers what one caller sees of the targets of aliases, for look-ups in one state of the registry. Many aliases may lead
/// to one large pool, which is then walked once.
#[derive(Debug, Default)]
pub struct KnownTargets(HashMap<String, KnownTarget>);

#[derive(Debug, Default, Clone, Copy)]
struct KnownTarget {
    is_callable: Option<bool>,
    status: Option<Status>,
}

impl KnownTargets {
    fn get(&mut self, name: &str) -> &mut KnownTarget {
        self.0.entry(name.to_owned()).or_default()
    }

    pub(super) fn is_callable(&mut self, registry: &Registry, caller: &Caller, name: &str) -> bool {
        *self.get(name).is_callable.get_or_insert_with(|| registry.is_callable_name(caller, name))
    }

    /// The status of the row, pool or agent `name`: that of the row, the best of a pool's, or the agent's.
    pub(super) fn status(&mut self, registry: &Registry, caller: &Caller, name: &str) -> Status {
        *self.get(name).status.get_or_insert_with(|| registry.name_status(caller, name))
    }
}

impl Registry {
    /// The name of the row, the pool or the agent to which a call of `caller` for `name` goes: `name` itself, or what an alias
    /// stands for. `None` if there is none.
    ///
    /// What other users publish never comes before an alias: otherwise a member would get the prompts of others by publishing
    /// the name of an alias. So an alias also keeps its name while its target is away or hidden.
    pub fn called_name<'a>(&'a self, caller: &Caller, name: &'a str) -> Option<&'a str> {
        self.called_name_among(caller, name, &mut KnownTargets::default())
    }

    /// Like [`called_name`](Self::called_name), one of several look-ups for `caller`.
    pub fn called_name_among<'a>(
        &'a self,
        caller: &Caller,
        name: &'a str,
        known: &mut KnownTargets,
    ) -> Option<&'a str> {
        self.resolve(caller, name, true, known)
    }

    /// The name to which a call of `caller` without a model goes: what `default` stands for. Another user's row, pool or agent
    /// of that name does not count, since nobody has asked for it.
    pub fn default_name(&self, caller: &Caller) -> Option<&str> {
        self.resolve(caller, DEFAULT, false, &mut KnownTargets::default())
    }

    fn resolve<'a>(
        &'a self,
        caller: &Caller,
        name: &'a str,
        with_others: bool,
        known: &mut KnownTargets,
    ) -> Option<&'a str> {
        if name.len() > MAX_CALLED {
            return None;
        }
        let is_callable = self.is_callable_name(caller, name);
        if is_callable && self.names.owner(name) == Some(&caller.user) {
            return Some(name);
        }
        let matching = self.aliases.matching(&caller.user, name);
        let is_others = is_callable && with_others && !matching.is_reserved();
        let mut served = |alias: &'a Alias| {
            self.is_alias_served(caller, alias, known).then_some(alias.target.name.as_str())
        };
        let Matching { own, shared, patterns, any } = matching;
        own.and_then(&mut served)
            .or_else(|| self.is_hub_row(caller, name).then_some(name))
            .or_else(|| shared.and_then(&mut served))
            .or_else(|| patterns.into_iter().find_map(&mut served))
            .or_else(|| is_others.then_some(name))
            .or_else(|| any.into_iter().find_map(served))
    }

    /// Whether an alias but `*` was set for calls of `caller` for `name`, be it served or not.
    pub fn is_reserved(&self, caller: &Caller, name: &str) -> bool {
        self.aliases.matching(&caller.user, name).is_reserved()
    }

    /// Whether other users' rows, pools and agents of this name get no calls of `caller` for it, since it is the caller's own,
    /// one of the hub, or reserved by an alias.
    pub fn is_claimed(&self, caller: &Caller, name: &str) -> bool {
        let is_own = || self.names.owner(name) == Some(&caller.user) && self.is_callable_name(caller, name);
        is_own() || self.is_hub_row(caller, name) || self.is_reserved(caller, name)
    }

    /// Whether `name` is a row that the hub serves itself, which only admins create, and `caller` sees it.
    pub(super) fn is_hub_row(&self, caller: &Caller, name: &str) -> bool {
        self.llm(caller, name).is_some_and(|llm| llm.kind == Kind::Public)
    }

    /// Whether calls of users without aliases of their own for `name` go to what has the name.
    pub(super) fn is_called_by_all(&self, name: &str) -> bool {
        self.called_name(&Caller::member(""), name) == Some(name)
    }

    /// The target of the first alias for `name` that is not served because its target, which the caller sees, has another owner
    /// than when the alias was set.
    pub fn lapsed_alias_target(&self, caller: &Caller, name: &str) -> Option<&str> {
        let mut known = KnownTargets::default();
        let lapsed = |alias: &&Alias| {
            let OwnedName { name, owner } = &alias.target;
            self.names.owner(name).is_some_and(|current| current != owner)
                && known.is_callable(self, caller, name)
        };
        let mut matching = self.aliases.matching(&caller.user, name).all();
        matching.find(lapsed).map(|alias| alias.target.name.as_str())
    }

    /// The target of the first alias for `name` that is the caller's own.
    pub fn own_alias_target(&self, caller: &Caller, name: &str) -> Option<&str> {
        let mut matching = self.aliases.matching(&caller.user, name).all();
        matching.find(|alias| alias.scope.user().is_some()).map(|alias| alias.target.name.as_str())
    }

    /// Warnings for `caller`, who publishes public rows or agents of these names: of those whose callers an alias of all users
    /// keeps. Aliases that the caller does not see are not told.
    pub(in crate::registry) fn alias_warnings<'a>(
        &'a self,
        caller: &'a Caller,
        names: impl Iterator<Item = &'a str> + 'a,
    ) -> impl Iterator<Item = String> + 'a {
        let mut known = KnownTargets::default();
        names.filter_map(move |name| {
            let matching = self.aliases.matching("", name);
            let reserved = matching.shared.into_iter().chain(matching.patterns);
            let mut served = reserved.filter(|alias| self.is_alias_served(caller, alias, &mut known));
            let Alias { name: alias, target, .. } = served.next()?;
            (target.name != name).then(|| {
                format!(
                    "calls of other users for '{name}' go to '{}', of which '{alias}' is an alias of all users",
                    target.name
                )
            })
        })
    }

    /// The first name that users call and whose calls the pattern `pattern` of all users would send to `target`.
    pub(super) fn name_under_pattern(&self, pattern: &str, target: &str) -> Option<&str> {
        let stem = pattern.strip_suffix('*').filter(|stem| !stem.is_empty())?;
        let shared = self.aliases.0.get(&AliasScope::All);
        let has_alias = |name: &str| shared.is_some_and(|aliases| aliases.contains_key(name));
        let is_hub_row = |name: &str| self.is_hub_row(&Caller::member(""), name);
        let is_taken = |name: &str| {
            name != target && !has_alias(name) && self.is_called_by_all(name) && !is_hub_row(name)
        };
        self.names.beginning_with(stem).find(|name| is_taken(name))
    }
}

#[cfg(test)]
mod tests {
    use wire::row::Timestamp;

    use super::*;

    fn found(aliases: &[&str], name: &str) -> Vec<String> {
        let alias = |name: &str| Alias {
            scope: AliasScope::All,
            name: name.to_owned(),
            target: OwnedName { name: "t".into(), owner: "o".into() },
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        let aliases: Aliases = aliases.iter().map(|name| ((*name).to_owned(), alias(name))).collect();
        patterns(&aliases, name).into_iter().map(|alias| alias.name.clone()).collect()
    }

    /// All patterns for a name are found, the longest first, whatever sorts between them.
    #[test]
    fn patterns_for_a_name_are_found_by_falling_length() {
        let aliases = ["*", "a*", "a+b", "a-", "ab", "ab*", "abc", "abc.*", "abcd*", "abce", "b*"];
        for (name, expected) in [
            ("abcd", &["abcd*", "ab*", "a*"][..]),
            ("abc.x", &["abc.*", "ab*", "a*"]),
            ("abc", &["ab*", "a*"]),
            ("a+c", &["a*"]),
            ("a b", &["a*"]),
            ("ab!", &["ab*", "a*"]),
            ("abcé", &["ab*", "a*"]),
            ("a", &["a*"]),
            ("b", &["b*"]),
            ("c", &[]),
            ("", &[]),
            ("é", &[]),
        ] {
            assert_eq!(found(&aliases, name), expected, "{name}");
        }
        let long = format!("{}*", "x".repeat(99));
        assert_eq!(found(&[&long], &"x".repeat(300)), [long]);
    }
}
