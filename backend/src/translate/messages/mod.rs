//! Translates Anthropic's Messages API.

mod answer;
mod content;
mod events;
mod ids;
mod request;

pub(super) use answer::input;
pub use answer::{error, from_chat};
pub use events::stream_translator;
pub use request::to_chat;
