//! Sums of days.

use std::collections::BTreeMap;

use testkit::procfs::thread_time;

use super::*;
use crate::model::{MAX_COUNT, UsageCounts, UsageKey, UsageSum};

fn key(day: i64, user: &str, llm: &str, code: &str) -> UsageKey {
    let [user, llm, code] = [user, llm, code].map(str::to_owned);
    UsageKey { day: Day(day), token: format!("t-{user}"), user, llm, through: String::new(), code }
}

const COUNTS: UsageCounts =
    UsageCounts { calls: 2, input: 10, cached: 3, output: 5, counted: 1, millis: 1500 };

fn add(key: UsageKey, counts: UsageCounts, batch: i64) -> Change {
    add_of("", key, counts, batch)
}

fn add_of(owner: &str, key: UsageKey, counts: UsageCounts, batch: i64) -> Change {
    Change::AddUsage { sum: Box::new(UsageSum { key, owner: owner.into(), counts }), batch }
}

/// The calls of each row without an error, and of each of its errors.
async fn calls(store: &SqliteStore, query: UsageQuery) -> Vec<(UsageKey, u64)> {
    let mut found = Vec::new();
    for (key, UsageTotal { counts, mut failures }) in store.usage(query).await.unwrap().rows {
        failures.insert(String::new(), counts.calls - failures.values().sum::<u64>());
        let of = |(code, calls)| (UsageKey { code, ..key.clone() }, calls);
        found.extend(failures.into_iter().filter(|(_, calls)| *calls > 0).map(of));
    }
    found.sort();
    found
}

#[tokio::test]
async fn sums_are_added_up_by_user_llm_token_and_day() {
    let store = SqliteStore::in_memory().unwrap();
    let hidden = UsageKey { through: "agent".into(), ..key(3, "bob", "row", "") };
    let changes = [key(1, "alice", "a", ""), key(2, "alice", "b", "timeout"), key(2, "bob", "a", ""), hidden];
    store.write(changes.map(|key| add(key, COUNTS, 1)).into()).await.unwrap();
    let expect = async |query: UsageQuery, expected: &[(&str, u64)]| {
        let by = query.by;
        let named = calls(&store, query).await.into_iter().map(|(key, calls)| {
            let name = match by {
                UsageBy::User => key.user,
                UsageBy::Llm => key.llm,
                UsageBy::Token => format!("{}/{}", key.user, key.token),
                UsageBy::Day => key.day.0.to_string(),
            };
            (name + &key.code, calls)
        });
        let expected: Vec<_> = expected.iter().map(|(name, calls)| ((*name).to_owned(), *calls)).collect();
        assert_eq!(named.collect::<Vec<_>>(), expected, "{by:?}");
    };
    let all = UsageQuery::all;
    expect(all(UsageBy::User), &[("alice", 2), ("alicetimeout", 2), ("bob", 4)]).await;
    expect(all(UsageBy::Llm), &[("a", 4), ("btimeout", 2), ("row", 2)]).await;
    expect(UsageQuery { as_member: true, ..all(UsageBy::Llm) }, &[("a", 4), ("agent", 2), ("btimeout", 2)])
        .await;
    expect(all(UsageBy::Token), &[("alice/t-alice", 2), ("alice/t-alicetimeout", 2), ("bob/t-bob", 4)]).await;
    expect(all(UsageBy::Day), &[("1", 2), ("2", 2), ("2timeout", 2), ("3", 2)]).await;
    let some = UsageQuery { since: Day(2), until: Day(2), user: Some("bob".into()), ..all(UsageBy::User) };
    expect(some, &[("bob", 2)]).await;
    for (llm, as_member, found) in
        [("agent", true, 1), ("row", true, 0), ("row", false, 1), ("agent", false, 0)]
    {
        let query = UsageQuery { llm: Some(llm.into()), as_member, ..all(UsageBy::User) };
        assert_eq!(store.usage(query).await.unwrap().rows.len(), found, "{llm} {as_member}");
    }
}

/// A34: an owner has the sums of its LLMs alone, and of none that was another's on the same day.
#[tokio::test]
async fn sums_of_an_owner_are_those_of_its_llms() {
    let store = SqliteStore::in_memory().unwrap();
    let write = async |owner, key, batch| store.write(vec![add_of(owner, key, COUNTS, batch)]).await.unwrap();
    // What an older version wrote that day counts for the first owner that is known.
    write("alice", key(1, "carol", "a", ""), 1).await;
    store.run(|conn| conn.execute("UPDATE usage_sums SET owner = NULL", [])).await.unwrap();
    write("alice", key(1, "carol", "a", ""), 2).await;
    write("bob", key(1, "carol", "b", "timeout"), 2).await;
    // A name that changed hands.
    write("alice", key(1, "carol", "c", ""), 2).await;
    write("bob", key(1, "carol", "c", ""), 3).await;
    write("bob", key(2, "dave", "c", ""), 3).await;
    for (owner, expected) in
        [("alice", &[("carol", 4)][..]), ("bob", &[("carol", 2), ("dave", 2)]), ("carol", &[])]
    {
        let query = UsageQuery { owner: Some(owner.into()), ..UsageQuery::all(UsageBy::User) };
        let found = calls(&store, query).await.into_iter().map(|(key, calls)| (key.user, calls));
        let expected = expected.iter().map(|(user, calls)| ((*user).to_owned(), *calls));
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{owner}");
    }
}

/// The table of all sums, as it is defined.
fn expected_table(by: UsageBy, sums: &[UsageSum], limit: usize) -> UsageTable {
    let mut of = BTreeMap::<UsageKey, UsageTotal>::new();
    let mut table = UsageTable::default();
    for UsageSum { key: UsageKey { day, user, token, llm, code, .. }, counts, .. } in sums.iter().cloned() {
        let key = match by {
            UsageBy::User => UsageKey { user, ..UsageKey::default() },
            UsageBy::Llm => UsageKey { llm, ..UsageKey::default() },
            UsageBy::Token => UsageKey { user, token, ..UsageKey::default() },
            UsageBy::Day => UsageKey { day, ..UsageKey::default() },
        };
        of.entry(key).or_default().add(&code, counts);
        table.total.add(&code, counts);
    }
    table.rows = of.into_iter().collect();
    let size = |total: &UsageTotal| (total.counts.input + total.counts.output, total.counts.calls);
    table.rows.sort_by_key(|(key, total)| std::cmp::Reverse((key.day, size(total))));
    table.more = table.rows.len().saturating_sub(limit) as u64;
    table.rows.truncate(limit);
    table
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(testkit::cases()) })]

    /// P7: a query reads no more than it shows, and the total has all.
    #[test]
    fn a_table_has_the_first_rows_and_the_total_of_all(
        sums in prop::collection::btree_map((0..3_i64, "[a-d]", "[s-t]", "[l-m]", "(timeout)?"), 0..4_u64, 0..40),
        limit in 1..6_usize,
    ) {
        let store = SqliteStore::in_memory().unwrap();
        let sums: Vec<_> = sums
            .into_iter()
            .map(|((day, user, token, llm, code), calls)| {
                let key = UsageKey { day: Day(day), user, token, llm, through: String::new(), code };
                let counts = UsageCounts { calls, output: 2 * calls / 3, ..UsageCounts::default() };
                UsageSum { key, counts, ..UsageSum::default() }
            })
            .collect();
        let changes = sums.iter().map(|sum| add(sum.key.clone(), sum.counts, 1)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.write(changes)).unwrap();
        for by in [UsageBy::User, UsageBy::Llm, UsageBy::Token, UsageBy::Day] {
            let query = UsageQuery { limit, ..UsageQuery::all(by) };
            let rows = runtime.block_on(store.run({
                let query = query.clone();
                move |conn| crate::store::usage::rows_read(conn, &query)
            }));
            // The errors of each row, and of all others.
            prop_assert!(rows.unwrap() <= 2 * (limit + 1));
            prop_assert_eq!(runtime.block_on(store.usage(query)).unwrap(), expected_table(by, &sums, limit));
        }
    }
}

/// A list that is written again, since nobody learned that it was written, adds nothing.
#[tokio::test]
async fn a_batch_of_sums_is_added_once() {
    let store = SqliteStore::in_memory().unwrap();
    let batch = |number| {
        vec![add(key(1, "alice", "a", ""), COUNTS, number), add(key(1, "bob", "a", ""), COUNTS, number)]
    };
    for number in [7, 7, -8, -8, 7] {
        store.write(batch(number)).await.unwrap();
    }
    let table = store.usage(UsageQuery::all(UsageBy::Day)).await.unwrap();
    let three = |count: u64| 3 * 2 * count;
    let UsageCounts { calls, input, cached, output, counted, millis } = COUNTS;
    let [calls, input, cached, output, counted, millis] =
        [calls, input, cached, output, counted, millis].map(three);
    assert_eq!(table.rows[0].1.counts, UsageCounts { calls, input, cached, output, counted, millis });
}

/// Counts of a publisher that lies neither fail the write nor the query.
#[tokio::test]
async fn the_largest_counts_are_added_without_an_error() {
    let store = SqliteStore::in_memory().unwrap();
    let most = UsageCounts { calls: 1, output: MAX_COUNT, ..UsageCounts::default() };
    for batch in 0..2000 {
        store.write(vec![add(key(batch % 1100, "alice", "a", ""), most, batch)]).await.unwrap();
    }
    for by in [UsageBy::Day, UsageBy::User] {
        let table = store.usage(UsageQuery::all(by)).await.unwrap();
        assert!(table.rows.iter().all(|(_, total)| total.counts.output == MAX_COUNT), "{by:?}");
    }
}

#[tokio::test]
async fn sums_past_their_retention_are_deleted() {
    let store = SqliteStore::in_memory().unwrap();
    let of = |day: i64, n: usize| add(key(day, &format!("u{n}"), "a", ""), COUNTS, 1);
    store.write((0..2500).map(|n| of(1, n)).chain([of(2, 0), of(3, 0), of(3, 1)]).collect()).await.unwrap();
    store.expire(RetentionLimits { usage_since: Day(2), ..KEEP_ALL }).await.unwrap();
    let days: Vec<_> = calls(&store, UsageQuery::all(UsageBy::Day))
        .await
        .into_iter()
        .map(|(key, calls)| (key.day.0, calls))
        .collect();
    assert_eq!(days, [(2, 2), (3, 4)]);
    // At its start a hub learns the sums of the newest day.
    let known: Vec<_> = store.load().await.unwrap().usage.into_iter().map(|sum| sum.key).collect();
    assert_eq!(known, [key(3, "u0", "a", ""), key(3, "u1", "a", "")]);
}

/// P7: 90 days of 200 users with three LLMs each, of 120 days in the file, are added up in 50 ms; three times as long in a build
/// without optimization.
#[tokio::test]
async fn usage_of_90_days_and_200_users_is_added_up_quickly() {
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 50 });
    let dir = fast_dir();
    let store = open(dir.path()).unwrap();
    for day in 0..120 {
        let key = |n| key(day, &format!("user-{}", n % 200), &format!("llm-{}", n % 7), "");
        store.write((0..600).map(|n| add(key(n), COUNTS, 1)).collect()).await.unwrap();
    }
    for (by, user) in
        [(UsageBy::User, None), (UsageBy::Llm, None), (UsageBy::Day, None), (UsageBy::Token, Some("user-7"))]
    {
        let query = UsageQuery {
            since: Day(30),
            until: Day(119),
            user: user.map(str::to_owned),
            ..UsageQuery::all(by)
        };
        let measure = |query: UsageQuery| {
            store.run(move |conn| {
                let start = thread_time();
                assert!(!crate::store::usage::table(conn, &query)?.rows.is_empty());
                Ok(thread_time().saturating_sub(start))
            })
        };
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(measure(query.clone()).await.unwrap());
        }
        times.sort();
        assert!(times[0] < limit, "by {by:?}: {times:?}");
    }
}
