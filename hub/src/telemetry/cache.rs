//! How much of the prompts a backend had in its cache, of each row and pool since the hub started.
//!
//! Who may see a row gets its hit rate in whole percent; the counts of tokens, from which single calls could be read, are
//! for its owner and admins.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Serialize;
use wire::openai::PromptCache;

/// The prompt tokens of a row's answers that report their cached tokens.
#[derive(Debug, Default)]
pub struct CacheCounters {
    prompt: AtomicU64,
    cached: AtomicU64,
}

impl CacheCounters {
    /// Counts one answer. Overflow takes 2^24 answers of the largest count.
    pub(crate) fn add(&self, tokens: PromptCache) {
        self.prompt.fetch_add(tokens.prompt, Ordering::Relaxed);
        self.cached.fetch_add(tokens.cached, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> PromptCache {
        let cached = self.cached.load(Ordering::Relaxed);
        PromptCache { cached, prompt: self.prompt.load(Ordering::Relaxed).max(cached) }
    }
}

/// The prompt cache of a row as one caller reads it. Without a count there is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheView {
    /// Cached tokens of 100 prompt tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_hit_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
}

impl CacheView {
    /// The view of a caller who may read the counts if `with_counts`.
    pub(crate) fn of(tokens: PromptCache, with_counts: bool) -> Self {
        let Some(cache_hit_percent) = percent(tokens) else { return Self::default() };
        let shown = |count: u64| with_counts.then_some(count);
        Self {
            cache_hit_percent: Some(cache_hit_percent),
            prompt_tokens: shown(tokens.prompt),
            cached_tokens: shown(tokens.cached),
        }
    }
}

/// The hit rate in whole percent; `None` if nothing was counted.
fn percent(tokens: PromptCache) -> Option<u8> {
    let rate = u128::from(tokens.cached) * 100 / u128::from(tokens.prompt).max(1);
    u8::try_from(rate).ok().filter(|_| tokens.prompt > 0)
}

/// A row in `/metrics`.
pub(crate) struct RowCache {
    pub(crate) llm: String,
    pub(crate) pool: Option<String>,
    pub(crate) tokens: PromptCache,
    /// Whether the caller may read the counts.
    pub(crate) with_counts: bool,
}

/// The lines of `rows` for Prometheus. All rows are visible to the caller.
pub(crate) fn metrics_text(rows: &[RowCache]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: &mut dyn Iterator<Item = (String, f64)>| {
        let mut lines = lines.peekable();
        if lines.peek().is_some() {
            let _ = writeln!(text, "# HELP virtual_llm_{name} {help}\n# TYPE virtual_llm_{name} {kind}");
        }
        for (labels, value) in lines {
            let _ = writeln!(text, "virtual_llm_{name}{{{labels}}} {value}");
        }
    };
    let labels = |row: &RowCache| {
        let pool = row.pool.as_deref().unwrap_or_default();
        format!("llm=\"{}\",pool=\"{}\"", escaped(&row.llm), escaped(pool))
    };
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
    let counted = |value: fn(&RowCache) -> u64| {
        let with_counts = rows.iter().filter(|row| row.with_counts);
        with_counts.map(move |row| (labels(row), value(row) as f64))
    };
    let help =
        "Prompt tokens of answers that report their cached tokens, of your own LLMs; of all for admins.";
    family("llm_prompt_tokens_total", "counter", help, &mut counted(|row| row.tokens.prompt));
    let help = "Those of them that the backend had in its cache.";
    family("llm_cached_tokens_total", "counter", help, &mut counted(|row| row.tokens.cached));
    let ratio = |tokens: PromptCache| Some(f64::from(percent(tokens)?) / 100.0);
    let ratios = rows.iter().filter_map(|row| Some((labels(row), ratio(row.tokens)?)));
    family("llm_cache_hit_ratio", "gauge", "Cached of all prompt tokens.", &mut { ratios });
    let mut pools: BTreeMap<&str, PromptCache> = BTreeMap::new();
    for (row, pool) in rows.iter().filter_map(|row| Some((row, row.pool.as_deref()?))) {
        let sum = pools.entry(pool).or_default();
        *sum = total(*sum, row.tokens);
    }
    let pools = pools.into_iter();
    let ratios =
        pools.filter_map(|(pool, tokens)| Some((format!("pool=\"{}\"", escaped(pool)), ratio(tokens)?)));
    family("pool_cache_hit_ratio", "gauge", "Cached of all prompt tokens of a pool's LLMs.", &mut { ratios });
    text
}

pub(crate) fn total(one: PromptCache, other: PromptCache) -> PromptCache {
    PromptCache {
        prompt: one.prompt.saturating_add(other.prompt),
        cached: one.cached.saturating_add(other.cached),
    }
}

/// A label's value, as Prometheus reads it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_only_to_who_may_read_them() {
        let tokens = PromptCache { prompt: 1000, cached: 987 };
        let owner = serde_json::to_value(CacheView::of(tokens, true)).unwrap();
        assert_eq!(
            owner,
            serde_json::json!({ "cacheHitPercent": 98, "promptTokens": 1000, "cachedTokens": 987 })
        );
        let other = serde_json::to_value(CacheView::of(tokens, false)).unwrap();
        assert_eq!(other, serde_json::json!({ "cacheHitPercent": 98 }));
        let none = serde_json::to_value(CacheView::of(PromptCache::default(), true)).unwrap();
        assert_eq!(none, serde_json::json!({}));
    }

    #[test]
    fn metrics_have_rows_and_their_pools() {
        let row = |llm: &str, prompt, cached, with_counts| RowCache {
            llm: llm.into(),
            pool: Some("p".into()),
            tokens: PromptCache { prompt, cached },
            with_counts,
        };
        let text = metrics_text(&[row("a", 100, 90, true), row("b\"", 300, 30, false)]);
        for line in [
            "virtual_llm_llm_prompt_tokens_total{llm=\"a\",pool=\"p\"} 100",
            "virtual_llm_llm_cached_tokens_total{llm=\"a\",pool=\"p\"} 90",
            "virtual_llm_llm_cache_hit_ratio{llm=\"b\\\"\",pool=\"p\"} 0.1",
            "virtual_llm_pool_cache_hit_ratio{pool=\"p\"} 0.3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("tokens_total{llm=\"b"), "{text}");
        assert_eq!(metrics_text(&[]), "");
    }
}
