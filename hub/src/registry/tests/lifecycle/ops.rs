//! Events of the lifecycle test.

use super::*;

const HOURS: i64 = 3_600_000;

#[derive(Debug, Clone)]
pub(in super::super) enum Op {
    Register {
        session: usize,
        by: usize,
        providers: Vec<Spec>,
    },
    Open {
        session: usize,
        features: bool,
    },
    Close {
        session: usize,
        late: bool,
    },
    Beat {
        session: usize,
        stale: bool,
        report: Option<(usize, Status)>,
    },
    Drain {
        session: usize,
    },
    Start {
        name: usize,
    },
    End {
        name: usize,
    },
    Woken {
        name: usize,
    },
    Sweep,
    /// Advances both clocks by this many milliseconds.
    Wait(u64),
    /// Moves the wall clock by this many milliseconds.
    Jump(i64),
    Restart {
        /// Restarts the hub after this downtime in milliseconds.
        down: u64,
    },
}

fn any_status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Active), Just(Status::Inactive), Just(Status::Hibernating)]
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let visibility = prop_oneof![Just(Visibility::Private), Just(Visibility::Public)];
    (0..NAMES.len(), prop::option::of(0..NAMES.len()), visibility, any::<bool>())
        .prop_map(|(name, pool, visibility, asleep)| Spec { name, pool, visibility, asleep })
}

pub(in super::super) fn any_op() -> impl Strategy<Value = Op> {
    let session = 0..SESSIONS.len();
    let name = 0..NAMES.len();
    prop_oneof![
        6 => (session.clone(), 0..USERS.len(), prop::collection::vec(any_spec(), 0..4))
            .prop_map(|(session, by, providers)| Op::Register { session, by, providers }),
        5 => (session.clone(), any::<bool>()).prop_map(|(session, features)| Op::Open { session, features }),
        3 => (session.clone(), any::<bool>()).prop_map(|(session, late)| Op::Close { session, late }),
        4 => (session.clone(), any::<bool>(), prop::option::of((name.clone(), any_status())))
            .prop_map(|(session, stale, report)| Op::Beat { session, stale, report }),
        1 => session.prop_map(|session| Op::Drain { session }),
        2 => name.clone().prop_map(|name| Op::Start { name }),
        2 => name.clone().prop_map(|name| Op::End { name }),
        1 => name.prop_map(|name| Op::Woken { name }),
        4 => Just(Op::Sweep),
        4 => prop_oneof![Just(1_000), Just(60_000), Just(HOUR), Just(2 * HOUR)].prop_map(Op::Wait),
        2 => prop_oneof![Just(-5 * HOURS), Just(-1), Just(HOURS), Just(5 * HOURS)].prop_map(Op::Jump),
        1 => (0..20 * HOUR).prop_map(|down| Op::Restart { down }),
    ]
}
