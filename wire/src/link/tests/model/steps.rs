//! The steps of the world, in any order.

use proptest::prelude::*;

/// One step of the world.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The hub sends a task of this many bytes.
    Dispatch(usize),
    /// The registrar answers one of its tasks with this many bytes more.
    Answer { task: usize, bytes: usize },
    /// The registrar ends an answer.
    End(usize),
    /// The hub's caller leaves.
    Leave(usize),
    /// The caller reads this many pieces.
    Read { task: usize, pieces: usize },
    /// At most this many frames are written and delivered, to the registrar or to the hub.
    Deliver { to_hub: bool, frames: usize },
    /// The registrar sends a heartbeat, unless one waits for its answer.
    Beat,
    /// The hub shuts down.
    Going,
    /// The registrar gives its connection up and opens another one. The hub still holds the last one, and what is under way
    /// on it arrives.
    Connect,
    /// The hub writes this many frames on the oldest connection, whose registrar has left it.
    Waste(usize),
    /// At most this many frames arrive that a registrar sent on a connection before it left it.
    Late(usize),
    /// The oldest connection ends at the hub, with all frames under way.
    Break,
}

/// A registrar opens another connection while pieces are under way, which arrive and are read before they come again.
fn hand_over() -> impl Strategy<Value = Vec<Step>> {
    (0_usize..4, 0_usize..12, 1_usize..9, 1_usize..4, 1_usize..4).prop_map(
        |(answered, late, pieces, there, back)| {
            let mut steps = vec![
                Step::Answer { task: answered, bytes: 700_000 },
                Step::Deliver { to_hub: true, frames: 3 },
                Step::Connect,
                Step::Late(late),
                Step::Deliver { to_hub: false, frames: 1 },
                Step::Deliver { to_hub: true, frames: there },
            ];
            steps.extend((0..8).map(|task| Step::Read { task, pieces }));
            steps.push(Step::Deliver { to_hub: false, frames: back });
            steps
        },
    )
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let several = prop_oneof![20 => step().prop_map(|step| vec![step]), 1 => hand_over()];
    prop::collection::vec(several, 1..100).prop_map(|steps| steps.concat())
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0_usize..100, 60_000_usize..70_000, Just(700_000_usize)];
    prop_oneof![
        1 => size.clone().prop_map(Step::Dispatch),
        4 => (0_usize..8, size).prop_map(|(task, bytes)| Step::Answer { task, bytes }),
        1 => (0_usize..8).prop_map(Step::End),
        1 => (0_usize..40).prop_map(Step::Leave),
        4 => (0_usize..8, 1_usize..9).prop_map(|(task, pieces)| Step::Read { task, pieces }),
        8 => (any::<bool>(), 1_usize..12).prop_map(|(to_hub, frames)| Step::Deliver { to_hub, frames }),
        1 => Just(Step::Beat),
        1 => Just(Step::Going),
        1 => Just(Step::Connect),
        1 => (1_usize..12).prop_map(Step::Waste),
        2 => (1_usize..12).prop_map(Step::Late),
        1 => Just(Step::Break),
    ]
}
