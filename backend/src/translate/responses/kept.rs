//! Output items of earlier answers. The API's server stores responses unless it is told not to, and callers then send an
//! `item_reference` in the place of an item (the Vercel AI SDK does, for each text of an assistant).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::super::ChatRequest;
use super::super::json::Json;

/// The newest output items, as JSON texts by their ids. An id holds the random part of its answer's context, so none can
/// be guessed. A copy shares the texts.
#[derive(Debug, Clone)]
pub struct Kept {
    items: HashMap<Arc<str>, Arc<str>>,
    /// Ids, the oldest first.
    order: VecDeque<Arc<str>>,
    /// Bytes of all texts and ids, and their limit.
    bytes: usize,
    limit: usize,
}

impl Kept {
    /// Keeps texts of up to `limit` bytes; the oldest make room for new ones.
    pub fn new(limit: usize) -> Self {
        Self { items: HashMap::new(), order: VecDeque::new(), bytes: 0, limit }
    }

    /// Keeps the items in `told`, an event or a whole response that answers `request`, unless `store` is false there.
    pub fn keep(&mut self, request: &ChatRequest, told: &str) {
        const DONE: &str = r#"{"type":"response.output_item.done""#;
        if request.asked.is_not_stored || (told.starts_with(r#"{"type""#) && !told.starts_with(DONE)) {
            return;
        }
        let Ok(told) = Json::parse(told) else { return };
        match told.get("item") {
            Some(item) => self.keep_item(item),
            None => told
                .get("output")
                .map(Json::items)
                .unwrap_or_default()
                .iter()
                .for_each(|item| self.keep_item(item)),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&str> {
        self.items.get(id).map(|text| &**text)
    }

    fn keep_item(&mut self, item: &Json<'_>) {
        let (Some(id), text) = (item.get_str("id"), item.to_string()) else { return };
        let id: Arc<str> = id.into();
        self.bytes += text.len();
        if let Some(replaced) = self.items.insert(Arc::clone(&id), text.into()) {
            self.bytes = self.bytes.saturating_sub(replaced.len());
        } else {
            self.bytes += 2 * id.len();
            self.order.push_back(id);
        }
        while self.bytes > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            let text = self.items.remove(&oldest).map_or(0, |text| text.len());
            self.bytes = self.bytes.saturating_sub(2 * oldest.len() + text);
        }
    }
}
