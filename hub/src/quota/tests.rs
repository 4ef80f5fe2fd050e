use proptest::prelude::*;

use super::*;
use crate::telemetry::Metrics;

fn budget(limit: usize) -> Arc<MemoryBudget> {
    Arc::new(MemoryBudget::new(Some(limit as u64), Metrics::new().unwrap().of_machine().unwrap()))
}

/// A27: a user's permits are limited, and dropping a permit returns it.
#[test]
fn permits_are_counted_by_user_and_returned_on_drop() {
    let quota = Arc::new(Quota::default());
    let take = |user| quota.take(user, 2, "calls", Limit::Calls);
    let held = [take("alice").unwrap(), take("alice").unwrap()];
    let refused = take("alice").err().unwrap();
    assert_eq!(refused.message, "you have 2 calls already: wait for some to end");
    assert_eq!(refused.kind, ErrorKind::Busy);
    let other = take("bob").unwrap();
    drop(held);
    let mut bytes = quota.empty("alice");
    assert!(bytes.grow(1, 2) && bytes.grow(1, 2) && !bytes.grow(1, 2));
    assert!(take("alice").is_err());
    drop(bytes);
    assert!(take("alice").is_ok());
    drop(other);
    assert_eq!(quota.users(), 0, "users without permits are not removed");
}

const ALL: [ByteKind; ByteKind::COUNT] = [
    ByteKind::Requests,
    ByteKind::Outgoing,
    ByteKind::Heads,
    ByteKind::Results,
    ByteKind::Unread,
    ByteKind::Tasks,
    ByteKind::Sent,
    ByteKind::Unfinished,
];

/// A user whose requests fill the user's share of memory can still receive answers and send results.
#[test]
fn a_users_requests_leave_memory_for_its_results() {
    const LIMIT: usize = 1 << 44;
    let memory = budget(LIMIT);
    let quota_of = |kind| ByteQuota::new(&Quota::of_bytes(&memory, kind), "alice", usize::MAX, "it");
    let mut requests = quota_of(ByteKind::Requests).empty();
    while requests.grow(LIMIT / 64).is_ok() {}
    assert_eq!(requests.size(), LIMIT / 2);
    for kind in [ByteKind::Results, ByteKind::Unread, ByteKind::Tasks, ByteKind::Unfinished] {
        assert!(quota_of(kind).take(LIMIT / 4).is_ok(), "{kind:?}");
    }
    assert!(quota_of(ByteKind::Outgoing).take(1).is_err(), "a new call is accepted");
}

#[test]
fn shared_bytes_count_for_the_limit_of_their_kind() {
    let memory = budget(1 << 44);
    let tasks = ByteQuota::new(&Quota::of_bytes(&memory, ByteKind::Tasks), "alice", 10, "tasks");
    let first = tasks.take_shared(1, 5).unwrap();
    assert_eq!(tasks.take_shared(1, 4).unwrap_err().kind, ErrorKind::Busy);
    let second = tasks.take_shared(1, 3).unwrap();
    drop((first, second));
    assert!(tasks.take_shared(1, 9).is_ok());
}

proptest! {
    /// A24, A27: whatever one user takes and returns, another user may take a twentieth of the memory for requests and
    /// three twentieths for answers.
    #[test]
    fn one_user_leaves_memory_to_another(
        ops in prop::collection::vec((0..ByteKind::COUNT, 1..300_usize, prop::bool::weighted(0.1)), 1..300),
    ) {
        // The resident memory of the test process is smaller than any share.
        const UNIT: usize = 1 << 34;
        const LIMIT: usize = 1024 * UNIT;
        let memory = budget(LIMIT);
        let quotas = ALL.map(|kind| Quota::of_bytes(&memory, kind));
        let quota_of = |kind: usize, user: &str| ByteQuota::new(&quotas[kind], user, usize::MAX, "it");
        let mut permits = Vec::new();
        for (kind, size, is_drop) in ops {
            if is_drop && !permits.is_empty() {
                permits.swap_remove(size % permits.len());
            }
            permits.extend(quota_of(kind, "mallory").take(size * UNIT));
            for (kind, share) in (0..ByteKind::COUNT).map(|kind| (kind, if kind < ByteKind::Results as usize { 51 } else { 154 })) {
                let permit = quota_of(kind, "bob").take(share * UNIT);
                prop_assert!(permit.is_ok(), "{:?} beside {:?}", ALL[kind], permits);
            }
            let taken: usize = quotas.iter().map(|quota| quota.taken_by("mallory")).sum();
            prop_assert_eq!(taken, permits.iter().map(BytesPermit::size).sum::<usize>());
        }
        drop(permits);
        prop_assert_eq!(quotas[0].users(), 0);
        prop_assert!(quota_of(0, "bob").take(LIMIT / 2).is_ok());
    }
}
