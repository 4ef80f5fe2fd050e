//! Anthropic's Messages API by chat completions.

mod answer;
mod content;
mod events;
mod ids;
mod request;

pub use answer::{error, from_chat};
pub use events::StreamTranslator;
pub use request::to_chat;
