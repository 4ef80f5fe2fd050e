//! `token`: who may use a hub.

use actix_web::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    rows::{age, text},
    table::{Table, column},
};
use crate::{
    cli::{Global, OutputFormat, Role, TokenCommand, TokenFormat},
    client::encoded,
    exit::{Failure, Outcome},
    output,
};

const TOKENS: &str = "/api/v1/tokens";

/// Runs it.
pub(crate) async fn run(global: &Global, command: &TokenCommand) -> Outcome {
    let hub = super::hub_client(global)?;
    match command {
        TokenCommand::Create { user, role, expires, output: format } => {
            let role = match role {
                Role::Member => "member",
                Role::Admin => "admin",
            };
            let mut wanted = json!({ "user": user, "role": role });
            if let Some(expires) = expires {
                wanted["expires"] = json!(format!("{}ms", expires.as_millis()));
            }
            let made = hub.call(Method::POST, TOKENS, Some(&wanted)).await?;
            let Some(secret) = made["token"].as_str() else {
                return Err(Failure::failed(format!("the hub at {} made no token", hub.url())));
            };
            // As others see the hub, where the hub knows it.
            let url = made["hubUrl"].as_str().unwrap_or(hub.url()).to_owned();
            if let Some(format) = format {
                let format = match format {
                    TokenFormat::Json => OutputFormat::Json,
                    TokenFormat::Yaml => OutputFormat::Yaml,
                };
                let mut made = made;
                made["hubUrl"] = json!(url);
                return super::get::document(&made, Some(format));
            }
            // A script gets the token and nothing else.
            output::line(output::printable(secret))?;
            output::note(format!(
                "This is {user}'s token ({}), shown this once. {user} runs this and pastes it:",
                text(&made, "id")
            ));
            let login = format!("virtual-llm login {}", output::printable(&url));
            if output::is_terminal() {
                output::line(login)
            } else {
                output::note(login);
                Ok(())
            }
        }
        TokenCommand::List { output: format } => list(&hub.get(TOKENS).await?, *format),
        TokenCommand::Revoke { id } => {
            match hub.call(Method::DELETE, &format!("{TOKENS}/{}", encoded(id)), None).await {
                Ok(_) => output::line(format!("token/{id} revoked")),
                Err(error) if error.is(StatusCode::NOT_FOUND) => Err(Failure::failed(format!(
                    "there is no token '{id}'; `virtual-llm token list` lists them"
                ))),
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn list(answer: &Value, format: Option<OutputFormat>) -> Outcome {
    let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    match format {
        Some(OutputFormat::Json | OutputFormat::Yaml) => super::get::document(answer, format),
        Some(OutputFormat::Name) => {
            rows.iter().try_for_each(|row| output::line(format!("token/{}", text(row, "id"))))
        }
        None | Some(OutputFormat::Wide) => {
            let mut table = Table::new(vec![
                column("ID", |row| text(row, "id")),
                column("USER", |row| text(row, "user")).cut(),
                column("ROLE", |row| text(row, "role")),
                column("EXPIRES", |row| text(row, "expiresAt")).leaves(2),
                column("REVOKED", |row| text(row, "revokedAt")).leaves(3),
                column("AGE", |row| age(row, "createdAt")).leaves(1),
            ]);
            table.lines(rows).into_iter().try_for_each(output::line)
        }
    }
}
