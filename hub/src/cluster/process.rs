//! Processes of hubs, and the tasks that name theirs. Nothing here allocates, except a new id.

use std::fmt;

use crate::random;

/// Longest id of a hub (`--hub-id`), in bytes.
const MAX_HUB: usize = 16;
/// Letters of a boot: a billion of them, so that the processes of one hub have different ones.
const BOOT: usize = 6;
/// The digits of base 32 (RFC 4648 section 6) in small letters.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// What the ids of tasks begin with.
const TASK: &str = "task";

/// One process of a hub: `<hub>.<boot>`. The boot is made when the process starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The text, and zeros behind it.
    text: [u8; MAX_HUB + 1 + BOOT],
    /// Length of the hub's id.
    hub: u8,
}

impl Process {
    /// A new process of the hub `hub`; `None` if that is no id.
    pub fn start(hub: &str) -> Option<Self> {
        let boot = random::bytes::<BOOT>().map(|byte| DIGITS[usize::from(byte % 32)]);
        Self::new(hub.as_bytes(), &boot)
    }

    /// The process whose text is `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hub, boot) = text.split_once('.')?;
        Self::new(hub.as_bytes(), boot.as_bytes())
    }

    fn new(hub: &[u8], boot: &[u8]) -> Option<Self> {
        let is_hub = (1..=MAX_HUB).contains(&hub.len())
            && hub.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !is_hub || boot.len() != BOOT || !boot.iter().all(|byte| DIGITS.contains(byte)) {
            return None;
        }
        let mut text = [0; MAX_HUB + 1 + BOOT];
        text[..hub.len()].copy_from_slice(hub);
        text[hub.len()] = b'.';
        text[hub.len() + 1..][..BOOT].copy_from_slice(boot);
        Some(Self { text, hub: u8::try_from(hub.len()).ok()? })
    }

    /// The process, as it is in ids.
    pub fn as_str(&self) -> &str {
        let length = usize::from(self.hub) + 1 + BOOT;
        // All of it is ASCII.
        std::str::from_utf8(&self.text[..length]).unwrap_or_default()
    }

    /// The hub's id.
    pub fn hub(&self) -> &str {
        &self.as_str()[..usize::from(self.hub)]
    }

    /// What distinguishes the process from others of the hub.
    pub fn boot(&self) -> &str {
        &self.as_str()[usize::from(self.hub) + 1..]
    }

    /// The home of a task: the process that made its id. `None` for an id of a hub alone, or of something else.
    pub(crate) fn of_task(id: &str) -> Option<Self> {
        let (home, number) = id.strip_prefix(TASK)?.strip_prefix('-')?.split_once('-')?;
        let is_number =
            number.len() == 32 && number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_number { Self::parse(home) } else { None }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a task is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// At this process.
    Here,
    /// At another one.
    At(Process),
}

/// The hub's place in a cluster.
#[derive(Debug, Clone, Copy)]
pub enum Cluster {
    /// It belongs to none.
    Alone,
    /// It is this process of one.
    Joined(Process),
}

impl Cluster {
    /// A new id of a dispatch: `task-<32 hex>`, in a cluster `task-<hub>.<boot>-<32 hex>`.
    pub fn task_id(self) -> String {
        match self {
            Self::Alone => random::id(TASK),
            Self::Joined(process) => random::id_at(TASK, process.as_str()),
        }
    }

    /// The home of a task. An id that names none is one of this process, or of nobody.
    pub fn home(self, task: &str) -> Route {
        match self {
            Self::Alone => Route::Here,
            Self::Joined(process) => match Process::of_task(task) {
                Some(home) if home != process => Route::At(home),
                _ => Route::Here,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::TaskId;

    use super::*;

    fn process(text: &str) -> Process {
        Process::parse(text).unwrap()
    }

    #[test]
    fn processes_of_one_hub_differ() {
        let [first, second] = ["a", "a"].map(|hub| Process::start(hub).unwrap());
        assert_ne!(first, second);
        assert_eq!((first.hub(), first.boot().len()), ("a", BOOT));
        assert_eq!(process(first.as_str()), first);
    }

    #[test]
    fn a_text_that_could_be_read_in_two_ways_is_no_process() {
        let longest = "x".repeat(MAX_HUB);
        assert_eq!(process(&format!("{longest}.abcdef")).hub(), longest);
        for bad in [
            "",
            ".",
            "a",
            "a.",
            ".abcdef",
            "a.abcde",
            "a.abcdefg",
            "A.abcdef",
            "a.abcde1",
            "a-b.abcdef",
            "a.b.abcdef",
            "a.abcdeä",
            &format!("{longest}x.abcdef"),
        ] {
            assert_eq!(Process::parse(bad), None, "{bad:?}");
        }
        assert_eq!(["", "A", "ä", "a b"].map(Process::start), [None; 4]);
    }

    #[test]
    fn a_task_names_its_home() {
        let here = Process::start(&"h".repeat(MAX_HUB)).unwrap();
        let there = Process::start("there").unwrap();
        let id = Cluster::Joined(here).task_id();
        assert!(TaskId::parse(&*id).is_ok_and(|parsed| parsed.encoded() == id), "{id}");
        assert_eq!(Cluster::Joined(here).home(&id), Route::Here);
        assert_eq!(Cluster::Joined(there).home(&id), Route::At(here));
        assert_eq!(Cluster::Alone.home(&id), Route::Here);
        // A restarted hub is another process.
        let restarted = Process::start(here.hub()).unwrap();
        assert_eq!(Cluster::Joined(restarted).home(&id), Route::At(here));
    }

    #[test]
    fn an_id_without_a_home_is_looked_for_here() {
        let cluster = Cluster::Joined(process("a.abcdef"));
        let number = "0".repeat(32);
        let alone = Cluster::Alone.task_id();
        assert_eq!((alone.len(), cluster.home(&alone)), (37, Route::Here));
        for id in [
            "",
            "task",
            "task-",
            "task--",
            "task-b.abcdef",
            "task-b.abcdef-",
            &format!("task-b-{number}"),
            &format!("inf-b.abcdef-{number}"),
            &format!("task-b.abcdef-{number}0"),
            &format!("task-b.abcdef-x-{number}"),
            &format!("task-b.abcdef-{}", "A".repeat(32)),
        ] {
            assert_eq!(cluster.home(id), Route::Here, "{id}");
        }
        assert_eq!(cluster.home(&format!("task-b.abcdef-{number}")), Route::At(process("b.abcdef")));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in ".{0,80}", tail in "[a-f0-9]{31,33}") {
            let cluster = Cluster::Joined(process("a.abcdef"));
            for id in [text.clone(), format!("task-{text}"), format!("task-{text}-{tail}")] {
                if let Route::At(home) = cluster.home(&id) {
                    prop_assert_eq!(id, format!("task-{}-{}", home, tail));
                }
            }
            prop_assert!(Process::parse(&text).is_none_or(|process| process.as_str() == text));
        }

        #[test]
        fn each_process_is_read_back(hub in "[a-z0-9]{1,16}", boot in "[a-z2-7]{6}") {
            let text = format!("{hub}.{boot}");
            let process = Process::parse(&text).unwrap();
            prop_assert_eq!((process.as_str(), process.hub(), process.boot()), (&*text, &*hub, &*boot));
            let id = Cluster::Joined(process).task_id();
            prop_assert_eq!(Process::of_task(&id), Some(process));
        }
    }
}
