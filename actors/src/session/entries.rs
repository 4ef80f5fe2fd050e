//! The providers and agents of a registration (SPEC.md section 3.1).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, join_all};
use wire::Capabilities;
use wire::model_path::cut_model_path;
use wire::register::{AgentEntry, ProviderEntry};
use wire::row::Status;

use crate::options::{AgentConfig, ProviderConfig};
use crate::supervise::catch_panic;

/// Checks whether a provider's backend is available.
pub(crate) type AvailabilityCheck = Rc<dyn Fn(&ProviderConfig) -> LocalBoxFuture<'static, bool>>;

/// The entries of `configs`. All backends are checked at the same time.
pub(super) async fn providers(
    configs: &[Arc<ProviderConfig>],
    check: &AvailabilityCheck,
) -> Vec<ProviderEntry> {
    join_all(configs.iter().map(|config| provider(config, check))).await
}

async fn provider(config: &ProviderConfig, check: &AvailabilityCheck) -> ProviderEntry {
    // A backend without a wake recipe cannot be `hibernating`.
    let asleep = config.wake.is_some() && !is_available(config, check).await;
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
        // Set by `Learned::complete`.
        context_length: None,
        max_output_tokens: None,
        capabilities: Capabilities::default(),
        timeout_seconds: (config.timeout != ProviderConfig::TIMEOUT).then(|| whole_seconds(config.timeout)),
    }
}

/// Rounds up, so that the hub waits at least as long as the publisher.
fn whole_seconds(timeout: Duration) -> u32 {
    let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Whether the backend is available. A panic in the check counts as no.
async fn is_available(config: &ProviderConfig, check: &AvailabilityCheck) -> bool {
    catch_panic(config.name.as_str().into(), async { check(config).await }).await.unwrap_or(false)
}

/// The entries of `agents`, without those of a `withdrawn` provider. The name of an LLM that is not in `providers` is sent
/// unchanged.
pub(crate) fn agents(
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
