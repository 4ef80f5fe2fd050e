//! What register calls, heartbeats and sweeps write and visit.

use super::*;

/// Writes of a register call: the kind of each, and the name of what it writes.
fn writes(changes: &[Change]) -> Vec<String> {
    let write = |change: &Change| match change {
        Change::PutLlm(llm) => format!("row {} {}", llm.name, llm.status),
        Change::PutAgent(agent) => format!("agent {} {}", agent.name, agent.status),
        Change::PutName(record) => format!("name {}", record.name),
        other => panic!("{other:?}"),
    };
    changes.iter().map(write).collect()
}

/// A27: a register call writes only the rows and agents that it changes.
#[test]
fn a_register_call_writes_only_what_it_changes() {
    let mut registry = registry_with(&[], PoolPolicy::Members);
    let agent = |name: &str, prompt: &str| -> wire::register::AgentEntry {
        let json =
            format!(r#"{{"name":"{name}","llmName":"a","systemPrompt":"{prompt}","extras":{{"x":1}}}}"#);
        serde_json::from_str(&json).unwrap()
    };
    let mut put = |rows: &[&str], agents: Vec<wire::register::AgentEntry>, now| {
        let request = RegisterRequest {
            provider_session_id: Some("alice-1".into()),
            providers: rows.iter().map(|name| provider(name, None)).collect(),
            agents,
        };
        let done =
            registry.register(&caller("alice"), &request, &|prefix| format!("{prefix}-{now}"), at(now));
        let done = done.unwrap();
        let updated = done.llms.iter().map(|llm| llm.updated_at.0).collect::<Vec<_>>();
        (writes(&done.changes), updated)
    };
    put(&["a", "b"], vec![agent("g", "x"), agent("h", "x")], 1);
    assert_eq!(put(&["a", "b"], vec![agent("g", "x"), agent("h", "x")], 2), (vec![], vec![1, 1]));
    let (written, updated) = put(&["a", "c"], vec![agent("g", "y"), agent("h", "x")], 3);
    assert_eq!(written, ["row b inactive", "row c active", "agent g active", "name c"]);
    assert_eq!(updated, [1, 3]);
    let (written, _) = put(&["a", "b"], vec![agent("h", "x")], 4);
    assert_eq!(written, ["row c inactive", "agent g inactive", "row b active"]);
    assert!(registry.sweep(at(5), true).changes.iter().any(|change| matches!(change, Change::PutSession(_))));
}

/// A27: events of a session visit only the rows and agents of its last register call, however many others it had before.
#[test]
fn events_of_a_session_visit_only_what_it_registered_last() {
    let mut registry = registry_with(&[], PoolPolicy::Members);
    for set in 0..30 {
        let rows = (0..MAX_ENTRIES).map(|row| provider(&format!("{set}-{row}"), None)).collect();
        register(&mut registry, "alice", "alice-1", rows).unwrap();
    }
    let mut visited = 0;
    registry.update_session_entries("alice-1", |_, _| {
        visited += 1;
        false
    });
    assert_eq!((visited, registry.session_llms("alice-1").len()), (MAX_ENTRIES, MAX_ENTRIES));
}

/// P5: rows that a session dropped are kept while its channel is open, however long, and deleted on time when it is closed.
#[test]
fn dropped_rows_are_deleted_when_the_channel_is_closed() {
    let all: Vec<_> = ["a", "b", "c", "d"].map(|name| provider(name, None)).into();
    let mut registry = registry_with(&[("a", None)], PoolPolicy::Members);
    register(&mut registry, "alice", "alice-1", all).unwrap();
    register(&mut registry, "alice", "alice-1", vec![provider("d", None)]).unwrap();
    let beat = Heartbeat { provider_session_id: "alice-1".into(), stream_id: None, providers: None };
    for hours in [3, 4, 40] {
        registry.heartbeat(&caller("alice"), &beat, at(hours * HOUR)).unwrap();
        registry.sweep(at(hours * HOUR), true);
        assert_eq!(registry.llms.len(), 4, "{hours}");
    }
    registry.close("alice-1", "s", at(40 * HOUR)).unwrap();
    registry.sweep(at(40 * HOUR), true);
    assert_eq!(registry.llms.keys().collect::<Vec<_>>(), ["d"]);
    let session = &registry.sessions["alice-1"];
    assert!(session.dropped_llms.is_empty() && session.overdue.is_empty());
    registry.sweep(at(44 * HOUR), true);
    assert!(registry.llms.is_empty());
}

/// A27: a sweep that deletes all rows of a pool looks at each of them a bounded number of times.
#[test]
fn a_sweep_looks_at_the_rows_of_a_pool_once() {
    let mut registry = registry_with(&[], PoolPolicy::Members);
    let rows = (0..MAX_ENTRIES).map(|row| provider(&row.to_string(), Some("lake"))).collect();
    register(&mut registry, "alice", "alice-2", rows).unwrap();
    while registry.sweep(at(HOUR), true).more {}
    while registry.sweep(at(9 * HOUR), true).more {}
    assert!(registry.llms.is_empty());
    let checks = registry.overdue_checks.into_inner();
    assert!(checks <= 4 * MAX_ENTRIES, "{checks}");
}

/// A27: of rows and agents that are deleted or registered again, a session keeps nothing.
#[test]
fn a_session_keeps_no_key_of_a_row_or_an_agent_that_is_gone() {
    let rows = |names: &[&str]| names.iter().map(|name| provider(name, None)).collect();
    let mut registry = registry_with(&[("a", None)], PoolPolicy::Members);
    let mut request = RegisterRequest {
        provider_session_id: Some("alice-1".into()),
        providers: rows(&["a", "b", "c", "d"]),
        agents: vec![serde_json::from_str(r#"{"name":"g","llmName":"a"}"#).unwrap()],
    };
    let ids = |prefix: &str| prefix.to_owned();
    registry.register(&caller("alice"), &request, &ids, at(0)).unwrap();
    (request.providers, request.agents) = (rows(&["d"]), Vec::new());
    registry.register(&caller("alice"), &request, &ids, at(0)).unwrap();
    let beat = Heartbeat { provider_session_id: "alice-1".into(), stream_id: None, providers: None };
    registry.heartbeat(&caller("alice"), &beat, at(9 * HOUR)).unwrap();
    registry.sweep(at(9 * HOUR), true);
    let overdue = |registry: &Registry| registry.sessions["alice-1"].overdue.len();
    assert_eq!(overdue(&registry), 4);
    registry.remove_llm("a", at(9 * HOUR));
    registry.remove_agent("g", at(9 * HOUR));
    assert_eq!(overdue(&registry), 2);
    request.providers = rows(&["b", "d"]);
    registry.register(&caller("alice"), &request, &ids, at(9 * HOUR)).unwrap();
    assert_eq!(overdue(&registry), 1);
}

/// A34: the retention time of an unused name includes the time in which the hub did not run.
#[test]
fn a_name_is_reserved_across_a_restart_until_its_time_is_over() {
    const DAY: u64 = 24 * HOUR;
    let record = NameRecord {
        name: "a".into(),
        owner: "alice".into(),
        pool: false,
        shared: false,
        left_at: Some(at(DAY).wall),
        admitted: None,
        pinned: None,
    };
    let snapshot = Snapshot { names: vec![record], ..Snapshot::default() };
    let mut registry = Registry::load(&snapshot, PoolPolicy::Ask, &HubTimings::default(), at(29 * DAY));
    registry.sweep(at(31 * DAY - 1), true);
    assert_eq!(registry.name_owner("a").map(String::as_str), Some("alice"));
    registry.sweep(at(31 * DAY), true);
    assert_eq!(registry.name_owner("a"), None);
}
