//! The limits whose refusals `virtual_llm_limit_refusals_total` counts. The table in docs/semantics.md describes them.

use crate::error::ErrorKind;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $limit:ident: $label:literal;)+) => {
        /// A limit that refuses calls. Limits with a counter of their own, such as those of connections, are not here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Limit { $($(#[doc = $doc])+ $limit),+ }

        impl Limit {
            /// All limits, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$limit),+];

            /// The label of the metric.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$limit => $label),+ }
            }
        }
    };
}

limits! {
    /// Sessions of a user.
    Sessions: "sessions";
    /// LLM rows of a user.
    Llms: "llms";
    /// Agents of a user.
    Agents: "agents";
    /// Aliases of a user, or of all users.
    Aliases: "aliases";
    /// LLM rows of a user in one pool.
    PoolLlms: "pool_llms";
    /// Bytes of a user's LLM rows and agents.
    DefinitionBytes: "definition_bytes";
    /// Calls of a user under way.
    Calls: "calls";
    /// Requests a minute that an admin allows a user or a token.
    RequestsPerMinute: "requests_per_minute";
    /// Tokens a day that an admin allows a user or a token.
    TokensPerDay: "tokens_per_day";
    /// Calls at a time that an admin allows a user or a token.
    MaxConcurrent: "max_concurrent";
    /// Bytes of a user's requests.
    RequestBytes: "request_bytes";
    /// Bytes of a user's results and other bodies that begin no call.
    ResultBytes: "result_bytes";
    /// Bytes of answers that a user has not read.
    UnreadAnswerBytes: "unread_answer_bytes";
    /// Bytes of a user's durable answers that are not stored yet.
    UnstoredAnswerBytes: "unstored_answer_bytes";
    /// Events and bytes of a control channel, or of all channels of one owner.
    Channel: "channel";
    /// A caller's share of a control channel, or of all channels.
    ChannelShare: "channel_share";
    /// Durable tasks of a user that have not ended.
    OpenTasks: "open_tasks";
    /// Bytes on disk of a user's durable tasks.
    TaskDiskBytes: "task_disk_bytes";
    /// Lists of several pages that a user reads.
    Lists: "lists";
    /// Searches of the audit by a user.
    Searches: "searches";
    /// Watchers of `/api/v1/events`, of a user or of all users.
    Watchers: "watchers";
    /// Echoes of a user.
    Echoes: "echoes";
    /// Wrong tokens from an address.
    WrongTokens: "wrong_tokens";
    /// Rotations of tokens by a user.
    Rotations: "rotations";
    /// Duration and bytes of a TLS handshake.
    TlsHandshake: "tls_handshake";
    /// Duration and bytes of a request's head.
    RequestHead: "request_head";
    /// Bytes of a request's body, as received or decoded.
    RequestSize: "request_size";
    /// Silence within a request's body, and its rate.
    RequestTime: "request_time";
    /// Length of the path, compressed parts, and the shape of the JSON in a request.
    RequestShape: "request_shape";
    /// Bytes and keys of the members of a row or an agent.
    DefinitionShape: "definition_shape";
    /// LLMs and agents in a register call or heartbeat.
    RegisterEntries: "register_entries";
    /// Calls of a user that register or change something and are not committed yet.
    ChangeTurns: "change_turns";
    /// Dispatches under way.
    Dispatches: "dispatches";
    /// Calls of public rows under way, of a user or of all users.
    OutboundCalls: "outbound_calls";
}

impl Limit {
    /// The limit that all errors of `kind` are about.
    pub(crate) const fn of(kind: ErrorKind) -> Option<Self> {
        match kind {
            ErrorKind::SlowRequest => Some(Self::RequestTime),
            ErrorKind::TooLarge => Some(Self::RequestSize),
            ErrorKind::LongPath => Some(Self::RequestShape),
            ErrorKind::LargeHead => Some(Self::RequestHead),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each label stands in the table of limits, and the table names no other.
    #[test]
    fn the_table_of_limits_has_the_labels_of_the_metric() {
        let page = include_str!("../../../docs/semantics.md");
        let table = page.split("\n## Limits\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let metrics = table.lines().filter_map(|line| line.split('|').nth(5));
        let written: BTreeSet<&str> = metrics
            .flat_map(|cell| cell.split("`limit_refusals_total{limit=\"").skip(1))
            .map(|rest| rest.split("\"}`").next().unwrap())
            .collect();
        let ours: BTreeSet<&str> = Limit::ALL.iter().map(|limit| limit.label()).collect();
        assert_eq!(written, ours);
        assert_eq!(ours.len(), Limit::ALL.len(), "two limits have one label");
    }
}
