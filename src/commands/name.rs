//! `name`: whose a name is.

use actix_web::http::Method;
use serde_json::json;

use crate::{
    cli::{Global, NameCommand},
    client::encoded,
    exit::Outcome,
    output,
};

/// Runs it.
pub(crate) async fn run(global: &Global, command: &NameCommand) -> Outcome {
    let NameCommand::Give { name, user } = command;
    let hub = super::hub_client(global)?;
    let owner = json!({ "ownerId": user });
    hub.call(Method::PUT, &format!("/api/v1/names/{}", encoded(name)), Some(&owner)).await?;
    output::line(format!("name/{name} is {user}'s"))
}
