//! `create`, `delete`, `pool`, `alias` and `name`.

use actix_web::http::Method;
use serde_json::{Map, Value, json};
use wire::ids::encode_uri_component;

use super::{
    get::{collection, missing, singular},
    hub_findings::waiting_text,
};
use crate::{
    cli::{
        AliasCommand, AliasOf, CreateAgent, CreateCommand, CreateLlm, DeleteArgs, GetKind, Global,
        NameCommand, ObjectKind, PoolCommand, PoolMember,
    },
    config,
    exit::{Failure, Outcome},
    output,
};

pub(crate) async fn create(global: &Global, command: &CreateCommand) -> Outcome {
    let (kind, spec) = match command {
        CreateCommand::Llm(args) => (GetKind::Llm, llm(args)?),
        CreateCommand::Agent(args) => (GetKind::Agent, agent(args)?),
    };
    let hub = super::hub_client(global)?;
    let created = hub.call(Method::POST, collection(kind), Some(&spec)).await?;
    if let Some(text) = waiting_text(&created) {
        output::note(format!("note: {}", output::printable(&text)));
    }
    output::line(format!("{}/{} created", singular(kind), spec["name"].as_str().unwrap_or_default()))
}

pub(crate) async fn delete(global: &Global, args: &DeleteArgs) -> Outcome {
    let kind = match args.kind {
        ObjectKind::Llm => GetKind::Llm,
        ObjectKind::Agent => GetKind::Agent,
        ObjectKind::Task => GetKind::Task,
        ObjectKind::Name => GetKind::Name,
    };
    let hub = super::hub_client(global)?;
    let delete = async |name: &str| -> Outcome {
        if hub.delete(&format!("{}/{}", collection(kind), encode_uri_component(name))).await? {
            return output::line(format!("{}/{name} deleted", singular(kind)));
        }
        Err(missing(kind, name))
    };
    if let [name] = args.names.as_slice() {
        return delete(name).await;
    }
    let mut failed = 0;
    for name in &args.names {
        if let Err(failure) = delete(name).await {
            failed += 1;
            output::note(format!("error: {}/{name}: {}", singular(kind), failure.text().unwrap_or_default()));
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::failed(format!("{failed} of {} are not deleted", args.names.len()))),
    }
}

pub(crate) async fn pool(global: &Global, command: &PoolCommand) -> Outcome {
    let (method, PoolMember { pool, llm }, done) = match command {
        PoolCommand::Admit(member) => (Method::PUT, member, "serves"),
        PoolCommand::Remove(member) => (Method::DELETE, member, "no longer serves"),
    };
    let hub = super::hub_client(global)?;
    hub.call(
        method,
        &format!("/api/v1/pools/{}/members/{}", encode_uri_component(pool), encode_uri_component(llm)),
        None,
    )
    .await?;
    output::line(format!("llm/{llm} {done} the pool {pool}"))
}

pub(crate) async fn alias(global: &Global, command: &AliasCommand) -> Outcome {
    let (AliasCommand::Set { alias, .. } | AliasCommand::Delete(alias)) = command;
    let AliasOf { name, user } = alias;
    let of_user = user.as_ref().map_or(String::new(), |user| format!("?user={}", encode_uri_component(user)));
    let path = format!("{}/{}{of_user}", collection(GetKind::Alias), encode_uri_component(name));
    let hub = super::hub_client(global)?;
    match command {
        AliasCommand::Set { target, .. } => {
            let set = hub.call(Method::PUT, &path, Some(&json!({ "target": target }))).await?;
            let whom = set["user"].as_str().unwrap_or("all users");
            output::line(format!("alias/{name} stands for {target} (calls of {})", output::printable(whom)))
        }
        AliasCommand::Delete(_) if hub.delete(&path).await? => output::line(format!("alias/{name} deleted")),
        AliasCommand::Delete(_) => Err(missing(GetKind::Alias, name)),
    }
}

pub(crate) async fn name(global: &Global, command: &NameCommand) -> Outcome {
    let NameCommand::Give { name, user } = command;
    let hub = super::hub_client(global)?;
    let owner = json!({ "ownerId": user });
    hub.call(Method::PUT, &format!("/api/v1/names/{}", encode_uri_component(name)), Some(&owner)).await?;
    output::line(format!("name/{name} is {user}'s"))
}

/// Reads the upstream's key from an environment variable.
pub(super) fn key_from(name: &str) -> Result<String, Failure> {
    config::variable(name)
        .ok_or_else(|| Failure::usage(format!("the variable {name} for the upstream's key is not set")))
}

fn llm(args: &CreateLlm) -> Result<Value, Failure> {
    let url =
        config::url::http(&args.url).map_err(|why| Failure::usage(format!("--url '{}': {why}", args.url)))?;
    Ok(without_nulls(json!({
        "name": args.name,
        "type": args.kind,
        "model": args.model,
        "url": url,
        "apiKey": args.api_key_env.as_deref().map(key_from).transpose()?,
        "poolName": args.pool_name,
        "tier": args.tier,
        "description": args.description,
        "visibility": args.visibility,
    })))
}

fn agent(args: &CreateAgent) -> Result<Value, Failure> {
    let parse = |text: &String| {
        serde_json::from_str::<Map<String, Value>>(text).map_err(|error| {
            Failure::usage(format!(
                "--default-params: expected a JSON object such as {{\"temperature\": 0.2}}: {error}"
            ))
        })
    };
    Ok(without_nulls(json!({
        "name": args.name,
        "llmName": args.llm,
        "systemPrompt": args.system_prompt,
        "description": args.description,
        "project": args.project,
        "visibility": args.visibility,
        "defaultParams": args.default_params.as_ref().map(parse).transpose()?,
    })))
}

fn without_nulls(mut spec: Value) -> Value {
    if let Some(members) = spec.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    spec
}
