//! Aliases: names that tools ask for by themselves, such as `gpt-5` and `claude-*`, for a row, a pool or an agent (SPEC.md
//! section 5, aliases).
//!
//! An alias grants nothing: it is resolved to the name that it stands for, and the caller's rights to that name are checked as
//! if the caller had called it.

mod order;
mod table;

use std::ops::Bound;

use schemars::JsonSchema;
use serde::Serialize;
use wire::row::{Status, Timestamp};

pub use order::KnownTargets;
pub(super) use table::AliasTable;
use table::Aliases;

use super::{ManageError, Registry};
use crate::clock::Now;
use crate::model::{Alias, AliasScope, Caller, OwnedName, Role, UserId};
use crate::store::Change;

/// Maximum number of aliases of one user: the tools of one person ask for some dozen names.
const MAX_OWN: usize = 100;
/// Maximum number of aliases of all users together, which an admin sets.
const MAX_SHARED: usize = 1000;
/// Maximum length of an alias, in bytes: that of other names.
const MAX_NAME: usize = 100;

/// An alias, as its user and admins read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AliasView {
    pub name: String,
    /// The user whose calls it serves; null if it serves all users' calls.
    pub user: Option<UserId>,
    /// What it stands for.
    pub target: String,
    /// The status of the target. `inactive` also if the reader does not see it, or it has another owner than when the alias
    /// was set.
    pub status: Status,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Registry {
    /// Whether an alias of exactly this name was set for calls of `caller`, be it served or not.
    pub fn has_alias(&self, caller: &Caller, name: &str) -> bool {
        let scopes = [AliasScope::User(caller.user.clone()), AliasScope::All];
        scopes.iter().any(|scope| self.aliases.get(scope, name).is_some())
    }

    fn is_alias_served(&self, caller: &Caller, alias: &Alias, known: &mut KnownTargets) -> bool {
        let OwnedName { name, owner } = &alias.target;
        self.names.owner(name) == Some(owner) && known.is_callable(self, caller, name)
    }

    /// Whether a call of `caller` for `name` finds a row, a pool or an agent.
    pub(super) fn is_callable_name(&self, caller: &Caller, name: &str) -> bool {
        self.target(caller, name).is_some() || self.agent(caller, name).is_some()
    }

    /// Sets the alias `name` of a scope to `target`.
    pub fn set_alias(
        &mut self,
        caller: &Caller,
        (scope, name): (AliasScope, &str),
        target: &str,
        now: Now,
    ) -> Result<(AliasView, Vec<Change>), ManageError> {
        check_may_change(caller, &scope)?;
        check_name(name)?;
        self.check_is_used(caller, (&scope, name), target)?;
        let owner = self.alias_owner(caller, name, target)?;
        let old = self.aliases.get(&scope, name);
        let most = if scope == AliasScope::All { MAX_SHARED } else { MAX_OWN };
        if old.is_none() && self.aliases.count(&scope) >= most {
            return Err(ManageError::TooManyAliases(most));
        }
        let alias = Alias {
            scope,
            name: name.to_owned(),
            target: OwnedName { name: target.to_owned(), owner },
            created_at: old.map_or(now.wall, |old| old.created_at),
            updated_at: now.wall,
        };
        self.aliases.insert(alias.clone());
        Ok((self.alias_view(caller, &alias, &mut KnownTargets::default()), vec![Change::PutAlias(alias)]))
    }

    /// Checks that an alias would be used, and that one of all users takes no calls from what other users call already.
    fn check_is_used(
        &self,
        caller: &Caller,
        (scope, name): (&AliasScope, &str),
        target: &str,
    ) -> Result<(), ManageError> {
        let user = scope.user().unwrap_or(&caller.user);
        let is_own =
            self.names.owner(name) == Some(user) || self.is_hub_row(caller, name) && scope.user().is_none();
        let is_shared = *scope == AliasScope::All;
        let text = match self.visible_kind(caller, name) {
            // It keeps calls where they go.
            _ if name == target => return Ok(()),
            Some(kind) if is_own => {
                format!(
                    "{kind} '{name}' exists, and calls for this name go there: an alias would not be used"
                )
            }
            Some(kind) if is_shared && self.is_called_by_all(name) => {
                format!("{kind} '{name}' exists, and users call it by this name: delete it first")
            }
            _ if !is_shared => return Ok(()),
            _ => match self.name_under_pattern(name, target) {
                Some(known) => format!(
                    "users call '{known}', whose calls '{name}' would send to '{target}': delete it, or set an alias of \
                     all users '{known}' for '{known}' first"
                ),
                None => return Ok(()),
            },
        };
        Err(ManageError::Conflict(text))
    }

    /// The owner of what an alias is to stand for.
    fn alias_owner(&self, caller: &Caller, name: &str, target: &str) -> Result<UserId, ManageError> {
        let is_itself = name == target && self.is_callable_name(caller, target);
        let found = self.called_name(caller, target);
        if let Some(other) = found.filter(|found| *found != target && !is_itself) {
            let text = format!("'{target}' is an alias itself: use '{other}', what it stands for");
            return Err(ManageError::Conflict(text));
        }
        let owner = self.names.owner(target).cloned();
        owner
            .filter(|owner| found.is_some() || is_itself || *owner == caller.user)
            .ok_or_else(|| ManageError::UnknownRow(target.to_owned()))
    }

    /// Deletes the alias `name` of a scope.
    pub fn delete_alias(
        &mut self,
        caller: &Caller,
        (scope, name): (AliasScope, &str),
    ) -> Result<Vec<Change>, ManageError> {
        check_may_change(caller, &scope)?;
        self.aliases.remove(&scope, name).ok_or(ManageError::Unknown)?;
        Ok(vec![Change::DeleteAlias { scope, name: name.to_owned() }])
    }

    /// The alias `name` of a scope, if `caller` sees it.
    pub fn alias(&self, caller: &Caller, scope: &AliasScope, name: &str) -> Option<AliasView> {
        let alias = self.aliases.get(scope, name)?;
        self.seen_alias_view(caller, alias, &mut KnownTargets::default())
    }

    /// The aliases behind `after` that `caller` sees: those of all users first, then by user, each by name.
    pub fn aliases_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a (AliasScope, String)>,
    ) -> impl Iterator<Item = AliasView> + 'a {
        let table = &self.aliases.0;
        let first = after.map_or(&AliasScope::All, |(scope, _)| scope);
        let own = AliasScope::User(caller.user.clone());
        let scopes: Box<dyn Iterator<Item = (&AliasScope, &Aliases)>> = match caller.role {
            Role::Admin => Box::new(table.range(first..)),
            Role::Member => {
                Box::new([AliasScope::All, own].into_iter().filter_map(|scope| table.get_key_value(&scope)))
            }
        };
        let aliases = scopes.filter(move |(scope, _)| *scope >= first).flat_map(move |(scope, aliases)| {
            let name = after.filter(|(at, _)| at == scope).map(|(_, name)| name.as_str());
            aliases.range::<str, _>((name.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
        });
        let mut known = KnownTargets::default();
        aliases.filter_map(move |(_, alias)| self.seen_alias_view(caller, alias, &mut known))
    }

    /// The names without `*` that are aliases in calls of `caller`, behind `after`, in order. Each has its target if an alias
    /// serves it and the target is not inactive.
    pub fn alias_names_after<'a>(
        &'a self,
        caller: &'a Caller,
        after: Option<&'a str>,
        known: &'a mut KnownTargets,
    ) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + 'a {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let of = |scope: AliasScope| self.aliases.0.get(&scope).into_iter();
        let mut own = of(AliasScope::User(caller.user.clone()))
            .flat_map(move |names| names.range::<str, _>(range))
            .peekable();
        let mut shared = of(AliasScope::All).flat_map(move |names| names.range::<str, _>(range)).peekable();
        let names = std::iter::from_fn(move || match (own.peek(), shared.peek()) {
            (Some((one, _)), Some((other, _))) if other < one => shared.next(),
            (Some((one, _)), Some((other, _))) if other == one => {
                shared.next();
                own.next()
            }
            (Some(_), _) => own.next(),
            (None, _) => shared.next(),
        });
        names.map(move |(name, _)| {
            let target = if name.ends_with('*') { None } else { self.called_name_among(caller, name, known) };
            let is_listed =
                |target: &&str| target != name && known.status(self, caller, target) != Status::Inactive;
            (name.as_str(), target.filter(is_listed))
        })
    }

    /// The view of an alias that the caller sees: a member sees the aliases of its own, and those of all users that serve it.
    fn seen_alias_view(&self, caller: &Caller, alias: &Alias, known: &mut KnownTargets) -> Option<AliasView> {
        let is_seen = match &alias.scope {
            _ if caller.role == Role::Admin => true,
            AliasScope::User(user) => *user == caller.user,
            AliasScope::All => self.is_alias_served(caller, alias, known),
        };
        is_seen.then(|| self.alias_view(caller, alias, known))
    }

    fn alias_view(&self, caller: &Caller, alias: &Alias, known: &mut KnownTargets) -> AliasView {
        let target = &alias.target.name;
        let is_served = self.is_alias_served(caller, alias, known);
        AliasView {
            name: alias.name.clone(),
            user: alias.scope.user().cloned(),
            target: target.clone(),
            status: if is_served { known.status(self, caller, target) } else { Status::Inactive },
            created_at: alias.created_at,
            updated_at: alias.updated_at,
        }
    }

    /// The status of the row, pool or agent `name` as `caller` sees it: that of the row, the best of a pool's, or the agent's.
    fn name_status(&self, caller: &Caller, name: &str) -> Status {
        if let Some(llm) = self.llm(caller, name).filter(|llm| self.key_of(llm) != name) {
            return llm.status;
        }
        let mut best = None;
        for status in self.members(caller, name).map(|llm| llm.status) {
            match status {
                Status::Active => return status,
                Status::Hibernating => best = Some(status),
                Status::Inactive => _ = best.get_or_insert(status),
            }
        }
        best.or_else(|| self.agent(caller, name).map(|agent| agent.status)).unwrap_or(Status::Inactive)
    }
}

/// A member changes its own aliases, an admin all.
fn check_may_change(caller: &Caller, scope: &AliasScope) -> Result<(), ManageError> {
    let is_own = scope.user() == Some(&caller.user);
    if is_own || caller.role == Role::Admin { Ok(()) } else { Err(ManageError::Forbidden) }
}

/// Checks the characters that names of models have in APIs: `claude-*`, `anthropic/claude-3.5`, `qwen2.5:7b`, `GPT-5`.
fn check_name(name: &str) -> Result<(), ManageError> {
    let stem = name.strip_suffix('*').unwrap_or(name);
    if !name.is_empty() && name.len() <= MAX_NAME && stem.bytes().all(is_name_byte) {
        return Ok(());
    }
    let text = format!(
        "the name of an alias has 1 to {MAX_NAME} characters of A-Z a-z 0-9 / : . _ - @ +, and may end in * for all names that \
         begin so"
    );
    Err(ManageError::Invalid(text.into()))
}

/// Whether an alias may have the byte.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/:._-@+".contains(&byte)
}
