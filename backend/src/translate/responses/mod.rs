//! Translates OpenAI's Responses API. Conversations are not stored: a request that refers to one is refused.

mod answer;
mod events;
mod free_text;
mod items;
mod offered_tools;
mod output;
mod references;
mod request;
mod stored_items;

pub use answer::{error, from_chat};
pub use events::stream_translator;
pub use request::to_chat;
pub(crate) use request::to_chat_with;
pub use stored_items::StoredItems;
pub(crate) use stored_items::items;
