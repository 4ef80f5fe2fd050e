//! Rotated tokens and sign-in links, by HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::change_turns::{GatedStore, has_calls};
use super::http::{Answer, ask};
use super::support::{TestHub, eventually, hub, hub_on};

/// A request that is not answered within this time is taken to wait.
const MOMENT: Duration = Duration::from_millis(150);

async fn create(hub: &TestHub, body: Value) -> Value {
    let (status, made) = hub.ask("POST", "/api/v1/tokens").body(body.to_string()).json().await;
    assert_eq!(status, 201, "{made}");
    made
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key}: {value}"))
}

async fn sign_in(hub: &TestHub, code: &str) -> Answer {
    ask(hub.addr, "POST", "/api/v1/sign-in").token(code).open().await
}

async fn status(hub: &TestHub, token: &str) -> u16 {
    hub.ask_as(token, "GET", "/api/v1/whoami").send().await.0
}

#[actix_rt::test]
async fn a_link_is_exchanged_once_for_a_token_of_its_user() {
    let hub = hub().await;
    let made = create(&hub, json!({ "user": "zoe", "link": true, "expires": "30d" })).await;
    assert_eq!(made.get("token"), None, "nobody else gets the secret");
    assert!(text(&made, "signInUntil") < text(&made, "expiresAt"));
    let code = text(&made, "signInCode").to_owned();
    assert_eq!(status(&hub, &code).await, 401, "a code is no token");
    let mut answer = sign_in(&hub, &code).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    let got: Value = serde_json::from_str(&answer.rest().await).unwrap();
    assert_eq!(
        (&got["id"], &got["user"], &got["expiresAt"]),
        (&made["id"], &made["user"], &made["expiresAt"])
    );
    let (_, me) = hub.ask_as(text(&got, "token"), "GET", "/api/v1/whoami").json().await;
    assert_eq!((&me["user"], &me["tokenId"]), (&json!("zoe"), &made["id"]));
    for wrong in [code.as_str(), "vlc_00000000000000000000000000000000", text(&got, "token")] {
        let mut refused = sign_in(&hub, wrong).await;
        assert_eq!(refused.status, 401);
        assert!(refused.rest().await.contains("ask for another one"));
    }
    assert_eq!(ask(hub.addr, "POST", "/api/v1/sign-in").open().await.status, 401);
    let (_, list) = hub.ask("GET", "/api/v1/tokens").json().await;
    assert!(!list.to_string().contains(&code[4..]) && !list.to_string().contains("signInUntil"), "{list}");
    hub.stop().await;
}

/// A09: wrong codes are counted as wrong tokens are.
#[actix_rt::test]
async fn wrong_codes_are_limited() {
    let hub = hub().await;
    let made = create(&hub, json!({ "user": "zoe", "link": true })).await;
    let mut limited = false;
    for _ in 0..2000 {
        limited = sign_in(&hub, "vlc_wrong").await.status == 429;
        if limited {
            break;
        }
    }
    assert!(limited, "2,000 wrong codes were looked up");
    // A right one is never refused for the wrong ones of its address.
    assert_eq!(sign_in(&hub, text(&made, "signInCode")).await.status, 200);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_rotated_token_has_another_secret_and_what_it_opened_ends() {
    let hub = hub().await;
    let made = create(&hub, json!({ "user": "zoe" })).await;
    let (id, first) = (text(&made, "id"), text(&made, "token"));
    let path = format!("/api/v1/tokens/{id}/rotate");
    let mut stream = hub.ask_as(first, "GET", "/api/v1/events").open().await;
    stream.until("snapshot").await;
    let (code, rotated) = hub.ask_as(first, "POST", &path).body("{}").json().await;
    assert_eq!((code, &rotated["id"]), (200, &made["id"]), "{rotated}");
    stream.rest().await;
    let second = text(&rotated, "token");
    assert_eq!((status(&hub, first).await, status(&hub, second).await), (401, 200));
    let (code, rotated) = hub.ask("POST", &path).body(r#"{"grace":"1h"}"#).json().await;
    assert_eq!(code, 200, "{rotated}");
    assert_eq!((status(&hub, second).await, status(&hub, text(&rotated, "token")).await), (200, 200));
    let (_, list) = hub.ask("GET", "/api/v1/tokens").json().await;
    let zoe = list.as_array().unwrap().iter().find(|token| token["id"] == id).unwrap();
    assert_eq!(zoe["oldSecretUntil"], rotated["oldSecretUntil"]);
    for bad in [r#"{"grace":"31d"}"#, r#"{"grace":"soon"}"#, r#"{"grace":1}"#] {
        assert_eq!(hub.ask("POST", &path).body(bad).send().await.0, 400, "{bad}");
    }
    for (id, expected) in [("tok-0", 404), ("environment", 409), ("bootstrap", 409)] {
        let (code, said) = hub.ask("POST", format!("/api/v1/tokens/{id}/rotate")).body("{}").json().await;
        assert_eq!(code, expected, "{id}: {said}");
    }
    hub.stop().await;
}

/// A caller that leaves while the store writes does not leave another secret in the store than at the hub.
#[actix_rt::test]
async fn a_rotation_is_whole_also_if_its_caller_leaves() {
    let store = GatedStore::new();
    let hub = hub_on(store.clone()).await;
    let made = create(&hub, json!({ "user": "zoe" })).await;
    let (id, secret) = (text(&made, "id"), text(&made, "token"));
    let before = store.stop();
    let call = hub.ask_as(secret, "POST", format!("/api/v1/tokens/{id}/rotate")).body("{}").begin().await;
    eventually("the store has the secret", async || store.taken() == before + 1).await;
    drop(call);
    eventually("its caller is gone", async || !has_calls(&hub, "zoe")).await;
    assert_eq!(status(&hub, secret).await, 200, "nothing is written yet");
    store.commit(usize::MAX);
    eventually("the hub has the secret of the store", async || status(&hub, secret).await == 401).await;
    hub.stop().await;
}

/// Rotations take the turns of their user's other changes.
#[actix_rt::test]
async fn rotations_take_turns() {
    let hub = hub().await;
    let made = create(&hub, json!({ "user": "zoe" })).await;
    let (id, secret) = (text(&made, "id"), text(&made, "token"));
    let mut turns = Vec::new();
    for _ in 0..16 {
        turns.push(hub.core().change_turns.of(0, 0).acquire("zoe").await);
    }
    let call = hub.ask_as(secret, "POST", format!("/api/v1/tokens/{id}/rotate")).body("{}");
    let mut call = Box::pin(call.send());
    assert!(timeout(MOMENT, &mut call).await.is_err(), "it did not wait for its turn");
    drop(turns);
    assert_eq!(call.await.0, 200);
    hub.stop().await;
}

/// A request whose body is still arriving when the secret that it sent ends does nothing.
#[actix_rt::test]
async fn a_request_ends_with_its_secret_while_its_body_arrives() {
    let hub = hub().await;
    for (grace, expected) in [("1h", 404), ("0s", 401)] {
        let made = create(&hub, json!({ "user": "zoe" })).await;
        let (id, first) = (text(&made, "id"), text(&made, "token"));
        let body = r#"{"llm":"none","request":{}}"#;
        let (head, rest) = body.split_at(5);
        let mut call = TcpStream::connect(hub.addr).await.unwrap();
        let head = format!(
            "POST /api/v1/inference-tasks HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {first}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{head}",
            body.len()
        );
        call.write_all(head.as_bytes()).await.unwrap();
        eventually("the hub has its head", async || has_calls(&hub, "zoe")).await;
        let grace = json!({ "grace": grace }).to_string();
        assert_eq!(hub.ask("POST", format!("/api/v1/tokens/{id}/rotate")).body(grace).send().await.0, 200);
        call.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = vec![0; 64];
        let read = call.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
    }
    hub.stop().await;
}

/// A28: rotations of one user are bounded, since each looks at all that is open; those of others are not refused for it.
#[actix_rt::test]
async fn rotations_of_a_user_are_bounded() {
    let hub = hub().await;
    let mut made = create(&hub, json!({ "user": "zoe" })).await;
    let id = text(&made, "id").to_owned();
    let path = format!("/api/v1/tokens/{id}/rotate");
    let mut status = 200;
    for _ in 0..200 {
        let (code, rotated) = hub.ask_as(text(&made, "token"), "POST", &path).body("{}").json().await;
        status = code;
        if code != 200 {
            assert_eq!(rotated["error"], "you rotated many tokens just now: try again in a minute");
            break;
        }
        made = rotated;
    }
    assert_eq!(status, 429);
    assert_eq!(hub.ask("POST", &path).body("{}").send().await.0, 200);
    hub.stop().await;
}

/// Who has the earlier secret in its grace, maybe a thief, gets no newer one.
#[actix_rt::test]
async fn an_earlier_secret_cannot_rotate_its_token() {
    let hub = hub().await;
    let made = create(&hub, json!({ "user": "zoe" })).await;
    let (id, first) = (text(&made, "id"), text(&made, "token"));
    let path = format!("/api/v1/tokens/{id}/rotate");
    let (_, rotated) = hub.ask_as(first, "POST", &path).body(r#"{"grace":"1h"}"#).json().await;
    let second = text(&rotated, "token");
    assert_eq!(hub.ask_as(first, "POST", &path).body("{}").send().await.0, 403);
    assert_eq!((status(&hub, first).await, status(&hub, second).await), (200, 200));
    assert_eq!(hub.ask_as(second, "POST", &path).body("{}").send().await.0, 200);
    hub.stop().await;
}
