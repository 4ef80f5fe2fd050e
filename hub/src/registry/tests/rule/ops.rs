//! Events of the rule test.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{ALIASES, NAMES, USERS};

/// A row or an agent to register, create or update.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) name: usize,
    /// The pool of a row, or the LLM of an agent.
    pub(super) of: Option<usize>,
    pub(super) public: bool,
    /// The `maxConcurrency` of a row.
    pub(super) room: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Register {
        user: usize,
        rows: Vec<Want>,
        agents: Vec<Want>,
    },
    /// Closes the user's channel.
    Leave {
        user: usize,
    },
    CreateLlm {
        user: usize,
        want: Want,
    },
    UpdateLlm {
        user: usize,
        want: Want,
    },
    DeleteLlm {
        user: usize,
        name: usize,
    },
    CreateAgent {
        user: usize,
        want: Want,
    },
    UpdateAgent {
        user: usize,
        want: Want,
    },
    DeleteAgent {
        user: usize,
        name: usize,
    },
    Admit {
        user: usize,
        pool: usize,
        row: usize,
    },
    Dismiss {
        user: usize,
        pool: usize,
        row: usize,
    },
    Free {
        user: usize,
        name: usize,
    },
    Give {
        user: usize,
        name: usize,
        to: usize,
    },
    /// Sets an alias of the user, or one of all users.
    SetAlias {
        user: usize,
        shared: bool,
        alias: usize,
        target: usize,
    },
    DeleteAlias {
        user: usize,
        shared: bool,
        alias: usize,
    },
    /// Picks a row for a call, which then waits until the row has woken.
    Choose {
        user: usize,
        name: usize,
    },
    Wait {
        hours: u64,
    },
    Restart,
}

fn want(of: impl Strategy<Value = Option<usize>>) -> impl Strategy<Value = Want> {
    (0..NAMES.len(), of, prop::bool::weighted(0.7), 1..9_u32).prop_map(|(name, of, public, room)| Want {
        name,
        of,
        public,
        room,
    })
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let user = || 0..USERS.len();
    let name = || 0..NAMES.len();
    let row = || want(prop::option::of(name()));
    let agent = || want(name().prop_map(Some));
    let rows = prop::collection::vec(row(), 0..3);
    let agents = prop::collection::vec(agent(), 0..2);
    prop_oneof![
        8 => (user(), rows, agents).prop_map(|(user, rows, agents)| Op::Register { user, rows, agents }),
        2 => user().prop_map(|user| Op::Leave { user }),
        1 => (user(), row()).prop_map(|(user, want)| Op::CreateLlm { user, want }),
        1 => (user(), row()).prop_map(|(user, want)| Op::UpdateLlm { user, want }),
        2 => (user(), name()).prop_map(|(user, name)| Op::DeleteLlm { user, name }),
        2 => (user(), agent()).prop_map(|(user, want)| Op::CreateAgent { user, want }),
        1 => (user(), agent()).prop_map(|(user, want)| Op::UpdateAgent { user, want }),
        1 => (user(), name()).prop_map(|(user, name)| Op::DeleteAgent { user, name }),
        3 => (user(), name(), name()).prop_map(|(user, pool, row)| Op::Admit { user, pool, row }),
        1 => (user(), name(), name()).prop_map(|(user, pool, row)| Op::Dismiss { user, pool, row }),
        1 => (user(), name()).prop_map(|(user, name)| Op::Free { user, name }),
        1 => (user(), name(), user()).prop_map(|(user, name, to)| Op::Give { user, name, to }),
        3 => (user(), any::<bool>(), 0..ALIASES.len(), name())
            .prop_map(|(user, shared, alias, target)| Op::SetAlias { user, shared, alias, target }),
        1 => (user(), any::<bool>(), 0..ALIASES.len())
            .prop_map(|(user, shared, alias)| Op::DeleteAlias { user, shared, alias }),
        3 => (user(), name()).prop_map(|(user, name)| Op::Choose { user, name }),
        3 => prop_oneof![Just(1), Just(5), Just(300), Just(720)].prop_map(|hours| Op::Wait { hours }),
        1 => Just(Op::Restart),
    ]
}

/// Whether each name occurs once, as a register call requires.
pub(super) fn has_unique_names(wants: &[Want]) -> bool {
    let names: BTreeSet<usize> = wants.iter().map(|want| want.name).collect();
    names.len() == wants.len()
}
