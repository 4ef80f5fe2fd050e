//! Who may: tokens, users, roles (SPEC.md section 5).

mod attempts;
mod bootstrap;
mod guard;
mod secret;
mod tokens;

pub(crate) use attempts::network;
pub use bootstrap::{AdminToken, admin_token};
pub use guard::{Admin, guard};
pub use secret::{NotAToken, TokenSecret};
pub(crate) use tokens::Looked;
pub use tokens::{CreateError, InvalidUser, NewToken, RevokeError, Tokens, check_user};

#[cfg(test)]
mod tests;
