//! What the hub is told of each provider and agent (SPEC.md section 3.1).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, join_all};
use tokio::time::timeout;
use wire::model_path::cut_model_path;
use wire::register::{AgentEntry, ProviderEntry};
use wire::row::Status;

use crate::options::{AgentConfig, ProviderConfig};
use crate::supervise::catch_panic;

/// Tells whether a provider's backend is available.
pub type Probe = Rc<dyn Fn(&ProviderConfig) -> LocalBoxFuture<'static, bool>>;

/// The question itself has 2 s; a backend of a library user's own may not keep to it, and must not hold up the rest.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// The providers as the hub is told of them, asked all at once.
pub(super) async fn providers(configs: &[Arc<ProviderConfig>], probe: &Probe) -> Vec<ProviderEntry> {
    join_all(configs.iter().map(|config| provider(config, probe))).await
}

async fn provider(config: &ProviderConfig, probe: &Probe) -> ProviderEntry {
    // Only who can be woken can be said to sleep.
    let asleep = config.wake.is_some() && !is_available(config, probe).await;
    ProviderEntry {
        name: config.wire_name.to_string(),
        provider_type: config.hub_type.clone(),
        model: cut_model_path(&config.model).to_owned(),
        tier: config.tier,
        description: config.description.clone(),
        pool_name: config.pool_name.clone(),
        visibility: config.visibility,
        initial_status: if asleep { Status::Hibernating } else { Status::Active },
        allow_remote_urls: config.allow_remote_urls,
        max_concurrency: (config.max_concurrency != ProviderConfig::MAX_CONCURRENCY)
            .then(|| u32::try_from(config.max_concurrency).unwrap_or(u32::MAX)),
        timeout_seconds: (config.timeout != ProviderConfig::TIMEOUT).then(|| whole_seconds(config.timeout)),
    }
}

/// Rounded up: a hub must not be more impatient than the publisher.
fn whole_seconds(timeout: Duration) -> u32 {
    let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// An error while asking, a panic and silence count as not available.
async fn is_available(config: &ProviderConfig, probe: &Probe) -> bool {
    let asking = catch_panic(config.name.as_str().into(), async { probe(config).await });
    matches!(timeout(PROBE_LIMIT, asking).await, Ok(Ok(true)))
}

/// The agents as the hub is told of them. An agent of a provider in `withdrawn` goes with it; an LLM that is not in
/// `providers` goes out as it stands.
pub fn agents(
    agents: &[AgentConfig],
    providers: &[Arc<ProviderConfig>],
    withdrawn: impl Fn(&ProviderConfig) -> bool,
) -> Vec<AgentEntry> {
    let entry = |agent: &AgentConfig| {
        let provider = providers.iter().find(|provider| provider.name == agent.llm);
        if provider.is_some_and(|provider| withdrawn(provider)) {
            return None;
        }
        Some(AgentEntry {
            name: agent.wire_name.to_string(),
            llm_name: provider.map_or_else(|| agent.llm.clone(), |provider| provider.wire_name.to_string()),
            description: agent.description.clone(),
            system_prompt: agent.system_prompt.clone(),
            project: agent.project.clone(),
            default_params: agent.default_params.clone(),
            extras: agent.extras.clone(),
            visibility: agent.visibility,
        })
    };
    agents.iter().filter_map(entry).collect()
}
