//! Output items of earlier answers. The API's server stores responses unless it is told not to, and callers then send an
//! `item_reference` in the place of an item (the Vercel AI SDK does, for each text of an assistant).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::super::ChatRequest;
use super::super::json::Json;

/// The newest output items, as JSON texts by their ids. An id holds the random part of its answer's context, so none can
/// be guessed. A copy shares the texts.
#[derive(Debug, Clone)]
pub struct StoredItems {
    items: HashMap<Arc<str>, Arc<str>>,
    /// Ids, the oldest first.
    order: VecDeque<Arc<str>>,
    /// Bytes of all texts and ids, and their limit.
    bytes: usize,
    limit: usize,
}

impl StoredItems {
    /// Keeps texts of up to `limit` bytes; the oldest make room for new ones.
    pub fn new(limit: usize) -> Self {
        Self { items: HashMap::new(), order: VecDeque::new(), bytes: 0, limit }
    }

    /// Keeps the items in `told`, an event or a whole response that answers `request`, unless `store` is false there.
    pub fn keep(&mut self, request: &ChatRequest, told: &str) {
        if request.is_stored() {
            self.add(items(told));
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&str> {
        self.items.get(id).map(|text| &**text)
    }

    /// Keeps what [`items`] found.
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

/// An output item, as JSON text, behind its id.
pub(crate) type StoredItem = (Arc<str>, Arc<str>);

/// The output items that `told` ends, an event or a whole response.
pub(crate) fn items(told: &str) -> Vec<StoredItem> {
    const DONE: &str = r#"{"type":"response.output_item.done""#;

    if told.starts_with(r#"{"type""#) && !told.starts_with(DONE) {
        return Vec::new();
    }
    let Ok(told) = Json::parse(told) else { return Vec::new() };
    let kept = |item: &Json<'_>| Some((item.get_str("id")?.into(), item.to_string().into()));
    match told.get("item") {
        Some(item) => kept(item).into_iter().collect(),
        None => told.get("output").map(Json::items).unwrap_or_default().iter().filter_map(kept).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, text: &str) -> Vec<StoredItem> {
        items(&format!(r#"{{"item":{{"id":"{id}","text":"{text}"}}}}"#))
    }

    /// Texts count, and ids as often as they are kept; what takes the place of another counts once.
    #[test]
    fn all_that_is_kept_counts_and_nothing_else() {
        const LIMIT: usize = 64 << 10;
        let mut kept = StoredItems::new(LIMIT);
        let long = "y".repeat(500);
        for number in 0..1000 {
            kept.add(item(&format!("{long}{number}"), ""));
        }
        let bytes: usize = kept.items.iter().map(|(id, text)| 2 * id.len() + text.len()).sum();
        assert!((LIMIT / 2..=LIMIT).contains(&bytes), "{bytes} bytes are kept");
        assert_eq!((kept.bytes, kept.order.len()), (bytes, kept.items.len()));
        let mut kept = StoredItems::new(LIMIT);
        kept.add(item("first", ""));
        for _ in 0..1000 {
            kept.add(item("again", &long));
        }
        assert!(kept.get("first").is_some(), "one took the place of itself");
    }
}
