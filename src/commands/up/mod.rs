//! `up`: the whole thing on one machine, with nothing configured.

mod hub;
mod offer;
mod words;

use actors::{Credentials, Options, Registrar};
use serde_json::json;

use crate::{
    chat::{self, Heard, Manner},
    cli::{Global, UpArgs},
    client::HubClient,
    config::{self, Hub, Places},
    exit::{Code, Failure, Outcome},
    output,
    signals::{Signals, Wanted},
};
use hub::Embedded;
use offer::Offer;

/// Said to the model to show that it works: short to read, short to answer, and an echo of it reads well too.
const PROMPT: &str = "Say hello in one short sentence.";
/// From the contract: enough for that sentence, and a second on a slow machine.
const LONGEST_ANSWER: u64 = 48;

/// Runs it.
pub(crate) async fn run(global: &Global, args: &UpArgs, mut signals: Signals) -> Outcome {
    let show = tokio::select! {
        show = show(global, args) => show?,
        wanted = signals.next() => return Err(Failure::silent(match wanted {
            Wanted::Interrupt => Code::Interrupted,
            Wanted::Stop | Wanted::Reload => Code::Failed,
        })),
    };
    if args.once {
        show.registrar.stop();
        show.registrar.wait().await;
        show.hub.stop().await;
        return show.answered;
    }
    if let Err(failure) = &show.answered {
        output::note(format!("warning: {}", failure.text().unwrap_or_default()));
    }
    let url = args.public_url.as_ref().unwrap_or(&show.hub.url);
    output::piece(words::how_to_use(url, &show.hub.token, &show.model))?;
    serve(show, &mut signals).await
}

/// What runs, and whether it answered.
struct Show {
    hub: Embedded,
    registrar: Registrar,
    model: String,
    answered: Outcome,
}

/// Brings everything up and has one chat.
async fn show(global: &Global, args: &UpArgs) -> Result<Show, Failure> {
    let places = Places::find(global)?;
    let published = config::load(&places.config)?;
    let offer = Offer::make(published, args.model.as_deref()).await?;
    let hub = Embedded::start(args.port, args.public_url.clone()).await?;
    output::line(words::greeting(&hub.url, &offer))?;
    let model = offer.model.to_string();
    let credentials = Credentials::new(hub.url.clone(), hub.token.clone());
    let options = Options { agents: offer.agents, ..Options::new(credentials, offer.providers) };
    let registrar = Registrar::start(options).map_err(Failure::failed)?;
    registrar.ready().await.map_err(|ended| Failure::failed(format!("the hub did not take us: {ended}")))?;
    let answered = say_hello(&hub, &model).await;
    Ok(Show { hub, registrar, model, answered })
}

/// One streamed chat through the relay, printed as it comes.
async fn say_hello(hub: &Embedded, model: &str) -> Outcome {
    let hub = Hub { url: hub.url.clone(), token: hub.token.clone(), file: None, allow_insecure: false };
    let client = HubClient::new(hub, None)?;
    let manner = Manner { max_tokens: Some(LONGEST_ANSWER), streaming: true, ..Manner::default() };
    let request = manner.request(&[json!({ "role": "user", "content": PROMPT })]);
    output::line(format!("you> {PROMPT}"))?;
    output::piece(format!("{model}> "))?;
    let answer = chat::ask(&client, &chat::Door::llm(model), &request, |heard| match heard {
        Heard::Text(text) | Heard::Thought(text) | Heard::Refusal(text) => {
            output::piece(output::printable_answer(text))
        }
    })
    .await;
    output::line("")?;
    let answer = answer?;
    if answer.tokens == 0 {
        return Err(Failure::failed(format!("{model} answered with nothing")));
    }
    output::line(words::pace(&answer))
}

/// Until Ctrl-C, SIGTERM or SIGHUP.
async fn serve(show: Show, signals: &mut Signals) -> Outcome {
    tokio::select! {
        ended = show.registrar.wait() => Err(Failure::failed(format!("the registrar ended: {ended}"))),
        _ = signals.next() => {
            show.registrar.stop();
            tokio::select! {
                _ = show.registrar.wait() => {}
                _ = signals.next() => return Err(Failure::failed("stopped at once by a second signal")),
            }
            show.hub.stop().await;
            Ok(())
        }
    }
}
