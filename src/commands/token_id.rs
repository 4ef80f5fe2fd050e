//! The token that a command names: by its id, or by its user if that has one valid token.

use actix_web::http::StatusCode;
use serde_json::Value;

use super::cells::{rows, text};
use crate::{client::HubClient, exit::Failure, output::printable};

/// The id of the token `named`. A hub that does not list its tokens to the caller gets `named` as the id.
pub(super) async fn find(hub: &HubClient, named: &str) -> Result<String, Failure> {
    match hub.get("/api/v1/tokens").await {
        Ok(all) => pick(rows(&all), named, jiff::Timestamp::now()),
        Err(error) if error.is(StatusCode::FORBIDDEN) || error.is(StatusCode::NOT_FOUND) => {
            Ok(named.to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

/// The id of the token `named` among `all`. The hub refuses what is neither an id nor a user.
fn pick(all: &[Value], named: &str, now: jiff::Timestamp) -> Result<String, Failure> {
    let is_user =
        |token: &&Value| token["user"].as_str().is_some_and(|user| user.eq_ignore_ascii_case(named));
    let of_user: Vec<&Value> = all.iter().filter(is_user).collect();
    if of_user.is_empty() || all.iter().any(|token| token["id"] == named) {
        return Ok(named.to_owned());
    }
    let valid: Vec<String> =
        of_user.into_iter().filter(|token| is_valid(token, now)).map(|token| text(token, "id")).collect();
    match valid.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(Failure::failed(format!("{} has no valid token", printable(named)))),
        several => Err(Failure::failed(format!(
            "{} has {} valid tokens: {}; name one by its id",
            printable(named),
            several.len(),
            several.join(", ")
        ))),
    }
}

/// Whether a token is neither revoked nor expired, and its link, if nobody has used it, still works.
fn is_valid(token: &Value, now: jiff::Timestamp) -> bool {
    let is_over = |key: &str| {
        token[key].as_str().and_then(|end| end.parse().ok()).is_some_and(|end: jiff::Timestamp| end <= now)
    };
    token["revokedAt"].is_null() && !is_over("expiresAt") && !is_over("signInUntil")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_user_stands_for_its_only_valid_token() {
        let all = [
            json!({ "id": "tok-1", "user": "alice", "revokedAt": null, "expiresAt": null }),
            json!({ "id": "tok-2", "user": "alice", "revokedAt": "2026-01-01T00:00:00Z" }),
            json!({ "id": "tok-3", "user": "alice", "expiresAt": "2026-01-01T00:00:00Z" }),
            json!({ "id": "tok-4", "user": "alice", "signInUntil": "2026-01-01T00:00:00Z" }),
            json!({ "id": "tok-5", "user": "bob", "expiresAt": "2027-01-01T00:00:00Z" }),
            json!({ "id": "tok-6", "user": "bob" }),
            json!({ "id": "tok-7", "user": "carol", "revokedAt": "2026-01-01T00:00:00Z" }),
            json!({ "id": "dave", "user": "erin" }),
            json!({ "id": "tok-8", "user": "dave" }),
        ];
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let pick = |named: &str| {
            pick(&all, named, now).map_err(|failure| failure.text().unwrap_or_default().to_owned())
        };
        for (named, id) in
            [("tok-2", "tok-2"), ("alice", "tok-1"), ("ALICE", "tok-1"), ("dave", "dave"), ("zoe", "zoe")]
        {
            assert_eq!(pick(named).as_deref(), Ok(id), "{named}");
        }
        assert_eq!(pick("bob").unwrap_err(), "bob has 2 valid tokens: tok-5, tok-6; name one by its id");
        assert_eq!(pick("carol").unwrap_err(), "carol has no valid token");
    }
}
