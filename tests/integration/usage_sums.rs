//! Who used how much: the sums of days, against what the backends reported.

mod backend;
mod calls;

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, connected_registrar, start_hub};
use testkit::wait::{eventually, port_is_free, wait_for};
use testkit::{free_port, peer::Peer};

use self::backend::{Ending, Reported, Shared};
use self::calls::Call;

/// Calls under way at once.
const AT_ONCE: usize = 8;

/// A hub, a registrar with the two members of a pool, a row that the hub calls itself, and two users with two tokens each.
struct Scene {
    home: Home,
    port: u16,
    hub: Process,
    _registrar: Process,
    _backends: [Peer; 3],
    ledger: Shared,
    admin: Http,
    /// User, token id, client.
    callers: Vec<(&'static str, String, Http)>,
}

impl Scene {
    async fn start() -> Self {
        let (home, port, ledger) = (Home::new(), free_port(), Shared::default());
        let backends =
            [backend::start(&ledger, true), backend::start(&ledger, false), backend::start(&ledger, false)];
        let url = format!("http://127.0.0.1:{port}");
        home.credentials(&url, ADMIN);
        let provider = |name: &str, backend: &Peer| {
            json!({ "name": name, "type": "openai", "model": name, "url": format!("{}/v1", backend.url()),
                "publish": true, "poolName": "pool", "maxConcurrency": 16, "visibility": "public" })
        };
        home.providers(&json!([provider("one", &backends[0]), provider("two", &backends[1])]));
        let hub = start_hub(&home, port);
        hub.logs("listens on").await;
        let admin = Http::new(&url, ADMIN);
        let up = json!({ "name": "up", "type": "openai", "model": "up", "url": format!("{}/v1", backends[2].url()) });
        assert_eq!(admin.post("/api/v1/llms", &up).await.status, 201);
        let mut callers = Vec::new();
        for user in ["alice", "alice", "bob", "bob"] {
            let made = admin.post("/api/v1/tokens", &json!({ "user": user })).await.json();
            let text = |key: &str| made[key].as_str().unwrap().to_owned();
            callers.push((user, text("id"), Http::new(&url, &text("token"))));
        }
        let registrar = connected_registrar(&home).await;
        let scene =
            Self { home, port, hub, _registrar: registrar, _backends: backends, ledger, admin, callers };
        scene.is_ready().await;
        scene
    }

    async fn is_ready(&self) {
        eventually("the pool is there", async || {
            let rows = self.admin.get("/api/v1/llms").await.body;
            rows.matches(r#""status":"active""#).count() == 3
        })
        .await;
    }

    /// Makes the calls with these numbers. Returns how many of them did not succeed.
    async fn calls(&self, numbers: std::ops::Range<usize>) -> usize {
        let make = |id: usize| {
            let call = Call::number(id);
            let failed = !matches!(call.ending(), Ending::Whole | Ending::Refused);
            let (_, _, http) = &self.callers[call.id() % self.callers.len()];
            async move {
                call.make(http, &self.ledger).await;
                usize::from(failed)
            }
        };
        stream::iter(numbers).map(make).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.iter().sum()
    }

    async fn usage(&self, by: &str) -> Value {
        self.admin.get(&format!("/api/v1/usage?by={by}&since=1d")).await.json()
    }

    /// What the backends reported, by what `of` says of a call: its number and its model.
    fn reported(&self, of: impl Fn(usize, &str) -> String) -> BTreeMap<String, Reported> {
        let mut sums = BTreeMap::<String, Reported>::new();
        for (id, model, reported) in &self.ledger.borrow().reported {
            sums.entry(of(*id, model)).or_default().add(*reported);
        }
        sums
    }

    /// Compares the sums of the hub with what the backends reported.
    async fn check(&self, calls: usize, failed: usize) {
        wait_for("all calls are counted", || async {
            (self.usage("user").await["total"]["calls"] == calls).then_some(())
        })
        .await;
        let caller = |id: usize| &self.callers[id % self.callers.len()];
        for (by, expected) in [
            ("user", self.reported(|id, _| caller(id).0.to_owned())),
            ("token", self.reported(|id, _| caller(id).1.clone())),
            ("llm", self.reported(|_, model| model.to_owned())),
            ("day", self.reported(|_, _| "all".to_owned())),
        ] {
            let usage = self.usage(by).await;
            let mut found = BTreeMap::<String, Reported>::new();
            for row in usage["rows"].as_array().unwrap() {
                let name = row[by].as_str().unwrap();
                let count = |key: &str| row[key].as_u64().unwrap();
                let numbers = Reported {
                    input: count("inputTokens"),
                    cached: count("cachedTokens"),
                    output: count("outputTokens"),
                    counted: count("countedTokens"),
                };
                found.entry(if by == "day" { "all" } else { name }.to_owned()).or_default().add(numbers);
            }
            // A call that every member refused is one of the pool.
            found.retain(|_, reported| *reported != Reported::default());
            assert_eq!(found, expected, "by {by}: {usage}");
            assert_eq!(usage["total"]["calls"], calls, "{usage}");
            let failures = usage["total"]["failures"].as_object().unwrap();
            // Those that failed, and those whose caller left.
            let failures: u64 = failures.values().filter_map(Value::as_u64).sum();
            let cancelled = usage["total"]["cancelled"].as_u64().unwrap();
            assert_eq!(failures + cancelled, failed as u64, "{usage}");
        }
    }

    async fn restart(&mut self, signal: Signal) {
        self.hub.signal(signal);
        self.hub.ended().await;
        port_is_free(self.port).await;
        self.hub = start_hub(&self.home, self.port);
        self.hub.logs("listens on").await;
        self.is_ready().await;
    }
}

/// F66, F76: the sums have each call of each dialect once, with the tokens that backends reported, by user, token, LLM and day. A
/// stream whose caller left, or that broke off, has the pieces that were sent. Neither a stop nor SIGKILL changes a sum.
#[actix_rt::test]
async fn sums_are_what_the_backends_reported_to_the_token() {
    let calls = std::env::var("USAGE_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(600);
    let mut scene = Scene::start().await;
    let mut failed = scene.calls(0..calls / 2).await;
    scene.check(calls / 2, failed).await;
    scene.restart(Signal::SIGTERM).await;
    scene.check(calls / 2, failed).await;
    failed += scene.calls(calls / 2..calls).await;
    scene.check(calls, failed).await;
    scene.restart(Signal::SIGKILL).await;
    scene.check(calls, failed).await;
    assert!(scene.ledger.borrow().refused > 0, "no call had to go to another member");

    // The commands print the same, also when token and LLMs are gone.
    for (_, id, _) in &scene.callers {
        scene.admin.send(awc::http::Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await;
    }
    scene.admin.send(awc::http::Method::DELETE, "/api/v1/llms/up", None).await;
    let usage = scene.usage("token").await;
    let json = scene.home.run(&["usage", "--by", "token", "--since", "1d", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap(), usage, "{}", json.stderr);
    let csv = scene.home.run(&["usage", "--by", "token", "--since", "1d", "-o", "csv"]).await.stdout;
    let table = scene.home.run(&["usage", "--by", "token", "--since", "1d"]).await.stdout;
    assert_eq!(csv.lines().count(), 5, "{csv}");
    assert_eq!(table.lines().count(), 6, "{table}");
    for row in usage["rows"].as_array().unwrap() {
        let cells =
            format!("{},{},{},", row["token"].as_str().unwrap(), row["user"].as_str().unwrap(), row["calls"]);
        assert!(csv.contains(&cells), "{cells} {csv}");
    }
    let by_llm = scene.home.run(&["usage", "--by", "llm"]).await.stdout;
    assert!(by_llm.contains("\nup "), "{by_llm}");
    let none = scene.home.run(&["usage", "--user", "nobody"]).await;
    assert!(none.stdout.is_empty() && none.stderr.contains("There were no calls from 20"), "{none:?}");
    let refused = scene.home.run(&["usage", "--since", "soon"]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("since: a date such as"), "{refused:?}");
}
