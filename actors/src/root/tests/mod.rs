//! The whole registrar, against a fake hub on loopback, or against a fake hub without sockets on a paused clock.

mod asleep;
mod controlled_backend;
mod dying;
mod faults;
mod links;
mod reloading;
mod starting;
mod stopping;
mod supervision;

use testkit::classic_hub::ClassicHub;
use testkit::wait::wait_until;

use crate::fakes::{credentials, quick};
use crate::options::{Options, ProviderConfig};
use crate::registrar::Registrar;

/// An inference task for `llm`.
fn infer(id: &str, llm: &str) -> String {
    format!(
        r#"{{"kind":"infer","taskId":"{id}","llmName":"{llm}","streaming":false,"request":{{"messages":[]}}}}"#
    )
}

fn options(hub: &ClassicHub, providers: Vec<ProviderConfig>) -> Options {
    Options { timings: quick(), ..Options::new(credentials(hub), providers) }
}

/// Starts a registrar, and waits for its channel.
async fn started(hub: &ClassicHub, providers: Vec<ProviderConfig>) -> Registrar {
    let registrar = Registrar::start(options(hub, providers)).unwrap();
    registrar.ready().await.unwrap();
    wait_until("the channel is open", || hub.open_channels() == 1).await;
    registrar
}

async fn end(registrar: Registrar) {
    registrar.stop_now();
    registrar.wait().await;
}
