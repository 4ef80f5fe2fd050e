//! Limits on the number of connections, of clients and to upstreams.

use crate::options::MachineOptions;

/// Open connections if the system allows as many.
const MAX_CONNECTIONS: usize = 25_000;
/// Bytes of memory for each connection: buffers, a call with many headers, and what the allocator keeps are some 70 KiB.
/// The rest is for bodies.
const MEMORY_EACH: u64 = 128 << 10;

/// Limits on the number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    pub(crate) total: usize,
    /// Without a valid token; the rest is for those with one.
    pub(crate) anonymous: usize,
    /// Of all members; the rest is for admins.
    pub(crate) members: usize,
    pub(crate) per_member: usize,
    /// Without a valid token, of one address.
    pub(crate) per_address: Option<usize>,
}

impl ConnectionLimits {
    /// The limits of a process that may open `files` files and use `memory` bytes.
    pub(crate) fn new(files: usize, memory: u64, options: &MachineOptions) -> Self {
        let by_memory = usize::try_from(memory / MEMORY_EACH).unwrap_or(MAX_CONNECTIONS);
        let sockets = sockets(files);
        let total = (sockets - sockets / 4).clamp(8, by_memory.clamp(8, MAX_CONNECTIONS));
        Self {
            total,
            anonymous: total - total / 4,
            members: total - total.div_ceil(16),
            per_member: total / 4,
            per_address: options.connections_per_address,
        }
    }

    /// `total` connections of any kind, without a limit by address.
    #[cfg(test)]
    pub(crate) fn of_test(total: usize) -> Self {
        Self { total, anonymous: total, members: total, per_member: total, per_address: None }
    }
}

/// Limits on the connections to upstreams of public rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutboundLimits {
    /// Calls under way: each has one connection.
    pub(crate) calls: usize,
    /// Calls of one user.
    pub(crate) per_user: usize,
    /// Idle connections of each of the clients: one with TLS and one without, on each of two threads.
    pub(crate) idle: usize,
}

impl OutboundLimits {
    /// The limits of a process that may open `files` files and accepts `connections`: at least a quarter of its sockets.
    pub(crate) fn new(files: usize, connections: &ConnectionLimits) -> Self {
        let sockets = sockets(files).saturating_sub(connections.total).clamp(4, 4 * MAX_CONNECTIONS);
        let idle = sockets / 16;
        let calls = sockets - 4 * idle;
        Self { calls, per_user: calls.div_ceil(4), idle }
    }
}

/// No limits.
impl Default for OutboundLimits {
    fn default() -> Self {
        Self { calls: usize::MAX, per_user: usize::MAX, idle: usize::MAX }
    }
}

/// Files of `files` that can be sockets. The others are for the store and the log.
fn sockets(files: usize) -> usize {
    files.saturating_sub(48 + files / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_connections_is_for_tokens_and_a_sixteenth_for_admins() {
        for (files, expected) in
            [(524_288, [25_000, 18_750, 23_437, 6_250]), (1024, [684, 513, 641, 171]), (20, [8, 6, 7, 2])]
        {
            let limits = ConnectionLimits::new(files, 16 << 30, &MachineOptions::default());
            assert_eq!([limits.total, limits.anonymous, limits.members, limits.per_member], expected);
        }
    }

    /// A24: clients and calls of public rows together leave files to the store and the log.
    #[test]
    fn a_quarter_of_sockets_is_for_upstreams() {
        for (files, calls, per_user, idle) in [
            (524_288, 75_000, 18_750, 6_250),
            (30_000, 5_267, 1_317, 438),
            (1024, 172, 43, 14),
            (20, 4, 1, 0),
            (usize::MAX, 75_000, 18_750, 6_250),
        ] {
            let limits = ConnectionLimits::new(files, 16 << 30, &MachineOptions::default());
            let outbound = OutboundLimits::new(files, &limits);
            assert_eq!(outbound, OutboundLimits { calls, per_user, idle }, "{files}");
            assert!(files == 20 || limits.total + calls + 4 * idle + 48 <= files);
        }
    }

    /// A24: memory limits the number of connections, also if the system allows more open files.
    #[test]
    fn memory_limits_the_number_of_connections() {
        for (files, memory, total) in [
            (524_288, 64 << 20, 512),
            (524_288, 256 << 20, 2048),
            (524_288, 4 << 30, 25_000),
            (524_288, u64::MAX, 25_000),
            (524_288, 0, 8),
            (1024, 256 << 20, 684),
        ] {
            let limits = ConnectionLimits::new(files, memory, &MachineOptions::default());
            assert_eq!(limits.total, total, "{memory}");
        }
    }
}
