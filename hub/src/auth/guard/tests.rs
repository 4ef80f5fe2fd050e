use std::sync::Arc;

use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpResponse, middleware::from_fn};

use super::*;
use crate::auth::tests::{member, tokens};

async fn whoami(caller: Caller) -> HttpResponse {
    HttpResponse::Ok().body(caller.user)
}

async fn admins(admin: Admin) -> HttpResponse {
    HttpResponse::Ok().body(admin.0.user)
}

async fn broken() -> Result<HttpResponse, ApiError> {
    Err(ApiError::not_found("LLM", "x\"y"))
}

/// Sends a request to an app that knows one token, of alice; `request` gets its secret. Returns status and body.
async fn answer(request: impl FnOnce(&str) -> TestRequest) -> (StatusCode, String) {
    let tokens = Arc::new(tokens());
    let (_, secret) = tokens.create(member("alice")).await.unwrap();
    let routes = |cfg: &mut web::ServiceConfig| {
        for path in ["/api/v1/who", "/v1/who", "/v1/messages", "/metrics", "/healthz"] {
            cfg.route(path, web::get().to(whoami));
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

/// A07, A10: a request without a token, with an invalid or huge token, with two tokens, or with a token in the query
/// gets 401 on every path, also on unknown paths.
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
    // Errors of actix are in the dialect, too.
    assert_eq!(known("/api/v1/none").await.1, r#"{"error":"not found","code":"not_found"}"#);
    assert!(known("/v1/json").await.1.contains(r#""type":"invalid_request_error""#));
    let (status, said) = known("/admins").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        said.contains("for admins only, and you are ") && said.contains(r#""code":"forbidden""#),
        "{said}"
    );
    // A token that is not valid is not taken for none.
    let wrong = answer(|_| get("/v1/who").insert_header(("authorization", "Bearer vlt_wrong"))).await;
    assert!(wrong.0 == 401 && wrong.1.contains("this token is wrong, expired or revoked"), "{wrong:?}");
}

#[actix_web::test]
async fn a_handler_on_a_path_without_authentication_gets_no_caller() {
    // The handler of `/healthz` in this app extracts a caller, and there is none.
    assert_eq!(
        answer(|t| get("/healthz").insert_header(("authorization", format!("Bearer {t}")))).await.0,
        401
    );
}
