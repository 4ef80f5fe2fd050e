//! `token`: creates, lists, rotates and revokes tokens.

use std::time::Duration;

use actix_web::http::Method;
use serde_json::{Value, json};
use wire::ids::encode_uri_component;

use super::{
    cells::{rows, text},
    columns::columns,
    limits::{members, set},
    table::Table,
    token_id,
};
use crate::{
    cli::{GetKind, Global, OutputFormat, Role, TokenCommand, TokenFormat},
    client::HubClient,
    config::{self, Paths},
    exit::{Failure, Outcome},
    output,
};

const TOKENS: &str = "/api/v1/tokens";

pub(crate) async fn run(global: &Global, command: &TokenCommand) -> Outcome {
    let hub = super::hub_client(global)?;
    match command {
        TokenCommand::Create { user, role, expires, limits, link, output: format } => {
            let role = match role {
                Role::Member => "member",
                Role::Admin => "admin",
            };
            let mut request = json!({ "user": user, "role": role });
            if let Some(expires) = expires {
                request["expires"] = json!(format!("{}ms", expires.as_millis()));
            }
            if let Some(request) = request.as_object_mut() {
                request.extend(members(limits));
            }
            if *link {
                request["link"] = json!(true);
            }
            let mut created = hub.call(Method::POST, TOKENS, Some(&request)).await?;
            if *link {
                return print_link(&hub, user, created, *format);
            }
            let secret = secret(&hub, &created)?;
            let url = name_hub(&hub, &mut created);
            if let Some(format) = format {
                return output::document(&created, *format == TokenFormat::Yaml);
            }
            print_token(&secret, user, &created, &url)
        }
        TokenCommand::Rotate { id, grace, output: format } => {
            rotate(global, &hub, id.as_deref(), *grace, *format).await
        }
        TokenCommand::List { output: format } => list(&hub.get(TOKENS).await?, *format),
        TokenCommand::Set { id, limits } => {
            let id = token_id::find(&hub, id).await?;
            set(&hub, GetKind::Token, &id, limits).await
        }
        TokenCommand::Revoke { id } => {
            let id = token_id::find(&hub, id).await?;
            if hub.delete(&format!("{TOKENS}/{}", encode_uri_component(&id))).await? {
                return output::line(format!("token/{id} revoked"));
            }
            Err(Failure::failed(format!("there is no token '{id}'; `virtual-llm token list` lists them")))
        }
    }
}

/// The secret in an answer.
fn secret(hub: &HubClient, made: &Value) -> Result<String, Failure> {
    let secret = made["token"].as_str().map(str::to_owned);
    secret.ok_or_else(|| Failure::failed(format!("the hub at {} made no token", hub.url())))
}

/// Puts the hub's address into an answer, and returns it: the public URL, if the hub has one. It is pasted into a shell or a
/// browser: a hub's text must be no more than a URL.
fn name_hub(hub: &HubClient, made: &mut Value) -> String {
    let public = made["hubUrl"].as_str().filter(|url| is_http_url(url));
    let url = public.unwrap_or(hub.url()).to_owned();
    made["hubUrl"] = json!(url);
    url
}

/// Prints a token. Standard output has the token alone if it is no terminal, for scripts.
fn print_token(secret: &str, user: &str, made: &Value, url: &str) -> Outcome {
    output::line(output::printable(secret))?;
    output::note(format!(
        "This is {user}'s token ({}), shown this once. {user} runs this and pastes it:",
        text(made, "id")
    ));
    let login = format!("virtual-llm login {}", output::shell_word(url));
    if output::is_terminal() {
        output::line(login)
    } else {
        output::note(login);
        Ok(())
    }
}

/// Prints the sign-in link of a new token.
fn print_link(hub: &HubClient, user: &str, mut created: Value, format: Option<TokenFormat>) -> Outcome {
    let is_code = |code: &&str| code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let Some(code) = created["signInCode"].as_str().filter(is_code).map(str::to_owned) else {
        return Err(Failure::failed(format!("the hub at {} makes no sign-in links", hub.url())));
    };
    let url = name_hub(hub, &mut created);
    let link = output::sign_in_link(&url, &code);
    if let Some(format) = format {
        created["link"] = json!(link);
        return output::document(&created, format == TokenFormat::Yaml);
    }
    output::line(link)?;
    output::note(format!(
        "{user} opens this in a browser, once, until {}, and gets the token ({}) there.",
        text(&created, "signInUntil"),
        text(&created, "id")
    ));
    Ok(())
}

/// Gives a token another secret. That of the stored login goes into the credentials file.
async fn rotate(
    global: &Global,
    hub: &HubClient,
    id: Option<&str>,
    grace: Option<Duration>,
    format: Option<TokenFormat>,
) -> Outcome {
    let paths = Paths::find(global)?;
    // Only a token that was read from the file is written there.
    let stored = config::credentials(global, &paths)?.file.is_some();
    let own = super::account::token_id(hub).await?;
    let id = match id {
        Some(named) => &token_id::find(hub, named).await?,
        None => &own,
    };
    let grace =
        grace.map_or_else(|| json!({}), |grace| json!({ "grace": format!("{}ms", grace.as_millis()) }));
    let path = format!("{TOKENS}/{}/rotate", encode_uri_component(id));
    let mut rotated = hub.call(Method::POST, &path, Some(&grace)).await?;
    let secret = secret(hub, &rotated)?;
    let is_stored = stored && own == *id;
    if is_stored {
        let token = config::checked_token(&secret)
            .ok_or_else(|| Failure::failed(format!("the hub at {} made no valid token", hub.url())))?;
        if let Err(failure) = config::replace_token(&paths, &token).await {
            // It is shown this once: it must not be lost.
            output::line(output::printable(&secret))?;
            return Err(failure);
        }
    }
    let url = name_hub(hub, &mut rotated);
    if let Some(format) = format {
        return output::document(&rotated, format == TokenFormat::Yaml);
    }
    if is_stored {
        return output::line(format!(
            "token/{} has another secret, which is in {}.",
            output::printable(id),
            paths.credentials.display()
        ));
    }
    print_token(&secret, &text(&rotated, "user"), &rotated, &url)
}

fn list(answer: &Value, format: Option<OutputFormat>) -> Outcome {
    match format {
        Some(OutputFormat::Json) => output::document(answer, false),
        Some(OutputFormat::Yaml) => output::document(answer, true),
        Some(OutputFormat::Name) => {
            output::lines(rows(answer).iter().map(|row| format!("token/{}", text(row, "id"))))
        }
        None | Some(OutputFormat::Wide) => {
            let mut table = Table::new(columns(GetKind::Token, false));
            table.print(rows(answer))
        }
    }
}

/// Whether a text is an `http` or `https` URL of visible ASCII characters.
fn is_http_url(text: &str) -> bool {
    let scheme = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    scheme.is_some_and(|rest| !rest.is_empty()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The login line is pasted into a shell: a hub cannot add a command or another line to it.
    #[test]
    fn only_an_http_url_of_a_hub_is_printed() {
        for url in ["https://hub.example:8443/llm", "http://[::1]:9090", "https://h/$(id);x'"] {
            assert!(is_http_url(url), "{url}");
        }
        for text in [
            "",
            "https://",
            "h; rm -rf ~",
            "-x",
            "file:///etc/passwd",
            "https://h\nrm x",
            "https://h x",
            "https://ü",
        ] {
            assert!(!is_http_url(text), "{text:?}");
        }
    }
}
