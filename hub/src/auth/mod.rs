//! Authentication: tokens, users and roles (SPEC.md section 5), and the middleware that checks them.
//!
//! The life of a token: [`Tokens::create`] makes it with a secret, or `create_link` with one that nobody knows and the code of a link;
//! `sign_in` gives another secret for the code, once; `rotate` gives another one and lets the present one end after a grace;
//! [`Tokens::revoke`] ends it. A secret that ends takes along the calls and streams that were opened with it, a revocation
//! durable tasks too.
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
