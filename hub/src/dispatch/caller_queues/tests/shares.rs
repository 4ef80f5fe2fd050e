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
}

type Queues = CallerQueues<Of, Call>;

fn join(queues: &mut Queues, user: &'static str, (prompt, answer): (u64, u64)) {
    let place = queues.numbers + 1;
    queues.join("row", Of(user), prompt, Call { place, user, prompt, answer });
}

fn next(queues: &mut Queues) -> Option<Call> {
    let mut served = None;
    queues.scan(&["row"], &mut Cursor::default(), |_, waiter| match served {
        None => {
            served = waiter.take();
            Decision::Remove
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
        parts in prop::collection::vec((1..500_u64, 1..500_u64, any::<usize>()), 200..400),
    ) {
        let users = sizes.len();
        let of = |user: usize, part: &(u64, u64, usize)| (part.0 * sizes[user] / 1000 + 1, part.1 * sizes[user] / 1000 + 1);
        let largest = (sizes.iter().max().unwrap() + 2).max(LEAST);
        let mut queues = Queues::default();
        for (user, part) in (0..users).flat_map(|user| [user, user]).zip(&parts) {
            join(&mut queues, WHO[user], of(user, part));
        }
        let (mut running, mut tokens): (Vec<Call>, _) = (Vec::new(), vec![0_u64; users]);
        // Of each user: what each other one got since it was served last.
        let mut since = vec![vec![0_u64; users]; users];
        for part in &parts {
            if running.len() == slots {
                let ended = running.remove(part.2 % slots);
                queues.settle(ended.place, ended.tokens());
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
            join(&mut queues, call.user, of(user, part));
        }
    }
}

/// Numbers without a pattern.
struct Numbers(u64);

impl Numbers {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        least + (self.0 >> 33) % (most - least)
    }

    /// Prompt and answer of a call of the swarm.
    fn of_swarm(&mut self) -> (u64, u64) {
        (self.between(200, 4000), self.between(50, 800))
    }
}

const SLOTS: usize = 4;
const SWARM: usize = 64;
const PERSON: &str = "person";
/// Calls of the person.
const CALLS: usize = 400;

/// The person's times to the first token, in milliseconds, beside a swarm of `swarm` callers of another user, each of which sends
/// the next call at once; and how long the person had to wait each time for the first of the running calls to end. The backend
/// reads 1,000 tokens a second and writes 50 on each slot.
fn person_beside(swarm: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut queues, mut numbers, mut of_person) = (Queues::default(), Numbers(7), Numbers(11));
    // The running calls by their ends.
    let mut running: BTreeMap<(u64, u64), Call> = BTreeMap::new();
    let (mut now, mut arrival, mut arrived, mut first_end) = (0, Some(5_000), 0, 0);
    let (mut times, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..swarm {
        join(&mut queues, "swarm", numbers.of_swarm());
    }
    while times.len() < CALLS {
        while running.len() < SLOTS
            && let Some(call) = next(&mut queues)
        {
            if call.user == PERSON {
                times.push(now - arrived + call.prompt);
                waits.push(first_end - arrived);
            }
            running.insert((now + call.prompt + call.answer * 20, call.place), call);
        }
        let next_end = running.keys().next().map(|(end, _)| *end);
        if let Some(at) = arrival.filter(|at| next_end.is_none_or(|end| *at <= end)) {
            (now, arrived, arrival) = (at, at, None);
            // With a free slot, the person waits for nobody.
            first_end = next_end.filter(|_| running.len() == SLOTS).unwrap_or(now);
            join(&mut queues, PERSON, (of_person.between(500, 3000), of_person.between(100, 400)));
        } else if let Some(((end, _), call)) = running.pop_first() {
            now = end;
            queues.settle(call.place, call.tokens());
            if call.user == PERSON {
                arrival = Some(now + of_person.between(1_000, 5_000));
            } else {
                join(&mut queues, "swarm", numbers.of_swarm());
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
/// calls), behind the one running call that it has to wait for.
#[test]
fn a_person_beside_a_swarm_waits_for_one_running_call() {
    let (alone, none) = person_beside(0);
    assert!(none.iter().all(|wait| *wait == 0));
    let (beside, waits) = person_beside(SWARM);
    assert!(waits.iter().filter(|wait| **wait > 0).count() > CALLS * 3 / 4, "the LLM is not full");
    let behind: Vec<u64> = beside.iter().zip(&waits).map(|(time, wait)| time - wait).collect();
    let (alone, behind) = (p95(alone), p95(behind));
    assert!(behind * 10 <= alone * 15, "{behind} ms behind the running call, {alone} ms alone");
}
