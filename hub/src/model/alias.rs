use wire::row::Timestamp;

use super::{OwnedName, UserId};

/// Another name for a row, a pool or an agent (SPEC.md section 5, aliases).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    pub scope: AliasScope,
    /// A name, or a pattern: a prefix and `*`.
    pub name: String,
    /// What it stands for, and the owner of that name when the alias was set.
    pub target: OwnedName,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The calls that an alias serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AliasScope {
    /// All users' calls.
    All,
    /// The calls of one user.
    User(UserId),
}

impl AliasScope {
    /// The user whose calls are served; `None` if all users' calls are.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::All => None,
            Self::User(user) => Some(user),
        }
    }
}

impl Alias {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let user = self.scope.user().map_or(0, String::len);
        user + self.name.len() + self.target.name.len() + self.target.owner.len()
    }
}
