use wire::row::{Timestamp, Visibility};

/// The name of a user (`token create --user`).
pub type UserId = String;

/// The role of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// May publish, use what is visible to it, and own agents.
    Member,
    /// May do everything, and manage tokens.
    Admin,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Member, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// The caller of a request, as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub role: Role,
    /// The token's id: its revocation ends everything opened with it.
    pub token_id: String,
}

impl Caller {
    /// A member without a token, who sees what every token of `user` sees.
    pub fn member(user: &str) -> Self {
        Self { user: user.to_owned(), role: Role::Member, token_id: String::new() }
    }

    /// The only visibility rule: private things are visible to their owner and to admins.
    pub fn sees(&self, visibility: Visibility, owner: &str) -> bool {
        visibility == Visibility::Public || self.role == Role::Admin || self.user == owner
    }
}

/// A publisher's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub id: String,
    /// The user whose token registered it. Other users cannot use its id.
    pub owner: UserId,
    pub last_heartbeat_at: Timestamp,
    pub created_at: Timestamp,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    pub user: UserId,
    pub role: Role,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}
