//! `create` and `delete`: public rows and agents.

use actix_web::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::get::collection;
use crate::{
    cli::{CreateAgent, CreateCommand, CreateLlm, DeleteArgs, GetKind, Global, ObjectKind},
    client::encoded,
    config,
    exit::{Failure, Outcome},
    output,
};

/// Runs `create`.
pub(crate) async fn run(global: &Global, command: &CreateCommand) -> Outcome {
    let (kind, spec) = match command {
        CreateCommand::Llm(args) => (GetKind::Llm, llm(args)?),
        CreateCommand::Agent(args) => (GetKind::Agent, agent(args)?),
    };
    let hub = super::hub_client(global)?;
    let made = hub.call(Method::POST, collection(kind), Some(&spec)).await?;
    if let (Some(name), Some(pool), Some(owner)) =
        (made["name"].as_str(), made["poolName"].as_str(), made["waitsFor"].as_str())
    {
        output::note(format!("note: {}", output::printable(&wire::texts::waits_for(name, pool, owner))));
    }
    output::line(format!(
        "{}/{} created",
        super::get::singular(kind),
        spec["name"].as_str().unwrap_or_default()
    ))
}

/// Runs `delete`.
pub(crate) async fn delete(global: &Global, args: &DeleteArgs) -> Outcome {
    let kind = match args.kind {
        ObjectKind::Llm => GetKind::Llm,
        ObjectKind::Agent => GetKind::Agent,
        ObjectKind::Task => GetKind::Task,
        ObjectKind::Name => GetKind::Name,
    };
    let hub = super::hub_client(global)?;
    let path = format!("{}/{}", collection(kind), encoded(&args.name));
    match hub.call(Method::DELETE, &path, None).await {
        Ok(_) => output::line(format!("{}/{} deleted", super::get::singular(kind), args.name)),
        Err(error) if error.is(StatusCode::NOT_FOUND) => Err(super::get::missing(kind, &args.name)),
        Err(error) => Err(error.into()),
    }
}

/// The key in the variable `name`.
pub(super) fn key_from(name: &str) -> Result<String, Failure> {
    config::variable(name)
        .ok_or_else(|| Failure::usage(format!("the variable {name} for the upstream's key is not set")))
}

fn llm(args: &CreateLlm) -> Result<Value, Failure> {
    let url =
        config::url::http(&args.url).map_err(|why| Failure::usage(format!("--url '{}': {why}", args.url)))?;
    let mut spec = json!({ "name": args.name, "type": args.kind, "model": args.model, "url": url });
    put(&mut spec, "apiKey", args.api_key_env.as_deref().map(key_from).transpose()?);
    put(&mut spec, "poolName", args.pool_name.clone());
    put(&mut spec, "tier", args.tier.clone());
    put(&mut spec, "description", args.description.clone());
    put(&mut spec, "visibility", args.visibility.clone());
    Ok(spec)
}

fn agent(args: &CreateAgent) -> Result<Value, Failure> {
    let mut spec = json!({ "name": args.name, "llmName": args.llm });
    put(&mut spec, "systemPrompt", args.system_prompt.clone());
    put(&mut spec, "description", args.description.clone());
    put(&mut spec, "project", args.project.clone());
    put(&mut spec, "visibility", args.visibility.clone());
    if let Some(text) = &args.default_params {
        let params: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            Failure::usage(format!(
                "--default-params: expected a JSON object such as {{\"temperature\": 0.2}}: {error}"
            ))
        })?;
        spec["defaultParams"] = Value::Object(params);
    }
    Ok(spec)
}

fn put(spec: &mut Value, key: &str, value: Option<String>) {
    if let Some(value) = value {
        spec[key] = Value::String(value);
    }
}
