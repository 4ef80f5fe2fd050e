//! A backend that is reached through the proxy of its provider.

use super::programs::{readable_folder, squid};
use super::*;

/// A hub on this machine, and a home whose provider's backend only `proxy` reaches.
async fn hub_and_remote_backend(proxy: &str) -> (Home, Process, FakeBackend) {
    let (home, hub, port) = listening_hub().await;
    let backend = FakeBackend::start();
    home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    let url = format!("http://{NAME}:{}/v1", backend.port());
    home.providers(&json!([
        { "name": "local", "type": "openai", "model": "fake-model", "url": url, "publish": true, "proxy": proxy }
    ]));
    (home, hub, backend)
}

/// Starts a registrar, and waits until its LLM may be called: a row is active a moment after its channel is open.
async fn serving_registrar(home: &Home) -> Process {
    let registrar = connected_registrar(home).await;
    eventually("the row is active", async || {
        home.run(&["get", "llm", "local", "-o", "json"]).await.stdout.contains("\"active\"")
    })
    .await;
    registrar
}

#[actix_rt::test]
async fn a_backend_is_reached_through_its_providers_proxy_alone() {
    let proxy = ConnectProxy::start();
    proxy.answers(Answer::TunnelFor(BASIC.to_owned()));
    let url = format!("http://user:pass%20word@127.0.0.1:{}", proxy.port());
    let (home, _hub, backend) = hub_and_remote_backend(&url).await;
    let registrar = serving_registrar(&home).await;
    backend.script(|script| script.pace = Duration::from_millis(50));
    let asked = home.run(&["chat-llm", "local", "-m", "hi"]).await;
    assert_eq!((asked.code(), pieces(&asked.stdout).as_str()), (0, "t0 t1 t2"), "{asked:?}");
    let check = home.run(&["check"]).await;
    assert_eq!(check.code(), 0, "{check:?}");
    let named = format!("the proxy 127.0.0.1:{} opens a tunnel to the backend", proxy.port());
    assert!(
        check.stdout.contains(&named) && check.stdout.contains("answers and has fake-model"),
        "{check:?}"
    );
    let target = format!("{NAME}:{}", backend.port());
    let requests = proxy.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.method == "CONNECT" && request.target == target));
    for text in [&asked.stderr, &check.stdout, &registrar.stderr()] {
        assert!(!text.contains("pass") && !text.contains(BASIC), "{text}");
    }
}

/// F91: of a provider's proxy.
#[actix_rt::test]
async fn a_failing_proxy_of_a_provider_is_named_without_its_backend() {
    let proxy = ConnectProxy::start();
    proxy.answers(Answer::TunnelFor(BASIC.to_owned()));
    let url = format!("http://user:canary@127.0.0.1:{}", proxy.port());
    let (home, _hub, _backend) = hub_and_remote_backend(&url).await;
    let registrar = connected_registrar(&home).await;
    registrar.logs("does not accept the user and password in llm.providers[0].proxy (407)").await;
    let asked = home.run(&["chat-llm", "local", "-m", "hi"]).await;
    assert_eq!(asked.code(), 1, "{asked:?}");
    let check = home.run(&["check"]).await;
    assert_eq!(check.code(), 1, "{check:?}");
    assert!(check.stdout.contains("error  local: the proxy 127.0.0.1:"), "{check:?}");
    for text in [&asked.stderr, &check.stdout, &registrar.stderr()] {
        assert!(!text.contains("canary"), "{text}");
    }
    assert!(!registrar.stderr().contains(NAME) && !asked.stderr.contains(NAME), "{asked:?}");
}

#[actix_rt::test]
async fn squid_opens_tunnels_to_a_backend() {
    if !Path::new("/usr/sbin/squid").exists() {
        return skipped("a backend behind Squid, which is not here");
    }
    let (folder, port) = (readable_folder(), free_port());
    let _squid = squid(folder.path(), port, "");
    eventually("Squid listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let (home, _hub, backend) = hub_and_remote_backend(&format!("http://127.0.0.1:{port}")).await;
    let _registrar = serving_registrar(&home).await;
    backend.script(|script| script.pace = Duration::from_millis(50));
    let asked = home.run(&["chat-llm", "local", "-m", "hi"]).await;
    assert_eq!((asked.code(), pieces(&asked.stdout).as_str()), (0, "t0 t1 t2"), "{asked:?}");
}
