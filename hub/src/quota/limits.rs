/// Limits of one user, whatever the number of its tokens. Each default is several times what a large team needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions, with a channel or not. Default: four times a fleet of 1,000 registrars with one token.
    pub sessions: usize,
    /// LLM rows, and as many agents again. Default: two for each session.
    pub rows: usize,
    /// Rows of one pool: a call of the pool examines each.
    pub pool_rows: usize,
    /// Bytes of rows and agents: their texts, and 128 for each. Default: 64 of the longest prompts, or all rows without any.
    pub row_bytes: usize,
    /// Unused names that are reserved for their owner. Beyond it, the one unused for longest becomes free.
    pub names: usize,
    /// Bytes of each kind (requests, results, unread answers …). Default: fifty of 20 MB. The sum over all kinds may also
    /// not exceed what is left of the hub's memory.
    pub bytes: usize,
    /// Inferences that run or wait, and readers of durable tasks. Default: eight times the 512 callers of a busy service.
    pub calls: usize,
    /// Durable tasks that have not ended.
    pub open_tasks: usize,
    /// Bytes on disk of durable tasks: requests, results, errors, and 512 for each task. Default: fifty of 20 MB. The tasks
    /// that ended first are deleted to make room; tasks that have not ended stay, and new ones are refused.
    pub disk: u64,
    /// Audit rows of all users together. Default: some 300 MB. Beyond it, the oldest rows of the user with most are deleted.
    pub audit_rows: u64,
    /// Concurrent searches of the audit: each reads for some 100 ms.
    pub searches: usize,
    /// Watchers of `/api/v1/events`, one for each browser tab. Default: a thirtieth of all that the hub serves.
    pub watchers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            rows: 8192,
            pool_rows: 256,
            row_bytes: 4 << 20,
            names: 1024,
            bytes: 1 << 30,
            calls: 4096,
            open_tasks: 1000,
            disk: 1 << 30,
            audit_rows: 1_000_000,
            searches: 4,
            watchers: 8,
        }
    }
}
