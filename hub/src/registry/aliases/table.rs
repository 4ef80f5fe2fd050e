//! The table of aliases.

use std::collections::BTreeMap;

use crate::model::{Alias, AliasScope};

/// Aliases by name.
pub(super) type Aliases = BTreeMap<String, Alias>;

/// The aliases of each scope.
#[derive(Default)]
pub(in crate::registry) struct AliasTable(pub(super) BTreeMap<AliasScope, Aliases>);

impl AliasTable {
    pub(in crate::registry) fn insert(&mut self, alias: Alias) {
        self.0.entry(alias.scope.clone()).or_default().insert(alias.name.clone(), alias);
    }

    pub(in crate::registry) fn remove(&mut self, scope: &AliasScope, name: &str) -> Option<Alias> {
        let aliases = self.0.get_mut(scope)?;
        let removed = aliases.remove(name);
        if aliases.is_empty() {
            self.0.remove(scope);
        }
        removed
    }

    pub(in crate::registry) fn all(&self) -> impl Iterator<Item = &Alias> {
        self.0.values().flat_map(Aliases::values)
    }

    pub(super) fn get(&self, scope: &AliasScope, name: &str) -> Option<&Alias> {
        self.0.get(scope)?.get(name)
    }

    pub(super) fn count(&self, scope: &AliasScope) -> usize {
        self.0.get(scope).map_or(0, Aliases::len)
    }
}
