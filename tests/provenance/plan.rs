//! The plan of one answer: its texts, events, writes, and the byte at which it breaks off. A plan depends only on the seed and
//! the number of the answer, so that a failure can be repeated. Slightly over 300 lines: the kinds of answers are one list.

use std::fmt::Write;
use std::time::Duration;

use crate::recorded::{ANSWERS, Recorded, callers};
use testkit::random::Random;

/// The API that a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Chat,
    Completions,
    Responses,
    Messages,
}

impl Dialect {
    pub const ALL: [Self; 4] = [Self::Chat, Self::Completions, Self::Responses, Self::Messages];

    /// Path of the API below `/v1/`.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "chat/completions",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }
}

/// The route of an answer from its backend to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A registrar's link.
    Link,
    /// A registrar's numbered chunk POSTs.
    Chunks,
    /// Chunk POSTs of a registrar to a classic hub.
    Classic,
    /// The hub's own call for a public row.
    Public,
}

impl Route {
    pub const ALL: [Self; 4] = [Self::Link, Self::Chunks, Self::Classic, Self::Public];

    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Chunks => "chunks",
            Self::Classic => "classic",
            Self::Public => "public",
        }
    }
}

/// The APIs that a backend offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All of OpenAI's endpoints, and `/v1/messages`.
    Full,
    /// Chat completions only; the other APIs are translated.
    ChatOnly,
    /// `/v1/messages` only, of a backend of type `anthropic`.
    Anthropic,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Full, Self::ChatOnly, Self::Anthropic];

    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ChatOnly => "chat",
            Self::Anthropic => "anthropic",
        }
    }

    /// Whether its server has the path of `dialect`.
    pub fn has(self, dialect: Dialect) -> bool {
        match self {
            Self::Full => true,
            Self::ChatOnly => matches!(dialect, Dialect::Chat | Dialect::Completions),
            Self::Anthropic => dialect == Dialect::Messages,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Chunked,
    UntilClosed,
    Length,
    /// Chunked, with a proper last chunk even after a cut, as from a proxy whose upstream broke off.
    Closed,
}

/// The place where an answer breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// In thousandths of the body; in bytes for a recorded answer.
    pub at: u64,
    pub resets: bool,
}

#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each flag is drawn independently")]
pub struct Plan {
    pub number: u64,
    pub route: Route,
    pub kind: Kind,
    pub dialect: Dialect,
    pub streaming: bool,
    pub durable: bool,
    /// Bytes of text in each event. A whole answer has one entry.
    pub sizes: Vec<usize>,
    pub framing: Framing,
    /// Whether the stream ends with `[DONE]`. The mark may be missing if every choice has a finish reason.
    pub has_mark: bool,
    pub has_usage: bool,
    pub crlf: bool,
    pub cut: Option<Cut>,
    /// Whether the caller pauses between reads.
    pub slow_caller: bool,
    /// A recorded answer that replaces the texts.
    pub recorded: Option<&'static Recorded>,
    /// Source of the backend's chunk sizes, writes and pauses.
    pub random: Random,
}

/// Sizes of buffers on the way: pages, the read buffers of actix and hyper, one piece of a link, one slot of the response
/// channel, the largest pipe.
const EDGES: [u64; 7] = [1 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];
/// Bytes of an event around its text, about.
const WRAPPING: u64 = 120;
/// Limit for the text of one answer, in bytes; a debug build relays this much in about a second.
const MOST: usize = 3 << 20;

impl Plan {
    pub fn new(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let route = Route::ALL[random.index(4)];
        let durable = random.percent(20);
        // Durable tasks and classic hubs have only chat completions.
        let chat_only = durable || route == Route::Classic;
        let dialect = if chat_only { Dialect::Chat } else { Dialect::ALL[random.index(4)] };
        let kind = Kind::ALL[random.index(3)];
        let kind = if (kind, dialect) == (Kind::Anthropic, Dialect::Completions) { Kind::Full } else { kind };
        let streaming = random.percent(75);
        let framing = match random.index(4) {
            0 => Framing::UntilClosed,
            1 if !streaming => Framing::Length,
            _ => Framing::Chunked,
        };
        // The kernel buffers megabytes of a loopback connection; only a larger answer makes the hub wait for its caller.
        let floods = streaming && random.percent(4);
        let sizes = match streaming {
            true if floods => {
                (0..36).map(|_| usize::try_from(random.between(100_000, 300_000)).unwrap()).collect()
            }
            true => sizes(&mut random),
            false => vec![size(&mut random)],
        };
        let cut = random.percent(25).then(|| Cut { at: random.between(0, 1000), resets: random.percent(30) });
        Self {
            number,
            route,
            kind,
            dialect,
            streaming,
            durable,
            sizes,
            framing,
            has_mark: random.percent(85),
            has_usage: random.percent(40),
            crlf: random.percent(15),
            cut,
            slow_caller: floods || random.percent(20),
            recorded: None,
            random,
        }
    }

    /// The plan of a recorded answer that breaks off.
    pub fn recorded(seed: u64, number: u64) -> Self {
        let mut plan = Self::new(!seed, number);
        let random = &mut plan.random;
        let answer = &ANSWERS[random.index(ANSWERS.len())];
        let callers = callers(answer);
        (plan.kind, plan.dialect) = callers[random.index(callers.len())];
        // Durable tasks and classic hubs have only chat completions.
        if plan.dialect != Dialect::Chat {
            plan.durable = false;
            plan.route = [Route::Link, Route::Chunks, Route::Public][random.index(3)];
        }
        plan.streaming = answer.streaming;
        plan.framing = match random.index(4) {
            0 => Framing::UntilClosed,
            1 => Framing::Closed,
            2 if !plan.streaming => Framing::Length,
            _ => Framing::Chunked,
        };
        let at = random.between(0, answer.bytes.len() as u64);
        plan.cut = random.percent(95).then(|| Cut { at, resets: random.percent(30) });
        plan.recorded = Some(answer);
        plan
    }

    /// The model that the caller requests: the row of this route and kind of backend.
    pub fn model(&self) -> String {
        format!("{}-{}", self.route.name(), self.kind.name())
    }

    /// The user message. It has the plan's number, by which the backend finds the plan.
    pub fn prompt(&self) -> String {
        format!("plan-{};", self.number)
    }

    /// The text of each event: numbered words, separated by characters that JSON escapes or UTF-8 encodes in several bytes.
    pub fn texts(&self) -> Vec<String> {
        const BETWEEN: [&str; 8] = [" ", "\n", "é", "\"", "😀", "\\", "data: ", "\r\n\r\n"];
        // Long events have long words, because many short words would be slow in a debug build.
        let filler = "0123456789abcdef".repeat(30);
        let mut word = 0_usize;
        let mut rest = String::new();
        self.sizes
            .iter()
            .map(|size| {
                while rest.len() < size + 4 {
                    write!(rest, "{}.{word}", self.number).unwrap();
                    if *size > 16 << 10 {
                        rest.push_str(&filler);
                    }
                    rest.push_str(BETWEEN[word % BETWEEN.len()]);
                    word += 1;
                }
                let end = (*size..rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap();
                let tail = rest.split_off(end);
                std::mem::replace(&mut rest, tail)
            })
            .collect()
    }
}

/// Draws the size of one event: small, close to the size of a buffer, or up to 2 MiB.
fn size(random: &mut Random) -> usize {
    let size = match random.index(20) {
        0..9 => random.between(1, 40),
        9..11 => random.between(1, 5000),
        11..19 => {
            let edge = EDGES[random.index(EDGES.len())];
            let wrapping = if random.percent(50) { WRAPPING } else { 0 };
            edge - wrapping + random.between(0, 80) - 40
        }
        _ => random.between(1, 2 << 20),
    };
    usize::try_from(size).unwrap()
}

fn sizes(random: &mut Random) -> Vec<usize> {
    let most = if random.percent(20) { 120 } else { 24 };
    let count = random.between(1, most);
    let mut sum = 0;
    let sizes = (0..count).map(|_| size(random));
    sizes
        .take_while(|size| {
            sum += size;
            sum <= MOST
        })
        .collect::<Vec<_>>()
}

impl Plan {
    /// Draws a pause of the backend; mostly `None`.
    pub fn pause(random: &mut Random) -> Option<Duration> {
        match random.index(40) {
            0 => Some(random.millis(1, 15)),
            1..5 => Some(Duration::ZERO),
            _ => None,
        }
    }
}

#[test]
fn plans_repeat_for_a_seed_and_cover_every_kind_of_answer() {
    let plans: Vec<_> = (0..400).map(|number| Plan::new(7, number)).collect();
    assert_eq!(plans[3].texts(), Plan::new(7, 3).texts());
    assert_ne!(plans[3].texts(), plans[4].texts());
    for plan in &plans {
        let texts = plan.texts();
        assert_eq!(texts.len(), plan.sizes.len());
        assert!(texts.iter().zip(&plan.sizes).all(|(text, size)| (*size..size + 4).contains(&text.len())));
    }
    for route in Route::ALL {
        for streaming in [false, true] {
            let mut alike = plans.iter().filter(|plan| (plan.route, plan.streaming) == (route, streaming));
            assert!(alike.any(|plan| plan.sizes.iter().any(|size| *size > 100_000)), "{route:?}");
        }
    }
}
