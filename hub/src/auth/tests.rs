use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpResponse, middleware::from_fn, web};
use wire::row::Timestamp;

use super::*;
use crate::clock;
use crate::error::ApiError;
use crate::model::{Caller, Role, Token};
use crate::store::{HubDir, SqliteStore, Store, StoreError};

fn tokens() -> Tokens {
    Tokens::new(Vec::new(), None, Arc::new(SqliteStore::in_memory().unwrap()))
}

fn member(user: &str) -> NewToken {
    NewToken { user: user.into(), role: Role::Member, expires_at: None }
}

/// A08: of a token's secret only the SHA-256 is kept, in memory and on disk.
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

/// Tokens created concurrently give a user one spelling, and no member an admin's name.
#[tokio::test]
async fn concurrent_creations_are_serialized() {
    let tokens = tokens();
    let spellings = ["Bob", "bob", "BOB", "boB"].map(|user| tokens.create(member(user)));
    for made in futures_util::future::join_all(spellings).await {
        assert_eq!(made.unwrap().0.user, "Bob");
    }
    let admin = NewToken { role: Role::Admin, ..member("Root") };
    let (admin, other) = futures_util::join!(tokens.create(admin), tokens.create(member("root")));
    assert!(admin.is_ok() && matches!(other, Err(CreateError::AdminsName(_))), "{other:?}");
}

/// User names are compared without case, and spelled as in the oldest token, revoked or not.
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

/// A38: a revocation resolves `ended` of the token at once.
#[tokio::test]
async fn a_revocation_ends_everything_opened_with_the_token() {
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

/// The tokens after one start of a hub, and the location of its admin token.
async fn start(dir: &HubDir, store: &Arc<dyn Store>, given: Option<&str>) -> (Tokens, AdminToken) {
    let mut stored = store.load().await.unwrap().tokens;
    let now = Timestamp(1);
    let given = given.map(|text| TokenSecret::written(text).unwrap());
    let (told, environment) =
        admin_token(given, Some((dir, store.as_ref())), &mut stored, now).await.unwrap();
    (Tokens::new(stored, environment, store.clone()), told)
}

#[tokio::test]
async fn the_environments_admin_token_replaces_the_files_while_it_is_set() {
    let home = tempfile::tempdir().unwrap();
    let dir = HubDir::open(home.path()).unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let works = |tokens: &Tokens, secret: &str| tokens.caller(secret, Timestamp(2)).is_some();

    let (tokens, told) = start(&dir, &store, None).await;
    assert_eq!(told, AdminToken::Written(home.path().join("admin-token")));
    let first = dir.read_admin_token().unwrap().unwrap();
    assert_eq!(tokens.caller(&first, Timestamp(2)).unwrap().role, Role::Admin);

    let (tokens, told) = start(&dir, &store, None).await;
    assert_eq!(told, AdminToken::Kept(dir.admin_token_file()));
    assert!(works(&tokens, &first));

    let given = "of-the-environment";
    let (tokens, told) = start(&dir, &store, Some("of-the-environment\r\n")).await;
    assert_eq!(told, AdminToken::Environment);
    assert!(works(&tokens, given) && !works(&tokens, &first));
    assert!(matches!(tokens.revoke("environment").await, Err(RevokeError::Environment)));

    let (tokens, _) = start(&dir, &store, None).await;
    assert!(works(&tokens, &first) && !works(&tokens, given));

    std::fs::write(dir.admin_token_file(), "mine-0123456789abcdef\r\n").unwrap();
    let (tokens, _) = start(&dir, &store, None).await;
    assert!(works(&tokens, "mine-0123456789abcdef") && !works(&tokens, &first));

    std::fs::remove_file(dir.admin_token_file()).unwrap();
    let (tokens, told) = start(&dir, &store, None).await;
    assert!(works(&tokens, "mine-0123456789abcdef"), "valid without its file");
    assert_eq!(told, AdminToken::Removed(dir.admin_token_file()));
    tokens.create(NewToken { role: Role::Admin, ..member("ops") }).await.unwrap();
    tokens.revoke("bootstrap").await.unwrap();
    let (tokens, told) = start(&dir, &store, None).await;
    assert!(matches!(told, AdminToken::Written(_)));
    assert!(works(&tokens, &dir.read_admin_token().unwrap().unwrap()));
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
fn an_operators_token_is_16_or_more_visible_ascii_characters() {
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

async fn who(caller: Caller) -> HttpResponse {
    HttpResponse::Ok().body(caller.user)
}

async fn admins(admin: Admin) -> HttpResponse {
    HttpResponse::Ok().body(admin.0.user)
}

async fn broken() -> Result<HttpResponse, ApiError> {
    Err(ApiError::not_found("LLM", "x\"y"))
}

/// The status and body of a request to an app with one token, alice's.
async fn answer(request: impl FnOnce(&str) -> TestRequest) -> (StatusCode, String) {
    let tokens = Arc::new(tokens());
    let (_, secret) = tokens.create(member("alice")).await.unwrap();
    let routes = |cfg: &mut web::ServiceConfig| {
        for path in ["/api/v1/who", "/v1/who", "/v1/messages", "/metrics", "/healthz"] {
            cfg.route(path, web::get().to(who));
        }
        cfg.route("/admins", web::get().to(admins));
        for path in ["/api/v1/broken", "/v1/broken", "/v1/messages/broken"] {
            cfg.route(path, web::get().to(broken));
        }
        cfg.route("/v1/json", web::get().to(|_: web::Json<u8>| async { "" }));
    };
    let app = App::new().app_data(web::Data::from(tokens)).configure(routes).wrap(from_fn(guard));
    let app = init_service(app).await;
    let response = call_service(&app, request(secret.reveal()).to_request()).await;
    let status = response.status();
    assert_eq!(status == 401, response.headers().contains_key("www-authenticate"));
    (status, String::from_utf8(read_body(response).await.to_vec()).unwrap())
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path)
}

#[actix_web::test]
async fn a_token_is_accepted_as_bearer_and_under_v1_as_api_key() {
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let got =
            answer(|t| get("/api/v1/who").insert_header(("authorization", format!("{scheme} {t}")))).await;
        assert_eq!(got, (StatusCode::OK, "alice".into()));
    }
    let key = |path| answer(move |t| get(path).insert_header(("x-api-key", t)));
    assert_eq!(key("/v1/who").await.0, 200);
    assert_eq!(key("/v1/messages").await.0, 200);
    assert_eq!(key("/api/v1/who").await.0, 401);
    assert_eq!(key("/metrics").await.0, 401);
}

/// A07, A10: no token, a malformed or huge one, two, one in the query: 401 on every path, also on unknown ones.
#[actix_web::test]
async fn a_request_without_a_valid_token_is_401_on_every_path() {
    let huge = format!("Bearer {}", "x".repeat(64 * 1024));
    let bad = ["", "Bearer", "Bearer ", "Bearer  ", "Basic YQ==", "Bearer nobody", "nobody", huge.as_str()];
    for path in ["/api/v1/who", "/api/v1/none", "/v1/who", "/v1/messages", "/metrics", "/x"] {
        assert_eq!(answer(|_| get(path)).await.0, 401, "{path}");
        for value in bad {
            let got = answer(|_| get(path).insert_header(("authorization", value))).await;
            assert_eq!(got.0, 401, "{path} {value:.20}");
        }
    }
    let twice = answer(|t| {
        let value = format!("Bearer {t}");
        get("/v1/who").append_header(("authorization", value.clone())).append_header(("authorization", value))
    });
    assert_eq!(twice.await.0, 401);
    let query = answer(|t| get(&format!("/v1/who?token={t}&access_token={t}")));
    assert_eq!(query.await.0, 401);
    let binary = answer(|_| get("/v1/who").insert_header(("authorization", &b"Bearer \xff"[..])));
    assert_eq!(binary.await.0, 401);
}

#[actix_web::test]
async fn errors_are_in_the_dialect_of_their_path() {
    let text = "no valid token: send 'Authorization: Bearer TOKEN'";
    assert_eq!(
        answer(|_| get("/api/v1/who")).await.1,
        format!(r#"{{"error":"{text}","code":"invalid_api_key"}}"#)
    );
    assert_eq!(
        answer(|_| get("/v1/who")).await.1,
        format!(
            r#"{{"error":{{"message":"{text}","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}}}"#
        )
    );
    assert_eq!(
        answer(|_| get("/v1/messages")).await.1,
        format!(
            r#"{{"type":"error","error":{{"type":"authentication_error","message":"{text}","code":"invalid_api_key"}}}}"#
        )
    );
    let known = |path| answer(move |t| get(path).insert_header(("authorization", format!("Bearer {t}"))));
    assert_eq!(known("/api/v1/broken").await.1, r#"{"error":"LLM 'x\"y' not found","code":"not_found"}"#);
    assert_eq!(
        known("/v1/broken").await.1,
        r#"{"error":{"message":"LLM 'x\"y' not found","type":"invalid_request_error","param":null,"code":"not_found"}}"#
    );
    assert_eq!(
        known("/v1/messages/broken").await.1,
        r#"{"type":"error","error":{"type":"not_found_error","message":"LLM 'x\"y' not found","code":"not_found"}}"#
    );
    // Also errors of the framework.
    assert_eq!(known("/api/v1/none").await.1, r#"{"error":"not found","code":"not_found"}"#);
    assert!(known("/v1/json").await.1.contains(r#""type":"invalid_request_error""#));
    assert_eq!(
        known("/admins").await,
        (StatusCode::FORBIDDEN, r#"{"error":"for admins only","code":"forbidden"}"#.into())
    );
}

#[actix_web::test]
async fn an_open_path_has_no_caller() {
    // The handler extracts a caller.
    assert_eq!(
        answer(|t| get("/healthz").insert_header(("authorization", format!("Bearer {t}")))).await.0,
        401
    );
}

/// `is_still_valid` notices a token that was revoked or has expired since its check.
#[tokio::test]
async fn a_token_that_ended_since_its_check_is_not_valid() {
    let tokens = tokens();
    let new = |user: &str, role, expires_at| tokens.create(NewToken { user: user.into(), role, expires_at });
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
