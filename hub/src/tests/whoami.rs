//! The user of a token, and the hub's public address.

use serde_json::{Value, json};

use super::support::{ADMIN, hub, hub_with};

#[actix_rt::test]
async fn whoami_has_the_user_and_role_of_the_token() {
    let hub = hub().await;
    let (_, made) = hub
        .ask("POST", "/api/v1/tokens")
        .body(r#"{"user":"zoe","expiresAt":"2999-01-01T00:00:00Z"}"#)
        .json()
        .await;
    let (zoe, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    for (token, user, role, id, end) in [
        (zoe, "zoe", "member", id, json!("2999-01-01T00:00:00.000Z")),
        (ADMIN, "admin", "admin", "environment", Value::Null),
    ] {
        let (status, body) = hub.ask_as(token, "GET", "/api/v1/whoami").json().await;
        let version = env!("CARGO_PKG_VERSION");
        let expected = json!({ "user": user, "role": role, "tokenId": id, "expiresAt": end, "hubUrl": null, "version": version });
        assert_eq!((status, body), (200, expected));
    }
    assert_eq!(hub.ask_as("vlt_unknown", "GET", "/api/v1/whoami").send().await.0, 401);
    let wrong = hub.ask("POST", "/api/v1/whoami").body("{}").open().await;
    assert!(wrong.status == 405 && wrong.head.contains("allow: get, head"), "{}", wrong.head);
    let (_, made) = hub.ask("POST", "/api/v1/tokens").body(r#"{"user":"yan"}"#).json().await;
    assert_eq!(made.get("hubUrl"), None);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_new_token_and_the_console_have_the_hubs_address() {
    let url = "https://models.example.org/x";
    let hub = hub_with(|options| options.public_url = Some(url.into())).await;
    let (_, me) = hub.ask("GET", "/api/v1/whoami").json().await;
    assert_eq!(me["hubUrl"], url);
    let (_, made) = hub.ask("POST", "/api/v1/tokens").body(r#"{"user":"yan"}"#).json().await;
    assert_eq!(made["hubUrl"], url);
    let (_, list) = hub.ask("GET", "/api/v1/tokens").json().await;
    assert!(list.as_array().unwrap().iter().all(|token| token.get("hubUrl").is_none()), "{list}");
    let mut events = hub.ask("GET", "/api/v1/events").open().await;
    let hello = events.until("snapshot").await;
    let data = hello.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let hello: Value = serde_json::from_str(data).unwrap();
    assert_eq!(hello["hubUrl"], url);
    hub.stop().await;
}
