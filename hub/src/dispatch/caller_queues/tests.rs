//! `CallerQueues`: the order in which callers are served.

mod model;
mod order;
mod shares;

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use model::{Model, lane};

const NAMES: [&str; 3] = ["row", "pool", "other"];
/// The line of each name, as an index.
const LINES: [usize; 3] = [1, 1, 2];
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const KINDS: usize = 2;
/// With an `at_once` above this, a scan is not interrupted.
const MAX_PIECE: usize = 4;

/// A user and one of its classes; the last one is of bulk callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TestClass(usize, usize);

impl Class for TestClass {
    fn user(&self) -> &str {
        USERS[self.0]
    }

    fn is_bulk(&self) -> bool {
        self.1 == KINDS
    }
}

type ForClass = [[bool; KINDS + 1]; USERS.len()];

#[derive(Debug, Clone)]
enum Op {
    Join {
        name: usize,
        class: TestClass,
        prompt: u64,
    },
    Leave(usize),
    /// A call that was served has ended.
    Settle(usize, Spent),
    /// `places` slots become free under `names`, for callers of the classes in `for_class`.
    Serve {
        names: Vec<usize>,
        places: usize,
        for_class: ForClass,
        dropped: usize,
        /// Number of callers that are checked before the scan is interrupted.
        at_once: usize,
    },
}

fn any_op() -> impl Strategy<Value = Op> {
    let names = prop::collection::btree_set(0..NAMES.len(), 1..3)
        .prop_map(|names: BTreeSet<usize>| names.into_iter().collect());
    let class = (0..USERS.len(), 0..=KINDS).prop_map(|(user, kind)| TestClass(user, kind));
    prop_oneof![
        5 => (0..NAMES.len(), class, 0..300_u64)
            .prop_map(|(name, class, prompt)| Op::Join { name, class, prompt }),
        2 => any::<usize>().prop_map(Op::Leave),
        3 => (any::<usize>(), 0..2000_u64, any::<bool>(), 0..20_000_u64)
            .prop_map(|(call, tokens, is_whole, millis)| Op::Settle(call, Spent { tokens, is_whole, millis })),
        3 => (names, 0_usize..4, any::<ForClass>(), 0_usize..5, 1_usize..9)
            .prop_map(|(names, places, for_class, dropped, at_once)| Op::Serve { names, places, for_class, dropped, at_once }),
    ]
}

/// The caller is served by a row that callers of these names wait for.
fn served_by(names: &[&str]) -> Decision {
    Decision::Served(names.iter().map(|name| (*name).to_owned()).collect())
}

/// A caller that waits.
#[derive(Debug, Clone, Copy)]
struct Caller {
    place: u64,
    name: usize,
    class: TestClass,
    prompt: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// In any order of events callers are served as in the model: the users with the least tokens first, and each user's callers
    /// in order. Callers that left are skipped and cost their user nothing.
    #[test]
    fn callers_are_served_in_the_order_of_the_model(
        ops in prop::collection::vec(any_op(), 0..60)
    ) {
        let mut queues: CallerQueues<TestClass, u64> = CallerQueues::default();
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Join { name, class, prompt } => {
                    let place = queues.numbers + 1;
                    prop_assert_eq!(queues.join(NAMES[LINES[name]], NAMES[name], class, prompt, place), place);
                    model.join(Caller { place, name, class, prompt });
                }
                Op::Leave(at) if !model.list.is_empty() => {
                    let Caller { place, name, class, .. } = model.list.remove(at % model.list.len());
                    model.tidy();
                    queues.leave(NAMES[name], &class, place);
                    // A second `leave` changes nothing.
                    queues.leave(NAMES[name], &class, place);
                }
                Op::Settle(call, spent) if !model.charges.is_empty() => {
                    let mut places: Vec<u64> = model.charges.keys().copied().collect();
                    places.sort_unstable();
                    let place = places[call % places.len()];
                    model.settle(place, spent);
                    queues.settle(place, spent);
                    // A second one changes nothing.
                    queues.settle(place, spent);
                }
                Op::Leave(_) | Op::Settle(..) => (),
                Op::Serve { names, places, for_class, dropped, at_once } => {
                    // One caller is dropped without `leave`.
                    let dropped = model.list.get(dropped).map(|caller| caller.place).filter(|_| at_once > MAX_PIECE);
                    // An interrupted scan shows that a user's turn ends with its last caller.
                    let at_once = if at_once > MAX_PIECE { usize::MAX } else { at_once };
                    let (mut left, mut served) = (places, Vec::new());
                    let asked: Vec<&str> = names.iter().map(|name| NAMES[*name]).collect();
                    for name in &asked {
                        queues.note_news(name);
                    }
                    let (mut cursor, mut round) = (Cursor::default(), ScanResult::Interrupted);
                    let mut pieces = 0;
                    while round == ScanResult::Interrupted {
                        pieces += 1;
                        prop_assert!(pieces < 100, "a scan makes no progress");
                        let mut checks = 0;
                        round = queues.scan(&asked, &mut cursor, |class, waiter| {
                            if left == 0 {
                                return Decision::Stop;
                            }
                            if checks == at_once {
                                return Decision::Interrupt;
                            }
                            checks += 1;
                            if *waiter == dropped {
                                return Decision::Remove;
                            }
                            if !for_class[class.0][class.1] {
                                return Decision::Keep;
                            }
                            left -= 1;
                            served.extend(waiter.take());
                            served_by(&asked)
                        });
                    }
                    let has_news = asked.iter().any(|name| queues.has_news(name));
                    prop_assert!(!has_news || round == ScanResult::Stopped, "a scan stopped although callers were left to check");
                    let can = |caller: &Caller| for_class[caller.class.0][caller.class.1] && Some(caller.place) != dropped;
                    let expected: Vec<u64> =
                        (0..places).map_while(|_| model.serve(&names, can)).collect();
                    prop_assert_eq!(&served, &expected);
                    let lines = |place: u64| queues.queues.values().flat_map(|queue| queue.lanes.values()).any(|callers| {
                        callers.classes.values().flatten().any(|waiting| waiting.place == place)
                    });
                    model.list.retain(|caller| lines(caller.place));
                    model.tidy();
                }
            }
            let lanes = || queues.queues.values().flat_map(|queue| queue.lanes.values());
            let waiting: usize = lanes().flat_map(|callers| callers.classes.values()).map(VecDeque::len).sum();
            prop_assert_eq!(waiting, model.list.len());
            let known: BTreeSet<_> = model.list.iter().map(|caller| (caller.name, lane(caller.class))).collect();
            prop_assert_eq!(lanes().count(), known.len());
            prop_assert_eq!(queues.queues.values().map(|queue| queue.turns.len()).sum::<usize>(), known.len());
            prop_assert_eq!(queues.queues.len(), model.queues.len());
            prop_assert_eq!(queues.charges.len(), model.charges.len());
            for (name, text) in NAMES.iter().enumerate() {
                for class in (0..USERS.len()).flat_map(|user| (0..=KINDS).map(move |kind| TestClass(user, kind))) {
                    let expected = model.list.iter().any(|caller| caller.name == name && caller.class == class);
                    prop_assert_eq!(queues.has(text, &class), expected);
                }
            }
        }
    }
}
