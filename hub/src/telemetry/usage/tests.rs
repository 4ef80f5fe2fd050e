//! Sums of calls that end.

use std::time::Duration;

use proptest::prelude::*;
use testkit::procfs::thread_time;

use super::*;

fn key(day: i64, user: &str, llm: usize, code: &str) -> UsageKey {
    let (user, llm, code) = (user.to_owned(), format!("llm-{llm}"), code.to_owned());
    UsageKey { day: Day(day), user, token: "t".into(), llm, through: String::new(), code }
}

const ONE: UsageCounts = UsageCounts { calls: 1, input: 10, cached: 3, output: 5, counted: 2, millis: 7 };

/// What a store has after the changes of some batches.
#[derive(Default)]
struct Stored(BTreeMap<UsageKey, (i64, UsageCounts)>);

impl Stored {
    fn write(&mut self, (batch, _): (Option<Arc<Batch>>, bool)) {
        for change in batch.iter().flat_map(|batch| batch.changes()) {
            let Change::AddUsage { sum, batch } = change else { panic!("{change:?}") };
            let (last, counts) = self.0.entry(sum.key).or_default();
            if std::mem::replace(last, batch) != batch {
                counts.add(sum.counts);
            }
        }
    }

    fn total(&self) -> UsageCounts {
        let mut total = UsageCounts::default();
        self.0.values().for_each(|(_, counts)| total.add(*counts));
        total
    }

    fn of(&self, user: &str) -> usize {
        self.0.keys().filter(|key| key.user == user).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(testkit::cases()) })]

    /// F66: whatever calls end and however writes fail or stay unknown, each call is added once.
    #[test]
    fn sums_have_each_call_once(
        steps in prop::collection::vec((0..3_i64, 0..3_u8, 0..4_usize, 0..4_u8), 1..80)
    ) {
        let (mut sums, mut stored, mut calls) = (UsageSums::default(), Stored::default(), 0);
        for (day, user, llm, outcome) in steps {
            sums.add(key(day, &format!("u{user}"), llm, ""), "", ONE);
            calls += 1;
            match outcome {
                // The write fails.
                0 => drop(sums.take()),
                // The write succeeds, which the hub does not learn.
                1 => stored.write(sums.take()),
                2 => {
                    stored.write(sums.take());
                    sums.written();
                }
                _ => {}
            }
        }
        for _ in 0..2 {
            stored.write(sums.take());
            sums.written();
        }
        let mut expected = UsageCounts::default();
        (0..calls).for_each(|_| expected.add(ONE));
        prop_assert_eq!(stored.total(), expected);
    }
}

fn written(sums: &mut UsageSums) -> Stored {
    let mut stored = Stored::default();
    stored.write(sums.take());
    sums.written();
    stored
}

/// A27: a user with too many sums has one for the rest, and takes none of another user's.
#[test]
fn what_is_over_the_bound_of_a_user_is_counted_as_its_others() {
    let mut sums = UsageSums::default();
    for n in 0..1000 {
        sums.add(key(1, "mallory", n, if n % 2 == 0 { "" } else { "caller_left" }), "", ONE);
        sums.add(key(1, "victim", n % 9, ""), "", ONE);
    }
    let stored = written(&mut sums);
    assert_eq!((stored.of("mallory"), stored.of("victim")), (MAX_OF_USER + 2, 9));
    assert_eq!(stored.total().calls, 2000);
    let others = UsageKey { token: String::new(), llm: OTHERS.into(), ..key(1, "mallory", 0, "caller_left") };
    assert_eq!(stored.0[&others].1.calls, (1000 - 256) / 2);
}

/// A27: however many users call, the sums of a day are bounded, also across a restart.
#[test]
fn what_is_over_the_bound_of_a_day_is_counted_as_all_others() {
    let mut sums = UsageSums::default();
    let add_all = |sums: &mut UsageSums| {
        for n in 0..200 * 256 {
            sums.add(key(1, &format!("u{}", n / 256), n % 256, ""), "", ONE);
        }
    };
    add_all(&mut sums);
    let stored = written(&mut sums);
    assert_eq!(stored.0.len(), MAX_OF_DAY + 1);
    assert_eq!((stored.of(OTHERS), stored.total().calls), (1, 200 * 256));
    let mut after_restart = UsageSums::default();
    after_restart.restore_keys(stored.0.into_keys().collect());
    assert!(after_restart.take().0.is_none());
    add_all(&mut after_restart);
    after_restart.add(key(1, "new", 0, ""), "", ONE);
    assert!(written(&mut after_restart).0.len() <= MAX_OF_DAY + 1);
}

/// A store that cannot write for days fills no memory.
#[test]
fn days_are_bounded_while_nothing_is_written() {
    let mut sums = UsageSums::default();
    sums.add(key(0, "u", 0, ""), "", ONE);
    assert!(!sums.take().1);
    for day in 0..400 {
        (0..300).for_each(|n| sums.add(key(day, "u", n, ""), "", ONE));
        assert!(sums.take().1);
    }
    let kept: usize = sums.days.values().flat_map(|day| day.by_user.values()).map(HashSet::len).sum();
    assert!(sums.grown.len() <= kept, "{}", sums.grown.len());
    assert!(kept <= MAX_DAYS * (MAX_OF_USER + 1) + 400, "{kept}");
    sums.written();
    assert_eq!(written(&mut sums).total().calls, 400 * 300);
    assert_eq!(sums.days.len(), DAYS);
}

/// A34: a name that changes hands gives nobody the sums of its former owner's calls.
#[test]
fn a_sum_of_calls_to_llms_of_several_owners_has_none() {
    let mut sums = UsageSums::default();
    for (llm, owner) in [(1, "alice"), (1, "alice"), (2, "alice"), (2, "bob"), (2, "alice")] {
        sums.add(key(1, "carol", llm, ""), owner, ONE);
    }
    let batch = sums.take().0.unwrap();
    let owners = batch.changes().map(|change| match change {
        Change::AddUsage { sum, .. } => (sum.key.llm, sum.owner, sum.counts.calls),
        other => panic!("{other:?}"),
    });
    let expected = [("llm-1", "alice", 2), ("llm-2", "", 3)];
    assert_eq!(
        owners.collect::<Vec<_>>(),
        expected.map(|(llm, owner, n)| (llm.to_owned(), owner.to_owned(), n))
    );
}

/// Two hubs that write the same sums in different orders would wait for each other.
#[test]
fn the_sums_of_a_batch_are_in_the_order_of_their_keys() {
    let mut sums = UsageSums::default();
    for n in (0..50).rev() {
        sums.add(key(1, &format!("u{}", n % 7), n, ""), "", ONE);
    }
    let batch = sums.take().0.unwrap();
    let keys: Vec<_> = batch
        .changes()
        .map(|change| if let Change::AddUsage { sum, .. } = change { sum.key } else { panic!("{change:?}") })
        .collect();
    assert!(keys.len() == 50 && keys.is_sorted());
}

/// P7: each call that ends waits for this.
#[test]
fn a_batch_is_taken_in_the_same_time_however_many_sums_there_are() {
    let mut sums = UsageSums::default();
    for n in 0..2 * MAX_OF_DAY {
        sums.add(key(i64::from(n % 2 == 0), &format!("u{}", n / 100), n % 100, ""), "", ONE);
    }
    assert_eq!(written(&mut sums).0.len(), 2 * MAX_OF_DAY);
    let start = thread_time();
    for _ in 0..200 {
        sums.add(key(1, "u0", 0, ""), "", ONE);
        assert_eq!(written(&mut sums).0.len(), 1);
    }
    let took = thread_time().saturating_sub(start);
    assert!(took < Duration::from_millis(20), "{took:?}");
}
