//! A hub that only a proxy reaches: its name is unknown to this machine.

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
    assert_eq!(proxy.requests().len(), 3);
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

/// Squid, the usual proxy of offices, on this port. It knows the hub's name from a file.
fn squid(folder: &Path, port: u16, more: &str) -> Killed {
    std::fs::write(folder.join("hosts"), format!("127.0.0.1 {NAME}\n")).unwrap();
    let at = folder.display();
    let config = format!(
        "http_port 127.0.0.1:{port}\nhosts_file {at}/hosts\npid_filename none\ncoredump_dir none\naccess_log none\n\
         cache_log /dev/null\ncache_store_log none\nnetdb_filename none\ncache_mem 8 MB\nmax_filedescriptors 1024\n\
         visible_hostname office\nshutdown_lifetime 0 seconds\npinger_enable off\n{more}\nhttp_access allow all\n"
    );
    let file = folder.join("squid.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = std::process::Command::new("/usr/sbin/squid");
    command.arg("-N").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Killed::spawn(&mut command)
}

/// Squid drops root and reads its files as another user.
fn readable_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[actix_rt::test]
async fn squid_opens_tunnels_for_a_registrar_and_its_commands() {
    if !Path::new("/usr/sbin/squid").exists() {
        return skipped("a hub behind Squid, which is not here");
    }
    let certificate = Certificate::own_authority(NAME, (2020, 2090));
    let (office, folder, port) = (Office::new(Some(&certificate)).await, readable_folder(), free_port());
    let _squid = squid(folder.path(), port, "");
    eventually("Squid listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let https = office.url("https");
    office.knows(Some(("mcpdUrl", &https)));
    let ca = office.home.path().join("hub.pem");
    let (url, ca) = (format!("http://127.0.0.1:{port}"), ca.to_str().unwrap().to_owned());
    let environment = [("HTTPS_PROXY", url.as_str())];
    let registrar = office.publish(&environment, &["--ca-file", &ca]);
    registrar.logs("control channel open").await;
    let asked = office.run(&environment, &["chat-llm", "local", "-m", "hi", "--ca-file", &ca]).await;
    assert_eq!(pieces(&asked.stdout), "t0 t1 t2", "{asked:?}");
    let check = office.run(&environment, &["check", "--ca-file", &ca]).await;
    assert!(check.stdout.contains("accepts the token") && check.stdout.contains("1 MB up in"), "{check:?}");
}

/// tinyproxy on this port, with a password. It asks a proxy at `upstream` that knows the hub's name.
fn tinyproxy(folder: &Path, port: u16, upstream: u16) -> Option<Killed> {
    let config = format!(
        "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Error\n\
         BasicAuth user password\nUpstream http 127.0.0.1:{upstream}\n"
    );
    let file = folder.join("tinyproxy.conf");
    std::fs::write(&file, config).unwrap();
    let program =
        ["/usr/bin/tinyproxy", "/usr/sbin/tinyproxy"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        skipped("a hub behind tinyproxy, which is not here");
        return None;
    };
    let mut command = std::process::Command::new(program);
    command.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Some(Killed::spawn(&mut command))
}

#[actix_rt::test]
async fn tinyproxy_carries_a_link_by_connect() {
    let (folder, port, upstream) = (readable_folder(), free_port(), ConnectProxy::start());
    let Some(_tinyproxy) = tinyproxy(folder.path(), port, upstream.port()) else { return };
    eventually("tinyproxy listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let office = Office::new(None).await;
    let url = format!("http://user:password@127.0.0.1:{port}");
    let environment = [("http_proxy", url.as_str())];
    let registrar = office.publish(&environment, &[]);
    registrar.logs("control channel open").await;
    let status = office.run(&[], &["status"]).await;
    assert!(status.stdout.contains("link: one WebSocket"), "{status:?}");
    office.backend.script(|script| script.pace = Duration::from_millis(50));
    let asked = office.run(&environment, &["chat-llm", "local", "-m", "hi"]).await;
    assert_eq!((asked.code(), pieces(&asked.stdout).as_str()), (0, "t0 t1 t2"), "{asked:?}");
    let check = office.run(&environment, &["check"]).await;
    assert!(
        check.stdout.contains("with user and password") && check.stdout.contains("1 MB up in"),
        "{check:?}"
    );
    let without = format!("http://127.0.0.1:{port}");
    let refused = office.run(&[("http_proxy", &without)], &["check"]).await;
    assert!(refused.code() == 1 && refused.stdout.contains("(407)"), "{refused:?}");
}
