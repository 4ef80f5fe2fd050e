//! Stores output items of earlier answers.
//!
//! OpenAI's server stores responses by default, so callers such as the Vercel AI SDK send an `item_reference` instead of an item.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::super::json::Json;

/// The newest output items, as JSON by id. An id contains the random part of its [`Context`](super::super::Context), so that it cannot
/// be guessed.
#[derive(Debug)]
pub struct StoredItems {
    items: HashMap<Arc<str>, Arc<str>>,
    /// Ids, the oldest first.
    order: VecDeque<Arc<str>>,
    /// Size of all texts and ids in bytes. An id is in both collections.
    bytes: usize,
    /// Maximum of `bytes`.
    limit: usize,
}

impl StoredItems {
    /// Creates a store of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { items: HashMap::new(), order: VecDeque::new(), bytes: 0, limit }
    }

    /// Returns the item `id`, without a copy.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<str>> {
        self.items.get(id).map(Arc::clone)
    }

    /// Adds `items`, and removes the oldest ones above the limit.
    pub(crate) fn add(&mut self, items: Vec<StoredItem>) {
        for (id, text) in items {
            self.bytes += text.len();
            if let Some(replaced) = self.items.insert(Arc::clone(&id), text) {
                self.bytes = self.bytes.saturating_sub(replaced.len());
            } else {
                self.bytes += 2 * id.len();
                self.order.push_back(id);
            }
        }
        while self.bytes > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            let text = self.items.remove(&oldest).map_or(0, |text| text.len());
            self.bytes = self.bytes.saturating_sub(2 * oldest.len() + text);
        }
    }
}

/// The id and the JSON of an output item.
pub(crate) type StoredItem = (Arc<str>, Arc<str>);

/// Returns the items that an event or a whole response completes.
pub(crate) fn items(event: &str) -> Vec<StoredItem> {
    const DONE: &str = r#"{"type":"response.output_item.done""#;

    if event.starts_with(r#"{"type""#) && !event.starts_with(DONE) {
        return Vec::new();
    }
    let Ok(json) = Json::parse(event) else { return Vec::new() };
    let item = |item: &Json<'_>| Some((item.get_str("id")?.into(), item.to_string().into()));
    match json.get("item") {
        Some(done) => item(done).into_iter().collect(),
        None => json.get_items("output").iter().filter_map(item).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, text: &str) -> Vec<StoredItem> {
        items(&format!(r#"{{"item":{{"id":"{id}","text":"{text}"}}}}"#))
    }

    #[test]
    fn texts_and_both_copies_of_an_id_count_and_a_replaced_item_does_not() {
        const LIMIT: usize = 64 << 10;
        let mut stored = StoredItems::new(LIMIT);
        let long = "y".repeat(500);
        for number in 0..1000 {
            stored.add(item(&format!("{long}{number}"), ""));
        }
        let bytes: usize = stored.items.iter().map(|(id, text)| 2 * id.len() + text.len()).sum();
        assert!((LIMIT / 2..=LIMIT).contains(&bytes), "{bytes} bytes are stored");
        assert_eq!((stored.bytes, stored.order.len()), (bytes, stored.items.len()));
        let mut stored = StoredItems::new(LIMIT);
        stored.add(item("first", ""));
        for _ in 0..1000 {
            stored.add(item("again", &long));
        }
        assert!(stored.get("first").is_some(), "an item replaces the one with its id");
    }
}
