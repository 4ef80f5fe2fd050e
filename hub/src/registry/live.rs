//! What runs where, for those who watch: rows with their load.

use serde::Serialize;
use wire::row::LlmRow;

use super::Registry;
use crate::model::{Caller, Llm};

/// A row and the work on it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveLlm {
    /// The row as every list has it.
    #[serde(flatten)]
    pub row: LlmRow,
    /// Tasks there, running or waiting: ours, or all that its publisher knows of if these are more.
    pub busy: u32,
    /// Tasks that may run there at once, where the publisher says so.
    pub room: Option<u32>,
}

impl Registry {
    /// The rows that `caller` sees, with their load.
    pub fn live_llms(&self, caller: &Caller) -> impl Iterator<Item = LiveLlm> {
        self.llms(caller).filter_map(|llm| {
            let entry = self.llms.get(&llm.name)?;
            let room = entry.report.map(|report| report.room);
            Some(LiveLlm { row: Llm::row(llm), busy: entry.work(), room })
        })
    }
}
