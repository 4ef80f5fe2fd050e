//! Callers who wait for a place, first come, first served. Pure.
//!
//! A caller waits in the line of a name, that of a row or a pool. Callers of one line for whom the same is true, a
//! class, fare the same: when the first of them cannot be served, none of them can. So a freed place costs a look at the
//! first of each class, and mostly at one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// All lines. `C` is a class, `W` the way to one who waits.
pub(super) struct Waiters<C, W> {
    tickets: u64,
    lines: HashMap<String, Line<C, W>>,
}

struct Line<C, W> {
    classes: HashMap<C, VecDeque<(u64, W)>>,
    /// The first of each class, by ticket.
    heads: BTreeMap<u64, C>,
}

/// What came of a look at the first of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It has a place, or waits no longer: it leaves the line.
    Leaves,
    /// There is nothing for it, nor for those of its class behind it.
    Stays,
    /// There is nothing for anybody.
    Over,
}

impl<C, W> Default for Waiters<C, W> {
    fn default() -> Self {
        Self { tickets: 0, lines: HashMap::new() }
    }
}

impl<C: Clone + Eq + Hash, W> Waiters<C, W> {
    /// One more at the end of the line of `name`. The ticket is for [`leave`](Self::leave).
    pub(super) fn join(&mut self, name: &str, class: C, waiter: W) -> u64 {
        self.tickets += 1;
        let line = self
            .lines
            .entry(name.to_owned())
            .or_insert_with(|| Line { classes: HashMap::new(), heads: BTreeMap::new() });
        let of_class = line.classes.entry(class.clone()).or_default();
        if of_class.is_empty() {
            line.heads.insert(self.tickets, class);
        }
        of_class.push_back((self.tickets, waiter));
        self.tickets
    }

    /// One leaves its line, wherever it stands there. No news where it left before.
    pub(super) fn leave(&mut self, name: &str, class: &C, ticket: u64) {
        let Some(line) = self.lines.get_mut(name) else { return };
        let Some(of_class) = line.classes.get_mut(class) else { return };
        let Ok(at) = of_class.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return };
        if at == 0 {
            line.pop(ticket);
        } else {
            of_class.remove(at);
        }
        if line.classes.is_empty() {
            self.lines.remove(name);
        }
    }

    /// Whether somebody of this class waits for `name`: whoever comes now stands behind.
    pub(super) fn has(&self, name: &str, class: &C) -> bool {
        self.lines.get(name).is_some_and(|line| line.classes.contains_key(class))
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The names that somebody waits for.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.lines.keys()
    }

    /// Looks at those who wait for one of `names`, in the order in which they came.
    pub(super) fn serve(&mut self, names: &[&str], mut look: impl FnMut(&C, &mut Option<W>) -> Look) {
        let mut seen = 0;
        loop {
            let next = |name: &&str| {
                let head = self.lines.get(*name)?.heads.range(seen + 1..).next();
                head.map(|(ticket, _)| *ticket)
            };
            let first = names.iter().filter_map(|name| Some((next(name)?, *name))).min();
            let Some((ticket, name)) = first else { return };
            seen = ticket;
            let Some(line) = self.lines.get_mut(name) else { return };
            let Some(class) = line.heads.get(&ticket).cloned() else { return };
            let Some((ticket, waiter)) = line.classes.get_mut(&class).and_then(VecDeque::pop_front) else {
                return;
            };
            let mut waiter = Some(waiter);
            let looked = look(&class, &mut waiter);
            if let Some(waiter) = waiter.filter(|_| looked != Look::Leaves)
                && let Some(of_class) = line.classes.get_mut(&class)
            {
                of_class.push_front((ticket, waiter));
            } else {
                line.head_left(ticket, &class);
            }
            if line.classes.is_empty() {
                self.lines.remove(name);
            }
            if looked == Look::Over {
                return;
            }
        }
    }
}

impl<C: Clone + Eq + Hash, W> Line<C, W> {
    /// The first of a class leaves.
    fn pop(&mut self, ticket: u64) {
        let Some(class) = self.heads.get(&ticket).cloned() else { return };
        if let Some(of_class) = self.classes.get_mut(&class) {
            of_class.pop_front();
        }
        self.head_left(ticket, &class);
    }

    /// The first of a class has left: the next one is the first.
    fn head_left(&mut self, ticket: u64, class: &C) {
        self.heads.remove(&ticket);
        match self.classes.get(class).and_then(VecDeque::front) {
            Some((next, _)) => drop(self.heads.insert(*next, class.clone())),
            None => drop(self.classes.remove(class)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 3] = ["row", "pool", "other"];
    const CLASSES: usize = 3;

    #[derive(Debug, Clone)]
    enum Op {
        Join {
            name: usize,
            class: usize,
        },
        Leave(usize),
        /// So many places are free under these names, for these classes.
        Serve {
            names: Vec<usize>,
            places: usize,
            for_class: [bool; CLASSES],
            gone: usize,
        },
    }

    fn any_op() -> impl Strategy<Value = Op> {
        let names = prop::collection::vec(0..NAMES.len(), 1..3);
        prop_oneof![
            5 => (0..NAMES.len(), 0..CLASSES).prop_map(|(name, class)| Op::Join { name, class }),
            2 => any::<usize>().prop_map(Op::Leave),
            3 => (names, 0_usize..4, any::<[bool; CLASSES]>(), 0_usize..5)
                .prop_map(|(names, places, for_class, gone)| Op::Serve { names, places, for_class, gone }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever comes, leaves and is freed, in whatever order: who is served is who a plain list would serve, those
        /// who wait no longer are passed over, and no place stays free that somebody in the lines could have.
        #[test]
        fn the_first_who_can_use_a_place_has_it(ops in prop::collection::vec(any_op(), 0..60)) {
            let mut waiters: Waiters<usize, u64> = Waiters::default();
            // Ticket, name, class, in the order in which they came.
            let mut list: Vec<(u64, usize, usize)> = Vec::new();
            for op in ops {
                match op {
                    Op::Join { name, class } => {
                        let number = list.last().map_or(1, |(last, ..)| last + 1);
                        let number = number.max(waiters.tickets + 1);
                        prop_assert_eq!(waiters.join(NAMES[name], class, number), number);
                        list.push((number, name, class));
                    }
                    Op::Leave(at) if !list.is_empty() => {
                        let (ticket, name, class) = list.remove(at % list.len());
                        waiters.leave(NAMES[name], &class, ticket);
                        // Twice is once.
                        waiters.leave(NAMES[name], &class, ticket);
                    }
                    Op::Leave(_) => (),
                    Op::Serve { names, places, for_class, gone } => {
                        // One of those who wait has hung up, and nobody has said so yet.
                        let gone = list.get(gone).map(|(ticket, ..)| *ticket);
                        let (mut left, mut served) = (places, Vec::new());
                        let asked: Vec<&str> = names.iter().map(|name| NAMES[*name]).collect();
                        waiters.serve(&asked, |class, waiter| {
                            if left == 0 {
                                return Look::Over;
                            }
                            if *waiter == gone {
                                return Look::Leaves;
                            }
                            if !for_class[*class] {
                                return Look::Stays;
                            }
                            left -= 1;
                            served.extend(waiter.take());
                            Look::Leaves
                        });
                        let can = |(ticket, name, class): &&(u64, usize, usize)| {
                            names.contains(name) && for_class[*class] && Some(*ticket) != gone
                        };
                        let expected: Vec<u64> =
                            list.iter().filter(can).take(places).map(|(ticket, ..)| *ticket).collect();
                        prop_assert_eq!(&served, &expected);
                        let lines = |ticket: u64| waiters.lines.values().any(|line| {
                            line.classes.values().flatten().any(|(other, _)| *other == ticket)
                        });
                        list.retain(|(ticket, ..)| !expected.contains(ticket) && lines(*ticket));
                    }
                }
                let waiting: usize =
                    waiters.lines.values().flat_map(|line| line.classes.values()).map(VecDeque::len).sum();
                prop_assert_eq!(waiting, list.len());
                for (name, text) in NAMES.iter().enumerate() {
                    for class in 0..CLASSES {
                        let expected = list.iter().any(|(_, of, kind)| *of == name && *kind == class);
                        prop_assert_eq!(waiters.has(text, &class), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_freed_place_costs_a_look_at_one_however_many_wait() {
        let mut waiters: Waiters<u8, usize> = Waiters::default();
        for number in 0..3000 {
            waiters.join("row", 0, number);
        }
        let mut looks = 0;
        let mut free = true;
        waiters.serve(&["row", "pool"], |_, _| {
            looks += 1;
            if std::mem::take(&mut free) { Look::Leaves } else { Look::Over }
        });
        assert_eq!(looks, 2);
    }
}
