//! Which keys are ours, and which look as if they should have been.

/// At the top of the file.
pub(super) const TOP: &[&str] = &["publisher", "llm", "providers", "agents"];
/// Under `llm`.
pub(super) const LLM: &[&str] = &["providers"];
/// Under `publisher`.
pub(super) const PUBLISHER: &[&str] = &["suffix"];
/// Of a provider.
pub(super) const PROVIDER: &[&str] = &[
    "name",
    "type",
    "model",
    "url",
    "apiKey",
    "apiKeyEnv",
    "tier",
    "description",
    "publish",
    "publishName",
    "poolName",
    "visibility",
    "maxConcurrency",
    "maxQueue",
    "timeoutSeconds",
    "allowModelOverride",
    "allowRemoteUrls",
    "onAbort",
    "wake",
    "sleep",
    "availability",
    "tokens",
    "tokensPerSecond",
    "failEvery",
    "panicEvery",
];
/// Of a recipe.
pub(super) const RECIPE: &[&str] = &[
    "type",
    "url",
    "method",
    "headers",
    "body",
    "maxWaitSeconds",
    "command",
    "args",
    "mac",
    "broadcast",
    "port",
    "idleSeconds",
];
/// Of an availability check.
pub(super) const AVAILABILITY: &[&str] = &["url", "jsonPointer", "equals"];
/// Of an agent.
pub(super) const AGENT: &[&str] = &[
    "name",
    "llm",
    "description",
    "systemPrompt",
    "project",
    "defaultParams",
    "extras",
    "visibility",
    "publish",
    "publishName",
];
/// Of the credentials file.
pub(super) const CREDENTIALS: &[&str] = &["mcpdUrl", "token", "allowInsecure"];

/// The known key that `key` was probably meant to be: the same letters in another case or with other marks, or a
/// slip of the finger away. Keys of other tools are further away than that.
pub(super) fn near_miss<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    if known.contains(&key) {
        return None;
    }
    let plain = |text: &str| -> Vec<char> {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let written = plain(key);
    known
        .iter()
        .map(|&candidate| (slips(&written, &plain(candidate)), candidate))
        // In a short word two slips make another word: `host` is not `port`.
        .filter(|(slips, candidate)| *slips <= if candidate.len() < 6 { 1 } else { 2 })
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, left out, changed, or swapped with their neighbour.
fn slips(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = vec![i + 1];
        for j in 0..to.len() {
            let changed = last[j] + usize::from(from[i] != to[j]);
            let mut best = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}
