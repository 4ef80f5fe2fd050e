//! A model of the queues.

use super::*;

/// A user, and whether these are its bulk callers.
pub(super) type ModelLane = (usize, bool);

pub(super) fn lane(class: TestClass) -> ModelLane {
    (class.0, class.is_bulk())
}

/// A model of the queues: plain lists.
#[derive(Default)]
pub(super) struct Model {
    /// The callers in the order of arrival.
    pub(super) list: Vec<Caller>,
    pub(super) queues: HashMap<usize, ModelQueue>,
    /// By place.
    pub(super) charges: HashMap<u64, ModelCharge>,
    number: u64,
}

pub(super) struct ModelCharge {
    lane: ModelLane,
    /// Names and ids.
    queues: Vec<(usize, u64)>,
    prompt: u64,
    charged: i64,
}

#[derive(Default)]
pub(super) struct ModelQueue {
    id: u64,
    served: [i64; 2],
    /// Tokens, the last answer, and the number among equal ones.
    accounts: HashMap<ModelLane, (i64, u64, u64)>,
    /// Tokens and milliseconds of whole answers.
    pace: (u64, u64),
}

impl ModelQueue {
    fn ahead(&self, lane: ModelLane) -> Option<i64> {
        Some(self.accounts.get(&lane)?.0 - self.served[usize::from(lane.1)])
    }

    /// The account of a lane, which is at least so far ahead.
    fn begin(&mut self, lane: ModelLane, ahead: i64) -> &mut (i64, u64, u64) {
        let least = self.served[usize::from(lane.1)] + ahead;
        let account = self.accounts.entry(lane).or_insert((least, 0, 0));
        account.0 = account.0.max(least);
        account
    }
}

impl Model {
    fn waits(&self, name: usize, lane_: ModelLane) -> bool {
        self.list.iter().any(|caller| caller.name == name && lane(caller.class) == lane_)
    }

    pub(super) fn join(&mut self, caller: Caller) {
        self.number = caller.place;
        let lane = lane(caller.class);
        let others =
            (0..NAMES.len()).filter(|name| *name != caller.name && LINES[*name] == LINES[caller.name]);
        let known =
            others.filter_map(|name| Some((self.queues.get(&name)?.ahead(lane)?, self.waits(name, lane))));
        let known: Vec<(i64, bool)> = known.collect();
        let ahead = known.iter().map(|(ahead, _)| *ahead).max().unwrap_or(0);
        let ahead = if known.iter().any(|(_, waits)| *waits) { ahead } else { ahead.max(0) };
        let waits = self.waits(caller.name, lane);
        let queue = self
            .queues
            .entry(caller.name)
            .or_insert(ModelQueue { id: caller.place, ..ModelQueue::default() });
        if !waits {
            queue.begin(lane, ahead).2 = caller.place;
        }
        self.list.push(caller);
    }

    /// Forgets the lines in which nobody waits.
    pub(super) fn tidy(&mut self) {
        let list = &self.list;
        self.queues.retain(|name, _| list.iter().any(|caller| LINES[caller.name] == LINES[*name]));
    }

    /// The order of a lane in these queues, where it waits.
    fn order(&self, names: &[usize], lane: ModelLane) -> (bool, i64, u64) {
        let of = |name: &usize| {
            let queue = self.queues.get(name).filter(|_| self.waits(*name, lane))?;
            Some((lane.1, queue.ahead(lane).unwrap(), queue.accounts[&lane].2))
        };
        names.iter().filter_map(of).min().unwrap()
    }

    /// Removes and returns the caller that gets the next slot under `names`: the first caller of the lane that comes next.
    pub(super) fn serve(&mut self, names: &[usize], can: impl Fn(&Caller) -> bool) -> Option<u64> {
        let able = self.list.iter().filter(|caller| names.contains(&caller.name) && can(caller));
        let next =
            able.min_by_key(|caller| (self.order(names, lane(caller.class)), caller.place)).copied()?;
        let of = lane(next.class);
        let ahead = self.order(names, of).1;
        let answers = names.iter().filter_map(|name| Some(self.queues.get(name)?.accounts.get(&of)?.1));
        let charged = i64::try_from((next.prompt + answers.max().unwrap()).max(LEAST)).unwrap();
        self.number += 1;
        let mut queues = Vec::new();
        for name in names {
            let waits = self.waits(*name, of);
            let Some(queue) = self.queues.get_mut(name) else { continue };
            if !waits {
                queue.begin(of, ahead);
            }
            queue.served[usize::from(of.1)] += ahead.max(0);
            let account = queue.accounts.get_mut(&of).unwrap();
            account.0 += charged;
            account.2 = self.number;
            queues.push((*name, queue.id));
        }
        self.charges.insert(next.place, ModelCharge { lane: of, queues, prompt: next.prompt, charged });
        self.list.retain(|caller| caller.place != next.place);
        self.tidy();
        Some(next.place)
    }

    pub(super) fn settle(&mut self, place: u64, Spent { tokens, is_whole, millis }: Spent) {
        let ModelCharge { lane: of, queues, prompt, charged } = self.charges.remove(&place).unwrap();
        for (name, id) in queues {
            let Some(queue) = self.queues.get_mut(&name).filter(|queue| queue.id == id) else { continue };
            let account = queue.accounts.get_mut(&of).unwrap();
            let paced = (queue.pace.0 * millis / queue.pace.1.max(1000)).max(LEAST * millis / 1000);
            let least = if is_whole { LEAST } else { paced.max(u64::try_from(charged).unwrap()) };
            let took = tokens.max(least);
            account.0 += i64::try_from(took).unwrap() - charged;
            account.1 = took.saturating_sub(prompt).max(if is_whole { 0 } else { account.1 });
            if is_whole {
                queue.pace = (queue.pace.0 + tokens, queue.pace.1 + millis);
            }
        }
    }
}
