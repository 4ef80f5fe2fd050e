//! The first admin token: given by the environment, or kept in a file that the hub writes on its first start.

use std::path::PathBuf;

use wire::row::Timestamp;

use super::secret::TokenSecret;
use crate::model::{Role, Token};
use crate::store::{Change, HubDir, Store, StoreError};

/// The user that the first token belongs to.
pub(super) const ADMIN: &str = "admin";
/// The id of the token that the hub made for itself: one, replaced when the file has another.
const BOOTSTRAP: &str = "bootstrap";
/// The id of the token that the environment set.
const ENVIRONMENT: &str = "environment";

/// What the program tells its operator about the admin token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminToken {
    /// It is the one in the environment.
    Environment,
    /// Made just now, in this file.
    Written(PathBuf),
    /// Made earlier, in this file.
    Kept(PathBuf),
    /// Made earlier, and taken out of this file.
    Away(PathBuf),
    /// Made just now, written nowhere: print it.
    Shown(TokenSecret),
}

/// Sees to it that there is an admin token. `stored` is what the store has; on return it is what is valid, and the
/// environment's token stands apart. While that one rules, the hub's own does not work.
pub async fn admin_token(
    given: Option<TokenSecret>,
    dir: Option<(&HubDir, &dyn Store)>,
    stored: &mut Vec<Token>,
    now: Timestamp,
) -> Result<(AdminToken, Option<Token>), StoreError> {
    if let Some(secret) = given {
        stored.retain(|token| token.id != BOOTSTRAP);
        return Ok((AdminToken::Environment, Some(token(ENVIRONMENT, &secret, now))));
    }
    let Some((dir, store)) = dir else {
        let secret = TokenSecret::random();
        stored.push(token(BOOTSTRAP, &secret, now));
        return Ok((AdminToken::Shown(secret), None));
    };
    let file = dir.admin_token_file();
    let kept = stored.iter().find(|token| token.id == BOOTSTRAP);
    let in_file = match dir.read_admin_token()? {
        None => None,
        // A file that somebody wrote is not overwritten.
        Some(text) => Some(TokenSecret::written(&text).map_err(|why| StoreError::Unusable {
            path: file.clone(),
            cause: format!("it holds no admin token: {why}; write one line, or remove the file"),
        })?),
    };
    let (told, secret) = match (in_file, kept) {
        // The file has what we know (revoked or not), or was taken to a safer place.
        (Some(secret), Some(kept)) if secret.hash() == kept.hash => {
            return Ok((AdminToken::Kept(file), None));
        }
        (None, Some(kept)) if kept.revoked_at.is_none() => return Ok((AdminToken::Away(file), None)),
        // The operator put another one there, or the database is new.
        (Some(secret), _) => (AdminToken::Kept(file), secret),
        (None, _) => {
            let secret = TokenSecret::random();
            dir.write_admin_token(secret.reveal())?;
            (AdminToken::Written(file), secret)
        }
    };
    let token = token(BOOTSTRAP, &secret, now);
    store.write(vec![Change::PutToken(token.clone())]).await?;
    stored.retain(|token| token.id != BOOTSTRAP);
    stored.push(token);
    Ok((told, None))
}

fn token(id: &str, secret: &TokenSecret, now: Timestamp) -> Token {
    Token {
        id: id.into(),
        hash: secret.hash(),
        user: ADMIN.into(),
        role: Role::Admin,
        created_at: now,
        expires_at: None,
        revoked_at: None,
    }
}
