//! What runs where, for those who watch: rows with their load.

use serde::Serialize;
use wire::row::LlmRow;

use super::Registry;
use crate::model::Caller;

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
    /// The row `name` with its load, if `caller` sees it.
    pub fn live_llm(&self, caller: &Caller, name: &str) -> Option<LiveLlm> {
        self.llm(caller, name)?;
        let entry = self.llms.get(name)?;
        let row = LlmRow { last_heartbeat_at: self.last_heartbeat(&entry.llm), ..entry.llm.row() };
        let row = self.with_pool(caller, &entry.llm, row);
        Some(LiveLlm { row, busy: entry.load(), room: entry.capacity() })
    }
}
