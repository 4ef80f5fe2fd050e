//! Users that guess names, and clients that guess tokens.

use super::*;
use crate::tests::publisher::private;

/// A09, A27: a user that guesses names by registering them gets 429 after some refusals, for free and taken names alike;
/// another user is served, and a metric counts the refusals.
#[actix_rt::test]
async fn a_user_that_guesses_names_gets_429_for_free_and_taken_names() {
    let hub = hub().await;
    let (alice, eve) = (hub.member("alice").await, hub.member("eve").await);
    let register = async |token: &str, name: &str| {
        let provider = private(provider(name));
        let body = json!({ "providers": [provider] }).to_string();
        hub.ask_as(token, "POST", "/api/v1/llms/_provider-register").body(body).json().await
    };
    let agent = async |name: &str| {
        let body = json!({ "name": name, "llmName": "a" }).to_string();
        hub.ask_as(&eve, "POST", "/api/v1/agents").body(body).json().await.0
    };
    assert_eq!(register(&alice, "secret-project").await.0, 201);
    let begin = tokio::time::Instant::now();
    let mut answered = 0;
    for number in 0..2000 {
        let refused = match number % 4 {
            0 => register(&eve, "secret-project").await.0,
            1 => register(&eve, "No Name").await.0,
            2 => hub.ask_as(&eve, "POST", "/api/v1/llms/_provider-register").body("{").send().await.0,
            _ => agent("No Agent").await,
        };
        if refused == 429 {
            break;
        }
        assert!([409, 400].contains(&refused), "{refused}");
        answered += 1;
    }
    let forgiven = begin.elapsed().as_secs() * 4 + 8;
    assert!((256..=256 + forgiven).contains(&answered), "{answered} in {:?}", begin.elapsed());
    let mut free = Vec::new();
    for number in 0..20 {
        let (status, answer) = register(&eve, &format!("free-{number}")).await;
        free.push(status);
        if status == 429 {
            let text = answer["error"].as_str().unwrap();
            assert!(text.starts_with("too many of your calls to register or create were refused"), "{text}");
        }
    }
    assert!(free.contains(&429), "free names are never refused: {free:?}");
    assert_eq!(register(&alice, "secret-project-2").await.0, 201, "another user is refused");
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(!metrics.contains("virtual_llm_naming_calls_refused_total 0"), "{metrics}");
    hub.stop().await;
}

/// A27: calls that began before the limit was reached count, too.
#[actix_rt::test]
async fn parallel_guesses_of_names_do_not_exceed_the_limit() {
    const CALLS: usize = 400;

    let hub = hub().await;
    let (alice, eve) = (hub.member("alice").await, hub.member("eve").await);
    let taken = json!({ "providers": [provider("secret-project")] }).to_string();
    let registered = hub.ask_as(&alice, "POST", "/api/v1/llms/_provider-register").body(taken).send().await;
    assert_eq!(registered.0, 201);
    let mut begun = Vec::new();
    for number in 0..CALLS {
        let guess = private(provider(&format!("guess-{number}")));
        let (path, body) = if number % 2 == 0 {
            let both = json!({ "providers": [guess, provider("secret-project")] });
            ("/api/v1/llms/_provider-register", both.to_string())
        } else {
            ("/api/v1/agents", json!({ "name": "secret-project", "llmName": "a" }).to_string())
        };
        let mut stream = TcpStream::connect(hub.addr).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {eve}\r\ncontent-length: {}\r\n\r\n{{",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        begun.push((stream, body));
    }
    let watched = async || hub.ask("GET", "/healthz").send().await.0 == 200;
    eventually("the heads are read", watched).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begin = tokio::time::Instant::now();
    let (mut answered, mut refused) = (0, 0);
    for (mut stream, body) in begun {
        stream.write_all(&body.as_bytes()[1..]).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        match &head {
            b"HTTP/1.1 409" => answered += 1,
            b"HTTP/1.1 429" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    // A call charges for two names and for one name in turn, so that 2/3 of the budget are calls.
    let allowed = (256 + begin.elapsed().as_secs() * 4) * 2 / 3 + 2;
    assert!(
        answered <= allowed && answered + refused == CALLS as u64,
        "{answered} of {CALLS}, {allowed} are allowed"
    );
    hub.stop().await;
}

/// A09: an address that guesses tokens gets 429; a valid token from the same address is always accepted.
#[actix_rt::test]
async fn an_address_that_guesses_tokens_gets_429() {
    let hub = hub().await;
    let wrong = hub.ask_as("vlt_guess", "GET", "/v1/models");
    let mut refused = wrong.send().await;
    assert_eq!(refused.0, 401);
    for _ in 0..3000 {
        if refused.0 == 429 {
            break;
        }
        refused = wrong.send().await;
    }
    assert_eq!(refused.0, 429, "{}", refused.1);
    assert!(refused.1.contains("rate_limit_exceeded"));
    assert!(
        wrong.open().await.head.contains("connection: close"),
        "the connection stays open after a refused guess"
    );
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("limit_refusals_total{limit=\"wrong_tokens\"} 2\n"), "{metrics}");
    assert_eq!(hub.ask("GET", "/v1/models").send().await.0, 200);
    // A request without a token is not a guess.
    assert_eq!(crate::tests::http::ask(hub.addr, "GET", "/v1/models").send().await.0, 401);
    let _publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    assert_ne!(infer(&hub, "nobody", false).send().await.0, 429);
    hub.stop().await;
}
