//! Tool calls without a result.

use std::collections::{HashMap, VecDeque};

/// Calls in order, found by id, by name or in order in constant time.
#[derive(Debug, Default)]
pub(super) struct OpenCalls {
    /// Ids; `None` for a call that has its result.
    ids: Vec<Option<String>>,
    /// Numbers of calls in order, also of those that have their result.
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    in_order: VecDeque<usize>,
}

impl OpenCalls {
    pub(super) fn push(&mut self, id: &str, name: &str) {
        let number = self.ids.len();
        self.ids.push(Some(id.to_owned()));
        self.by_id.entry(id.to_owned()).or_default().push_back(number);
        if !name.is_empty() {
            self.by_name.entry(name.to_owned()).or_default().push_back(number);
        }
        self.in_order.push_back(number);
    }

    /// Removes the first call with this id; without an id that of this name, else the first one. Returns its id.
    pub(super) fn take(&mut self, id: &str, name: &str) -> Option<String> {
        let Self { ids, by_id, by_name, in_order } = self;
        let mut first = |numbers: &mut VecDeque<usize>| {
            std::iter::from_fn(|| numbers.pop_front()).find_map(|number| ids[number].take())
        };
        if !id.is_empty() {
            return by_id.get_mut(id).and_then(first);
        }
        by_name.get_mut(name).and_then(&mut first).or_else(|| first(in_order))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The reference looks through all calls.
        #[test]
        fn calls_are_found_by_id_then_by_name_then_in_order(
            steps in proptest::collection::vec((any::<bool>(), "[ab]?", "[xy]?"), 0..40),
        ) {
            let (mut calls, mut all) = (OpenCalls::default(), VecDeque::<(String, String)>::new());
            for (number, (is_call, id, name)) in steps.into_iter().enumerate() {
                if is_call {
                    let id = if id.is_empty() { format!("call_{number}") } else { id };
                    calls.push(&id, &name);
                    all.push_back((id, name));
                    continue;
                }
                let place = all.iter().position(|(known_id, known_name)| {
                    if id.is_empty() { !name.is_empty() && *known_name == name } else { *known_id == id }
                });
                let found = match place {
                    Some(place) => all.remove(place),
                    None if id.is_empty() => all.pop_front(),
                    None => None,
                };
                prop_assert_eq!(calls.take(&id, &name), found.map(|(id, _)| id));
            }
        }
    }
}
