//! Whose LLM an inference is counted for: its owner sees how others use it (SPEC.md section 5, owners).

use super::Inference;
use crate::model::UserId;
use crate::registry::Candidate;

impl Inference {
    /// The row that it was sent to last.
    pub fn row(&self) -> Option<&str> {
        self.destination.as_ref().map(|to| to.llm.as_str())
    }

    /// Records that `member` is tried. Until it is [sent](Inference::sent) there, a failure is not one of the row that it was sent to.
    pub fn tries(&mut self, member: &Candidate) {
        self.is_unsent = self.row().is_some_and(|row| row != member.name);
    }

    /// Whose LLM answers or fails: the owner of the destination, else of the name that was called.
    pub(super) fn owner(&self) -> Option<&UserId> {
        match &self.destination {
            Some(to) => Some(&to.owner).filter(|_| !self.is_unsent),
            None => self.request.target_owner.as_ref(),
        }
    }
}
