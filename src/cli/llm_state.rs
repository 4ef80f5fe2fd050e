//! The states of LLMs, for `get llm --status`.

use clap::ValueEnum;

/// State of an LLM, as the console shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LlmState {
    /// Answers at once
    Ready,
    /// Works, and has no free place
    Busy,
    /// Is being woken
    Waking,
    /// Is woken by a call (STATUS is hibernating)
    #[value(alias = "hibernating")]
    Asleep,
    /// Cannot be called (STATUS is inactive)
    #[value(alias = "inactive")]
    Away,
    /// Ready or busy, as in the column STATUS
    Active,
}
