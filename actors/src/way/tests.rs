//! What `check` says of a hub, or of what stands before it, that a script plays.

use actix_http::ws::hash_key;
use testkit::connection::{Connection, answer};
use testkit::peer::Peer;

use super::*;
use crate::{Credentials, Secret};

/// What the script does after the request.
#[derive(Clone, Copy)]
enum Script {
    Answer(&'static str),
    /// Upgrades, and sends these bytes.
    Upgrade(&'static [u8]),
}

async fn serve(mut connection: Connection, script: Script) -> std::io::Result<()> {
    let request = connection.head().await?;
    assert_eq!(request.path(), "/api/v1/llms/_provider-echo");
    assert_eq!(request.header("x-mcpctl-provider-session"), None, "an echo is of no session");
    match script {
        Script::Answer(text) => connection.write(text).await,
        Script::Upgrade(bytes) => {
            let key = hash_key(request.header("sec-websocket-key").unwrap().as_bytes());
            let key = String::from_utf8_lossy(&key).into_owned();
            connection
                .write(format!(
                    "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {key}\r\n\
                     sec-websocket-protocol: virtual-llm.echo.1\r\n\r\n"
                ))
                .await?;
            connection.write(bytes).await
        }
    }
}

async fn found(script: Script) -> Vec<Finding> {
    let peer = Peer::start(async move |connection| serve(connection, script).await);
    web_socket(&Credentials::new(peer.url(), Secret::new("t"))).await
}

#[actix::test]
async fn a_hub_without_an_echo_is_no_warning() {
    for status in [404, 200] {
        let findings = found(Script::Answer(answer(status, "", "{}").leak())).await;
        assert_eq!(findings, [Finding::ok("WebSocket: a test of it is not offered by this hub")]);
    }
}

/// F82: also of a proxy that names itself.
#[actix::test]
async fn an_upgrade_that_does_not_pass_is_a_warning_with_the_proxys_lines() {
    for (answer, words, line) in [
        (
            answer(426, "server: nginx/1.22.1\r\n", "{}"),
            "removes the upgrade ('nginx/1.22.1' answers)",
            "$http_upgrade;",
        ),
        (answer(426, "", "{}"), "removes the upgrade", "del-header Upgrade"),
        (answer(403, "server: Apache/2.4\r\n", "no"), "HTTP 403", "upgrade=websocket"),
        (
            "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned(),
            "another protocol",
            "ProxyPass",
        ),
        ("220 mail.example ESMTP\r\n\r\n".to_owned(), "breaks off", "ProxyPass"),
    ] {
        let findings = found(Script::Answer(answer.leak())).await;
        let [finding] = findings.as_slice() else { panic!("{findings:?}") };
        assert!(finding.level == Level::Warning && finding.text.contains(words), "{finding:?}");
        let advice = finding.advice.join("\n");
        assert!(advice.contains(line) && advice.contains("SSE and POSTs"), "{advice}");
    }
}

#[actix::test]
async fn a_refusal_of_the_hub_is_a_warning_in_its_words() {
    let text: &'static str = answer(429, "", r#"{"error":"you have 2 echoes under way already"}"#).leak();
    let findings = found(Script::Answer(text)).await;
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert!(finding.level == Level::Warning && finding.text.contains("2 echoes under way"), "{finding:?}");
}

#[actix::test]
async fn a_web_socket_that_is_cut_is_a_warning() {
    // A binary message "hello", and a close frame (1008) with a reason.
    for (bytes, words) in [
        (b"\x82\x05hello".as_slice(), "a small frame did not pass"),
        (b"\x82\x05other", "the first frame is not the hub's"),
        (b"", "the first frame did not come"),
        (b"\x82\x05hello\x88\x0a\x03\xf0too late", "the hub ended it: too late"),
    ] {
        let findings = found(Script::Upgrade(bytes)).await;
        let last = findings.last().unwrap();
        assert!(last.level == Level::Warning && last.text.contains(words), "{findings:?}");
        assert!(findings[0].text.contains("opens (101)"), "{findings:?}");
    }
}
