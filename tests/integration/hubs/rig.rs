//! Hubs of a cluster, their publishers, and a load balancer.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Value, json};
use testkit::free_port;
use testkit::http::Http;
use testkit::postgres::Database;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, start_hub_with};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_local;

/// A hub of a cluster.
pub(super) struct Hub {
    pub(super) home: Home,
    pub(super) port: u16,
    pub(super) options: Vec<String>,
    pub(super) process: Process,
}

impl Hub {
    async fn start(database: &str, nats: &str, cluster: &str, id: &str) -> Self {
        Self::start_with(database, nats, cluster, id, &[]).await
    }

    /// As `start`, with further options.
    pub(super) async fn start_with(
        database: &str,
        nats: &str,
        cluster: &str,
        id: &str,
        more: &[&str],
    ) -> Self {
        let (home, port) = (Home::new(), free_port());
        let file = home.write("database", database).display().to_string();
        let nats = format!("nats://{nats}");
        let options = [
            ["--cluster", cluster],
            ["--hub-id", id],
            ["--database-url-file", &file],
            ["--nats-url", &nats],
            ["--sweep-interval", "1s"],
            ["--reattach-grace", "10s"],
        ];
        let options = [&options.concat(), more].concat();
        let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
        let process = Self::run(&home, port, &options).await;
        Self { home, port, options, process }
    }

    async fn run(home: &Home, port: u16, options: &[String]) -> Process {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let hub = start_hub_with(home, port, &options);
        hub.logs("listens on").await;
        hub
    }

    pub(super) async fn start_again(&mut self) {
        self.process = Self::run(&self.home, self.port, &self.options).await;
    }

    pub(super) fn http(&self, token: &str) -> Http {
        Http::new(&format!("http://127.0.0.1:{}", self.port), token)
    }

    pub(super) fn admin(&self) -> Http {
        self.http(ADMIN)
    }

    /// The status of the row `name`, as this hub tells it.
    pub(super) async fn status(&self, name: &str) -> Value {
        let row = self.admin().get(&format!("/api/v1/llms/{name}")).await;
        if row.status == 200 { row.json()["status"].clone() } else { Value::Null }
    }
}

/// Hubs on a new database. `None` without servers.
pub(super) async fn hubs(nats: &str, ids: &[&str]) -> Option<(Database, Vec<Hub>)> {
    let database = Database::create().await?;
    let url = database.url();
    let places: Vec<_> = ids.iter().map(|id| (*id, url.as_str(), nats)).collect();
    let hubs = hubs_at(&database, &places).await;
    Some((database, hubs))
}

/// Hubs on `database`, each with its id and its addresses of the database and of NATS.
pub(super) async fn hubs_at(database: &Database, places: &[(&str, &str, &str)]) -> Vec<Hub> {
    // Other tests use the same NATS server.
    let cluster = format!("t{}", database.url().rsplit_once("vl_").unwrap().1.replace('_', "-"));
    let mut hubs = Vec::new();
    for (id, url, nats) in places {
        hubs.push(Hub::start(url, nats, &cluster, id).await);
    }
    for hub in &hubs {
        for (id, ..) in places.iter().filter(|(id, ..)| !hub.options.contains(&(**id).to_owned())) {
            hub.process.logs(&format!("hub {id}.")).await;
        }
    }
    hubs
}

/// A registrar's home with a mock of `tokens` words, ten a second.
pub(super) fn publisher(port: u16, name: &str, tokens: u32) -> Home {
    let home = Home::new();
    home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    // A long answer is a slow one, of an LLM for all.
    let (speed, visibility) = if tokens > 5 { (10, "public") } else { (1000, "private") };
    home.providers(&json!([
        {
            "name": name, "type": "mock", "publish": true, "visibility": visibility, "tokens": tokens,
            "tokensPerSecond": speed,
        }
    ]));
    home
}

pub(super) fn chat(model: &str, stream: bool) -> Value {
    json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": "hi" }] })
}

/// Passes each connection on to the next of `ports` that answers, as a load balancer does; with `is_first` to the first.
pub(super) async fn front(ports: Vec<u16>, is_first: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let next = Rc::new(Cell::new(0));
    spawn_local(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let (ports, next) = (ports.clone(), next.clone());
            spawn_local(async move {
                for tried in 0..ports.len() {
                    next.set(if is_first && tried == 0 { 0 } else { next.get() + 1 });
                    if let Ok(mut to) =
                        TcpStream::connect(("127.0.0.1", ports[next.get() % ports.len()])).await
                    {
                        drop(copy_bidirectional(&mut from, &mut to).await);
                        break;
                    }
                }
            });
        }
    });
    port
}

/// A load balancer that passes each connection on to one hub, or to the next one that answers.
pub(super) struct Front {
    pub(super) port: u16,
    /// The hub of new connections.
    first: Rc<Cell<usize>>,
    /// Open connections end when it changes.
    turned: watch::Sender<()>,
}

impl Front {
    pub(super) async fn start(hubs: &[&Hub]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports: Vec<u16> = hubs.iter().map(|hub| hub.port).collect();
        let (first, (turned, turning)) = (Rc::<Cell<usize>>::default(), watch::channel(()));
        let of_task = first.clone();
        spawn_local(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (ports, first) = (ports.clone(), of_task.get());
                let mut turned = turning.clone();
                turned.mark_unchanged();
                spawn_local(async move {
                    for tried in first..first + ports.len() {
                        let port = ports[tried % ports.len()];
                        if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
                            tokio::select! {
                                _ = copy_bidirectional(&mut from, &mut to) => (),
                                _ = turned.changed() => (),
                            }
                            break;
                        }
                    }
                });
            }
        });
        Self { port, first, turned }
    }

    /// Passes new connections on to the hub `to`.
    pub(super) fn prefer(&self, to: usize) {
        self.first.set(to);
    }

    /// Has the registrar lose its connections, and connect to the hub `to`.
    pub(super) fn turn(&self, to: usize) {
        self.prefer(to);
        self.turned.send_replace(());
    }
}
