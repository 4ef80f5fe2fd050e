//! Authentication: tokens, users and roles (SPEC.md section 5), and the middleware that checks them.
//!
//! Which rows and tasks a caller may see is not here, but in `model::Caller::sees`.

mod attempts;
mod bootstrap;
mod guard;
mod table;
mod tokens;

pub(crate) use attempts::network;
pub use bootstrap::AdminToken;
pub(crate) use bootstrap::admin_token;
pub(crate) use guard::{Admin, SIGN_IN, guard, is_open, refused_secret, secret};
pub use table::{NotAToken, TokenSecret};
pub use tokens::CreateError;
pub(crate) use tokens::{ChangeError, NewToken, RevokeError, TokenCheck, Tokens, check_user};

#[cfg(test)]
mod tests;
