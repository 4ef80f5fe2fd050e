use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::connections::head_memory::{HEADS, SMALL_HEAD};
use crate::model::{Caller, Role};
use crate::quota::{ByteKind, ByteQuota, MemoryBudget, Quota};
use crate::telemetry::Metrics;

#[derive(Debug, Clone)]
enum Op {
    Connect(u8, bool),
    Request(usize, Option<(u8, bool)>),
    Head(usize, usize),
    Close(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let user = prop::option::weighted(0.7, (0..4_u8, prop::bool::weighted(0.2)));
    prop_oneof![
        4 => (0..4_u8, prop::bool::weighted(0.1)).prop_map(|(address, proxy)| Op::Connect(address, proxy)),
        4 => (any::<usize>(), user).prop_map(|(index, user)| Op::Request(index, user)),
        1 => (any::<usize>(), 0..SMALL_HEAD * 2).prop_map(|(index, size)| Op::Head(index, size)),
        1 => any::<usize>().prop_map(Op::Close),
    ]
}

fn caller(user: &str, is_admin: bool) -> Caller {
    let role = if is_admin { Role::Admin } else { Role::Member };
    Caller {
        user: user.to_owned(),
        role,
        token_id: "t".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    }
}

fn table(limits: ConnectionLimits) -> Rc<ConnectionTable> {
    ConnectionTable::new(limits, Metrics::new().unwrap().of_machine().unwrap())
}

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

proptest! {
    /// A25, A27: all limits hold in any order of connections and requests; no limit per user applies to admins, a new
    /// connection is never closed for an older one, and closed connections leave no counts.
    #[test]
    fn connections_stay_within_all_limits(ops in prop::collection::vec(op(), 1..200)) {
        let limits =
            ConnectionLimits { total: 12, anonymous: 9, members: 10, per_member: 3, per_address: Some(4) };
        let table = table(limits);
        let mut permits: Vec<ConnectionPermit> = Vec::new();
        for op in ops {
            match op {
                Op::Connect(last, is_proxy) => {
                    let permit = table.admit(address(last), is_proxy);
                    prop_assert!(permit.connection.close_reason.get().is_none());
                    permits.push(permit);
                }
                Op::Request(index, user) if !permits.is_empty() => {
                    let connection = &permits[index % permits.len()].connection;
                    let caller = user.map(|(user, is_admin)| caller(&format!("u{user}"), is_admin));
                    let result = connection.set_caller(caller.as_ref());
                    let is_admin = caller.as_ref().is_none_or(|caller| caller.role == Role::Admin);
                    prop_assert!(result.is_ok() || !is_admin, "a limit was applied to an admin");
                    let has_token = connection.has_token.get();
                    let is_proxy = connection.is_proxy;
                    prop_assert_eq!(has_token, is_proxy || caller.is_some() && result.is_ok());
                    prop_assert!(!has_token || is_proxy || connection.close_reason.get().is_none());
                }
                Op::Head(index, size) if !permits.is_empty() => {
                    let head = &permits[index % permits.len()].connection.head;
                    prop_assert!(head.grow(size) || size > SMALL_HEAD);
                    if size % 2 == 0 {
                        head.reset();
                    }
                }
                Op::Close(index) if !permits.is_empty() => drop(permits.swap_remove(index % permits.len())),
                _ => {}
            }
            let [with_token, anonymous, closing, _] = table.sizes();
            prop_assert_eq!(with_token + anonymous + closing, permits.len());
            prop_assert!(anonymous <= limits.anonymous, "{} anonymous", anonymous);
            prop_assert!(anonymous == 0 || with_token + anonymous <= limits.total.max(with_token + 1));
            let lists = table.lists.borrow();
            prop_assert!(lists.by_address.values().all(|list| list.len() <= 4));
            prop_assert!(lists.by_member.values().all(|count| (1..=3).contains(count)));
            prop_assert_eq!(lists.by_member.values().sum::<usize>(), lists.members);
            prop_assert!(lists.members <= 10);
        }
        drop(permits);
        prop_assert_eq!(table.sizes(), [0; 4]);
        prop_assert_eq!((table.heads.usage(address(0)), table.lists.borrow().members), ((0, 0, 0), 0));
    }
}

/// A25: if all connections have a token, a new connection closes an idle one, never one with an open call.
#[test]
fn an_idle_connection_is_closed_if_all_have_a_token() {
    let table = table(ConnectionLimits::of_test(3));
    let mut calls = Vec::new();
    let permits: Vec<ConnectionPermit> = (0..3)
        .map(|number| {
            let permit = table.admit(address(1), false);
            permit.connection.set_caller(Some(&caller("alice", true))).unwrap();
            let call = permit.connection.begin(&mut actix_http::Request::new());
            calls.push((number != 1).then_some(call));
            permit
        })
        .collect();
    let newcomer = table.admit(address(2), false);
    newcomer.connection.set_caller(Some(&caller("alice", true))).unwrap();
    let last = table.admit(address(2), false);
    let is_closed: Vec<bool> =
        permits.iter().map(|permit| permit.connection.close_reason.get().is_some()).collect();
    assert_eq!(is_closed, [false, true, false]);
    assert_eq!(newcomer.connection.close_reason.get(), None);
    drop(last);
}

/// A07, A25, A27: large heads without a token are limited by address and in total; a small head is always allowed.
#[test]
fn large_heads_without_a_token_are_bounded() {
    let table = table(ConnectionLimits::of_test(25_000));
    let mut permits: Vec<ConnectionPermit> = Vec::new();
    let mut flood = |last: u8| {
        for _ in 0..200 {
            let permit = table.admit(address(last), false);
            let grown = (0..128).take_while(|_| permit.connection.head.grow(1024)).count();
            assert!(grown >= SMALL_HEAD >> 10);
            permits.push(permit);
        }
        let (total, own, _) = table.heads.usage(address(last));
        (total, own)
    };
    assert_eq!(flood(1), (HEADS / 2, HEADS / 2));
    assert_eq!(flood(2), (HEADS * 3 / 4, HEADS / 4));
    for last in 3..40 {
        assert!(flood(last).0 <= HEADS);
        let other = table.admit([10, 0, 1, 0].into(), false);
        assert!(other.connection.head.grow(SMALL_HEAD));
    }
    drop(permits);
    assert_eq!(table.heads.usage(address(1)), (0, 0, 0));
}

/// A24: the buffer of a large head counts for the connection's latest caller until the connection closes.
#[test]
fn the_buffer_of_a_large_head_counts_during_later_requests() {
    let table = table(ConnectionLimits::of_test(9));
    let machine = Metrics::new().unwrap().of_machine().unwrap();
    let quota = Quota::of_bytes(&Arc::new(MemoryBudget::new(Some(1 << 30), machine)), ByteKind::Heads);
    let permit = table.admit(address(1), false);
    for (user, head, buffer) in [
        ("alice", 1 << 10, 0),
        ("alice", 20 << 10, 32 << 10),
        ("alice", 1 << 10, 32 << 10),
        ("bob", 100, 32 << 10),
    ] {
        assert!(permit.connection.head.grow(head));
        let call = permit.connection.begin(&mut actix_http::Request::new());
        permit.connection.set_caller(Some(&caller(user, false))).unwrap();
        permit.connection.charge_head_to(|| ByteQuota::new(&quota, user, 1 << 30, "heads"), 4).unwrap();
        drop(call);
        let taken = quota.taken_by(user);
        assert!((buffer..=buffer + 4096).contains(&taken), "{user}: {taken} after a head of {head}");
    }
    assert_eq!(quota.taken_by("alice"), 0);
    drop(permit);
    assert_eq!(quota.taken_by("bob"), 0);
}

/// A25, A27: handshakes not followed by a valid token are limited by address; a trusted proxy's are not.
#[tokio::test(start_paused = true)]
async fn handshakes_without_a_token_are_limited_by_address() {
    let table = table(ConnectionLimits::of_test(9));
    let shake = |last: u8, is_proxy| table.admit(address(last), is_proxy).take_handshake();
    for _ in 0..3 * HANDSHAKES {
        let permit = table.admit(address(1), false);
        assert!(permit.take_handshake());
        permit.connection.set_caller(Some(&caller("alice", false))).unwrap();
    }
    assert_eq!((0..2 * HANDSHAKES).take_while(|_| shake(1, false)).count(), HANDSHAKES as usize);
    assert!(shake(2, false) && shake(1, true));
    tokio::time::advance(std::time::Duration::from_millis(1100)).await;
    assert_eq!((0..HANDSHAKES).filter(|_| shake(1, false)).count(), HANDSHAKES_PER_SECOND as usize);
}
