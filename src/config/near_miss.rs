//! Suggestions for misspelt words.

/// The one of `known` that `key` is probably a misspelling of: equal but for case and punctuation, or one or two typing
/// errors away. `None` if `key` is known itself.
pub(crate) fn near_miss<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    if known.contains(&key) {
        return None;
    }
    let letters = |text: &str| {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    let written = letters(key);
    known
        .iter()
        .map(|&candidate| (strsim::osa_distance(&written, &letters(candidate)), candidate))
        // In a short word two errors make another word: `host` is not `port`.
        .filter(|(errors, candidate)| *errors <= if candidate.len() < 6 { 1 } else { 2 })
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}
