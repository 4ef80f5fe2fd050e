//! Reasons why tokens are not created or revoked.

use crate::store::StoreError;

/// The reason why a token was not created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// The member would own everything of the admin of the same name.
    #[error(
        "'{0}' is an admin's name, and everything of that user would be this member's too: give the member another \
         name, or make the token with role 'admin'"
    )]
    AdminsName(String),
    /// The store cannot write it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reason why a token was not revoked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RevokeError {
    /// There is no token with the id.
    #[error("no such token")]
    Unknown,
    /// The token comes from the hub's environment.
    #[error("this token is set by VIRTUAL_LLM_ADMIN_TOKEN: unset it and start the hub again")]
    Environment,
    /// The token is the last valid one of an admin.
    #[error(
        "this is the last valid admin token: make another with `virtual-llm token create --role admin` first, \
         or start the hub with VIRTUAL_LLM_ADMIN_TOKEN set"
    )]
    LastAdmin,
    /// The token is revoked in memory, and the store cannot write that.
    #[error(transparent)]
    Store(#[from] StoreError),
}
