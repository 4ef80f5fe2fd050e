//! The stores in PostgreSQL and in `SQLite` have the same records after the same changes.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wire::row::Timestamp;

use super::*;
use crate::model::{
    AliasScope, AuditRecord, LimitOwner, MAX_COUNT, TokenCounts, UsageCounts, UsageKey, UsageSum,
};
use crate::store::tests::{agent, alias, limits, name, session};
use crate::store::{SqliteStore, UsageBy, UsageQuery};

const STATES: [TaskStatus; 6] = [
    TaskStatus::Pending,
    TaskStatus::Claimed,
    TaskStatus::Running,
    TaskStatus::Completed,
    TaskStatus::Error,
    TaskStatus::Cancelled,
];

fn any_task() -> impl Strategy<Value = DurableTask> {
    // Some are stored in parts.
    let body = prop_oneof![
        6 => "[a-zé]{0,3000}",
        1 => "[a-z]{15}".prop_map(|text| format!("{text}é").repeat(70_000)),
    ];
    let texts = (prop::option::of("[a-zä\"\\\\]{0,40}"), prop::option::of(body));
    (0..6_u8, 0..6_usize, 0..4_i64, any::<bool>(), texts).prop_map(
        |(id, state, time, is_bobs, (error, body))| {
            let task = task(&format!("t{id}"), STATES[state]);
            let owner = if is_bobs { "bob" } else { "alice" };
            let result = body.filter(|_| STATES[state].is_terminal()).map(|body| (200, body));
            DurableTask { owner: owner.to_owned(), created_at: Timestamp(time), result, error, ..task }
        },
    )
}

fn limit_owner(scope: &AliasScope, id: String) -> LimitOwner {
    if *scope == AliasScope::All { LimitOwner::Token(id) } else { LimitOwner::User(id) }
}

fn any_change() -> impl Strategy<Value = Change> {
    let id = || (0..5_u8).prop_map(|id| id.to_string());
    let scope = || prop_oneof![Just(AliasScope::All), Just(AliasScope::User("alice".into()))];
    prop_oneof![
        1 => (id(), "[a-e]").prop_map(|(id, name)| put_llm(llm(&id, &name))),
        1 => id().prop_map(Change::DeleteLlm),
        1 => id().prop_map(|id| Change::PutAgent(Box::new(agent(&id)))),
        1 => id().prop_map(Change::DeleteAgent),
        1 => id().prop_map(|id| Change::PutSession(session(&id))),
        1 => id().prop_map(Change::DeleteSession),
        1 => id().prop_map(|id| Change::PutName(name(&id))),
        1 => id().prop_map(Change::DeleteName),
        1 => (scope(), id()).prop_map(|(scope, id)| Change::PutAlias(alias(scope, &id))),
        1 => (scope(), id()).prop_map(|(scope, name)| Change::DeleteAlias { scope, name }),
        1 => (1..5_usize).prop_map(|n| Change::PutToken(token(&"t".repeat(n)))),
        1 => (scope(), id()).prop_map(|(scope, id)| Change::PutLimits(limits(limit_owner(&scope, id)))),
        1 => (scope(), id()).prop_map(|(scope, id)| Change::DeleteLimits(limit_owner(&scope, id))),
        5 => any_task().prop_map(put_task),
        2 => any_task().prop_map(|task| Change::NewTask { task: Box::new(task), max_bytes: u64::MAX >> 1 }),
        2 => (0..6_u8, prop::option::of("[a-c]"), prop::option::of("[a-c]"))
            .prop_map(|(id, llm, session)| Change::ClaimTask { id: format!("t{id}"), llm, session }),
        1 => (0..6_u8).prop_map(|id| Change::UnclaimTask(format!("t{id}"))),
        1 => (0..6_u8).prop_map(|id| Change::DeleteTask(format!("t{id}"))),
        2 => (any::<u8>(), any::<Option<u64>>()).prop_map(|(n, output)| {
            let tokens = TokenCounts { output, ..audit("x").tokens };
            let (owner, code) = (Some("bob".into()).filter(|_| n % 3 > 0), Some("timeout".into()).filter(|_| n % 2 > 0));
            Change::Audit(AuditRecord { tokens, created_at: Timestamp(n.into()), owner, code, ..audit(&n.to_string()) })
        }),
        3 => any_usage(),
    ]
}

fn any_usage() -> impl Strategy<Value = Change> {
    let key = (
        0..4_i64,
        "[a-b]",
        "[s-tä]",
        "[l-m]",
        prop::option::of("[x-y]"),
        prop_oneof![Just(""), Just("timeout")],
        "[ab]?",
    );
    let count = || prop_oneof![3 => 0..9_u64, 1 => Just(MAX_COUNT)];
    (key, count(), count(), 0..3_i64).prop_map(
        |((day, user, token, llm, through, code, owner), output, millis, batch)| {
            let (through, code) = (through.unwrap_or_default(), code.to_owned());
            let key = UsageKey { day: Day(day), user, token, llm, through, code };
            let counts = UsageCounts { calls: 1, input: 9, cached: 3, output, counted: output / 2, millis };
            Change::AddUsage { sum: Box::new(UsageSum { key, owner, counts }), batch }
        },
    )
}

/// All that can be read from a store.
async fn contents(store: &dyn Store) -> String {
    let mut found = store.load().await.unwrap();
    found.llms.sort_by(|a, b| a.id.cmp(&b.id));
    found.tokens.sort_by(|a, b| a.id.cmp(&b.id));
    let mut lines = vec![format!("{found:?}")];
    for id in 0..6 {
        let id = format!("t{id}");
        lines.push(format!("{:?}", store.task(&id).await.unwrap()));
        lines.push(format!("{:?}", store.task_head(&id).await.unwrap()));
        for (at, max) in [(0, 10), (3, 2000), (1500, 1 << 20), (9999, 7), ((1 << 20) - 3, 9), (0, 5 << 20)] {
            lines.push(format!("{:?}", store.result_part(&id, at, max).await.unwrap()));
        }
    }
    for owner in [None, Some("alice"), Some("bob")] {
        let before = ListCursor { created_at: Timestamp(2), id: "t3".into() };
        for before in [ListCursor::end(), before] {
            lines.push(format!("{:?}", store.ended_tasks(owner, &before, 3).await.unwrap()));
        }
    }
    let queries = [
        AuditQuery::of(None, None, 5),
        AuditQuery::of(Some("alice"), Some("a"), 9),
        AuditQuery::of(None, Some("a"), 9),
        AuditQuery { owner: Some("bob".into()), limit: 5, ..AuditQuery::default() },
        AuditQuery { owner: Some("bob".into()), id: Some("7".into()), limit: 5, ..AuditQuery::default() },
        AuditQuery { since: Some(Timestamp(100)), limit: 9, ..AuditQuery::default() },
        AuditQuery { since: Some(Timestamp(9)), id: Some("r".into()), limit: 9, ..AuditQuery::default() },
        AuditQuery {
            id: Some("inf-7".into()),
            user: Some("alice".into()),
            limit: 9,
            ..AuditQuery::default()
        },
    ];
    for query in queries {
        lines.push(format!("{:?}", store.audit(query).await.unwrap()));
    }
    for by in [UsageBy::User, UsageBy::Llm, UsageBy::Token, UsageBy::Day] {
        let some = UsageQuery { since: Day(1), until: Day(2), as_member: true, ..UsageQuery::all(by) };
        for query in [
            UsageQuery::all(by),
            UsageQuery { owner: Some("a".into()), ..UsageQuery::all(by) },
            UsageQuery { user: Some("a".into()), llm: Some("x".into()), ..some },
        ] {
            for limit in [2, usize::MAX] {
                let table = store.usage(UsageQuery { limit, ..query.clone() }).await.unwrap();
                lines.push(format!("{table:?}"));
            }
        }
    }
    lines.join("\n")
}

#[test]
fn both_databases_have_the_same_records_after_any_changes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(database) = runtime.block_on(Database::create()) else { return };
    let postgres = runtime.block_on(store_of(&database));
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(testkit::cases() / 2) });
    let lists = prop::collection::vec(prop::collection::vec(any_change(), 0..7), 1..12);
    let outcome = runner.run(&lists, |lists| {
        runtime.block_on(async {
            let sqlite = SqliteStore::in_memory().unwrap();
            empty(&database).await;
            for list in lists {
                let (expected, found) =
                    (sqlite.write(list.clone()).await, postgres.write(list.clone()).await);
                assert_eq!(expected.is_ok(), found.is_ok(), "{list:?}: {expected:?} {found:?}");
            }
            assert_eq!(contents(&sqlite).await, contents(&postgres).await);
        });
        Ok(())
    });
    outcome.unwrap();
}
