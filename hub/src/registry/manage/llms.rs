//! Public LLM rows: create, update, delete. For admins, but for what visibility tells everyone.

use schemars::JsonSchema;
use serde::Deserialize;
use wire::abilities::{Abilities, Capabilities, MAX_TOKENS};
use wire::names::PATTERN;
use wire::row::{Kind, Status, Tier, Visibility};
use wire::texts;

use super::{ManageError, check_admin, check_same_name, name_in_use};
use crate::clock::Now;
use crate::model::{Caller, Llm, Upstream};
use crate::registry::Registry;
use crate::registry::register::{MAX_PROSE, Malformed, abilities, name, prose, text};
use crate::store::Change;

/// Warning of an update that removes the upstream's key.
const KEY_DROPPED: &str =
    "the url names another server: its key was not kept, send apiKey again if it needs one";

/// The row after an update and a warning, if any, with the changes to store.
type UpdatedLlm = ((Llm, Option<&'static str>), Vec<Change>);

/// A public LLM in a request. Keys of `GET` that only the hub decides are ignored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlmSpec {
    /// The row's name; optional if the path has it.
    #[schemars(regex(pattern = PATTERN))]
    pub name: Option<String>,
    /// The API that the upstream speaks.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 512))]
    pub provider_type: String,
    #[schemars(length(min = 1, max = 512))]
    pub model: String,
    /// The upstream's base URL. An update without it keeps the old one.
    #[schemars(regex(pattern = "^https?://"))]
    pub url: Option<String>,
    /// The upstream's key. An update without it keeps the old one; an empty key removes it.
    #[schemars(regex(pattern = "^[!-~]*$"))]
    pub api_key: Option<String>,
    pub tier: Option<Tier>,
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    #[schemars(regex(pattern = PATTERN))]
    pub pool_name: Option<String>,
    /// Public by default. An update without it keeps the old one.
    pub visibility: Option<Visibility>,
    /// Whether callers other than the owner may have the upstream fetch addresses, run tools and keep answers. An update
    /// without it keeps the old one.
    pub allow_remote_urls: Option<bool>,
    /// Tokens of prompt and answer together that the upstream serves.
    #[schemars(range(min = 1, max = MAX_TOKENS))]
    pub context_length: Option<u32>,
    /// Tokens of the longest answer.
    #[schemars(range(min = 1, max = MAX_TOKENS))]
    pub max_output_tokens: Option<u32>,
    #[serde(default)]
    pub capabilities: Capabilities,
}

impl LlmSpec {
    const fn abilities(&self) -> Abilities {
        let Self { context_length, max_output_tokens, capabilities, .. } = *self;
        Abilities { context_length, max_output_tokens, capabilities }
    }
}

impl Registry {
    /// Creates a public row.
    pub fn create_llm(
        &mut self,
        caller: &Caller,
        spec: LlmSpec,
        id: String,
        now: Now,
    ) -> Result<(Llm, Vec<Change>), ManageError> {
        check_admin(caller)?;
        let name = spec
            .name
            .clone()
            .ok_or_else(|| ManageError::Invalid("name: a new LLM needs one".to_owned().into()))?;
        check_spec(&name, &spec)?;
        if let Some(old) = self.llms.get(&name).map(|entry| &entry.llm) {
            let seen = caller.sees(old.visibility, &old.owner);
            return Err(name_in_use(seen, "LLM", &name));
        }
        self.check_name_owner(caller, &name).map_err(ManageError::Conflict)?;
        self.check_pool(caller, &name, spec.pool_name.as_deref())?;
        let abilities = spec.abilities();
        let Some(url) = spec.url else {
            return Err(ManageError::Invalid(
                "url: where the LLM is reached, with http:// or https://".to_owned().into(),
            ));
        };
        self.store_llm(
            Llm {
                id,
                name,
                provider_type: spec.provider_type,
                model: spec.model,
                tier: spec.tier,
                description: spec.description,
                kind: Kind::Public,
                status: Status::Active,
                declared: Status::Active,
                last_heartbeat_at: None,
                inactive_since: None,
                pool_name: spec.pool_name,
                visibility: spec.visibility.unwrap_or(Visibility::Public),
                owner: caller.user.clone(),
                session: None,
                registered: true,
                created_at: now.wall,
                updated_at: now.wall,
                upstream: Some(Upstream { url, api_key: spec.api_key.filter(|key| !key.is_empty()) }),
                timeout_seconds: None,
                allow_remote_urls: spec.allow_remote_urls.unwrap_or(false),
                abilities,
            },
            now,
        )
    }

    /// Updates a public row.
    pub fn update_llm(
        &mut self,
        caller: &Caller,
        name: &str,
        spec: LlmSpec,
        now: Now,
    ) -> Result<UpdatedLlm, ManageError> {
        let old = self.llm(caller, name).ok_or(ManageError::Unknown)?.clone();
        check_admin(caller)?;
        check_same_name(name, spec.name.as_deref())?;
        check_spec(name, &spec)?;
        let Some(upstream) = old.upstream else {
            return Err(ManageError::Conflict(texts::published_elsewhere(name)));
        };
        let owner = Caller { user: old.owner.clone(), ..caller.clone() };
        self.check_pool(&owner, name, spec.pool_name.as_deref())?;
        let abilities = spec.abilities();
        let had_key = upstream.api_key.is_some();
        let url = spec.url.unwrap_or_else(|| upstream.url.clone());
        // The key must not be sent to a server of the caller's choice.
        let kept = upstream.api_key.filter(|_| is_same_server(&upstream.url, &url));
        let dropped = spec.api_key.is_none() && kept.is_none() && had_key;
        let api_key = spec.api_key.or(kept).filter(|key| !key.is_empty());
        let llm = Llm {
            provider_type: spec.provider_type,
            model: spec.model,
            tier: spec.tier,
            description: spec.description,
            pool_name: spec.pool_name,
            visibility: spec.visibility.unwrap_or(old.visibility),
            updated_at: now.wall,
            upstream: Some(Upstream { url, api_key }),
            allow_remote_urls: spec.allow_remote_urls.unwrap_or(old.allow_remote_urls),
            abilities,
            ..old
        };
        let (llm, changes) = self.store_llm(llm, now)?;
        Ok(((llm, dropped.then_some(KEY_DROPPED)), changes))
    }

    /// Deletes a row, for admins only. A published row of the caller's own is refused: its publisher has to stop first.
    pub fn delete_llm(&mut self, caller: &Caller, name: &str, now: Now) -> Result<Vec<Change>, ManageError> {
        let llm = self.llm(caller, name).ok_or(ManageError::Unknown)?;
        check_admin(caller)?;
        Self::check_deletable(caller, (llm.kind, llm.status, &llm.owner), &format!("LLM {name}"))?;
        // A publisher that is away for a moment still counts the row as published.
        self.report_deleted(llm.session.clone().filter(|_| llm.registered), name);
        let changes = self.remove_llm(name, now).into_iter().collect();
        Ok(self.with_names(changes))
    }

    fn store_llm(&mut self, llm: Llm, now: Now) -> Result<(Llm, Vec<Change>), ManageError> {
        let old = self.bytes_of_llm(&llm.owner, &llm.name);
        self.check_bytes(&llm.owner, old, llm.bytes())?;
        self.put_llm(llm.clone(), now);
        let changes = self.with_names(vec![Change::PutLlm(Box::new(llm.clone()))]);
        Ok((llm, changes))
    }

    /// Checks whether the row `name` of `owner` may name `pool`, and whether the pool has a place for it.
    fn check_pool(&self, owner: &Caller, name: &str, pool: Option<&str>) -> Result<(), ManageError> {
        self.check_pool_name(owner, name, pool).map_err(ManageError::Conflict)?;
        let Some(pool) = pool else { return Ok(()) };
        let new = usize::from(!self.names_pool(name, pool));
        self.check_pool_rows(&owner.user, pool, new).map_err(ManageError::PoolFull)
    }
}

fn check_spec(llm: &str, spec: &LlmSpec) -> Result<(), ManageError> {
    let check = || -> Result<(), Malformed> {
        name("name", llm)?;
        text("type", &spec.provider_type)?;
        text("model", &spec.model)?;
        if let Some(pool) = &spec.pool_name {
            name("poolName", pool)?;
        }
        prose("description", MAX_PROSE, spec.description.as_deref())?;
        abilities("", spec.abilities())?;
        if let Some(key) = &spec.api_key
            && !key.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("apiKey: visible ASCII characters only".to_owned().into());
        }
        spec.url.as_deref().map_or(Ok(()), check_url)?;
        Ok(())
    };
    check().map_err(ManageError::Invalid)
}

/// Whether two URLs name the same scheme, host and port, so that a key for one may be sent to the other.
fn is_same_server(one: &str, other: &str) -> bool {
    let server = |url: &str| {
        let uri: actix_web::http::Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some((scheme, uri.host()?.to_ascii_lowercase(), port))
    };
    server(one).is_some_and(|one| server(other) == Some(one))
}

/// Checks an upstream's URL. It contains no secret, since rows show it to admins.
fn check_url(url: &str) -> Result<(), String> {
    text("url", url)?;
    let parsed: Result<actix_web::http::Uri, _> = url.parse();
    let good = parsed.is_ok_and(|uri| {
        let http = matches!(uri.scheme_str(), Some("http" | "https"));
        http && uri.query().is_none() && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
    });
    if good { Ok(()) } else { Err("url: http:// or https://, a host, and a path; no user, no query".into()) }
}
