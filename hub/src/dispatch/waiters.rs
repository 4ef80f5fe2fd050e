//! Callers who wait for a place, user by user in turn, each user's first come, first served. Pure.
//!
//! A caller waits in the line of a name, that of a row or a pool. The user who was served longest ago, or came into the
//! line first, is next; whoever was served stands behind all others who are there. So nobody waits for more than one
//! call of each other user, however many these have. Of a user's callers those for whom the same is true, a class, fare
//! the same: when the first of them cannot be served, none of them can. So a freed place costs a look at the first of
//! each class, and mostly at one.
//!
//! A look at many can be done in pieces: it goes on where it stopped. A line has news from when there may be room for
//! somebody in it until all who wait there were looked at since.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// Callers for whom the same is true, all of one user.
pub(super) trait Class: Clone + Eq + Hash {
    /// Whose they are.
    fn user(&self) -> &str;
}

/// All lines. `C` is a class, `W` the way to one who waits.
pub(super) struct Waiters<C, W> {
    /// The last number that was given, as a ticket or a turn.
    numbers: u64,
    lines: HashMap<String, Line<C, W>>,
}

struct Line<C, W> {
    users: HashMap<String, OfUser<C, W>>,
    /// Those users, by turn.
    turns: BTreeMap<u64, String>,
    /// When there was news of it last.
    news: u64,
    /// When a look at all who wait here began last, of those that are over.
    looked: u64,
}

/// How far a look at those who wait has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// When it began; 0 before that.
    began: u64,
    /// The turn that was looked at last.
    turn: u64,
    /// The turn that was broken off, and the ticket that was looked at last there.
    within: (u64, u64),
}

/// A user's callers in one line.
struct OfUser<C, W> {
    turn: u64,
    classes: HashMap<C, VecDeque<(u64, W)>>,
    /// The first of each class, by ticket.
    heads: BTreeMap<u64, C>,
}

/// What came of a look at the first of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It has a place, where its way was taken, or waits no longer: it leaves the line.
    Leaves,
    /// There is nothing for it, nor for those of its class behind it.
    Stays,
    /// There is nothing for anybody.
    Over,
    /// It was not looked at: enough for now.
    Later,
}

/// What came of a look at all who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// There is nothing for anybody who is left.
    Done,
    /// It was broken off: what there was is gone.
    Over,
    /// It goes on at its cursor.
    Later,
}

/// What came of a user's turn.
enum Turn {
    /// It has a place.
    Served,
    /// There is nothing for it.
    Passed,
    /// There is nothing for anybody.
    Over,
    /// It goes on behind this ticket.
    Later(u64),
}

impl<C, W> Default for Waiters<C, W> {
    fn default() -> Self {
        Self { numbers: 0, lines: HashMap::new() }
    }
}

impl<C: Class, W> Waiters<C, W> {
    /// One more of its user's in the line of `name`. The ticket is for [`leave`](Self::leave).
    pub(super) fn join(&mut self, name: &str, class: C, waiter: W) -> u64 {
        self.numbers += 1;
        let ticket = self.numbers;
        let line = self.lines.entry(name.to_owned()).or_insert_with(|| Line {
            users: HashMap::new(),
            turns: BTreeMap::new(),
            news: 0,
            looked: 0,
        });
        if !line.users.contains_key(class.user()) {
            line.turns.insert(ticket, class.user().to_owned());
        }
        let new = || OfUser { turn: ticket, classes: HashMap::new(), heads: BTreeMap::new() };
        let of_user = line.users.entry(class.user().to_owned()).or_insert_with(new);
        let of_class = of_user.classes.entry(class.clone()).or_default();
        if of_class.is_empty() {
            of_user.heads.insert(ticket, class);
        }
        of_class.push_back((ticket, waiter));
        ticket
    }

    /// One leaves its line, wherever it stands there. No news where it left before.
    pub(super) fn leave(&mut self, name: &str, class: &C, ticket: u64) {
        let Some(of_user) = self.of_user(name, class.user()) else { return };
        let Some(of_class) = of_user.classes.get_mut(class) else { return };
        let Ok(at) = of_class.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return };
        of_class.remove(at);
        if at == 0 {
            of_user.head_left(ticket, class);
            self.tidy(name, class.user());
        }
    }

    /// Whether somebody of this class waits for `name`: whoever comes now stands behind.
    pub(super) fn has(&self, name: &str, class: &C) -> bool {
        let of_user = self.lines.get(name).and_then(|line| line.users.get(class.user()));
        of_user.is_some_and(|of_user| of_user.classes.contains_key(class))
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The names that somebody waits for.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.lines.keys()
    }

    /// There may be room for those who wait for `name`; `false` where nobody does.
    pub(super) fn tell(&mut self, name: &str) -> bool {
        let Some(line) = self.lines.get_mut(name) else { return false };
        self.numbers += 1;
        line.news = self.numbers;
        true
    }

    /// Whether there may be room for somebody who waits for `name`: not all were looked at since it was told.
    pub(super) fn has_news(&self, name: &str) -> bool {
        self.lines.get(name).is_some_and(|line| line.news > line.looked)
    }

    /// Looks at those who wait for one of `names`, user by user in turn, from `cursor` on. Who has two turns there has the
    /// earlier one.
    pub(super) fn serve(
        &mut self,
        names: &[&str],
        cursor: &mut Cursor,
        mut look: impl FnMut(&C, &mut Option<W>) -> Look,
    ) -> Round {
        if cursor.began == 0 {
            self.numbers += 1;
            cursor.began = self.numbers;
        }
        while let Some((turn, user)) = self.next_turn(names, cursor.turn) {
            let earlier = |name: &&str| self.turn_of(name, &user).is_some_and(|other| other < turn);
            if names.iter().any(earlier) {
                cursor.turn = turn;
                continue;
            }
            let behind = if cursor.within.0 == turn { cursor.within.1 } else { 0 };
            match self.serve_user(names, &user, behind, &mut look) {
                Turn::Served => self.put_last(names, &user),
                Turn::Passed => (),
                Turn::Over => return Round::Over,
                Turn::Later(ticket) => {
                    cursor.within = (turn, ticket);
                    return Round::Later;
                }
            }
            cursor.turn = turn;
        }
        for name in names {
            if let Some(line) = self.lines.get_mut(*name) {
                line.looked = line.looked.max(cursor.began);
            }
        }
        Round::Done
    }

    /// Looks at the first of each of the user's classes behind the ticket `seen`, until one is served.
    fn serve_user(
        &mut self,
        names: &[&str],
        user: &str,
        mut seen: u64,
        look: &mut impl FnMut(&C, &mut Option<W>) -> Look,
    ) -> Turn {
        loop {
            let next = |name: &&str| {
                let of_user = self.lines.get(*name)?.users.get(user)?;
                of_user.heads.range(seen + 1..).next().map(|(ticket, _)| *ticket)
            };
            let first = names.iter().filter_map(|name| Some((next(name)?, *name))).min();
            let Some((ticket, name)) = first else { return Turn::Passed };
            seen = ticket;
            let Some(of_user) = self.of_user(name, user) else { return Turn::Passed };
            let Some(class) = of_user.heads.get(&ticket).cloned() else { return Turn::Passed };
            let Some(of_class) = of_user.classes.get_mut(&class) else { return Turn::Passed };
            let Some((ticket, waiter)) = of_class.pop_front() else { return Turn::Passed };
            let mut waiter = Some(waiter);
            let looked = look(&class, &mut waiter);
            let is_served = waiter.is_none();
            if let Some(waiter) = waiter.filter(|_| looked != Look::Leaves) {
                of_class.push_front((ticket, waiter));
            } else {
                of_user.head_left(ticket, &class);
                self.tidy(name, user);
            }
            match looked {
                Look::Over => return Turn::Over,
                Look::Later => return Turn::Later(ticket - 1),
                Look::Leaves if is_served => return Turn::Served,
                Look::Leaves | Look::Stays => (),
            }
        }
    }

    fn of_user(&mut self, name: &str, user: &str) -> Option<&mut OfUser<C, W>> {
        self.lines.get_mut(name)?.users.get_mut(user)
    }

    fn turn_of(&self, name: &str, user: &str) -> Option<u64> {
        Some(self.lines.get(name)?.users.get(user)?.turn)
    }

    /// The first turn behind `seen` in the lines of `names`, and whose it is.
    fn next_turn(&self, names: &[&str], seen: u64) -> Option<(u64, String)> {
        let next = |name: &&str| self.lines.get(*name)?.turns.range(seen + 1..).next();
        let (turn, user) = names.iter().filter_map(next).min()?;
        Some((*turn, user.clone()))
    }

    /// A user was served: in the lines of `names` it stands behind all others.
    fn put_last(&mut self, names: &[&str], user: &str) {
        self.numbers += 1;
        for name in names {
            let Some(line) = self.lines.get_mut(*name) else { continue };
            let Some(of_user) = line.users.get_mut(user) else { continue };
            line.turns.remove(&of_user.turn);
            of_user.turn = self.numbers;
            line.turns.insert(of_user.turn, user.to_owned());
        }
    }

    /// Forgets a user who does not wait for `name` any more, and the line when it is empty.
    fn tidy(&mut self, name: &str, user: &str) {
        let Some(line) = self.lines.get_mut(name) else { return };
        if line.users.get(user).is_some_and(|of_user| of_user.classes.is_empty())
            && let Some(of_user) = line.users.remove(user)
        {
            line.turns.remove(&of_user.turn);
        }
        if line.users.is_empty() {
            self.lines.remove(name);
        }
    }
}

impl<C: Class, W> OfUser<C, W> {
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
mod tests;
