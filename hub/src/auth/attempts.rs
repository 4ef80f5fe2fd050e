//! Wrong tokens by the address that they come from. Pure: the time is passed in.
//!
//! Nobody guesses 256 random bits, so this protects no token; it keeps one who tries from filling logs and from
//! being answered as fast as he asks. A valid token is never refused for what came before it from its address, which
//! may be that of a proxy in front of everybody.

use std::net::IpAddr;
use std::time::Duration;

use crate::quota::{MistakeBudgets, Verdict};

/// So many may come at once: a fleet of 1,000 machines whose token was revoked comes again every minute.
const BURST: u32 = 1024;
/// So many more a second.
const PER_SECOND: u32 = 16;

/// The budgets of all addresses.
pub(super) struct Attempts(MistakeBudgets<IpAddr>);

impl Default for Attempts {
    fn default() -> Self {
        Self(MistakeBudgets::new(BURST, PER_SECOND))
    }
}

impl Attempts {
    /// A wrong token came from `peer`.
    pub(super) fn wrong(&self, peer: IpAddr, now: Duration) -> Verdict {
        self.0.spend(network(peer), now)
    }
}

/// An IPv4 address; of an IPv6 address the network, for a customer gets 2^64 of them.
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

    /// A09: wrong tokens are counted by address, told once, and forgiven with time.
    #[test]
    fn an_address_has_a_budget_of_mistakes_that_fills_again() {
        let attempts = Attempts::default();
        for _ in 0..BURST {
            assert_eq!(attempts.wrong(ip(1), NOW), Verdict::Allowed);
        }
        assert_eq!(attempts.wrong(ip(1), NOW), Verdict::Refused { first: true });
        assert_eq!(attempts.wrong(ip(1), NOW), Verdict::Refused { first: false });
        assert_eq!(attempts.wrong(ip(2), NOW), Verdict::Allowed, "of another one nothing is lost");
        let later = NOW + Duration::from_millis(1500);
        for _ in 0..PER_SECOND {
            assert_eq!(attempts.wrong(ip(1), later), Verdict::Allowed);
        }
        assert_eq!(attempts.wrong(ip(1), later), Verdict::Refused { first: false });
        let calm = later + Duration::from_hours(1);
        for _ in 0..BURST {
            assert_eq!(attempts.wrong(ip(1), calm), Verdict::Allowed);
        }
        assert_eq!(attempts.wrong(ip(1), calm), Verdict::Refused { first: true });
    }

    /// A09: a million addresses cost no more memory than the table has places, and are limited together.
    #[test]
    fn the_table_does_not_grow_with_the_number_of_addresses() {
        let attempts = Attempts::default();
        let mut refused = 0;
        for n in 0..1_000_000 {
            refused += u32::from(attempts.wrong(ip(n), NOW) != Verdict::Allowed);
        }
        assert_eq!(attempts.0.len(), 4096);
        assert!(refused > 900_000, "{refused}");
        // Those who made one mistake long ago make room.
        assert_eq!(attempts.wrong(ip(u32::MAX), NOW + Duration::from_secs(2)), Verdict::Allowed);
        assert_eq!(attempts.0.len(), 1);
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
