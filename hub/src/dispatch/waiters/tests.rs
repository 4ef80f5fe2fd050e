//! Who has a freed place, for whatever comes, leaves and is freed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["row", "pool", "other"];
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const KINDS: usize = 2;
/// More at once than this are all of them.
const PIECE: usize = 4;

/// A user, and one of its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Of(usize, usize);

impl Class for Of {
    fn user(&self) -> &str {
        USERS[self.0]
    }
}

#[derive(Debug, Clone)]
enum Op {
    Join {
        name: usize,
        class: Of,
    },
    Leave(usize),
    /// So many places are free under these names, for these classes.
    Serve {
        names: Vec<usize>,
        places: usize,
        for_class: [[bool; KINDS]; USERS.len()],
        gone: usize,
        /// So many are looked at in one go.
        at_once: usize,
    },
}

fn any_op() -> impl Strategy<Value = Op> {
    let names = prop::collection::btree_set(0..NAMES.len(), 1..3)
        .prop_map(|names: BTreeSet<usize>| names.into_iter().collect());
    let class = (0..USERS.len(), 0..KINDS).prop_map(|(user, kind)| Of(user, kind));
    prop_oneof![
        5 => (0..NAMES.len(), class).prop_map(|(name, class)| Op::Join { name, class }),
        2 => any::<usize>().prop_map(Op::Leave),
        3 => (names, 0_usize..4, any::<[[bool; KINDS]; USERS.len()]>(), 0_usize..5, 1_usize..9)
            .prop_map(|(names, places, for_class, gone, at_once)| Op::Serve { names, places, for_class, gone, at_once }),
    ]
}

/// One who waits: its ticket, the name, its class.
type Waiting = (u64, usize, Of);

/// As a plain list would have it.
#[derive(Default)]
struct Model {
    /// In the order in which they came.
    list: Vec<Waiting>,
    /// When a user was served last in a line, or came into it.
    turns: HashMap<(usize, usize), u64>,
    number: u64,
}

impl Model {
    fn join(&mut self, ticket: u64, name: usize, class: Of) {
        self.number = ticket;
        self.list.push((ticket, name, class));
        self.turns.entry((name, class.0)).or_insert(ticket);
    }

    fn tidy(&mut self) {
        self.turns.retain(|key, _| self.list.iter().any(|(_, name, class)| *key == (*name, class.0)));
    }

    /// Who has the next place under `names`: of the user whose turn is the earliest of those who can use it, the first.
    fn serve(&mut self, names: &[usize], can: impl Fn(&Waiting) -> bool) -> Option<u64> {
        let turn = |user| names.iter().filter_map(|name| self.turns.get(&(*name, user))).min();
        let able = self.list.iter().filter(|waiting| names.contains(&waiting.1) && can(waiting));
        let (_, ticket, user) = able.map(|(ticket, _, class)| (turn(class.0), *ticket, class.0)).min()?;
        self.list.retain(|(other, ..)| *other != ticket);
        self.number += 1;
        for name in names {
            if let Some(turn) = self.turns.get_mut(&(*name, user)) {
                *turn = self.number;
            }
        }
        self.tidy();
        Some(ticket)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes, leaves and is freed, in whatever order: who is served is who a plain list would serve, user by
    /// user in turn, those who wait no longer are passed over and cost their user no turn, and no place stays free that
    /// somebody in the lines could have.
    #[test]
    fn the_user_whose_turn_it_is_has_a_place_and_of_its_callers_the_first(
        ops in prop::collection::vec(any_op(), 0..60)
    ) {
        let mut waiters: Waiters<Of, u64> = Waiters::default();
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Join { name, class } => {
                    let number = waiters.numbers + 1;
                    prop_assert_eq!(waiters.join(NAMES[name], class, number), number);
                    model.join(number, name, class);
                }
                Op::Leave(at) if !model.list.is_empty() => {
                    let (ticket, name, class) = model.list.remove(at % model.list.len());
                    model.tidy();
                    waiters.leave(NAMES[name], &class, ticket);
                    // Twice is once.
                    waiters.leave(NAMES[name], &class, ticket);
                }
                Op::Leave(_) => (),
                Op::Serve { names, places, for_class, gone, at_once } => {
                    // One of those who wait has hung up, and nobody has said so yet.
                    let gone = model.list.get(gone).map(|(ticket, ..)| *ticket).filter(|_| at_once > PIECE);
                    // A user's turn goes with the last of its callers in a line: in pieces, that is seen.
                    let at_once = if at_once > PIECE { usize::MAX } else { at_once };
                    let (mut left, mut served) = (places, Vec::new());
                    let asked: Vec<&str> = names.iter().map(|name| NAMES[*name]).collect();
                    for name in &asked {
                        waiters.tell(name);
                    }
                    let (mut cursor, mut round) = (Cursor::default(), Round::Later);
                    let mut pieces = 0;
                    while round == Round::Later {
                        pieces += 1;
                        prop_assert!(pieces < 100, "each goes on where the last one stopped");
                        let mut looks = 0;
                        round = waiters.serve(&asked, &mut cursor, |class, waiter| {
                        if left == 0 {
                            return Look::Over;
                        }
                        if looks == at_once {
                            return Look::Later;
                        }
                        looks += 1;
                        if *waiter == gone {
                            return Look::Leaves;
                        }
                        if !for_class[class.0][class.1] {
                            return Look::Stays;
                        }
                        left -= 1;
                        served.extend(waiter.take());
                        Look::Leaves
                    });
                    }
                    let has_news = asked.iter().any(|name| waiters.has_news(name));
                    prop_assert!(!has_news || round == Round::Over, "all who are left were looked at");
                    let can = |(ticket, _, class): &Waiting| for_class[class.0][class.1] && Some(*ticket) != gone;
                    let expected: Vec<u64> =
                        (0..places).map_while(|_| model.serve(&names, can)).collect();
                    prop_assert_eq!(&served, &expected);
                    let lines = |ticket: u64| waiters.lines.values().flat_map(|line| line.users.values()).any(|of_user| {
                        of_user.classes.values().flatten().any(|(other, _)| *other == ticket)
                    });
                    model.list.retain(|(ticket, ..)| lines(*ticket));
                    model.tidy();
                }
            }
            let users = || waiters.lines.values().flat_map(|line| line.users.values());
            let waiting: usize = users().flat_map(|of_user| of_user.classes.values()).map(VecDeque::len).sum();
            prop_assert_eq!(waiting, model.list.len());
            prop_assert_eq!(users().count(), model.turns.len());
            prop_assert_eq!(waiters.lines.values().map(|line| line.turns.len()).sum::<usize>(), model.turns.len());
            for (name, text) in NAMES.iter().enumerate() {
                for class in (0..USERS.len()).flat_map(|user| (0..KINDS).map(move |kind| Of(user, kind))) {
                    let expected = model.list.iter().any(|(_, of, other)| *of == name && *other == class);
                    prop_assert_eq!(waiters.has(text, &class), expected);
                }
            }
        }
    }
}

/// A27: however many calls a user has in line, another one's has the next place but one.
#[test]
fn who_waits_behind_a_thousand_calls_of_one_user_waits_for_one_of_them() {
    let mut waiters: Waiters<Of, usize> = Waiters::default();
    for number in 0..1000 {
        waiters.join("pool", Of(0, number % KINDS), number);
    }
    let serve = |waiters: &mut Waiters<Of, usize>| {
        let mut served = None;
        waiters.serve(&["row", "pool"], &mut Cursor::default(), |_, waiter| match served {
            None => {
                served = waiter.take();
                Look::Leaves
            }
            Some(_) => Look::Over,
        });
        served.unwrap()
    };
    assert_eq!([serve(&mut waiters), serve(&mut waiters)], [0, 1]);
    for (user, number) in [(1, 1001), (2, 2001), (1, 1002)] {
        waiters.join(if user == 1 { "row" } else { "pool" }, Of(user, 0), number);
    }
    let order: Vec<usize> = (0..6).map(|_| serve(&mut waiters)).collect();
    assert_eq!(order, [2, 1001, 2001, 3, 1002, 4]);
}

#[test]
fn a_freed_place_costs_a_look_at_one_however_many_wait() {
    let mut waiters: Waiters<Of, usize> = Waiters::default();
    for number in 0..3000 {
        waiters.join("row", Of(number % USERS.len(), 0), number);
    }
    let mut looks = 0;
    let mut free = true;
    waiters.serve(&["row", "pool"], &mut Cursor::default(), |_, waiter| {
        looks += 1;
        if std::mem::take(&mut free) {
            waiter.take();
            Look::Leaves
        } else {
            Look::Over
        }
    });
    assert_eq!(looks, 2);
}

/// What is told while a look goes on is news for those who were looked at before, and for nobody else.
#[test]
fn what_comes_while_a_look_goes_on_is_looked_at_again() {
    let mut waiters: Waiters<Of, usize> = Waiters::default();
    assert!(!waiters.tell("row") && !waiters.has_news("row"), "nobody waits");
    for user in 0..USERS.len() {
        waiters.join("row", Of(user, 0), user);
    }
    assert!(!waiters.has_news("row") && waiters.tell("row") && waiters.has_news("row"));
    let mut cursor = Cursor::default();
    let mut looked = Vec::new();
    let mut serve = |waiters: &mut Waiters<Of, usize>, cursor: &mut Cursor, most: usize| {
        let mut left = most;
        let round = waiters.serve(&["row"], cursor, |class, _| {
            if left == 0 {
                return Look::Later;
            }
            left -= 1;
            looked.push(class.0);
            Look::Stays
        });
        (round, looked.clone())
    };
    assert_eq!(serve(&mut waiters, &mut cursor, 2), (Round::Later, vec![0, 1]));
    waiters.tell("row");
    assert_eq!(serve(&mut waiters, &mut cursor, 2), (Round::Done, vec![0, 1, 2]));
    assert!(waiters.has_news("row"));
    assert_eq!(serve(&mut waiters, &mut Cursor::default(), 9), (Round::Done, vec![0, 1, 2, 0, 1, 2]));
    assert!(!waiters.has_news("row"));
}
