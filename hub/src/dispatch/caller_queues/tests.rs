//! `CallerQueues`: the order in which callers are served.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["row", "pool", "other"];
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const KINDS: usize = 2;
/// With an `at_once` above this, a scan is not interrupted.
const MAX_PIECE: usize = 4;

/// A user and one of its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TestClass(usize, usize);

impl Class for TestClass {
    fn user(&self) -> &str {
        USERS[self.0]
    }
}

#[derive(Debug, Clone)]
enum Op {
    Join {
        name: usize,
        class: TestClass,
    },
    Leave(usize),
    /// `places` slots become free under `names`, for callers of the classes in `for_class`.
    Serve {
        names: Vec<usize>,
        places: usize,
        for_class: [[bool; KINDS]; USERS.len()],
        dropped: usize,
        /// Number of callers that are checked before the scan is interrupted.
        at_once: usize,
    },
}

fn any_op() -> impl Strategy<Value = Op> {
    let names = prop::collection::btree_set(0..NAMES.len(), 1..3)
        .prop_map(|names: BTreeSet<usize>| names.into_iter().collect());
    let class = (0..USERS.len(), 0..KINDS).prop_map(|(user, kind)| TestClass(user, kind));
    prop_oneof![
        5 => (0..NAMES.len(), class).prop_map(|(name, class)| Op::Join { name, class }),
        2 => any::<usize>().prop_map(Op::Leave),
        3 => (names, 0_usize..4, any::<[[bool; KINDS]; USERS.len()]>(), 0_usize..5, 1_usize..9)
            .prop_map(|(names, places, for_class, dropped, at_once)| Op::Serve { names, places, for_class, dropped, at_once }),
    ]
}

/// A caller: its number, the index of its name, its class.
type Waiting = (u64, usize, TestClass);

/// A model of the queues: a plain list.
#[derive(Default)]
struct Model {
    /// The callers in the order of arrival.
    list: Vec<Waiting>,
    /// By queue and user: the time when the user was last served in the queue, or joined it.
    turns: HashMap<(usize, usize), u64>,
    number: u64,
}

impl Model {
    fn join(&mut self, place: u64, name: usize, class: TestClass) {
        self.number = place;
        self.list.push((place, name, class));
        self.turns.entry((name, class.0)).or_insert(place);
    }

    fn tidy(&mut self) {
        self.turns.retain(|key, _| self.list.iter().any(|(_, name, class)| *key == (*name, class.0)));
    }

    /// Removes and returns the caller that gets the next slot under `names`: the first caller of the user with the earliest
    /// turn.
    fn serve(&mut self, names: &[usize], can: impl Fn(&Waiting) -> bool) -> Option<u64> {
        let turn = |user| names.iter().filter_map(|name| self.turns.get(&(*name, user))).min();
        let able = self.list.iter().filter(|waiting| names.contains(&waiting.1) && can(waiting));
        let (_, place, user) = able.map(|(place, _, class)| (turn(class.0), *place, class.0)).min()?;
        self.list.retain(|(other, ..)| *other != place);
        self.number += 1;
        for name in names {
            if let Some(turn) = self.turns.get_mut(&(*name, user)) {
                *turn = self.number;
            }
        }
        self.tidy();
        Some(place)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// In any order of events callers are served as in the model: users take turns, and each user's callers are in order.
    /// Callers that left are skipped and cost their user no turn.
    #[test]
    fn callers_are_served_in_the_order_of_the_model(
        ops in prop::collection::vec(any_op(), 0..60)
    ) {
        let mut queues: CallerQueues<TestClass, u64> = CallerQueues::default();
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Join { name, class } => {
                    let number = queues.numbers + 1;
                    prop_assert_eq!(queues.join(NAMES[name], class, number), number);
                    model.join(number, name, class);
                }
                Op::Leave(at) if !model.list.is_empty() => {
                    let (place, name, class) = model.list.remove(at % model.list.len());
                    model.tidy();
                    queues.leave(NAMES[name], &class, place);
                    // A second `leave` changes nothing.
                    queues.leave(NAMES[name], &class, place);
                }
                Op::Leave(_) => (),
                Op::Serve { names, places, for_class, dropped, at_once } => {
                    // One caller is dropped without `leave`.
                    let dropped = model.list.get(dropped).map(|(place, ..)| *place).filter(|_| at_once > MAX_PIECE);
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
                        Decision::Remove
                    });
                    }
                    let has_news = asked.iter().any(|name| queues.has_news(name));
                    prop_assert!(!has_news || round == ScanResult::Stopped, "a scan stopped although callers were left to check");
                    let can = |(place, _, class): &Waiting| for_class[class.0][class.1] && Some(*place) != dropped;
                    let expected: Vec<u64> =
                        (0..places).map_while(|_| model.serve(&names, can)).collect();
                    prop_assert_eq!(&served, &expected);
                    let lines = |place: u64| queues.queues.values().flat_map(|queue| queue.users.values()).any(|of_user| {
                        of_user.classes.values().flatten().any(|(other, _)| *other == place)
                    });
                    model.list.retain(|(place, ..)| lines(*place));
                    model.tidy();
                }
            }
            let users = || queues.queues.values().flat_map(|queue| queue.users.values());
            let waiting: usize = users().flat_map(|of_user| of_user.classes.values()).map(VecDeque::len).sum();
            prop_assert_eq!(waiting, model.list.len());
            prop_assert_eq!(users().count(), model.turns.len());
            prop_assert_eq!(queues.queues.values().map(|queue| queue.turns.len()).sum::<usize>(), model.turns.len());
            for (name, text) in NAMES.iter().enumerate() {
                for class in (0..USERS.len()).flat_map(|user| (0..KINDS).map(move |kind| TestClass(user, kind))) {
                    let expected = model.list.iter().any(|(_, of, other)| *of == name && *other == class);
                    prop_assert_eq!(queues.has(text, &class), expected);
                }
            }
        }
    }
}

/// A27: a caller waits for one call of another user, although a thousand of them wait.
#[test]
fn a_caller_waits_for_one_of_another_users_thousand_calls() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    for number in 0..1000 {
        queues.join("pool", TestClass(0, number % KINDS), number);
    }
    let serve = |queues: &mut CallerQueues<TestClass, usize>| {
        let mut served = None;
        queues.scan(&["row", "pool"], &mut Cursor::default(), |_, waiter| match served {
            None => {
                served = waiter.take();
                Decision::Remove
            }
            Some(_) => Decision::Stop,
        });
        served.unwrap()
    };
    assert_eq!([serve(&mut queues), serve(&mut queues)], [0, 1]);
    for (user, number) in [(1, 1001), (2, 2001), (1, 1002)] {
        queues.join(if user == 1 { "row" } else { "pool" }, TestClass(user, 0), number);
    }
    let order: Vec<usize> = (0..6).map(|_| serve(&mut queues)).collect();
    assert_eq!(order, [2, 1001, 2001, 3, 1002, 4]);
}

#[test]
fn a_freed_slot_costs_two_checks_however_many_callers_wait() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    for number in 0..3000 {
        queues.join("row", TestClass(number % USERS.len(), 0), number);
    }
    let mut checks = 0;
    let mut free = true;
    queues.scan(&["row", "pool"], &mut Cursor::default(), |_, waiter| {
        checks += 1;
        if std::mem::take(&mut free) {
            waiter.take();
            Decision::Remove
        } else {
            Decision::Stop
        }
    });
    assert_eq!(checks, 2);
}

/// A change noted during a scan makes the queue due for another scan.
#[test]
fn news_during_a_scan_cause_another_scan() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    assert!(!queues.note_news("row") && !queues.has_news("row"), "news are noted although no caller waits");
    for user in 0..USERS.len() {
        queues.join("row", TestClass(user, 0), user);
    }
    assert!(!queues.has_news("row") && queues.note_news("row") && queues.has_news("row"));
    let mut cursor = Cursor::default();
    let mut checked = Vec::new();
    let mut serve = |queues: &mut CallerQueues<TestClass, usize>, cursor: &mut Cursor, most: usize| {
        let mut left = most;
        let round = queues.scan(&["row"], cursor, |class, _| {
            if left == 0 {
                return Decision::Interrupt;
            }
            left -= 1;
            checked.push(class.0);
            Decision::Keep
        });
        (round, checked.clone())
    };
    assert_eq!(serve(&mut queues, &mut cursor, 2), (ScanResult::Interrupted, vec![0, 1]));
    queues.note_news("row");
    assert_eq!(serve(&mut queues, &mut cursor, 2), (ScanResult::Finished, vec![0, 1, 2]));
    assert!(queues.has_news("row"));
    assert_eq!(serve(&mut queues, &mut Cursor::default(), 9), (ScanResult::Finished, vec![0, 1, 2, 0, 1, 2]));
    assert!(!queues.has_news("row"));
}
