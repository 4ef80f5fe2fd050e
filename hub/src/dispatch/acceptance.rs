//! What the hub decides about a publisher's result.

/// Why a result is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// No such task at this process, which is its home, or another user's.
    Unknown,
    /// The hub ended the task, or the process that had it is gone: nobody waits for the result.
    Gone,
    /// The task ended with another result, or wants another form.
    Conflict,
    /// The caller reads too slowly, or the registrar repeats too many results at a time. The publisher can send the result again.
    Busy,
    /// The end of the durable task cannot be stored now. The publisher can send the result again.
    Unwritten,
    /// The result is malformed. The task has failed.
    Malformed,
}

/// An accepted result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    First,
    Duplicate,
}
