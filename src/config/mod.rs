//! The configuration of SPEC.md section 7: files of a person become checked values, or findings that say where.

mod agent;
mod credentials;
mod files;
mod keys;
mod marks;
pub(crate) mod names;
mod near_miss;
mod places;
mod provider;
mod recipe;
mod report;
mod schema;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod url;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use actors::{AgentConfig, ProviderConfig};
use own_files::Doubt;
use serde_json::Value;
use wire::row::Visibility;

pub(crate) use credentials::{
    Hub, check_transport, checked_token, hub, inspect_hub, write as write_credentials,
};
pub(crate) use files::{open_to_write, write as write_json, write_public};
pub(crate) use marks::Marks;
pub(crate) use own_files::plain;
pub(crate) use places::{Places, variable};
pub(crate) use report::{Finding, Report};
pub(crate) use schema::schema;
use table::Table;

use crate::exit::Failure;

/// What the configuration publishes.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// In the order of the file.
    pub(crate) providers: Vec<ProviderConfig>,
    /// In the order of the file.
    pub(crate) agents: Vec<AgentConfig>,
    /// Agents whose LLM is published by somebody else, or by nobody.
    pub(crate) elsewhere: Vec<Elsewhere>,
    /// Why providers that are to be published are not: nobody knows their type.
    pub(crate) skipped: Vec<Finding>,
    /// What tells one reading of the file from the next.
    pub(crate) marks: Marks,
    /// What is probably not meant so, as text.
    pub(crate) warnings: Vec<String>,
}

/// An agent over an LLM that this configuration does not publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// `agents[0].llm`.
    pub(crate) key: String,
    /// The LLM or pool.
    pub(crate) llm: String,
    /// Whether a provider of that name is in the file, and is not published.
    pub(crate) is_kept_back: bool,
    /// The agent's name at the hub, where everybody may use it.
    pub(crate) public_name: Option<String>,
}

impl Published {
    /// Whether there is nothing to publish: agents alone are no reason to hold a channel open.
    pub(crate) fn is_empty(&self) -> bool {
        self.providers.is_empty()
    }
}

/// The variables that the configuration depends on.
pub(crate) struct Environment<'a> {
    /// Looks up a variable; an empty one is none.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The host name, for the suffix `auto`.
    pub(crate) host: &'a dyn Fn() -> String,
}

impl Environment<'static> {
    /// This process's.
    pub(crate) const fn of_process() -> Self {
        Self {
            variable: &|name| variable(name),
            host: &|| gethostname::gethostname().to_string_lossy().into_owned(),
        }
    }
}

/// Reads the configuration; warnings are logged. A missing file publishes nothing.
pub(crate) fn load(path: &Path) -> Result<Published, Failure> {
    let (mut published, report) = inspect(path)?;
    for warning in &report.warnings {
        let warning = format!("{}: {warning}", path.display());
        log::warn!("{warning}");
        published.warnings.push(warning);
    }
    match report.errors.as_slice() {
        [] => Ok(published),
        [first, rest @ ..] => {
            let more = match rest.len() {
                0 => String::new(),
                1 => " (and one more error: `virtual-llm check` lists them)".to_owned(),
                n => format!(" (and {n} more errors: `virtual-llm check` lists them)"),
            };
            Err(Failure::usage(format!("{}: {first}{more}", path.display())))
        }
    }
}

/// Reads the configuration and says everything that can be said of it. An error means that it is no JSON at all.
pub(crate) fn inspect(path: &Path) -> Result<(Published, Report), Failure> {
    let Some(file) = files::json(path)? else { return Ok(Default::default()) };
    let mut report = Report::default();
    let published = check(&file.value, &Environment::of_process(), &mut report);
    if let Some(doubt) = file.file.doubt() {
        refuse_what_others_wrote(&published, &file.value, doubt, &mut report);
    }
    if file.file.others_can_read() && holds_a_key(&file.value) {
        report.warn(
            "",
            format!("it holds an apiKey and others can read it: run `chmod 600 {}`", path.display()),
        );
    }
    Ok((published, report))
}

/// The JSON of a file as it stands, with the keys of other tools.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, Failure> {
    Ok(files::json(path)?.map(|file| file.value))
}

/// Checks a whole configuration. What comes back is good even where other parts are not.
fn check(value: &Value, environment: &Environment<'_>, report: &mut Report) -> Published {
    let Some(top) = Table::of(value, "", keys::TOP, report) else { return Published::default() };
    let suffix = suffix(&top, environment, report);
    let mut published = Published::default();
    let mut taken = Taken::default();
    let scrubbed = provider::secret_variables(&provider_values(&top));
    let mut check_list = |table: &Table<'_>, report: &mut Report| {
        for (i, value) in table.list("providers", report).into_iter().flatten().enumerate() {
            let path = format!("{}[{i}]", table.path_of("providers"));
            let mut context = provider::Context {
                suffix: &suffix,
                scrubbed: &scrubbed,
                environment,
                skipped: &mut published.skipped,
            };
            if let Some(config) = provider::check(value, path.clone(), &mut context, report) {
                taken.claim("LLM", config.wire_name.as_str(), path, value, report);
                published.marks.add_llm(&config, value);
                published.providers.push(config);
            }
        }
    };
    check_list(&top, report);
    if let Some(llm) =
        top.get("llm").filter(|llm| llm.is_object()).and_then(|llm| Table::of(llm, "llm", keys::LLM, report))
    {
        check_list(&llm, report);
    }
    let all_providers = provider_values(&top);
    for (i, value) in top.list("agents", report).into_iter().flatten().enumerate() {
        let path = format!("agents[{i}]");
        if let Some(config) = agent::check(value, path.clone(), &suffix, report) {
            taken.claim("agent", config.wire_name.as_str(), path.clone(), value, report);
            match agent::behind(&config, &published.providers).as_slice() {
                [] => published.elsewhere.push(Elsewhere {
                    key: format!("{path}.llm"),
                    is_kept_back: all_providers
                        .iter()
                        .any(|provider| provider["name"] == config.llm.as_str()),
                    llm: config.llm.clone(),
                    public_name: (config.visibility == Visibility::Public)
                        .then(|| config.wire_name.to_string()),
                }),
                behind => agent::warn_of_what_becomes_visible(&config, behind, &path, report),
            }
            published.marks.add_agent(&config, value);
            published.agents.push(config);
        }
    }
    published
}

/// What is appended to names, with its dash; empty for nothing.
fn suffix(top: &Table<'_>, environment: &Environment<'_>, report: &mut Report) -> String {
    let publisher = top.table("publisher", keys::PUBLISHER, report);
    let written = publisher.as_ref().and_then(|publisher| publisher.any_text("suffix", report));
    let wanted = (environment.variable)("MCPCTL_PUBLISHER_SUFFIX").or_else(|| written.map(str::to_owned));
    let Some(wanted) = wanted else { return String::new() };
    let wanted = if wanted.trim().eq_ignore_ascii_case("auto") { (environment.host)() } else { wanted };
    match names::suffix(&wanted) {
        suffix if suffix.is_empty() => String::new(),
        suffix => format!("-{suffix}"),
    }
}

/// All providers of the file, published or not, wherever they stand.
fn provider_values<'a>(top: &Table<'a>) -> Vec<&'a Value> {
    let under_llm = top.get("llm").and_then(|llm| llm.get("providers"));
    [top.get("providers"), under_llm].into_iter().flatten().filter_map(Value::as_array).flatten().collect()
}

fn holds_a_key(value: &Value) -> bool {
    let mut ignored = Report::default();
    Table::of(value, "", keys::TOP, &mut ignored)
        .is_some_and(|top| provider_values(&top).iter().any(|provider| provider.get("apiKey").is_some()))
}

/// Who publishes which name.
#[derive(Default)]
struct Taken(HashMap<(&'static str, String), String>);

impl Taken {
    /// A name is for one LLM and for one agent.
    fn claim(&mut self, what: &'static str, name: &str, path: String, value: &Value, report: &mut Report) {
        let key =
            if value.get("publishName").is_some_and(|name| !name.is_null()) { "publishName" } else { "name" };
        match self.0.entry((what, name.to_owned())) {
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

/// Says that somebody else may have written the file. Commands that it would run as us, and variables of ours that it would
/// send to an address of its choice, are an error.
fn refuse_what_others_wrote(published: &Published, value: &Value, doubt: &Doubt, report: &mut Report) {
    let has_recipe = |provider: &&ProviderConfig| provider.wake.is_some() || provider.sleep.is_some();
    if let Some(provider) = published.providers.iter().find(has_recipe) {
        return report.error("", format!("'{}' has a recipe, and {doubt}", provider.name));
    }
    let mut ignored = Report::default();
    let providers =
        Table::of(value, "", keys::TOP, &mut ignored).map(|top| provider_values(&top)).unwrap_or_default();
    let sends_a_variable = |provider: &&&Value| {
        provider["publish"] == true && provider.get("apiKeyEnv").is_some_and(|name| !name.is_null())
    };
    match providers.iter().find(sends_a_variable) {
        Some(_) => report.error("", format!("it sends the variable of an apiKeyEnv, and {doubt}")),
        None => report.warn("", doubt.to_string()),
    }
}
