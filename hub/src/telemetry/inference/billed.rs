//! What an inference counts for in the sums of usage, in budgets and in the line.

use super::Inference;
use crate::model::TokenCounts;

/// Tokens of a prompt, and of an answer, that may have no bytes: of a chat template, of images behind links, of hidden reasoning.
const UNSEEN: u64 = 8 << 10;

impl Inference {
    /// The tokens so far; `is_whole` if the answer is complete.
    pub fn tokens(&self, is_whole: bool) -> TokenCounts {
        TokenCounts::of(self.usage, self.content, is_whole)
    }

    /// Records bytes of the answer.
    pub fn answer(&mut self, bytes: usize) {
        self.answer_bytes = self.answer_bytes.saturating_add(bytes);
    }

    /// The tokens that count in the sums, for budgets and in the line. A prompt of unknown length that was answered counts as a token for 4 bytes.
    /// What a publisher reports counts up to a token for each byte that it got or sent, and [`UNSEEN`] of each; the backend of a
    /// public row is trusted.
    pub fn billed(&self, tokens: TokenCounts) -> TokenCounts {
        let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let (sent, got) = (count(self.request.bytes), count(self.answer_bytes));
        let guess = (got > 0).then_some(sent / 4);
        let is_published = self.destination.as_ref().is_some_and(|to| to.session.is_some());
        let slack = if is_published { UNSEEN } else { u64::MAX };
        let input = tokens.input.map(|input| input.min(sent.saturating_add(slack))).or(guess);
        let output = tokens.output.map(|output| output.min(got.saturating_add(slack)));
        let cached = tokens.cached.map(|cached| cached.min(input.unwrap_or_default()));
        TokenCounts { input, cached, output, ..tokens }
    }
}
