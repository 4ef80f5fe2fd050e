//! The first admin token: set in the environment, or kept in a file that the hub writes on its first start.

use std::path::PathBuf;

use wire::row::Timestamp;

use super::table::TokenSecret;
use crate::model::{Role, Token};
use crate::store::{Change, HubDir, Store, StoreError};

/// The user of the first token.
pub(super) const ADMIN: &str = "admin";
/// The id of the token in the file. It is replaced when the file has another.
pub(super) const BOOTSTRAP: &str = "bootstrap";
/// The id of the token in the environment.
const ENVIRONMENT: &str = "environment";

/// Where the admin token is, for the program to tell its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminToken {
    /// In the environment.
    Environment,
    /// Written to this file just now.
    Written(PathBuf),
    /// In this file since an earlier start.
    Kept(PathBuf),
    /// Made at an earlier start, and moved out of this file since.
    Removed(PathBuf),
    /// Made just now and stored nowhere: print it.
    Shown(TokenSecret),
}

/// Makes or finds the admin token. `stored` are the tokens in the store, and on return those that are valid.
///
/// Returns a token given by the environment beside them, since it is never stored. While one is given, the token of the
/// file is invalid.
pub(crate) async fn admin_token(
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
        // A file with other content is not overwritten.
        Some(text) => Some(TokenSecret::written(&text).map_err(|why| StoreError::Unusable {
            path: file.clone(),
            cause: format!("it holds no admin token: {why}; write one line, or remove the file"),
        })?),
    };
    let (location, secret) = match (in_file, kept) {
        // The file has the stored token (revoked or not), or was moved to a safer place.
        (Some(secret), Some(kept)) if secret.hash() == kept.hash => {
            return Ok((AdminToken::Kept(file), None));
        }
        (None, Some(kept)) if kept.revoked_at.is_none() => return Ok((AdminToken::Removed(file), None)),
        // The operator wrote another token, or the database is new.
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
    Ok((location, None))
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
        old: None,
        link: None,
    }
}
