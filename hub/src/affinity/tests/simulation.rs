//! 16 members and 200 conversations of four users, in simulated time: a member computes a prompt's uncached tokens, and
//! keeps the prompts of the last conversations.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the numbers of the simulation are small"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::hash::RandomState;

use super::super::place::Member;
use super::super::{AffinityTable, CallKeys};
use super::{KIB, conversation, idle, opening};

const MEMBERS: usize = 16;
const CONVERSATIONS: usize = 200;
const TURNS: usize = 8;
/// Tasks at once on a member.
const SLOTS: u32 = 4;
/// Conversations that a member's cache holds: about twice its part of them.
const CACHED: usize = 24;
/// Tokens of the system prompt, of a user's message and of an answer.
const SYSTEM: u64 = 5_000;
const MESSAGE: u64 = 100;
const ANSWER: u64 = 200;
/// Microseconds for an uncached token of a prompt, and for a token of an answer.
const PREFILL: u64 = 400;
const DECODE: u64 = 10_000;

/// Members as a pool without affinity chooses them: the least load, then the longest unpicked.
struct Places {
    table: Option<AffinityTable>,
    keys: RandomState,
    last_picks: [u64; MEMBERS],
    picks: u64,
}

impl Places {
    fn place(&mut self, number: usize, loads: &[u32; MEMBERS], is_away: impl Fn(usize) -> bool) -> usize {
        let left: Vec<usize> = (0..MEMBERS).filter(|index| !is_away(*index)).collect();
        let member = |index: &usize| {
            let load = loads[*index];
            Member { load, capacity: SLOTS, full: load >= SLOTS, ..idle(*index as u64) }
        };
        let mut members: Vec<Member> = left.iter().map(member).collect();
        let chosen = self.table.as_mut().and_then(|table| {
            let user = format!("user-{}", number % 4);
            let (system, first) =
                (format!("{user} ").repeat(20 * KIB / user.len()), format!("question {number}"));
            let name = format!("session-{number}");
            // Half of the clients name their sessions.
            let name = (number % 8 < 4).then_some(name.as_bytes());
            let call = CallKeys { name, ..opening(&system, &first) };
            let conversation = conversation(table, &self.keys, &user, call);
            table.place(&conversation, &mut members)
        });
        let chosen = chosen.map(|index| left[index]);
        let chosen =
            chosen.or_else(|| left.into_iter().min_by_key(|index| (loads[*index], self.last_picks[*index])));
        self.picks += 1;
        self.last_picks[chosen.unwrap()] = self.picks;
        chosen.unwrap()
    }
}

#[derive(Debug, Default)]
struct Figures {
    /// Cached and all prompt tokens of turns behind the first.
    later: (u64, u64),
    /// Cached tokens of system prompts, and all, in first turns.
    first: (u64, u64),
    /// Microseconds of prompt processing, and what they would be with each conversation on a member of its own.
    prompt_time: (u64, u64),
    /// Calls of each member.
    calls: [u32; MEMBERS],
    /// Misses of each conversation whose member was killed, after that.
    misses_of_killed: Vec<u32>,
}

fn share((part, all): (u64, u64)) -> f64 {
    part as f64 / all as f64
}

/// Runs the simulation. With `kill`, the member that served the first conversation last is away from the middle on.
fn simulate(with_affinity: bool, kill: bool) -> Figures {
    let table = with_affinity.then(AffinityTable::default);
    let mut places = Places { table, keys: RandomState::new(), last_picks: [0; MEMBERS], picks: 0 };
    let mut figures = Figures::default();
    let mut loads = [0_u32; MEMBERS];
    // Conversations with the tokens that are cached of them, the most recent one last.
    let mut kept_by: Vec<VecDeque<(usize, u64)>> = vec![VecDeque::new(); MEMBERS];
    let mut last_member = [None; CONVERSATIONS];
    let (mut killed, mut hit_by_it) = (None, HashSet::new());
    let mut misses = [0; CONVERSATIONS];
    // By time: a call begins (`None`), or ends on a member.
    let mut events = BinaryHeap::new();
    let mut random = 7_u64;
    let mut think = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        30_000_000 + (random >> 33) % 60_000_000
    };
    for number in 0..CONVERSATIONS {
        events.push(Reverse((think() * 4, number, 0, None)));
    }
    let mut begun = 0;
    while let Some(Reverse((now, number, turn, ends))) = events.pop() {
        if let Some(member) = ends {
            let member: usize = member;
            loads[member] -= 1;
            if turn + 1 < TURNS {
                events.push(Reverse((now + think(), number, turn + 1, None)));
            }
            continue;
        }
        begun += 1;
        if kill && begun == CONVERSATIONS * TURNS / 2 {
            killed = last_member[0];
            hit_by_it = (0..CONVERSATIONS).filter(|other| last_member[*other] == killed).collect();
        }
        let member = places.place(number, &loads, |index| killed == Some(index));
        last_member[number] = Some(member);
        let kept = &mut kept_by[member];
        let prompt = SYSTEM + MESSAGE + turn as u64 * (ANSWER + MESSAGE);
        let own = kept.iter().position(|(other, _)| *other == number).and_then(|at| kept.remove(at));
        let shared = if kept.iter().any(|(other, _)| other % 4 == number % 4) { SYSTEM } else { 0 };
        let cached = own.map_or(shared, |(_, tokens)| tokens);
        kept.push_back((number, prompt + ANSWER));
        if kept.len() > CACHED {
            kept.pop_front();
        }
        let ideal = if turn == 0 { shared } else { prompt - MESSAGE };
        if turn == 0 {
            figures.first.0 += cached;
            figures.first.1 += SYSTEM;
        } else {
            figures.later.0 += cached;
            figures.later.1 += prompt;
        }
        if hit_by_it.contains(&number) && own.is_none() {
            misses[number] += 1;
        }
        let time = (prompt - cached) * PREFILL;
        figures.prompt_time.0 += time;
        figures.prompt_time.1 += (prompt - ideal) * PREFILL;
        figures.calls[member] += 1;
        loads[member] += 1;
        events.push(Reverse((now + time + ANSWER * DECODE, number, turn, Some(member))));
    }
    figures.misses_of_killed = hit_by_it.into_iter().map(|number| misses[number]).collect();
    figures
}

impl Figures {
    /// The bounds of a pool with affinity that these figures do not keep.
    fn broken_bounds(&self) -> Vec<&'static str> {
        let mean = self.calls.iter().sum::<u32>() / MEMBERS as u32;
        let bounds = [
            ("95 % of later prompts are cached", share(self.later) >= 0.95),
            ("90 % of system prompts are cached in first turns", share(self.first) >= 0.9),
            (
                "prompts take at most 1.5 times as long as with members of their own",
                share(self.prompt_time) <= 1.5,
            ),
            (
                "no member has more than twice the mean of calls",
                self.calls.iter().all(|calls| *calls <= 2 * mean),
            ),
        ];
        bounds.into_iter().filter(|(_, holds)| !holds).map(|(bound, _)| bound).collect()
    }
}

#[test]
fn conversations_find_their_prompts_cached_and_members_share_the_work() {
    let figures = simulate(true, false);
    assert_eq!(figures.broken_bounds(), [""; 0], "{figures:?}");
}

/// The bounds above are those of affinity: without it, prompts are computed anew.
#[test]
fn without_affinity_the_bounds_do_not_hold() {
    let figures = simulate(false, false);
    let broken = figures.broken_bounds();
    assert!(
        broken.len() >= 2 && share(figures.later) < 0.85 && share(figures.prompt_time) > 3.0,
        "{figures:?}"
    );
}

#[test]
fn a_killed_member_costs_each_of_its_conversations_one_miss() {
    let figures = simulate(true, true);
    let misses = &figures.misses_of_killed;
    assert!(misses.len() >= 4 && misses.iter().all(|misses| *misses <= 1), "{misses:?}");
    assert!(misses.iter().sum::<u32>() > 0);
}
