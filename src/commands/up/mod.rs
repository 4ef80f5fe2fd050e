//! `up`: a hub, a registrar and a first chat on one machine, without configuration.

mod hub;
mod offer;
mod texts;

use actors::{Options, Registrar};
use serde_json::json;

use crate::{
    chat::{self, ChatOptions, Delta},
    cli::{Global, UpArgs},
    client::HubClient,
    config::{self, Paths},
    exit::{Code, Failure, Outcome},
    logging, output,
    signals::{Signals, Wanted},
};
use hub::Embedded;
use offer::Offer;

/// Prompt of the first chat. It also makes sense when the mock repeats it.
const PROMPT: &str = "Say hello in one short sentence.";
/// Limit of the answer in tokens (SPEC.md section 2).
const MAX_TOKENS: u64 = 48;

pub(crate) async fn run(global: &Global, args: &UpArgs, mut signals: Signals) -> Outcome {
    let session = tokio::select! {
        session = start(global, args) => session?,
        wanted = signals.next() => return Err(Failure::silent(match wanted {
            Wanted::Interrupt => Code::Interrupted,
            Wanted::Stop | Wanted::Reload => Code::Failed,
        })),
    };
    if args.once {
        session.registrar.stop();
        session.registrar.wait().await;
        session.hub.stop().await;
        return session.answered;
    }
    if let Err(failure) = &session.answered {
        output::note(format!("warning: {}", failure.text().unwrap_or_default()));
    }
    let url = args.public_url.as_ref().unwrap_or(&session.hub.url);
    output::piece(texts::how_to_use(url, &session.hub.token, &session.hub.code, &session.model))?;
    serve(session, &mut signals).await
}

/// The running parts and the outcome of the first chat.
struct Session {
    hub: Embedded,
    registrar: Registrar,
    model: String,
    answered: Outcome,
}

/// Starts hub and registrar, and sends one chat request.
async fn start(global: &Global, args: &UpArgs) -> Result<Session, Failure> {
    let paths = Paths::find(global)?;
    let published = config::load(&paths.config)?;
    let offer = Offer::find(published, args.model.as_deref()).await?;
    let hub = Embedded::start(args.port, args.public_url.clone()).await?;
    output::line(texts::greeting(&hub.url, &offer))?;
    let model = offer.model.to_string();
    let options = Options { agents: offer.agents, ..Options::new(hub.credentials(), offer.providers) };
    let registrar = Registrar::start(options).map_err(Failure::failed)?;
    registrar.ready().await.map_err(|ended| Failure::failed(format!("the hub did not take us: {ended}")))?;
    let answered = first_chat(&hub, &model).await;
    Ok(Session { hub, registrar, model, answered })
}

/// Sends the first chat request and prints the answer as it arrives. Log lines wait until it is whole.
async fn first_chat(hub: &Embedded, model: &str) -> Outcome {
    let client = HubClient::new(hub.credentials())?;
    let options = ChatOptions { max_tokens: Some(MAX_TOKENS), streaming: true, ..ChatOptions::default() };
    let request = options.request(&[json!({ "role": "user", "content": PROMPT })]);
    let _held = logging::hold();
    output::line(format!("you> {PROMPT}"))?;
    output::piece(format!("{model}> "))?;
    let answer = chat::ask(&client, &chat::Route::to_llm(model), &request, |delta| match delta {
        Delta::Text(text) | Delta::Reasoning(text) | Delta::Refusal(text) => {
            output::piece(output::printable_answer(text))
        }
    })
    .await;
    output::line("")?;
    let answer = answer?;
    if answer.tokens == 0 {
        return Err(Failure::failed(format!("{model} answered with nothing")));
    }
    output::line(texts::speed(&answer))
}

/// Serves until Ctrl-C, SIGTERM or SIGHUP.
async fn serve(session: Session, signals: &mut Signals) -> Outcome {
    tokio::select! {
        ended = session.registrar.wait() => Err(Failure::failed(format!("the registrar ended: {ended}"))),
        _ = signals.next() => {
            session.registrar.stop();
            tokio::select! {
                _ = session.registrar.wait() => {}
                _ = signals.next() => return Err(Failure::failed("stopped at once by a second signal")),
            }
            session.hub.stop().await;
            Ok(())
        }
    }
}
