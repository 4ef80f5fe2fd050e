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

    /// The tokens that count in the sums, for budgets and in the line. What a publisher reports counts up to a token for each byte that it
    /// got or sent, and [`UNSEEN`] of each; the backend of a public row is trusted.
    pub fn billed(&self, tokens: TokenCounts) -> TokenCounts {
        let is_published = self.destination.as_ref().is_some_and(|to| to.session.is_some());
        let slack = if is_published { UNSEEN } else { u64::MAX };
        let most = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(slack);
        let input = tokens.input.map(|input| input.min(most(self.request.bytes)));
        let output = tokens.output.map(|output| output.min(most(self.answer_bytes)));
        let cached = tokens.cached.map(|cached| cached.min(input.unwrap_or_default()));
        TokenCounts { input, cached, output, ..tokens }
    }

    /// Tokens that the call took in the line: a prompt of unknown length that was answered is a token for 4 bytes.
    pub fn taken(&self, tokens: TokenCounts) -> u64 {
        let TokenCounts { input, output, .. } = self.billed(tokens);
        let guess = || if self.answer_bytes > 0 { self.request.bytes / 4 } else { 0 };
        let input = input.unwrap_or_else(|| u64::try_from(guess()).unwrap_or(u64::MAX));
        input.saturating_add(output.unwrap_or_default())
    }
}
