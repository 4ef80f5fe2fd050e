//! How users share capacity: simulations in virtual time.

use std::collections::BTreeMap;

use super::*;

/// A caller of one of many users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Of(&'static str);

impl Class for Of {
    fn user(&self) -> &str {
        self.0
    }

    fn is_bulk(&self) -> bool {
        false
    }
}

/// A call: its place, its user, and the tokens of its prompt and its answer.
#[derive(Debug, Clone, Copy)]
struct Call {
    place: u64,
    user: &'static str,
    prompt: u64,
    answer: u64,
}

impl Call {
    fn tokens(self) -> u64 {
        self.prompt + self.answer
    }

    /// What it took as a whole.
    fn spent(self) -> Spent {
        Spent { tokens: self.tokens(), is_whole: true, millis: self.millis() }
    }

    /// The backend reads 1,000 tokens a second and writes 50.
    fn millis(self) -> u64 {
        self.prompt + self.answer * 20
    }
}

type Queues = CallerQueues<Of, Call>;

/// A caller of `name`, the row or its pool.
fn join_at(queues: &mut Queues, name: &str, user: &'static str, (prompt, answer): (u64, u64)) {
    let place = queues.numbers + 1;
    queues.join("pool", name, Of(user), prompt, Call { place, user, prompt, answer });
}

fn join(queues: &mut Queues, user: &'static str, size: (u64, u64)) {
    join_at(queues, "row", user, size);
}

/// The next call on the row.
fn next(queues: &mut Queues) -> Option<Call> {
    let mut served = None;
    let names = ["row", "pool"];
    queues.scan(&names, &mut Cursor::default(), |_, waiter| match served {
        None => {
            served = waiter.take();
            served_by(&names)
        }
        Some(_) => Decision::Stop,
    });
    served
}

const WHO: [&str; 4] = ["a", "b", "c", "d"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(testkit::cases()) })]

    /// A27: users who always wait get the same number of tokens, but for one call on each slot, whatever their calls are; and
    /// while one waits, no other gets more than a call on each slot and one.
    #[test]
    fn users_who_always_wait_get_the_same_number_of_tokens(
        slots in 1_usize..4,
        // The users have calls of different sizes.
        sizes in prop::collection::vec(prop_oneof![Just(200_u64), Just(2000), Just(20_000)], 2..5),
        // And call the row or its pool.
        parts in prop::collection::vec((1..500_u64, 1..500_u64, any::<usize>(), any::<bool>()), 200..400),
    ) {
        let users = sizes.len();
        let of = |user: usize, part: &(u64, u64, usize, bool)| (part.0 * sizes[user] / 1000 + 1, part.1 * sizes[user] / 1000 + 1);
        let name = |part: &(u64, u64, usize, bool)| if part.3 { "row" } else { "pool" };
        let largest = (sizes.iter().max().unwrap() + 2).max(LEAST);
        let mut queues = Queues::default();
        for (user, part) in (0..users).flat_map(|user| [user, user]).zip(&parts) {
            join_at(&mut queues, name(part), WHO[user], of(user, part));
        }
        let (mut running, mut tokens): (Vec<Call>, _) = (Vec::new(), vec![0_u64; users]);
        // Of each user: what each other one got since it was served last.
        let mut since = vec![vec![0_u64; users]; users];
        for part in &parts {
            if running.len() == slots {
                let ended = running.remove(part.2 % slots);
                queues.settle(ended.place, ended.spent());
            }
            let call = next(&mut queues).unwrap();
            let user = WHO.iter().position(|who| *who == call.user).unwrap();
            running.push(call);
            let cost = call.tokens().max(LEAST);
            tokens[user] += cost;
            for since in &mut since {
                since[user] += cost;
            }
            since[user].fill(0);
            let most = largest * u64::try_from(slots).unwrap();
            prop_assert!(since.iter().flatten().all(|got| *got <= most + largest), "{since:?}, largest {largest}");
            let apart = tokens.iter().max().unwrap() - tokens.iter().min().unwrap();
            prop_assert!(apart <= most, "{tokens:?}, largest {largest}, {slots} slots");
            join_at(&mut queues, name(part), call.user, of(user, part));
        }
    }
}

/// The milliseconds that two users have the only slot, each of which has so many callers of a name and sends the next call at once.
/// A user may leave each time just before the end.
fn slot_times(users: [(&'static str, usize, bool); 2], size: (u64, u64)) -> [u64; 2] {
    let mut queues = Queues::default();
    let mut times = [0; 2];
    for ((name, callers, _), user) in users.into_iter().zip(WHO) {
        (0..callers).for_each(|_| join_at(&mut queues, name, user, size));
    }
    let mut call = next(&mut queues).unwrap();
    for _ in 0..1000 {
        let user = usize::from(call.user == WHO[1]);
        let (name, _, leaves) = users[user];
        times[user] += call.millis();
        let seen = Spent { tokens: 0, is_whole: false, millis: call.millis() };
        queues.settle(call.place, if leaves { seen } else { call.spent() });
        // The slot is given to the next one before the caller sends another call.
        let following = next(&mut queues).unwrap();
        join_at(&mut queues, name, call.user, size);
        call = following;
    }
    times
}

/// A27: who calls a row by its name competes with those who call its pool, also if no call of it waits most of the time.
#[test]
fn a_pool_and_its_row_are_one_line() {
    for (victims, size) in [(2, (400, 100)), (4, (400, 100)), (4, (30, 3000))] {
        let [of_pool, of_row] = slot_times([("pool", victims, false), ("row", 2, false)], size);
        assert!(of_pool.abs_diff(of_row) <= 2 * size.1 * 20 + 2 * size.0, "{of_pool} and {of_row} ms");
    }
}

/// A27: who leaves each time before the tokens of its call are known gets no more of the slot.
#[test]
fn who_leaves_before_the_end_has_had_the_slot() {
    for size in [(100, 2000), (3000, 10), (10, 10)] {
        let [whole, left] = slot_times([("pool", 2, false), ("pool", 2, true)], size);
        assert!(whole * 10 >= left * 8, "{whole} ms beside {left} ms of one who leaves");
    }
}

/// Numbers without a pattern.
struct Numbers(u64);

impl Numbers {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        least + (self.0 >> 33) % (most - least)
    }
}

const SLOTS: usize = 4;
const SWARM: usize = 64;
const PERSON: &str = "person";
/// Calls of the person.
const CALLS: usize = 400;
/// Tokens of the answers of the swarm and of the person.
type Answers = [(u64, u64); 2];

/// The person's times to the first token, in milliseconds, beside a swarm of `swarm` callers of another user, each of which sends
/// the next call at once; and how long the person had to wait each time for the first of the running calls to end.
fn person_beside(swarm: usize, [of_swarm, answers]: Answers) -> (Vec<u64>, Vec<u64>) {
    let size_of_swarm =
        |numbers: &mut Numbers| (numbers.between(200, 4000), numbers.between(of_swarm.0, of_swarm.1));
    let (mut queues, mut numbers, mut of_person) = (Queues::default(), Numbers(7), Numbers(11));
    // The running calls by their ends.
    let mut running: BTreeMap<(u64, u64), Call> = BTreeMap::new();
    let (mut now, mut arrival, mut arrived, mut first_end) = (0, Some(5_000), 0, 0);
    let (mut times, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..swarm {
        join(&mut queues, "swarm", size_of_swarm(&mut numbers));
    }
    while times.len() < CALLS {
        while running.len() < SLOTS
            && let Some(call) = next(&mut queues)
        {
            if call.user == PERSON {
                times.push(now - arrived + call.prompt);
                waits.push(first_end - arrived);
            }
            running.insert((now + call.millis(), call.place), call);
        }
        let next_end = running.keys().next().map(|(end, _)| *end);
        if let Some(at) = arrival.filter(|at| next_end.is_none_or(|end| *at <= end)) {
            (now, arrived, arrival) = (at, at, None);
            // With a free slot, the person waits for nobody.
            first_end = next_end.filter(|_| running.len() == SLOTS).unwrap_or(now);
            join(
                &mut queues,
                PERSON,
                (of_person.between(500, 3000), of_person.between(answers.0, answers.1)),
            );
        } else if let Some(((end, _), call)) = running.pop_first() {
            now = end;
            queues.settle(call.place, call.spent());
            if call.user == PERSON {
                arrival = Some(now + of_person.between(1_000, 5_000));
            } else {
                join(&mut queues, "swarm", size_of_swarm(&mut numbers));
            }
        }
    }
    (times, waits)
}

fn p95(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() * 95 / 100]
}

/// A27: beside a swarm of 64 callers of another user, a person's first token comes at most 1.5 times as late as alone (95 of 100
/// calls), behind the one running call that it has to wait for; also if its answers take longer than the swarm's.
#[test]
fn a_person_beside_a_swarm_waits_for_one_running_call() {
    for answers in [[(50, 800), (100, 400)], [(80, 120), (2800, 3200)]] {
        let (alone, none) = person_beside(0, answers);
        assert!(none.iter().all(|wait| *wait == 0));
        let (beside, waits) = person_beside(SWARM, answers);
        assert!(waits.iter().filter(|wait| **wait > 0).count() > CALLS * 3 / 4, "the LLM is not full");
        let behind: Vec<u64> = beside.iter().zip(&waits).map(|(time, wait)| time - wait).collect();
        let (alone, behind) = (p95(alone), p95(behind));
        assert!(behind * 10 <= alone * 15, "{behind} ms behind the running call, {alone} ms alone");
    }
}
