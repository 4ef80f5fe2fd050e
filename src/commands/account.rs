//! `whoami` and `logout`.

use actix_web::http::Method;
use serde_json::{Value, json};
use wire::ids::encode_uri_component;

use super::cells::text;
use super::limits;
use crate::{
    cli::{Global, LogoutArgs, TokenFormat, WhoamiArgs},
    client::HubClient,
    config::{self, Paths},
    exit::{Failure, Outcome},
    output,
};

const WHOAMI: &str = "/api/v1/whoami";

/// The caller, its token and the hub.
async fn caller(hub: &HubClient) -> Result<Value, Failure> {
    if let Some(caller) = hub.find(WHOAMI).await? {
        return Ok(caller);
    }
    // A classic hub.
    hub.llms().await?;
    Err(Failure::failed(format!("the hub at {} accepts the token, and does not say whose it is", hub.url())))
}

/// The name of the caller's user.
pub(super) async fn user(hub: &HubClient) -> Result<String, Failure> {
    let caller = caller(hub).await?;
    let user = caller["user"].as_str().map(str::to_owned);
    user.ok_or_else(|| Failure::failed(format!("the hub at {} does not say whose token this is", hub.url())))
}

/// The id of the caller's token.
pub(super) async fn token_id(hub: &HubClient) -> Result<String, Failure> {
    let caller = caller(hub).await?;
    let id = caller["tokenId"].as_str().map(str::to_owned);
    id.ok_or_else(|| {
        Failure::failed(format!(
            "the hub at {} does not name the token: an admin names it, see `virtual-llm token list`",
            hub.url()
        ))
    })
}

pub(crate) async fn whoami(global: &Global, args: &WhoamiArgs) -> Outcome {
    let hub = super::hub_client(global)?;
    let mut caller = caller(&hub).await?;
    caller["hub"] = json!(hub.url());
    if let Some(format) = args.output {
        return output::document(&caller, format == TokenFormat::Yaml);
    }
    let expires = if caller["expiresAt"].is_null() { "never".to_owned() } else { text(&caller, "expiresAt") };
    let limits = [&caller["userLimits"], &caller["tokenLimits"]];
    let limits = limits.into_iter().filter(|limits| limits.is_object()).map(limits::summary);
    let limits: Vec<_> = limits.map(|limits| format!("Limits:   {limits}")).collect();
    let lines = [
        format!("User:     {} ({})", text(&caller, "user"), text(&caller, "role")),
        format!("Token:    {}", text(&caller, "tokenId")),
        format!("Expires:  {expires}"),
        format!("Hub:      {}", text(&caller, "hub")),
        format!("Version:  {}", text(&caller, "version")),
    ];
    output::lines(lines.into_iter().chain(limits))
}

pub(crate) async fn logout(global: &Global, args: &LogoutArgs) -> Outcome {
    let paths = Paths::find(global)?;
    if args.revoke {
        revoke(global, &paths).await?;
    }
    let file = paths.credentials.display();
    output::line(match config::forget_credentials(&paths).await? {
        Some(url) => format!("Logged out of {}: {file} has no token any more.", output::printable(&url)),
        None => format!("Nothing to forget: {file} has no token."),
    })?;
    if config::variable("MCPD_TOKEN").is_some() {
        output::note("warning: MCPD_TOKEN is set, and commands go on using it");
    }
    Ok(())
}

/// Revokes the token of the credentials file at its hub.
async fn revoke(global: &Global, paths: &Paths) -> Outcome {
    let credentials = config::credentials(global, paths)?;
    if credentials.file.is_none() {
        return Err(Failure::usage(
            "--revoke is for the stored token, and MCPD_TOKEN is set: unset it, or run `virtual-llm token revoke`",
        ));
    }
    let hub = HubClient::new(credentials)?;
    let id = token_id(&hub).await?;
    hub.call(Method::DELETE, &format!("/api/v1/tokens/{}", encode_uri_component(&id)), None).await?;
    output::line(format!("token/{} revoked", output::printable(&id)))
}
