use std::sync::Arc;
use std::time::Duration;

use wire::row::Timestamp;

use super::*;
use crate::clock;
use crate::model::{CallLimits, Caller, Role, Token};
use crate::store::{HubDir, SqliteStore, Store, StoreError};

mod secrets;

pub(super) fn tokens() -> Tokens {
    Tokens::new(Vec::new(), None, Arc::new(SqliteStore::in_memory().unwrap()))
}

pub(super) fn member(user: &str) -> NewToken {
    NewToken { user: user.into(), role: Role::Member, expires_at: None, limits: CallLimits::default() }
}

/// A08: only the SHA-256 of a token's secret is kept, in memory and on disk.
#[tokio::test]
async fn only_the_hash_of_a_secret_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(HubDir::open(home.path()).unwrap()).unwrap());
    let tokens = Tokens::new(Vec::new(), None, store.clone());
    let (token, secret) = tokens.create(member("alice")).await.unwrap();
    let digest = <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(secret.reveal()));
    assert_eq!(token.hash, digest);
    assert_eq!(store.load().await.unwrap().tokens[0].hash, digest);
    let kept = format!("{:?} {:?}", tokens.list(), store.load().await.unwrap().tokens);
    assert!(!kept.contains(secret.reveal()));
    let mut files = 0;
    for file in std::fs::read_dir(home.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(memchr::memmem::find(&bytes, &secret.reveal().as_bytes()[4..]).is_none());
        files += 1;
    }
    assert!(files > 1);
    // A secret that differs in its last character is not valid.
    for other in ["0", "f"] {
        let end = format!("{}{other}", &secret.reveal()[..secret.reveal().len() - 1]);
        assert_eq!(tokens.caller(&end, clock::now()).is_some(), end == secret.reveal());
    }
}

/// A08: a secret is never printed by `Debug`, and valid until its token expires.
#[tokio::test]
async fn a_secret_is_valid_until_its_token_expires() {
    let tokens = tokens();
    let end = Timestamp(clock::now().0 + 1_000_000);
    let (token, secret) = tokens.create(NewToken { expires_at: Some(end), ..member("alice") }).await.unwrap();
    assert_eq!(secret.reveal().len(), "vlt_".len() + 64);
    assert_eq!(format!("{secret:?}"), "***");
    let caller = tokens.caller(secret.reveal(), end.plus_millis(-1)).unwrap();
    assert_eq!((caller.user.as_str(), caller.role), ("alice", Role::Member));
    assert_eq!(caller.token_id, token.id);
    assert!(tokens.caller(secret.reveal(), end).is_none());
    assert!(tokens.caller(&secret.reveal()[1..], clock::now()).is_none());
    assert!(!format!("{:?}", tokens.list()).contains(secret.reveal()));
}

/// Concurrently created tokens of a user have one spelling of the name, and no member gets an admin's name.
#[tokio::test]
async fn concurrently_created_tokens_agree_on_the_users_spelling() {
    let tokens = tokens();
    let spellings = ["Bob", "bob", "BOB", "boB"].map(|user| tokens.create(member(user)));
    for made in futures_util::future::join_all(spellings).await {
        assert_eq!(made.unwrap().0.user, "Bob");
    }
    let admin = NewToken { role: Role::Admin, ..member("Root") };
    let (admin, other) = futures_util::join!(tokens.create(admin), tokens.create(member("root")));
    assert!(admin.is_ok() && matches!(other, Err(CreateError::AdminsName(_))), "{other:?}");
}

/// User names are compared without case. Their spelling is that of the user's oldest token, also if it was revoked.
#[tokio::test]
async fn a_user_is_spelled_as_in_its_oldest_token() {
    let stored = |id: &str, user: &str, age: i64| Token {
        id: id.to_owned(),
        hash: TokenSecret::random().hash(),
        user: user.to_owned(),
        role: Role::Member,
        created_at: clock::now().plus_millis(-age),
        expires_at: None,
        revoked_at: None,
        old: None,
        link: None,
    };
    let found = vec![stored("a", "BOB", 1000), stored("b", "Bob", 3000), stored("c", "bob", 2000)];
    let tokens = Tokens::new(found, None, Arc::new(SqliteStore::in_memory().unwrap()));
    for user in ["bob", "BOB", "boB"] {
        assert_eq!(tokens.user(user).as_deref(), Some("Bob"));
    }
    assert_eq!(tokens.user("bo"), None);
    let (token, _) = tokens.create(member("Carol")).await.unwrap();
    tokens.revoke(&token.id).await.unwrap();
    assert_eq!(tokens.user("carol").as_deref(), Some("Carol"));
}

/// A38: a revocation resolves the token's `ended` future at once.
#[tokio::test]
async fn a_revocation_resolves_the_tokens_ended_future() {
    let tokens = Arc::new(tokens());
    let (token, secret) = tokens.create(member("alice")).await.unwrap();
    let (_, other) = tokens.create(member("alice")).await.unwrap();
    let caller = tokens.caller(secret.reveal(), clock::now()).unwrap();
    let open = tokio::spawn({
        let (tokens, caller) = (tokens.clone(), caller.clone());
        async move { tokens.ended(&caller).await }
    });
    tokio::task::yield_now().await;
    assert!(!open.is_finished());
    tokens.revoke(&token.id).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), open).await.unwrap().unwrap();
    assert!(tokens.caller(secret.reveal(), clock::now()).is_none());
    assert!(tokens.caller(other.reveal(), clock::now()).is_some());
    tokens.revoke(&token.id).await.unwrap();
    assert!(matches!(tokens.revoke("tok-none").await, Err(RevokeError::Unknown)));
}

#[tokio::test]
async fn a_token_and_its_revocation_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || -> Arc<dyn Store> { Arc::new(SqliteStore::open(HubDir::open(dir.path()).unwrap()).unwrap()) };
    let store = open();
    let tokens = Tokens::new(Vec::new(), None, store.clone());
    let (_, kept) = tokens.create(member("alice")).await.unwrap();
    let (revoked, gone) = tokens.create(member("alice")).await.unwrap();
    tokens.revoke(&revoked.id).await.unwrap();
    drop((tokens, store));
    let store = open();
    let tokens = Tokens::new(store.load().await.unwrap().tokens, None, store);
    assert!(tokens.caller(kept.reveal(), clock::now()).is_some());
    assert!(tokens.caller(gone.reveal(), clock::now()).is_none());
}

/// Reads the tokens as a starting hub does. Returns them and the source of the admin token.
async fn start(dir: &HubDir, store: &Arc<dyn Store>, given: Option<&str>) -> (Tokens, AdminToken) {
    let mut stored = store.load().await.unwrap().tokens;
    let now = Timestamp(1);
    let given = given.map(|text| TokenSecret::written(text).unwrap());
    let (source, environment) =
        admin_token(given, Some((dir, store.as_ref())), &mut stored, now).await.unwrap();
    (Tokens::new(stored, environment, store.clone()), source)
}

#[tokio::test]
async fn the_admin_token_of_the_environment_replaces_that_of_the_file() {
    let home = tempfile::tempdir().unwrap();
    let dir = HubDir::open(home.path()).unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let is_valid = |tokens: &Tokens, secret: &str| tokens.caller(secret, Timestamp(2)).is_some();

    let (tokens, source) = start(&dir, &store, None).await;
    assert_eq!(source, AdminToken::Written(home.path().join("admin-token")));
    let first = dir.read_admin_token().unwrap().unwrap();
    assert_eq!(tokens.caller(&first, Timestamp(2)).unwrap().role, Role::Admin);

    let (tokens, source) = start(&dir, &store, None).await;
    assert_eq!(source, AdminToken::Kept(dir.admin_token_file()));
    assert!(is_valid(&tokens, &first));

    let given = "of-the-environment";
    let (tokens, source) = start(&dir, &store, Some("of-the-environment\r\n")).await;
    assert_eq!(source, AdminToken::Environment);
    assert!(is_valid(&tokens, given) && !is_valid(&tokens, &first));
    assert!(matches!(tokens.revoke("environment").await, Err(RevokeError::Environment)));

    let (tokens, _) = start(&dir, &store, None).await;
    assert!(is_valid(&tokens, &first) && !is_valid(&tokens, given));

    std::fs::write(dir.admin_token_file(), "mine-0123456789abcdef\r\n").unwrap();
    let (tokens, _) = start(&dir, &store, None).await;
    assert!(is_valid(&tokens, "mine-0123456789abcdef") && !is_valid(&tokens, &first));

    std::fs::remove_file(dir.admin_token_file()).unwrap();
    let (tokens, source) = start(&dir, &store, None).await;
    assert!(is_valid(&tokens, "mine-0123456789abcdef"), "invalid after the removal of its file");
    assert_eq!(source, AdminToken::Removed(dir.admin_token_file()));
    tokens.create(NewToken { role: Role::Admin, ..member("ops") }).await.unwrap();
    tokens.revoke("bootstrap").await.unwrap();
    let (tokens, source) = start(&dir, &store, None).await;
    assert!(matches!(source, AdminToken::Written(_)));
    assert!(is_valid(&tokens, &dir.read_admin_token().unwrap().unwrap()));
}

#[tokio::test]
async fn an_invalid_admin_token_file_is_not_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let dir = HubDir::open(home.path()).unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    std::fs::write(dir.admin_token_file(), "two words\n").unwrap();
    let refused = admin_token(None, Some((&dir, store.as_ref())), &mut Vec::new(), Timestamp(1)).await;
    assert!(matches!(refused, Err(StoreError::Unusable { .. })), "{refused:?}");
    assert_eq!(std::fs::read_to_string(dir.admin_token_file()).unwrap(), "two words\n");
}

#[test]
fn a_chosen_admin_token_is_16_or_more_visible_ascii_characters() {
    for good in ["0123456789abcdef", "0123456789abcdef\n", "~!@#$%^&*()_+{}|:\r\n"] {
        assert_eq!(TokenSecret::written(good).unwrap().reveal(), good.trim_end());
    }
    for bad in [
        "",
        "\n",
        "0123456789abcde",
        " 0123456789abcdef",
        "01234567 89abcdef",
        "01234567\n89abcdef",
        "01234567\u{7f}89abcdef",
        "0123456789abcd\u{e9}f",
        "\u{feff}0123456789abcdef",
        "0123456789abcdef\u{a0}",
        "0123456789abcdef \t",
        "0123456789abcdef\n\n",
        "0123456789abcdef\r",
        "0123456789abcdef \r\n",
        "0123456789abcde\n",
    ] {
        assert_eq!(TokenSecret::written(bad), Err(NotAToken), "{bad:?}");
    }
}

#[tokio::test]
async fn the_last_valid_admin_token_cannot_be_revoked() {
    let tokens = tokens();
    let admin = |expires_at| NewToken { role: Role::Admin, expires_at, ..member("ops") };
    let (first, secret) = tokens.create(admin(None)).await.unwrap();
    tokens.create(member("alice")).await.unwrap();
    let past = clock::now().plus_millis(-1);
    tokens.create(admin(Some(past))).await.unwrap();
    assert!(matches!(tokens.revoke(&first.id).await, Err(RevokeError::LastAdmin)));
    assert!(tokens.caller(secret.reveal(), clock::now()).is_some());
    let (second, _) = tokens.create(admin(None)).await.unwrap();
    tokens.revoke(&first.id).await.unwrap();
    tokens.revoke(&first.id).await.unwrap();
    assert!(matches!(tokens.revoke(&second.id).await, Err(RevokeError::LastAdmin)));
    assert!(matches!(tokens.revoke("unknown").await, Err(RevokeError::Unknown)));
}

/// A44: a symbolic link as the admin token file is refused.
#[tokio::test]
async fn a_symlinked_admin_token_file_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = HubDir::open(home.path()).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.admin_token_file()).unwrap();
    assert!(matches!(dir.read_admin_token(), Err(StoreError::Unusable { .. })));
}

#[test]
fn a_user_name_is_plain_ascii() {
    for good in ["a", "Alice", "alice@example.com", "ci+bot_7.x-y"] {
        assert!(check_user(good).is_ok(), "{good}");
    }
    let long = "x".repeat(101);
    for bad in ["", " a", "a b", "-a", "@a", "ä", "a\n", "a\u{202e}b", "../x", &long] {
        assert!(check_user(bad).is_err(), "{bad:?}");
    }
}

/// `is_still_valid` is false for a token that was revoked or has expired since its check.
#[tokio::test]
async fn a_token_that_ended_since_its_check_is_not_still_valid() {
    let tokens = tokens();
    let new = |user: &str, role, expires_at| tokens.create(NewToken { role, expires_at, ..member(user) });
    let now = clock::now();
    let (_, admin) = new("root", Role::Admin, None).await.unwrap();
    let (gone, secret) = new("alice", Role::Member, None).await.unwrap();
    let (_, short) = new("bob", Role::Member, Some(now)).await.unwrap();
    let check = |secret: &TokenSecret| tokens.check(secret.reveal(), now.plus_millis(-1)).unwrap();
    let (before, ended, expired) = (check(&admin), check(&secret), check(&short));
    let is_valid = |(caller, check): &(Caller, TokenCheck)| tokens.is_still_valid(caller, *check);
    assert!(is_valid(&before) && is_valid(&ended) && !is_valid(&expired));
    tokens.revoke(&gone.id).await.unwrap();
    assert!(is_valid(&before) && !is_valid(&ended) && !is_valid(&expired));
    assert!(is_valid(&check(&admin)));
}

/// The name of the hub's own admin is never a member's, however it is spelled and whether an admin's token is valid or not.
#[tokio::test]
async fn a_member_is_never_called_admin() {
    let tokens = tokens();
    for user in ["admin", "Admin"] {
        let refused = tokens.create(member(user)).await;
        assert!(matches!(refused, Err(CreateError::AdminsName(_))), "{user}");
    }
}
