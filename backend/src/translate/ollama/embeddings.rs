//! Translates embeddings. An answer has some million numbers, so its text is cut, not parsed to a tree.

use wire::json::{each_element, member};
use wire::openai::token_count;

use super::super::AnswerError;

/// Embeddings as JSON arrays, in the order of the inputs, and the number of tokens in the inputs.
pub(super) struct Embeddings<'a> {
    pub(super) vectors: Vec<&'a str>,
    pub(super) prompt_tokens: Option<u64>,
}

/// Reads the embeddings of `answer`.
pub(super) fn read(answer: &str) -> Result<Embeddings<'_>, AnswerError> {
    let data = member(answer, "data").ok_or(AnswerError::NotEmbeddings)?;
    let mut found = Vec::new();
    let mut is_complete = true;
    each_element(data, |item| {
        let index = member(item, "index").and_then(token_count).unwrap_or(found.len() as u64);
        match member(item, "embedding").filter(|vector| vector.starts_with('[')) {
            Some(vector) => found.push((index, vector)),
            None => is_complete = false,
        }
    })
    .map_err(|_| AnswerError::NotEmbeddings)?;
    if !is_complete || found.is_empty() {
        return Err(AnswerError::NotEmbeddings);
    }
    found.sort_by_key(|(index, _)| *index);
    let prompt_tokens =
        member(answer, "usage").and_then(|usage| token_count(member(usage, "prompt_tokens")?));
    Ok(Embeddings { vectors: found.into_iter().map(|(_, vector)| vector).collect(), prompt_tokens })
}
