//! What `local` prints at its start: hub, user, base URLs and models.

use std::{fmt::Write as _, time::Duration};

use actix_web::http::StatusCode;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    client::{CallError, HubClient},
    exit::{Failure, Outcome},
    output::{self, printable},
};

/// Most models that are listed.
const MAX_MODELS: usize = 10;
/// Limit for the hub's answers. `local` serves meanwhile.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the hub for the user and the models, and prints how to use the port. Fails if the hub refuses the token; a hub that
/// is away may come back.
pub(super) async fn print(hub: &HubClient, port: u16) -> Outcome {
    let asked = timeout(LIMIT, ask(hub)).await;
    let found = match asked {
        Ok(Err(error)) if error.is(StatusCode::UNAUTHORIZED) => return Err(Failure::refused(error)),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => Ok(found),
        Err(_) => Err(format!("the hub at {} has not answered yet", hub.url())),
    };
    if let Err(why) = &found {
        output::note(format!("warning: {}; each request tries again", printable(why)));
    }
    output::piece(text(hub.url(), port, &found.unwrap_or_default()))
}

#[derive(Default)]
struct Found {
    user: Option<String>,
    models: Option<Vec<String>>,
}

async fn ask(hub: &HubClient) -> Result<Found, CallError> {
    // A classic hub has neither.
    let user = hub.find("/api/v1/whoami").await?.and_then(|user| user["user"].as_str().map(str::to_owned));
    let models = hub.find("/v1/models").await?.and_then(|list| names(&list));
    Ok(Found { user, models })
}

fn names(list: &Value) -> Option<Vec<String>> {
    let models = list["data"].as_array()?;
    Some(models.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect())
}

fn text(url: &str, port: u16, found: &Found) -> String {
    let here = format!("http://127.0.0.1:{port}");
    let user = found.user.as_deref().map(|user| format!(", as {}", printable(user))).unwrap_or_default();
    let mut text = format!(
        "Hub        {url}{user}\n\
         Ollama     {here}\n\
         OpenAI     {here}/v1\n\
         Anthropic  {here}\n"
    );
    if let Some(models) = &found.models {
        let _ = writeln!(text, "Models     {}", listed(models));
    }
    text.push_str("\nNo token is needed, and any API key will do. Serving until Ctrl-C.\n");
    text
}

fn listed(models: &[String]) -> String {
    let shown: Vec<_> = models.iter().take(MAX_MODELS).map(|name| printable(name)).collect();
    match (shown.is_empty(), models.len() - shown.len()) {
        (true, _) => "none yet".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_hub_user_base_urls_and_models() {
        let models = (0..12).map(|n| format!("m{n}")).collect();
        let found = Found { user: Some("alice".to_owned()), models: Some(models) };
        let text = text("https://hub", 11434, &found);
        for line in [
            "Hub        https://hub, as alice\n",
            "OpenAI     http://127.0.0.1:11434/v1\n",
            "Anthropic  http://127.0.0.1:11434\n",
            "m9 and 2 more\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(listed(&[]), "none yet");
    }
}
