//! OpenAI's Responses API by chat completions. Nothing is stored: what refers to something stored is refused in words.

mod answer;
mod events;
mod items;
mod offer;
mod output;
mod request;

pub use answer::{error, from_chat};
pub use events::Events;
pub use request::to_chat;
