//! A hub and its registrars in this process: one with a link, one without, and one that reaches the hub through a proxy that
//! removes its features.

use std::io;

use actors::options::{BackendConfig, HttpBackend};
use actors::{Credentials, Options, ProviderConfig, Registrar, Secret, Transport};
use hub::{
    DataDir, Hub, HubHandle, HubOptions, HubTimings, Limits, MachineOptions, Origins, PoolPolicy, Role,
};
use serde_json::json;
use testkit::client::ask;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::backend::Backend;
use crate::plan::{Kind, Route};

const ADMIN: &str = "admin-token-of-the-provenance-run-0123456789";

pub struct Rig {
    pub backend: Backend,
    pub port: u16,
    /// Token of the member who owns the rows.
    pub token: String,
    hub: HubHandle,
    registrars: Vec<Registrar>,
}

impl Rig {
    pub async fn start() -> Self {
        let backend = Backend::start();
        let hub = Hub::start(HubOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            public_url: None,
            data: DataDir::Memory,
            cluster: None,
            admin_token: Some(ADMIN.into()),
            tls: None,
            pools: PoolPolicy::default(),
            cors_origins: Origins::default(),
            limits: Limits::default(),
            machine: MachineOptions::default(),
            timings: HubTimings::default(),
        });
        let hub = hub.await.unwrap();
        let port = hub.addr().port();
        let token = hub.mint_token("member", Role::Member).await.unwrap();
        let mut registrars = Vec::new();
        for route in [Route::Link, Route::Chunks, Route::Classic] {
            let hub_port = match route {
                Route::Classic => without("x-virtual-llm-features", "x-virtual-llm-nothings", port).await,
                _ => port,
            };
            let transport = if route == Route::Link { Transport::Link } else { Transport::Classic };
            let providers = Kind::ALL.map(|kind| provider(&backend, route, kind)).to_vec();
            let credentials =
                Credentials::new(format!("http://127.0.0.1:{hub_port}"), Secret::new(token.clone()));
            let options = Options { transport, ..Options::new(credentials, providers) };
            let registrar = Registrar::start(options).unwrap();
            registrar.ready().await.unwrap();
            registrars.push(registrar);
        }
        for kind in Kind::ALL {
            let row = json!({ "name": name(Route::Public, kind), "type": hub_type(kind), "model": "m",
                "url": backend.url(kind), "visibility": "public" });
            let created = ask(port, ADMIN, "POST /api/v1/llms", "", Some(&row.to_string())).await.unwrap();
            assert_eq!(created.status, 201);
        }
        Self { backend, port, token, hub, registrars }
    }

    pub async fn stop(self) {
        for registrar in self.registrars {
            registrar.stop_now();
            registrar.wait().await;
        }
        self.hub.stop().await;
    }
}

fn name(route: Route, kind: Kind) -> String {
    format!("{}-{}", route.name(), kind.name())
}

fn hub_type(kind: Kind) -> &'static str {
    if kind == Kind::Anthropic { "anthropic" } else { "openai" }
}

fn provider(backend: &Backend, route: Route, kind: Kind) -> ProviderConfig {
    let http = HttpBackend { url: Secret::new(backend.url(kind)), api_key: None };
    let config =
        if kind == Kind::Anthropic { BackendConfig::Anthropic(http) } else { BackendConfig::OpenAi(http) };
    let provider = ProviderConfig::new(name(route, kind).parse().unwrap(), "m", config);
    ProviderConfig { max_concurrency: 16, hub_type: hub_type(kind).to_owned(), ..provider }
}

/// Starts a proxy to `port` that replaces `word` by `other`, of the same length, in request heads. Returns the proxy's port.
async fn without(word: &'static str, other: &'static str, port: u16) -> u16 {
    assert_eq!(word.len(), other.len());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_port = listener.local_addr().unwrap().port();
    actix_rt::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            actix_rt::spawn(async move { drop(pass(socket, word, other, port).await) });
        }
    });
    proxy_port
}

async fn pass(mut socket: TcpStream, word: &str, other: &str, port: u16) -> io::Result<()> {
    let mut hub = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    hub.set_nodelay(true)?;
    // Every read is searched, because one connection may carry several requests.
    let (mut from, mut to) = socket.split();
    let (mut back_from, mut back_to) = hub.split();
    let up = async {
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return back_to.shutdown().await;
            }
            // A head arrives in one read, because it is written at once, so no word is split.
            let mut rest = &mut piece[..read];
            while let Some(at) = memchr::memmem::find(rest, word.as_bytes()) {
                rest[at..at + word.len()].copy_from_slice(other.as_bytes());
                rest = &mut rest[at + word.len()..];
            }
            back_to.write_all(&piece[..read]).await?;
        }
    };
    let down = async {
        copy(&mut back_from, &mut to).await?;
        to.shutdown().await
    };
    futures_util::try_join!(up, down)?;
    Ok(())
}
