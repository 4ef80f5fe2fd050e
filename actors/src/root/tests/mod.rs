//! The whole registrar: against a hub on loopback, or, on a paused clock, one without sockets.

mod asleep;
mod dying;
mod faults;
mod puppet;
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
    wait_until("a channel", || hub.open_channels() == 1).await;
    registrar
}

async fn end(registrar: Registrar) {
    registrar.stop_now();
    registrar.wait().await;
}
