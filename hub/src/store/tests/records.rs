//! Records are read back as they were written.

use super::*;

#[tokio::test]
async fn every_record_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let changes = vec![
        put_llm(llm("1", "a")),
        Change::PutAgent(Box::new(agent("1"))),
        Change::PutSession(session("s")),
        Change::PutName(name("n")),
        Change::PutAlias(alias(AliasScope::All, "gpt-*")),
        Change::PutAlias(alias(AliasScope::User("alice".into()), "gpt-*")),
        Change::PutAlias(alias(AliasScope::User("bob".into()), "gpt-*")),
        Change::PutToken(token("t")),
        Change::PutLimits(limits(LimitOwner::Token("t".into()))),
        Change::PutLimits(limits(LimitOwner::User("alice".into()))),
        Change::PutLimits(limits(LimitOwner::User("bob".into()))),
        put_task(task("late", TaskStatus::Pending)),
        put_task(task("early", TaskStatus::Running)),
        put_task(task("done", TaskStatus::Completed)),
        Change::Audit(audit("x")),
    ];
    store.write(changes).await.unwrap();
    let scope = AliasScope::User("bob".into());
    store.write(vec![Change::DeleteAlias { scope, name: "gpt-*".into() }]).await.unwrap();
    store.write(vec![Change::DeleteLimits(LimitOwner::User("bob".into()))]).await.unwrap();
    // An update does not change the order of tasks.
    store.write(vec![put_task(task("late", TaskStatus::Claimed))]).await.unwrap();
    drop(store);

    let store = open(dir.path()).unwrap();
    let found = store.load().await.unwrap();
    assert_eq!(found.llms, [llm("1", "a")]);
    assert_eq!(format!("{:?}", found.agents), format!("{:?}", [agent("1")]));
    assert_eq!(found.sessions, [session("s")]);
    assert_eq!(found.names, [name("n")]);
    let scopes = [AliasScope::All, AliasScope::User("alice".into())];
    assert_eq!(found.aliases, scopes.map(|scope| alias(scope, "gpt-*")));
    assert_eq!(found.tokens, [token("t")]);
    let owners = [LimitOwner::Token("t".into()), LimitOwner::User("alice".into())];
    assert_eq!(found.limits, owners.map(limits));
    let tasks: Vec<_> = found.tasks.iter().map(|task| (task.id.as_str(), task.state)).collect();
    assert_eq!(tasks, [("late", TaskStatus::Claimed), ("early", TaskStatus::Running)]);
    let done = store.task("done").await.unwrap().unwrap();
    assert_eq!(format!("{done:?}"), format!("{:?}", task("done", TaskStatus::Completed)));
    assert!(store.task("none").await.unwrap().is_none());
    let ended = store.ended_tasks(Some("alice"), &ListCursor::end(), 9).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert!(store.ended_tasks(Some("bob"), &ListCursor::end(), 9).await.unwrap().is_empty());
    let records = store.audit(AuditQuery::of(None, Some("a"), 9)).await.unwrap();
    let most = u64::try_from(i64::MAX).unwrap();
    assert_eq!(
        records,
        [AuditRecord { tokens: TokenCounts { output: Some(most), ..audit("x").tokens }, ..audit("x") }]
    );
    assert!(store.audit(AuditQuery::of(None, Some("%"), 9)).await.unwrap().is_empty());
}

#[tokio::test]
async fn dropping_a_store_finishes_all_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 0..200 {
        drop(store.write(vec![put_llm(llm(&n.to_string(), &format!("n{n}")))]));
    }
    drop(store.write(vec![Change::DeleteLlm("7".into())]));
    drop(store);
    assert_eq!(open(dir.path()).unwrap().load().await.unwrap().llms.len(), 199);
}

#[tokio::test]
async fn a_list_is_written_whole_or_not_at_all() {
    let store = SqliteStore::in_memory().unwrap();
    let good = store.write(vec![put_llm(llm("1", "a"))]);
    let twice = vec![put_llm(llm("2", "b")), put_llm(llm("3", "a"))];
    let bad = store.write(twice);
    let after = store.write(vec![put_llm(llm("4", "d"))]);
    assert!(good.await.is_ok());
    assert!(bad.await.is_err());
    assert!(after.await.is_ok());
    let mut names: Vec<_> = store.load().await.unwrap().llms.into_iter().map(|llm| llm.name).collect();
    names.sort();
    assert_eq!(names, ["a", "d"]);
}

#[tokio::test]
async fn ended_tasks_and_audit_records_expire_open_tasks_do_not() {
    let store = SqliteStore::in_memory().unwrap();
    let changes = vec![
        put_task(task("open", TaskStatus::Pending)),
        put_task(task("old", TaskStatus::Error)),
        put_task(DurableTask { updated_at: Timestamp(50), ..task("new", TaskStatus::Completed) }),
        Change::Audit(audit("x")),
    ];
    store.write(changes).await.unwrap();
    store.expire(RetentionLimits { tasks_since: Timestamp(50), ..KEEP_ALL }).await.unwrap();
    assert_eq!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().len(), 1);
    store.expire(RetentionLimits { audit_since: Timestamp(2), ..KEEP_ALL }).await.unwrap();
    let left = store.ended_tasks(None, &ListCursor::end(), 9).await.unwrap();
    assert_eq!(left.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(store.load().await.unwrap().tasks.len(), 1);
    assert!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().is_empty());
}

/// A claim is stored without writing the task's large request again, and is deleted when the task ends.
#[actix_rt::test]
async fn a_claim_is_stored_beside_its_task_and_ends_with_it() {
    const LARGE: usize = 4 << 20;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let large = DurableTask { request: Some("x".repeat(LARGE)), llm: None, ..task("t", TaskStatus::Pending) };
    store.write(vec![put_task(large)]).await.unwrap();
    let log = || std::fs::metadata(dir.path().join("hub.db-wal")).unwrap().len();
    let before = log();
    let claim = || Change::ClaimTask { id: "t".into(), llm: Some("a".into()), session: Some("s".into()) };
    for _ in 0..8 {
        store.write(vec![claim()]).await.unwrap();
        store.write(vec![Change::UnclaimTask("t".into())]).await.unwrap();
    }
    assert!(log() - before < LARGE as u64 / 4, "{} bytes more", log() - before);
    let open_task = async |store: &SqliteStore| store.load().await.unwrap().tasks.pop().unwrap();
    assert_eq!(open_task(&store).await.state, TaskStatus::Pending);

    store.write(vec![claim()]).await.unwrap();
    drop(store);
    let store = open(dir.path()).unwrap();
    let claimed = open_task(&store).await;
    assert_eq!((claimed.state, claimed.llm.as_deref()), (TaskStatus::Claimed, Some("a")));
    assert_eq!(claimed.session.as_deref(), Some("s"));

    // The end of the task deletes the claim, and an ended task cannot be claimed.
    for ending in [put_task(task("t", TaskStatus::Cancelled)), Change::DeleteTask("t".into())] {
        store.write(vec![claim(), ending, claim()]).await.unwrap();
        let claims =
            store.run(|conn| conn.query_row("SELECT count(*) FROM claims", [], |row| row.get::<_, i64>(0)));
        assert_eq!(claims.await.unwrap(), 0);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Coalesced(u8, u8),
    Delete(u8),
    Reopen,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_agrees_with_a_map_after_any_steps(steps in prop::collection::vec(
        prop_oneof![
            4 => (0..6u8, any::<u8>()).prop_map(|(id, n)| Step::Put(id, n)),
            4 => (0..6u8, any::<u8>()).prop_map(|(id, n)| Step::Coalesced(id, n)),
            2 => (0..6u8).prop_map(Step::Delete),
            1 => Just(Step::Reopen),
        ], 0..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = fast_dir();
        let mut store = Some(open(dir.path()).unwrap());
        let mut map = std::collections::BTreeMap::new();
        for step in steps {
            let here = store.as_ref().unwrap();
            match step {
                Step::Put(id, n) => {
                    let row = Llm { model: n.to_string(), ..llm(&id.to_string(), &format!("n{id}")) };
                    map.insert(row.id.clone(), row.clone());
                    drop(here.write(vec![put_llm(row)]));
                }
                Step::Coalesced(id, n) => {
                    let Some(row) = map.get_mut(&id.to_string()) else { continue };
                    row.model = n.to_string();
                    here.write_coalesced(vec![put_llm(row.clone())]);
                }
                Step::Delete(id) => {
                    map.remove(&id.to_string());
                    drop(here.write(vec![Change::DeleteLlm(id.to_string())]));
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(open(dir.path()).unwrap());
                }
            }
        }
        // Closing the store writes coalesced changes.
        drop(store);
        let found = runtime.block_on(open(dir.path()).unwrap().load()).unwrap().llms;
        prop_assert_eq!(found, map.into_values().collect::<Vec<_>>());
    }
}
