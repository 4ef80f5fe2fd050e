//! Finds the known word that a misspelt one was probably meant to be.

/// The one of `known` that `key` was probably meant to be: the same letters in another case or with other punctuation, or
/// one or two typing errors away. Keys of other tools are further away than that. `None` where `key` is known itself.
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

/// The number of letters to insert, remove, change, or swap with their neighbour (optimal string alignment).
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
