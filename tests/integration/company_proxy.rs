//! A hub that only a proxy reaches: its name is unknown to this machine.

mod failures;
mod programs;
mod providers;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::certificate::Certificate;
use testkit::connect_proxy::{Answer, ConnectProxy};
use testkit::http::Http;
use testkit::process::{Home, Killed, Outcome, Process};
use testkit::team::{ADMIN, connected_registrar, listening_hub, start_hub_with};
use testkit::wait::{eventually, wait_until};
use testkit::{free_port, skipped};

/// The name of the hub, under a domain that no resolver knows (RFC 6761).
const NAME: &str = "hub.example.test";

/// `user:pass word`.
const BASIC: &str = "Basic dXNlcjpwYXNzIHdvcmQ=";

/// A hub and the home of a registrar that knows it by its name alone.
struct Office {
    home: Home,
    _hub: Process,
    port: u16,
    backend: FakeBackend,
    http: Http,
}

impl Office {
    async fn new(tls: Option<&Certificate>) -> Self {
        let (home, port, backend) = (Home::new(), free_port(), FakeBackend::start());
        let mut options = Vec::new();
        if let Some(certificate) = tls {
            let (cert, key) = certificate.write_to(home.path(), "hub");
            let files = [cert, key].map(|path| path.to_str().unwrap().to_owned());
            options.extend([
                "--tls-cert".to_owned(),
                files[0].clone(),
                "--tls-key".to_owned(),
                files[1].clone(),
            ]);
        }
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let hub = start_hub_with(&home, port, &options);
        hub.logs("listens on").await;
        home.providers(&json!([
            { "name": "local", "type": "openai", "model": "fake-model", "url": backend.url(), "publish": true }
        ]));
        let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
        let office = Self { home, _hub: hub, port, backend, http };
        office.knows(None);
        office
    }

    /// Writes the credentials file, for `http://` unless a key changes that.
    fn knows(&self, more: Option<(&str, &str)>) {
        let mut file = json!({ "mcpdUrl": self.url("http"), "token": ADMIN, "allowInsecure": true });
        if let Some((key, value)) = more {
            file[key] = value.into();
        }
        self.home.write("credentials", &file.to_string());
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{NAME}:{}", self.port)
    }

    fn publish(&self, environment: &[(&str, &str)], options: &[&str]) -> Process {
        let usual = [
            "publish",
            "--heartbeat-interval",
            "300ms",
            "--reconnect-base",
            "50ms",
            "--reconnect-max",
            "200ms",
        ];
        let mut command = self.home.command(&[&usual, options].concat());
        command.envs(environment.iter().copied());
        Process::new(command.spawn().unwrap())
    }

    async fn run(&self, environment: &[(&str, &str)], args: &[&str]) -> Outcome {
        let mut command = self.home.command(args);
        command.envs(environment.iter().copied());
        Process::new(command.spawn().unwrap()).end().await
    }
}

/// The texts of a stream's pieces.
fn pieces(stdout: &str) -> String {
    stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[actix_rt::test]
async fn registrar_and_commands_reach_the_hub_through_the_proxy_alone() {
    let (office, proxy) = (Office::new(None).await, ConnectProxy::start());
    proxy.answers(Answer::TunnelFor(BASIC.to_owned()));
    let url = format!("http://user:pass%20word@127.0.0.1:{}", proxy.port());
    let environment = [("http_proxy", url.as_str())];
    let registrar = office.publish(&environment, &[]);
    registrar.logs("control channel open").await;

    office.backend.script(|script| script.pace = Duration::from_millis(50));
    let asked = office.run(&environment, &["chat-llm", "local", "-m", "hi"]).await;
    assert_eq!((asked.code(), pieces(&asked.stdout).as_str()), (0, "t0 t1 t2"), "{asked:?}");
    let whole = office.run(&environment, &["chat-llm", "local", "--no-stream", "-m", "hi"]).await;
    assert!(whole.stdout.contains("hello from the backend"), "{whole:?}");
    let listed = office.run(&environment, &["get", "llm"]).await;
    assert!(listed.stdout.contains("local"), "{listed:?}");
    let status = office.run(&[], &["status"]).await;
    assert!(status.stdout.contains(&format!("Proxy       127.0.0.1:{}", proxy.port())), "{status:?}");
    eventually("heartbeats arrive", async || {
        let row = office.http.get("/api/v1/llms/local").await.json();
        row["status"] == "active"
    })
    .await;

    let target = format!("{NAME}:{}", office.port);
    let requests = proxy.requests();
    assert!(requests.iter().all(|request| request.method == "CONNECT" && request.target == target));
    assert!(requests.iter().all(|request| request.header("host") == Some(&target)));
    for text in [&asked.stderr, &whole.stderr, &listed.stderr, &status.stdout, &registrar.stderr()] {
        assert!(!text.contains("pass") && !text.contains(BASIC), "{text}");
    }
    // A request that went past the proxy would not have found the name.
    let unproxied = office.run(&[], &["get", "llm"]).await;
    assert_eq!(unproxied.code(), 1, "{unproxied:?}");
}

#[actix_rt::test]
async fn a_streamed_answer_passes_token_by_token() {
    let (office, proxy) = (Office::new(None).await, ConnectProxy::start());
    let registrar = office.publish(&[("http_proxy", &proxy.url())], &[]);
    registrar.logs("control channel open").await;
    office.backend.script(|script| {
        script.tokens = 100_000;
        script.pace = Duration::from_millis(20);
    });
    let stream = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let mut response = office.http.open(awc::http::Method::POST, "/v1/chat/completions", Some(stream)).await;
    // The backend never ends it: what is read here was passed on while the answer was under way.
    let mut read = String::new();
    while !read.contains("t20 ") {
        let piece = futures_util::StreamExt::next(&mut response).await.unwrap().unwrap();
        read.push_str(&String::from_utf8_lossy(&piece));
    }
    drop(response);
    wait_until("the caller's leave reaches the backend", || office.backend.open() == 0).await;
}

#[actix_rt::test]
async fn an_https_hub_is_reached_with_its_own_certificate_through_the_proxy() {
    let certificate = Certificate::own_authority(NAME, (2020, 2090));
    let (office, proxy) = (Office::new(Some(&certificate)).await, ConnectProxy::start());
    let ca = office.home.path().join("hub.pem");
    let https = office.url("https");
    office.knows(Some(("mcpdUrl", &https)));
    let (url, ca) = (proxy.url(), ca.to_str().unwrap().to_owned());
    let environment = [("HTTPS_PROXY", url.as_str())];
    let registrar = office.publish(&environment, &["--ca-file", &ca]);
    registrar.logs("control channel open").await;
    office.backend.script(|script| script.pace = Duration::from_millis(20));
    let asked = office.run(&environment, &["chat-llm", "local", "-m", "hi", "--ca-file", &ca]).await;
    assert_eq!(pieces(&asked.stdout), "t0 t1 t2", "{asked:?}");
    let checked = office.run(&environment, &["check", "--ca-file", &ca]).await;
    for step in [
        "accepts connections",
        "opens a tunnel to",
        "has a valid certificate",
        &format!("its certificate is for {NAME}, from '"),
        "accepts the token",
        "the token is of admin (admin); the hub is version",
        "opens (101)",
        "1 MB up in",
    ] {
        assert!(checked.stdout.contains(step), "{step}: {checked:?}");
    }
    let distrusted = office.run(&environment, &["check"]).await;
    assert!(distrusted.stdout.contains("opens a tunnel to"), "{distrusted:?}");
    let reason = format!("through the proxy 127.0.0.1:{}: its certificate is not accepted", proxy.port());
    assert!(distrusted.stdout.contains(&reason), "{distrusted:?}");
    assert!(
        distrusted.stdout.contains(&format!("; the certificate is for {NAME}, from '")),
        "{distrusted:?}"
    );
}

#[actix_rt::test]
async fn option_precedes_credentials_file_and_that_precedes_the_environment() {
    let office = Office::new(None).await;
    let proxies = [ConnectProxy::start(), ConnectProxy::start(), ConnectProxy::start()];
    let urls = proxies.each_ref().map(ConnectProxy::url);
    let environment = [("http_proxy", urls[2].as_str()), ("no_proxy", "*")];
    let counts = || proxies.each_ref().map(|proxy| proxy.requests().len());
    office.knows(Some(("proxy", &urls[1])));
    let args = ["get", "llm", "--proxy", &urls[0]];
    assert_eq!(office.run(&environment, &args).await.code(), 0);
    assert_eq!(counts(), [1, 0, 0]);
    assert_eq!(office.run(&environment, &args[..2]).await.code(), 0);
    assert_eq!(counts(), [1, 1, 0]);
    office.knows(None);
    assert_eq!(office.run(&environment, &args[..2]).await.code(), 1, "NO_PROXY has every host");
    assert_eq!(office.run(&environment[..1], &args[..2]).await.code(), 0);
    assert_eq!(counts(), [1, 1, 1]);
    assert_eq!(office.run(&environment[..1], &["get", "llm", "--proxy", ""]).await.code(), 1);
    office.knows(Some(("proxy", "")));
    assert_eq!(office.run(&environment[..1], &args[..2]).await.code(), 1);
    assert_eq!(counts(), [1, 1, 1]);
}

#[actix_rt::test]
async fn login_keeps_the_proxy_of_its_option() {
    let (office, proxy) = (Office::new(None).await, ConnectProxy::start());
    let (hub, token) = (office.url("http"), office.home.write("token", ADMIN));
    let (token, url) = (token.to_str().unwrap(), proxy.url());
    let login = ["login", &hub, "--token-file", token, "--allow-insecure", "--proxy", &url];
    let outcome = office.run(&[], &login).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(office.run(&[], &["get", "llm"]).await.code(), 0);
    // A later login has the proxy of the file.
    let outcome = office.run(&[], &login[..5]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    // Each login checks the token, and asks whose it is.
    assert_eq!(proxy.requests().len(), 5);
}

#[actix_rt::test]
async fn a_hub_or_a_backend_on_this_machine_is_reached_without_the_proxy() {
    let (office, proxy) = (Office::new(None).await, ConnectProxy::start());
    let url = proxy.url();
    let environment = [("http_proxy", url.as_str()), ("https_proxy", &url), ("all_proxy", &url)];
    office.home.credentials(&format!("http://localhost:{}", office.port), ADMIN);
    let registrar = office.publish(&environment, &["--proxy", &url]);
    registrar.logs("control channel open").await;
    let asked = office.run(&environment, &["chat-llm", "local", "-m", "hi"]).await;
    assert_eq!(pieces(&asked.stdout), "t0 t1 t2", "{asked:?}");
    assert_eq!(proxy.requests().len(), 0);
    let status = office.run(&[], &["status", "-o", "json"]).await;
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["proxy"], Value::Null);
}
