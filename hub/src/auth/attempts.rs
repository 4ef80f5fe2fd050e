//! Wrong tokens by the address that they come from. Pure: the time is passed in.
//!
//! Nobody guesses 256 random bits, so this protects no token; it keeps one who tries from filling logs and from
//! being answered as fast as he asks. A valid token is never refused for what came before it from its address, which
//! may be that of a proxy in front of everybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

/// So many may come at once: a fleet of 1,000 machines whose token was revoked comes again every minute.
const BURST: u32 = 1024;
/// So many more a second.
const PER_SECOND: u32 = 16;
/// Addresses that are told apart, some 100 bytes each; those beyond share one budget.
const PEERS: usize = 4096;

/// What came of a wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A mistake: 401.
    Mistake,
    /// One too many: 429. `first` since the address was calm, so that it is worth a line in the log.
    TooMany {
        /// Whether it is.
        first: bool,
    },
}

/// The budgets of all addresses.
#[derive(Default)]
pub(super) struct Attempts {
    budgets: Mutex<Budgets>,
}

#[derive(Default)]
struct Budgets {
    peers: HashMap<IpAddr, Budget>,
    others: Option<Budget>,
    /// When room was made last: a search of the whole table, not for each of those who flood it.
    swept: Option<Duration>,
}

/// What an address has left.
struct Budget {
    left: u32,
    /// Up to when refills are counted in.
    at: Duration,
    exhausted: bool,
}

impl Attempts {
    /// A wrong token came from `peer`.
    pub(super) fn wrong(&self, peer: IpAddr, now: Duration) -> Verdict {
        let peer = network(peer);
        let mut budgets = self.budgets.lock();
        let Budgets { peers, others, swept } = &mut *budgets;
        let due = swept.is_none_or(|last| now.saturating_sub(last) >= Duration::from_secs(1));
        if due && peers.len() >= PEERS && !peers.contains_key(&peer) {
            *swept = Some(now);
            peers.retain(|_, budget| !budget.is_full(now));
        }
        let fresh = || Budget { left: BURST, at: now, exhausted: false };
        let budget = if peers.len() < PEERS || peers.contains_key(&peer) {
            peers.entry(peer).or_insert_with(fresh)
        } else {
            others.get_or_insert_with(fresh)
        };
        budget.spend(now)
    }
}

impl Budget {
    fn refill(&mut self, now: Duration) {
        // Whole seconds only: what is left of one counts when it is over.
        let seconds = now.saturating_sub(self.at).as_secs();
        let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
        self.left = self.left.saturating_add(more).min(BURST);
        self.at += Duration::from_secs(seconds);
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.refill(now);
        self.left == BURST
    }

    fn spend(&mut self, now: Duration) -> Verdict {
        if self.is_full(now) {
            self.exhausted = false;
        }
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return Verdict::Mistake;
        }
        Verdict::TooMany { first: !std::mem::replace(&mut self.exhausted, true) }
    }
}

/// An IPv4 address; of an IPv6 address the network, for a customer gets 2^64 of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    /// A09: wrong tokens are counted by address, told once, and forgiven with time.
    #[test]
    fn an_address_has_a_budget_of_mistakes_that_fills_again() {
        let attempts = Attempts::default();
        for _ in 0..BURST {
            assert_eq!(attempts.wrong(ip(1), NOW), Verdict::Mistake);
        }
        assert_eq!(attempts.wrong(ip(1), NOW), Verdict::TooMany { first: true });
        assert_eq!(attempts.wrong(ip(1), NOW), Verdict::TooMany { first: false });
        assert_eq!(attempts.wrong(ip(2), NOW), Verdict::Mistake, "of another one nothing is lost");
        let later = NOW + Duration::from_millis(1500);
        for _ in 0..PER_SECOND {
            assert_eq!(attempts.wrong(ip(1), later), Verdict::Mistake);
        }
        assert_eq!(attempts.wrong(ip(1), later), Verdict::TooMany { first: false });
        let calm = later + Duration::from_hours(1);
        for _ in 0..BURST {
            assert_eq!(attempts.wrong(ip(1), calm), Verdict::Mistake);
        }
        assert_eq!(attempts.wrong(ip(1), calm), Verdict::TooMany { first: true });
    }

    /// A09: a million addresses cost no more memory than the table has places, and are limited together.
    #[test]
    fn the_table_does_not_grow_with_the_number_of_addresses() {
        let attempts = Attempts::default();
        let mut refused = 0;
        for n in 0..1_000_000 {
            refused += u32::from(attempts.wrong(ip(n), NOW) != Verdict::Mistake);
        }
        assert_eq!(attempts.budgets.lock().peers.len(), PEERS);
        assert!(refused > 900_000, "{refused}");
        // Those who made one mistake long ago make room.
        assert_eq!(attempts.wrong(ip(u32::MAX), NOW + Duration::from_secs(2)), Verdict::Mistake);
        assert_eq!(attempts.budgets.lock().peers.len(), 1);
    }

    /// A09: a whole network of IPv6 is one address.
    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let host = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, n));
        assert_eq!(network(host(1)), network(host(2)));
        assert_ne!(network(host(1)), network(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 3, 0, 0, 0, 1))));
        assert_eq!(network(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())), ip(0x7f00_0001));
    }
}
