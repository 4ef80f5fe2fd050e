//! `token`: creates, lists and revokes tokens.

use actix_web::http::Method;
use serde_json::{Value, json};
use wire::ids::encode_uri_component;

use super::{
    cells::{age, rows, text},
    table::{Table, column},
};
use crate::{
    cli::{Global, OutputFormat, Role, TokenCommand, TokenFormat},
    exit::{Failure, Outcome},
    output,
};

const TOKENS: &str = "/api/v1/tokens";

pub(crate) async fn run(global: &Global, command: &TokenCommand) -> Outcome {
    let hub = super::hub_client(global)?;
    match command {
        TokenCommand::Create { user, role, expires, output: format } => {
            let role = match role {
                Role::Member => "member",
                Role::Admin => "admin",
            };
            let mut request = json!({ "user": user, "role": role });
            if let Some(expires) = expires {
                request["expires"] = json!(format!("{}ms", expires.as_millis()));
            }
            let created = hub.call(Method::POST, TOKENS, Some(&request)).await?;
            let Some(secret) = created["token"].as_str() else {
                return Err(Failure::failed(format!("the hub at {} made no token", hub.url())));
            };
            // The public URL, if the hub has one. The line is pasted into a shell: a hub's text must be no more than a URL.
            let public = created["hubUrl"].as_str().filter(|url| is_http_url(url));
            let url = public.unwrap_or(hub.url()).to_owned();
            if let Some(format) = format {
                let mut created = created;
                created["hubUrl"] = json!(url);
                return output::document(&created, *format == TokenFormat::Yaml);
            }
            // Standard output has the token alone, for scripts.
            output::line(output::printable(secret))?;
            output::note(format!(
                "This is {user}'s token ({}), shown this once. {user} runs this and pastes it:",
                text(&created, "id")
            ));
            let login = format!("virtual-llm login {}", output::shell_word(&url));
            if output::is_terminal() {
                output::line(login)
            } else {
                output::note(login);
                Ok(())
            }
        }
        TokenCommand::List { output: format } => list(&hub.get(TOKENS).await?, *format),
        TokenCommand::Revoke { id } => {
            if hub.delete(&format!("{TOKENS}/{}", encode_uri_component(id))).await? {
                return output::line(format!("token/{id} revoked"));
            }
            Err(Failure::failed(format!("there is no token '{id}'; `virtual-llm token list` lists them")))
        }
    }
}

fn list(answer: &Value, format: Option<OutputFormat>) -> Outcome {
    match format {
        Some(OutputFormat::Json) => output::document(answer, false),
        Some(OutputFormat::Yaml) => output::document(answer, true),
        Some(OutputFormat::Name) => {
            output::lines(rows(answer).iter().map(|row| format!("token/{}", text(row, "id"))))
        }
        None | Some(OutputFormat::Wide) => {
            let mut table = Table::new(vec![
                column("ID", |row| text(row, "id")),
                column("USER", |row| text(row, "user")).cut(),
                column("ROLE", |row| text(row, "role")),
                column("EXPIRES", |row| text(row, "expiresAt")).droppable(2),
                column("REVOKED", |row| text(row, "revokedAt")).droppable(3),
                column("AGE", |row| age(row, "createdAt")).droppable(1),
            ]);
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
