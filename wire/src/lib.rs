//! The protocol between hub and registrar: types and codecs. It has no I/O, no clock and no runtime.
//!
//! Frames are flat structs of `Option`s that become checked types by `TryFrom` or a `parse` function, because serde cannot read
//! a raw JSON value inside a tagged or untagged enum. Bodies that are passed on stay raw JSON text.

pub mod abilities;
pub mod echo;
pub mod features;
pub mod fields;
pub mod ids;
pub mod json;
pub mod link;
pub mod merge;
pub mod model_path;
pub mod names;
pub mod openai;
pub mod pace;
pub mod prompt;
pub mod register;
pub mod request_policy;
pub mod result;
pub mod row;
pub mod sse;
pub mod task;
pub mod texts;

pub use abilities::{Abilities, Capabilities};
pub use features::{Feature, Features};
pub use ids::{SessionId, TaskId};
pub use names::WireName;
