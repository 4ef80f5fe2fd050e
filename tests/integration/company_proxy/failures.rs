//! Proxies that fail, and what says so.

use super::*;

/// Each way in which a proxy can fail, with what the user is told.
fn failures(proxy: &ConnectProxy) -> [(Answer, Vec<String>); 7] {
    let own = format!("the proxy 127.0.0.1:{}", proxy.port());
    let status = |status: u16| Answer::Bytes(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
    let negotiate =
        "HTTP/1.1 407 X\r\nproxy-authenticate: Negotiate\r\nproxy-authenticate: NTLM\r\n\r\n".to_owned();
    let words = |words: &[&str]| [&[own.as_str()], words].concat().iter().map(ToString::to_string).collect();
    [
        (Answer::TunnelFor(BASIC.to_owned()), words(&["user and a password (407)", "http_proxy"])),
        (Answer::Bytes(negotiate), words(&["407", "Basic"])),
        (status(403), words(&["answered 403", "port 443 only"])),
        (status(502), words(&["answered 502", "cannot reach that host"])),
        (status(504), words(&["answered 504", "cannot reach that host"])),
        (Answer::Closed, words(&["closed the connection"])),
        (Answer::Bytes("220 mail.example ESMTP\r\n\r\n".to_owned()), words(&["is not HTTP"])),
    ]
}

/// F91: the error names proxy, step and setting.
#[actix_rt::test]
async fn a_failing_proxy_is_named_with_its_step_and_what_to_change() {
    let (office, proxy) = (Office::new(None).await, ConnectProxy::start());
    let url = proxy.url();
    let environment = [("http_proxy", url.as_str())];
    for (answer, words) in failures(&proxy) {
        proxy.answers(answer.clone());
        let get = office.run(&environment, &["get", "llm"]).await;
        let check = office.run(&environment, &["check"]).await;
        assert_eq!((get.code(), check.code()), (1, 1), "{answer:?}");
        assert!(check.stdout.contains("accepts connections"), "{check:?}");
        for text in [&get.stderr, &check.stdout] {
            assert!(words.iter().all(|word| text.contains(word)), "{answer:?} {words:?}: {text}");
        }
    }
    let nobody = format!("http://user:canary@127.0.0.1:{}", free_port());
    let check = office.run(&[("http_proxy", &nobody)], &["check"]).await;
    assert!(check.stdout.contains("cannot connect to the proxy 127.0.0.1:"), "{check:?}");
    assert!(check.stdout.contains("(of http_proxy)") && !check.stdout.contains("canary"), "{check:?}");
    let socks = office.run(&[("all_proxy", "socks5://user:canary@127.0.0.1:1")], &["get", "llm"]).await;
    assert_eq!(socks.code(), 2, "{socks:?}");
    assert!(socks.stderr.contains("SOCKS proxy is not supported") && socks.stderr.contains("all_proxy"));
    assert!(!socks.stderr.contains("canary"), "{socks:?}");
}

/// F91: a refusal.
#[actix_rt::test]
async fn a_registrar_whose_proxy_refuses_tries_again_slowly_and_says_so() {
    let (office, proxy) = (Office::new(None).await, ConnectProxy::start());
    proxy.answers(Answer::TunnelFor(BASIC.to_owned()));
    let url = format!("http://user:canary@127.0.0.1:{}", proxy.port());
    let registrar = office.publish(&[("http_proxy", &url)], &[]);
    registrar.logs("does not accept the user and password in http_proxy (407); next try in 60").await;
    let status = office.run(&[], &["status"]).await;
    assert!(status.stdout.contains("refused"), "{status:?}");
    assert!(status.stdout.contains(&format!("the proxy 127.0.0.1:{}", proxy.port())), "{status:?}");
    assert!(!status.stdout.contains("canary") && !registrar.stderr().contains("canary"));
    assert_eq!(proxy.requests().len(), 1);
}

/// F91: another failure.
#[actix_rt::test]
async fn a_proxy_that_fails_for_a_while_is_tried_again_at_once() {
    let (office, proxy) = (Office::new(None).await, ConnectProxy::start());
    proxy.answers(Answer::Closed);
    let registrar = office.publish(&[("http_proxy", &proxy.url())], &[]);
    registrar.logs("closed the connection before it answered CONNECT").await;
    proxy.answers(Answer::Tunnel);
    registrar.logs("control channel open").await;
}
