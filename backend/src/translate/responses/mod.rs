//! OpenAI's Responses API by chat completions. Whole conversations are not stored: what refers to one is refused in words.

mod answer;
mod events;
mod free_text;
mod items;
mod kept;
mod offer;
mod output;
mod request;

pub use answer::{error, from_chat};
pub use events::Events;
pub use kept::Kept;
pub(crate) use kept::items;
pub use request::{to_chat, to_chat_with};
