//! Rotations and sign-in links: which secret is valid when, and what ends with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::super::table::{TokenSecret, TokenTable};
use super::super::tokens::ChangeError;
use super::{member, tokens};
use crate::auth::{NewToken, RevokeError, TokenCheck, Tokens};
use crate::clock;
use crate::model::{Caller, EndingHash, Role, Token};
use crate::store::{HubDir, SqliteStore, Store};

const HOUR: Duration = Duration::from_hours(1);

fn is_valid(tokens: &Tokens, secret: &TokenSecret) -> bool {
    tokens.caller(secret.reveal(), clock::now()).is_some()
}

/// A rotated token keeps its id, user and role. Its earlier secret is valid for the grace alone, and that before it not at all.
#[tokio::test]
async fn a_rotation_gives_another_secret_and_ends_the_earlier_one() {
    let tokens = tokens();
    let (token, first) = tokens.create(NewToken { role: Role::Admin, ..member("ops") }).await.unwrap();
    let (rotated, second) = tokens.rotate(&token.id, Duration::ZERO).await.unwrap();
    assert_eq!((&rotated.id, &rotated.user, rotated.role), (&token.id, &token.user, Role::Admin));
    assert!(!is_valid(&tokens, &first) && is_valid(&tokens, &second));
    let (_, third) = tokens.rotate(&token.id, HOUR).await.unwrap();
    assert!(!is_valid(&tokens, &first) && is_valid(&tokens, &second) && is_valid(&tokens, &third));
    let later = clock::now().plus_millis(3_600_001);
    assert!(
        tokens.caller(second.reveal(), later).is_none() && tokens.caller(third.reveal(), later).is_some()
    );
    let (_, fourth) = tokens.rotate(&token.id, HOUR).await.unwrap();
    let valid: Vec<_> = [&first, &second, &third, &fourth].map(|secret| is_valid(&tokens, secret)).into();
    assert_eq!(valid, [false, false, true, true]);
    assert_eq!(tokens.list().len(), 1);
    assert_eq!(tokens.user("OPS").as_deref(), Some("ops"));
}

#[tokio::test]
async fn a_revoked_token_has_no_valid_secret_and_gets_none() {
    let tokens = tokens();
    let (token, first) = tokens.create(member("alice")).await.unwrap();
    let (_, second) = tokens.rotate(&token.id, HOUR).await.unwrap();
    tokens.revoke(&token.id).await.unwrap();
    assert!(!is_valid(&tokens, &first) && !is_valid(&tokens, &second));
    assert!(matches!(tokens.rotate(&token.id, HOUR).await, Err(ChangeError::Unknown)));
    let (linked, code) = tokens.create_link(member("alice")).await.unwrap();
    tokens.revoke(&linked.id).await.unwrap();
    assert!(matches!(tokens.sign_in(code.reveal()).await, Err(ChangeError::Unknown)));
}

/// What was opened with a secret ends with it, and nothing else does; accepted tasks go on until the token is revoked.
#[tokio::test]
async fn what_was_opened_ends_with_its_secret() {
    const MOMENT: Duration = Duration::from_millis(200);
    let tokens = Arc::new(tokens());
    let (token, first) = tokens.create(member("alice")).await.unwrap();
    let open = |secret: &TokenSecret, is_task: bool| {
        let (tokens, caller) = (tokens.clone(), tokens.caller(secret.reveal(), clock::now()).unwrap());
        tokio::spawn(async move {
            if is_task { tokens.revoked(&caller).await } else { tokens.ended(&caller).await }
        })
    };
    let end = async |opened: JoinHandle<()>| timeout(Duration::from_secs(5), opened).await.unwrap().unwrap();
    let (task, of_first) = (open(&first, true), open(&first, false));
    let (_, second) = tokens.rotate(&token.id, HOUR).await.unwrap();
    let (again_of_first, of_second) = (open(&first, false), open(&second, false));
    yield_now().await;
    assert!(![&of_first, &again_of_first, &of_second].iter().any(|opened| opened.is_finished()));
    // Another rotation ends the first secret, whatever its grace was, and gives the second one its own.
    let (_, third) = tokens.rotate(&token.id, MOMENT).await.unwrap();
    end(of_first).await;
    end(again_of_first).await;
    assert!(!of_second.is_finished(), "the grace is not over");
    let of_third = open(&third, false);
    end(of_second).await;
    yield_now().await;
    assert!(!of_third.is_finished() && !task.is_finished());
    tokens.revoke(&token.id).await.unwrap();
    end(of_third).await;
    end(task).await;
}

/// A request whose secret ended since its check is refused; one with a secret that has a grace is not.
#[tokio::test]
async fn a_check_outlasts_a_rotation_only_with_its_secret() {
    let tokens = tokens();
    let (token, first) = tokens.create(member("alice")).await.unwrap();
    let check = |secret: &TokenSecret| tokens.check(secret.reveal(), clock::now()).unwrap();
    let is_valid = |(caller, check): &(Caller, TokenCheck)| tokens.is_still_valid(caller, *check);
    let before = check(&first);
    let (_, second) = tokens.rotate(&token.id, HOUR).await.unwrap();
    let after = check(&second);
    assert!(is_valid(&before) && is_valid(&check(&first)) && is_valid(&after));
    let in_grace = check(&first);
    tokens.rotate(&token.id, HOUR).await.unwrap();
    assert!(!is_valid(&before) && !is_valid(&in_grace) && is_valid(&after));
}

/// A08: a link's code works once, also if two use it at the same time, and is kept as its hash alone.
#[tokio::test]
async fn a_sign_in_link_gives_its_token_once() {
    let tokens = tokens();
    let (token, code) = tokens.create_link(member("alice")).await.unwrap();
    assert_eq!(code.reveal().len(), "vlc_".len() + 32);
    assert!(!format!("{:?} {code:?}", tokens.list()).contains(&code.reveal()[4..]));
    assert!(!is_valid(&tokens, &code), "a code is no token");
    let (one, other) = futures_util::join!(tokens.sign_in(code.reveal()), tokens.sign_in(code.reveal()));
    let (signed_in, secret) = one.unwrap();
    assert_eq!((signed_in.id, signed_in.link), (token.id, None));
    assert!(is_valid(&tokens, &secret));
    for again in [other, tokens.sign_in(code.reveal()).await, tokens.sign_in(secret.reveal()).await] {
        assert!(matches!(again, Err(ChangeError::Unknown)), "{again:?}");
    }
    assert!(is_valid(&tokens, &secret), "a second use changes nothing");
    let (linked, code) = tokens.create_link(member("bob")).await.unwrap();
    tokens.rotate(&linked.id, HOUR).await.unwrap();
    assert!(matches!(tokens.sign_in(code.reveal()).await, Err(ChangeError::Unknown)), "rotated meanwhile");
}

#[test]
fn a_code_is_valid_until_its_end() {
    let (code, now) = (TokenSecret::code(), clock::now());
    let mut table = TokenTable::default();
    table.insert(Token {
        id: "tok-1".into(),
        hash: TokenSecret::random().hash(),
        user: "alice".into(),
        role: Role::Member,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        old: None,
        link: Some(EndingHash { hash: code.hash(), until: now.plus_millis(10) }),
    });
    assert!(table.by_link(&code.hash(), now.plus_millis(9)).is_some());
    assert!(table.by_link(&code.hash(), now.plus_millis(10)).is_none());
    assert!(table.by_hash(&code.hash(), now).is_none());
}

#[tokio::test]
async fn secrets_and_links_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || -> Arc<dyn Store> { Arc::new(SqliteStore::open(HubDir::open(dir.path()).unwrap()).unwrap()) };
    let store = open();
    let tokens = Tokens::new(Vec::new(), None, store.clone());
    let (token, first) = tokens.create(member("alice")).await.unwrap();
    let (_, second) = tokens.rotate(&token.id, HOUR).await.unwrap();
    let (_, code) = tokens.create_link(member("bob")).await.unwrap();
    let (_, used) = tokens.create_link(member("bob")).await.unwrap();
    tokens.sign_in(used.reveal()).await.unwrap();
    drop((tokens, store));
    let store = open();
    let tokens = Tokens::new(store.load().await.unwrap().tokens, None, store);
    assert!(is_valid(&tokens, &first) && is_valid(&tokens, &second));
    assert!(matches!(tokens.sign_in(used.reveal()).await, Err(ChangeError::Unknown)));
    assert_eq!(tokens.sign_in(code.reveal()).await.unwrap().0.user, "bob");
}

/// Nobody knows the secret of a token whose link was not used: it does not save the hub from being locked.
#[tokio::test]
async fn an_unused_link_of_an_admin_is_no_other_admin_token() {
    let tokens = tokens();
    let admin = NewToken { role: Role::Admin, ..member("ops") };
    let (first, _) = tokens.create(admin.clone()).await.unwrap();
    let (_, code) = tokens.create_link(admin).await.unwrap();
    assert!(matches!(tokens.revoke(&first.id).await, Err(RevokeError::LastAdmin)));
    tokens.sign_in(code.reveal()).await.unwrap();
    tokens.revoke(&first.id).await.unwrap();
}

/// The secret of the hub's own admin token is in its file or environment: at the next start that one would be valid again.
#[tokio::test]
async fn the_hubs_own_admin_token_is_not_rotated() {
    let tokens = tokens();
    assert!(matches!(tokens.rotate("bootstrap", HOUR).await, Err(ChangeError::OwnToken)));
}

/// A link that nobody used in time leaves a token that nobody can use: it is not valid, and keeps no name.
#[tokio::test]
async fn a_token_whose_link_was_not_used_is_not_valid() {
    let tokens = tokens();
    let (linked, _) = tokens.create_link(NewToken { role: Role::Admin, ..member("ops") }).await.unwrap();
    let until = linked.link.unwrap().until;
    assert!(tokens.is_valid(&linked.id, until.plus_millis(-1)) && !tokens.is_valid(&linked.id, until));
}
