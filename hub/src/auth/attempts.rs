//! Wrong tokens by address. Pure: the time is passed in.
//!
//! 256 random bits cannot be guessed, so this protects no token: it limits log lines and the work on wrong tokens. A valid
//! token is never refused for earlier wrong ones from its address, which may be that of a proxy.

use std::net::IpAddr;
use std::time::Duration;

use crate::quota::{MistakeBudgets, Verdict};

/// Wrong tokens at once: a fleet of 1,000 machines whose token was revoked retries every minute.
const BURST: u32 = 1024;
/// Further wrong tokens each second.
const PER_SECOND: u32 = 16;

pub(super) struct Attempts(MistakeBudgets<IpAddr>);

impl Default for Attempts {
    fn default() -> Self {
        Self(MistakeBudgets::new(BURST, PER_SECOND))
    }
}

impl Attempts {
    /// Counts a wrong token from `peer`.
    pub(super) fn count(&self, peer: IpAddr, now: Duration) -> Verdict {
        self.0.spend(network(peer), now)
    }
}

/// The IPv4 address, or the /64 network of an IPv6 address: one customer gets a whole network.
pub(crate) fn network(peer: IpAddr) -> IpAddr {
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

    /// A09: wrong tokens are counted per address and logged once; an address's budget refills with time.
    #[test]
    fn an_address_has_a_budget_of_wrong_tokens_that_refills() {
        let attempts = Attempts::default();
        for _ in 0..BURST {
            assert_eq!(attempts.count(ip(1), NOW), Verdict::Allowed);
        }
        assert_eq!(attempts.count(ip(1), NOW), Verdict::Refused { first: true });
        assert_eq!(attempts.count(ip(1), NOW), Verdict::Refused { first: false });
        assert_eq!(attempts.count(ip(2), NOW), Verdict::Allowed, "another address has no budget of its own");
        let later = NOW + Duration::from_millis(1500);
        for _ in 0..PER_SECOND {
            assert_eq!(attempts.count(ip(1), later), Verdict::Allowed);
        }
        assert_eq!(attempts.count(ip(1), later), Verdict::Refused { first: false });
        let calm = later + Duration::from_hours(1);
        for _ in 0..BURST {
            assert_eq!(attempts.count(ip(1), calm), Verdict::Allowed);
        }
        assert_eq!(attempts.count(ip(1), calm), Verdict::Refused { first: true });
    }

    /// A09: addresses that do not fit into the table share one budget.
    #[test]
    fn the_table_does_not_grow_with_the_number_of_addresses() {
        let attempts = Attempts::default();
        let mut refused = 0;
        for n in 0..1_000_000 {
            refused += u32::from(attempts.count(ip(n), NOW) != Verdict::Allowed);
        }
        assert_eq!(attempts.0.len(), 4096);
        assert!(refused > 900_000, "{refused}");
        // Budgets that are full again are removed from the table.
        assert_eq!(attempts.count(ip(u32::MAX), NOW + Duration::from_secs(2)), Verdict::Allowed);
        assert_eq!(attempts.0.len(), 1);
    }

    /// A09: all addresses of an IPv6 network share one budget.
    #[test]
    fn an_ipv6_network_is_one_address() {
        let host = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, n));
        assert_eq!(network(host(1)), network(host(2)));
        assert_ne!(network(host(1)), network(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 3, 0, 0, 0, 1))));
        assert_eq!(network(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())), ip(0x7f00_0001));
    }
}
