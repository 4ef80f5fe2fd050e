//! What a hub and a registrar say to each other: types and codecs, nothing else.
//!
//! Pure by design: no I/O, no clock, no runtime, so that every rule in here is a function with a test.
//! Frames are flat structs of `Option`s that become checked types by `TryFrom` or a `parse` function: a raw JSON value
//! inside a tagged or untagged enum fails at run time. Bodies that only pass through stay raw JSON text.

pub mod features;
pub mod ids;
pub mod json;
pub mod merge;
pub mod model_path;
pub mod names;
pub mod openai;
pub mod pace;
pub mod reach;
pub mod register;
pub mod result;
pub mod row;
pub mod sse;
pub mod task;
pub mod texts;

pub use features::{Feature, Features};
pub use ids::{SessionId, TaskId};
pub use names::WireName;
