//! What wraps all routes, from the outside in: [`trace`], [`front`], [`catch_panic`], then authentication
//! ([`crate::auth`]) and [`limit_unread`]. The paths of the hub and their methods are in `paths`.

mod front;
mod inference_path;
mod paths;
mod response_quota;
mod trace;

pub(crate) use front::{HeadOnly, catch_panic, front, wrong_method};
pub use inference_path::inference_path;
pub(crate) use paths::{PathModel, allows, methods};
pub(crate) use response_quota::limit_unread;
pub(crate) use trace::trace;
