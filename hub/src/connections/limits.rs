//! How many connections there is room for.

use crate::options::MachineOptions;

/// Open connections where the system allows as many.
const MOST: usize = 25_000;
/// Memory for each connection: what the server reads into and writes from, a call with many headers, and what the
/// allocator keeps of it, some 70 KiB in all. The rest is left for bodies.
const EACH: u64 = 128 << 10;

/// Numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    /// In all.
    pub(crate) all: usize,
    /// Of those without a valid token; the others are kept for those with one.
    pub(crate) strangers: usize,
    /// Of all members together; the others are kept for admins.
    pub(crate) members: usize,
    /// Of one member.
    pub(crate) of_member: usize,
    /// Of those without a valid token, from one address.
    pub(crate) of_address: Option<usize>,
}

impl ConnectionLimits {
    /// The room that a process has which may open `files` files, and take `memory` bytes.
    pub(crate) fn of(files: usize, memory: u64, options: &MachineOptions) -> Self {
        let most = usize::try_from(memory / EACH).unwrap_or(MOST).clamp(8, MOST);
        // The store, upstreams of public rows, the log, and what a library opens for a moment.
        let all = files.saturating_sub(48 + files / 16).clamp(8, most);
        let strangers = all - all / 4;
        let members = all - all.div_ceil(16);
        Self { all, strangers, members, of_member: all / 4, of_address: options.connections_per_address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_below_what_the_system_allows_a_quarter_of_it_for_tokens_and_a_sixteenth_for_admins() {
        let of = |files| ConnectionLimits::of(files, 16 << 30, &MachineOptions::default());
        let (usual, small, tiny) = (of(524_288), of(1024), of(20));
        assert_eq!((usual.all, usual.strangers), (25_000, 18_750));
        assert_eq!((small.all, small.strangers), (912, 684));
        assert_eq!((tiny.all, tiny.strangers), (8, 6));
        assert_eq!((usual.members, usual.of_member), (23_437, 6_250));
        assert_eq!((small.members, small.of_member), (855, 228));
        assert_eq!((tiny.members, tiny.of_member), (7, 2));
    }

    /// A24: connections have room for what each of them costs, whatever the system allows.
    #[test]
    fn there_are_no_more_connections_than_memory_for_them() {
        for (memory, all) in
            [(64 << 20, 512), (256 << 20, 2048), (4 << 30, 25_000), (u64::MAX, 25_000), (0, 8)]
        {
            assert_eq!(
                ConnectionLimits::of(524_288, memory, &MachineOptions::default()).all,
                all,
                "{memory}"
            );
        }
        assert_eq!(ConnectionLimits::of(1024, 256 << 20, &MachineOptions::default()).all, 912);
    }
}
