//! Resolves references to stored items.

use std::collections::HashSet;
use std::sync::Arc;

use wire::json::TreeBudget;

use super::super::json::Json;
use super::super::{InvalidRequest, invalid, shown};

/// Maximum size in bytes of a request with the items to which it refers: that of a request.
pub(super) const MAX_BYTES: usize = 32 << 20;

/// Finds a stored item by its id.
pub(crate) type FindItem<'s> = &'s dyn Fn(&str) -> Option<Arc<str>>;

/// The items to which one request refers. Each is used once, and they count as if the request had them itself.
pub(super) struct References<'s> {
    find: FindItem<'s>,
    /// Ids of the items so far.
    used: HashSet<String>,
    /// Size of the request and of the items so far.
    bytes: usize,
    /// Counts the values of the request and of the items so far.
    budget: TreeBudget,
}

impl<'s> References<'s> {
    /// The references of a request of `bytes`, whose values `budget` has counted.
    pub(super) fn new(find: FindItem<'s>, bytes: usize, budget: TreeBudget) -> Self {
        Self { find, used: HashSet::new(), bytes, budget }
    }

    /// Returns the item `id`, to which the request refers at `path`; `None` if it is not stored.
    pub(super) fn resolve(&mut self, id: &str, path: &str) -> Result<Option<Json<'static>>, InvalidRequest> {
        let Some(item) = (self.find)(id) else { return Ok(None) };
        if !self.used.insert(id.to_owned()) {
            let id = shown(id);
            // OpenAI's server refuses this too.
            return Err(invalid(format!("{path}: duplicate item: '{id}' is in the input already")));
        }
        self.bytes += item.len();
        if self.bytes > MAX_BYTES {
            let most = MAX_BYTES >> 20;
            return Err(invalid(format!(
                "{path}: the request with the items it refers to is larger than {most} MiB"
            )));
        }
        let counted = self.budget.take(&item);
        counted.map_err(|error| {
            invalid(format!("{path}: the request with the items it refers to is {error}"))
        })?;
        Ok(Json::parse(&item).ok())
    }
}
