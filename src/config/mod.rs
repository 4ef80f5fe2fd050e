//! The configuration (SPEC.md section 7): reads the user's files into checked values and findings.

mod agent;
mod credentials;
mod files;
mod fingerprints;
mod keys;
pub(crate) mod names;
mod near_miss;
mod paths;
mod provider;
mod proxy;
mod reader;
mod recipe;
mod report;
mod schema;
pub(crate) mod server_types;
#[cfg(test)]
mod tests;
pub(crate) mod url;

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    path::Path,
};

use actors::{AgentConfig, ProviderConfig, options::Action};
use own_files::Doubt;
use serde_json::Value;
use wire::row::Visibility;

pub(crate) use credentials::{
    check_transport, checked_token, credentials, forget as forget_credentials, inspect_credentials,
    replace_token, stored_proxy, write as write_credentials,
};
pub(crate) use files::{update as update_json, write_public};
pub(crate) use fingerprints::Fingerprints;
pub(crate) use near_miss::near_miss;
pub(crate) use own_files::plain;
pub(crate) use paths::{Paths, variable};
use reader::ObjectReader;
pub(crate) use report::{Finding, Report};
pub(crate) use schema::schema;

use crate::exit::Failure;

/// The part of the configuration that is published, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) agents: Vec<AgentConfig>,
    /// Agents whose LLM is not published by this configuration.
    pub(crate) unresolved: Vec<UnresolvedAgent>,
    /// Providers that cannot be published, because their type is unknown.
    pub(crate) skipped: Vec<Finding>,
    pub(crate) fingerprints: Fingerprints,
    /// Warnings about the file, each with its path.
    pub(crate) warnings: Vec<String>,
    /// Environment variables that hold secrets, which recipes do not get.
    pub(crate) secret_variables: Vec<String>,
}

/// An agent whose LLM is not published by this configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnresolvedAgent {
    /// Path of the key that names the LLM, such as `agents[0].llm`.
    pub(crate) key: String,
    /// Name of the LLM or pool.
    pub(crate) llm: String,
    /// Whether the file has an unpublished provider of that name.
    pub(crate) has_unpublished_provider: bool,
    /// The agent's name at the hub, if it is public.
    pub(crate) public_name: Option<String>,
}

impl Published {
    /// Whether there is no provider. Agents alone need no channel to the hub.
    pub(crate) fn is_empty(&self) -> bool {
        self.providers.is_empty()
    }

    /// Adds the secret variables of this configuration to `known`, and hides all of these from its recipes. A provider
    /// that a reload removes leaves the variable of its key in the environment.
    pub(crate) fn hide_variables(&mut self, known: &mut BTreeSet<String>) {
        known.extend(self.secret_variables.iter().cloned());
        for provider in &mut self.providers {
            let wake = provider.wake.as_mut().map(|recipe| &mut recipe.action);
            let sleep = provider.sleep.as_mut().map(|recipe| &mut recipe.action);
            for action in [wake, sleep].into_iter().flatten() {
                if let Action::Command { scrub_env, .. } = action {
                    *scrub_env = known.iter().cloned().collect();
                }
            }
        }
    }
}

/// The environment that the configuration depends on.
pub(crate) struct Environment<'a> {
    /// Looks up a variable; an empty one is `None`.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Returns the host name, for the suffix `auto`.
    pub(crate) host: &'a dyn Fn() -> String,
}

/// Reads the configuration and logs its warnings. A missing file publishes nothing.
pub(crate) fn load(path: &Path) -> Result<Published, Failure> {
    let (mut published, report) = inspect(path)?;
    for warning in &report.warnings {
        let warning = format!("{}: {warning}", path.display());
        log::warn!("{warning}");
        published.warnings.push(warning);
    }
    let Some(first) = report.errors.first() else { return Ok(published) };
    let more = match report.errors.len() - 1 {
        0 => String::new(),
        1 => " (and one more error: `virtual-llm check` lists them)".to_owned(),
        n => format!(" (and {n} more errors: `virtual-llm check` lists them)"),
    };
    Err(Failure::usage(format!("{}: {first}{more}", path.display())))
}

/// Reads the configuration and returns all findings. Fails only if the file is unreadable or not JSON.
pub(crate) fn inspect(path: &Path) -> Result<(Published, Report), Failure> {
    let Some(file) = files::json(path)? else { return Ok(Default::default()) };
    let environment = Environment {
        variable: &|name| variable(name),
        host: &|| gethostname::gethostname().to_string_lossy().into_owned(),
    };
    let mut report = Report::default();
    let published = read(&file.value, &environment, &mut report);
    let providers = provider_values(&file.value);
    if let Some(doubt) = file.file.doubt() {
        report_doubt(&published, &providers, doubt, &mut report);
    }
    let secret = providers.iter().find_map(|provider| {
        let has_password = provider["proxy"].as_str().is_some_and(|proxy| proxy.contains('@'));
        let has_key = provider.get("apiKey").is_some();
        has_key.then_some("an apiKey").or_else(|| has_password.then_some("a proxy's password"))
    });
    if let Some(secret) = secret.filter(|_| file.file.others_can_read()) {
        let shown = path.display();
        report.warn("", format!("it holds {secret} and others can read it: run `chmod 600 {shown}`"));
    }
    Ok((published, report))
}

/// Reads a JSON file without checks, with the keys of other tools.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, Failure> {
    Ok(files::json(path)?.map(|file| file.value))
}

/// Reads a whole configuration. The result contains the valid parts of a file with errors.
fn read(value: &Value, environment: &Environment<'_>, report: &mut Report) -> Published {
    let Some(top) = ObjectReader::new(value, "", keys::TOP, report) else { return Published::default() };
    let suffix = suffix(&top, environment, report);
    let mut published = Published::default();
    let mut names = PublishedNames::default();
    let all_providers = provider_values(value);
    let secret_variables = provider::secret_variables(&all_providers);
    let mut read_providers = |object: &ObjectReader<'_>, report: &mut Report| {
        for (i, value) in object.list("providers", report).into_iter().flatten().enumerate() {
            let path = format!("{}[{i}]", object.path_of("providers"));
            let mut context = provider::Context {
                suffix: &suffix,
                secret_variables: &secret_variables,
                environment,
                skipped: &mut published.skipped,
            };
            if let Some(config) = provider::read(value, path.clone(), &mut context, report) {
                names.add("LLM", config.wire_name.as_str(), path, value, report);
                published.fingerprints.add_llm(&config, value);
                published.providers.push(config);
            }
        }
    };
    read_providers(&top, report);
    // `llm` is shared with mcpctl: a value of another type is not an error.
    if let Some(llm) = top.get("llm").filter(|llm| llm.is_object())
        && let Some(llm) = ObjectReader::new(llm, "llm", keys::LLM, report)
    {
        read_providers(&llm, report);
    }
    for (i, value) in top.list("agents", report).into_iter().flatten().enumerate() {
        let path = format!("agents[{i}]");
        let Some(config) = agent::read(value, path.clone(), &suffix, report) else { continue };
        names.add("agent", config.wire_name.as_str(), path.clone(), value, report);
        match agent::providers_of(&config, &published.providers).as_slice() {
            [] => published.unresolved.push(UnresolvedAgent {
                key: format!("{path}.llm"),
                has_unpublished_provider: all_providers
                    .iter()
                    .any(|provider| provider["name"] == config.llm.as_str()),
                llm: config.llm.clone(),
                public_name: (config.visibility == Visibility::Public).then(|| config.wire_name.to_string()),
            }),
            providers => agent::warn_of_private_llms(&config, providers, &path, report),
        }
        published.fingerprints.add_agent(&config, value);
        published.agents.push(config);
    }
    published.secret_variables = secret_variables;
    published
}

/// The suffix of names with its dash, or an empty string.
fn suffix(top: &ObjectReader<'_>, environment: &Environment<'_>, report: &mut Report) -> String {
    let publisher = top.reader("publisher", keys::PUBLISHER, report);
    let written = publisher.as_ref().and_then(|publisher| publisher.any_text("suffix", report));
    let wanted = (environment.variable)("MCPCTL_PUBLISHER_SUFFIX").or_else(|| written.map(str::to_owned));
    let Some(wanted) = wanted else { return String::new() };
    let wanted = if wanted.trim().eq_ignore_ascii_case("auto") { (environment.host)() } else { wanted };
    match names::suffix(&wanted) {
        suffix if suffix.is_empty() => String::new(),
        suffix => format!("-{suffix}"),
    }
}

/// All providers of the file, published or not, at the top level and under `llm`.
fn provider_values(value: &Value) -> Vec<&Value> {
    let lists = [&value["providers"], &value["llm"]["providers"]];
    lists.into_iter().filter_map(Value::as_array).flatten().collect()
}

/// Paths of the published LLMs and agents by kind and name.
#[derive(Default)]
struct PublishedNames(HashMap<(&'static str, String), String>);

impl PublishedNames {
    /// Adds a name. A name that another LLM, or another agent, has is an error.
    fn add(&mut self, kind: &'static str, name: &str, path: String, value: &Value, report: &mut Report) {
        let key = if value["publishName"].is_null() { "name" } else { "publishName" };
        match self.0.entry((kind, name.to_owned())) {
            Entry::Occupied(other) => report.error(
                format!("{path}.{key}"),
                format!("'{name}' is published by {} already; expected a name of its own", other.get()),
            ),
            Entry::Vacant(free) => {
                free.insert(path);
            }
        }
    }
}

/// Reports that another user may have written the file. It is an error if the file has recipes, which run as this user,
/// or an `apiKeyEnv`, which sends an environment variable to a URL in the file.
fn report_doubt(published: &Published, providers: &[&Value], doubt: &Doubt, report: &mut Report) {
    let has_recipe = |provider: &&ProviderConfig| provider.wake.is_some() || provider.sleep.is_some();
    if let Some(provider) = published.providers.iter().find(has_recipe) {
        return report.error("", format!("'{}' has a recipe, and {doubt}", provider.name));
    }
    let sends_a_variable =
        |provider: &&Value| provider["publish"] == true && !provider["apiKeyEnv"].is_null();
    if providers.iter().any(sends_a_variable) {
        report.error("", format!("it sends the variable of an apiKeyEnv, and {doubt}"));
    } else {
        report.warn("", doubt.to_string());
    }
}
