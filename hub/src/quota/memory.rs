//! Memory of the hub as a whole: new work is refused before the system kills the process.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::error::{ApiError, ErrorKind};
use crate::quota::Users;
use crate::telemetry::Machine;

/// The hub's memory is looked at no more often than this, in ms.
const LOOK: u64 = 100;
/// Where the machine does not tell how much it has, a quarter of this counts.
const UNKNOWN: u64 = 8 << 30;
/// A sixteenth of all is little: a large request on a small machine.
const LITTLE: u64 = 16;
/// A sixty-fourth is what the heads of a user's small calls may take whatever else it has, and what it may have of all
/// kinds whatever the process has.
const FEW: u64 = 64;
const GROUPS: &str = "/sys/fs/cgroup";

/// What all users' bytes together may take.
pub struct Memory {
    /// What each user has of them.
    pub(crate) users: Users,
    most: u64,
    /// Bytes of requests, results and answers that are held.
    held: AtomicU64,
    /// What the process had when it was looked at last, and when that was.
    resident: AtomicU64,
    looked: AtomicU64,
    start: Instant,
    machine: Machine,
}

/// Who asks for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A call that begins.
    New,
    /// What ends a call, or keeps a publisher there: there is a quarter more for it, since it gives memory back.
    Ongoing,
    /// What goes on its way to its reader: it was let in before, and nothing of it is done again.
    Answer,
}

impl Memory {
    /// At most `most` bytes; `None` for a quarter of what there is.
    pub(crate) fn new(most: Option<u64>, machine: Machine) -> Self {
        let most = most.unwrap_or_else(|| available() / 4);
        Self {
            users: Users::default(),
            most,
            held: AtomicU64::default(),
            resident: AtomicU64::default(),
            looked: AtomicU64::default(),
            start: Instant::now(),
            machine,
        }
    }

    /// Tells the metrics how much it is.
    pub(crate) fn measure(&self) {
        self.machine.memory(self.held.load(Ordering::Relaxed), self.most);
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// So many bytes are held, beside those that are.
    pub(crate) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many are not held any more.
    pub(crate) fn give(&self, bytes: usize) {
        self.held.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// What all of it may be.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Whether `more` bytes of such may be held, of a user who would have `with` then: at most as much as is left for all
    /// others. Whoever takes what it gets takes half of it, and of the rest the next one half.
    pub(crate) fn admits(&self, with: usize, more: usize, body: Purpose) -> bool {
        let most = match body {
            Purpose::New => self.most,
            Purpose::Ongoing | Purpose::Answer => self.most.saturating_add(self.most / 4),
        };
        let held = self.held.load(Ordering::Relaxed).saturating_add(more as u64);
        if with as u64 > most.saturating_sub(held) {
            return false;
        }
        // What the allocator keeps of what is gone must not keep everybody out, nor what others have one with little.
        let is_little = with as u64 <= self.most / LITTLE;
        let most = if is_little { self.most.saturating_add(self.most / 4) } else { most };
        // A user with next to nothing keeps nobody out: heartbeats, registers and small calls go on whatever the process has.
        let is_few = with as u64 <= self.most / FEW;
        body == Purpose::Answer || is_few || held <= self.most / LITTLE || self.resident() <= most
    }

    /// Whether heads of one user of so many bytes are few: these count, and are never refused.
    pub(crate) fn are_few(&self, heads: usize) -> bool {
        heads as u64 <= self.most / FEW
    }

    /// What one is told for whom there is no memory.
    pub(crate) fn refusal(&self) -> ApiError {
        if self.machine.refused_a_body() {
            log::warn!(
                "the hub's memory is full: {} MiB of requests and answers, {} MiB in all, of {} MiB (--max-memory)",
                self.held.load(Ordering::Relaxed) >> 20,
                self.resident() >> 20,
                self.most >> 20
            );
        }
        ApiError::new(ErrorKind::HubBusy, "the hub's memory is full: try again later")
    }

    /// What the process has, as of a moment ago.
    fn resident(&self) -> u64 {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Ordering::Relaxed);
        if looked == 0 || now.saturating_sub(looked) >= LOOK {
            self.looked.store(now.max(1), Ordering::Relaxed);
            self.resident.store(resident(Path::new("/proc/self/status")), Ordering::Relaxed);
        }
        self.resident.load(Ordering::Relaxed)
    }
}

/// What the process has of its own; 0 where nobody tells.
fn resident(status: &Path) -> u64 {
    fs::read_to_string(status).ok().and_then(|text| kib(&text, "RssAnon:")).unwrap_or(0)
}

/// The machine's memory, or what the control groups of this process let it have.
fn available() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| kib(&text, "MemTotal:"));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let allowed = limits(&groups, Path::new(GROUPS), &read).min();
    [machine, allowed].into_iter().flatten().min().unwrap_or(UNKNOWN)
}

/// The number in a line such as `MemTotal:  1024 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of the groups in `groups`, which is `/proc/self/cgroup`, and of those around them.
fn limits<'a>(
    groups: &'a str,
    root: &'a Path,
    read: &'a impl Fn(&Path) -> Option<String>,
) -> impl Iterator<Item = u64> + 'a {
    let files = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        Some((folder, path.trim_start_matches('/'), file))
    });
    files.flat_map(move |(folder, path, file)| {
        // A container sees its own group as the root, and its path may be that of the machine.
        Path::new(path)
            .ancestors()
            .filter_map(move |part| read(&folder.join(part).join(file)))
            .filter_map(|text| text.trim().parse().ok())
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::telemetry::Metrics;

    fn limit(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let files: HashMap<_, _> =
            files.iter().map(|(path, text)| (Path::new(path).to_owned(), *text)).collect();
        limits(groups, Path::new("/g"), &|path: &Path| files.get(path).map(|text| (*text).to_owned())).min()
    }

    #[test]
    fn the_smallest_limit_of_a_process_groups_counts() {
        let unlimited = "9223372036854771712\n";
        for (groups, files, expected) in [
            ("0::/\n", &[("/g/memory.max", "max\n")][..], None),
            ("0::/\n", &[("/g/memory.max", "1073741824\n")], Some(1 << 30)),
            (
                "0::/system.slice/hub.service\n",
                &[
                    ("/g/system.slice/hub.service/memory.max", "max"),
                    ("/g/system.slice/memory.max", "4096\n"),
                ],
                Some(4096),
            ),
            // A container's path is the machine's, and what it sees is its own.
            ("0::/../../docker/1\n", &[("/g/memory.max", "512\n")], Some(512)),
            (
                "7:cpu,cpuacct:/a\n5:memory:/a\n1:name=systemd:/a\n",
                &[
                    ("/g/memory/memory.limit_in_bytes", unlimited),
                    ("/g/memory/a/memory.limit_in_bytes", "77\n"),
                ],
                Some(77),
            ),
            ("nonsense\n5:cpu:/\n", &[("/g/memory.max", "1\n")], None),
            ("", &[], None),
        ] {
            assert_eq!(limit(groups, files), expected, "{groups:?}");
        }
    }

    #[test]
    fn what_the_process_has_is_read() {
        assert_eq!(kib("Name: x\nRssAnon:\t     123 kB\n", "RssAnon:"), Some(123 << 10));
        assert!(resident(Path::new("/nowhere")) == 0);
        assert!(available() > 1 << 20);
    }

    /// A24: new bodies have the memory's room, those that end a call a quarter more, and all of it comes back.
    #[test]
    fn new_bodies_are_refused_first() {
        let machine = Metrics::new().unwrap().of_machine().unwrap();
        let memory = Memory::new(Some(1 << 40), machine);
        memory.take((1 << 40) - 10);
        let admits = |size: usize, body| memory.admits(size, size, body);
        assert!(admits(5, Purpose::New) && !admits(6, Purpose::New));
        for body in [Purpose::Ongoing, Purpose::Answer] {
            assert!(admits(1 << 37, body) && !admits((1 << 37) + 6, body));
        }
        memory.give(1 << 39);
        assert!(admits(1 << 38, Purpose::New));
        let refused = memory.refusal();
        assert_eq!((refused.kind, refused.status().as_u16()), (ErrorKind::HubBusy, 503));
    }

    /// What the process really has counts, too: then a new call is refused of one who has much, what others have with
    /// little has a quarter more, and what is on its way to its reader comes through, as does all while little is held, and
    /// of one who has next to nothing.
    #[test]
    fn what_the_process_has_keeps_new_bodies_out_and_those_of_whoever_has_little_last() {
        const MOST: u64 = 1 << 40;
        const SHARE: usize = 1 << 36;
        let memory = Memory::new(Some(MOST), Metrics::new().unwrap().of_machine().unwrap());
        // Nobody looks again.
        memory.looked.store(u64::MAX, Ordering::Relaxed);
        memory.take(2 * SHARE);
        let admits = |resident: u64, with: usize, body| {
            memory.resident.store(resident, Ordering::Relaxed);
            memory.admits(with, 1, body)
        };
        let more = MOST + MOST / 4;
        for (body, with, most) in [
            (Purpose::New, 2 * SHARE, MOST),
            (Purpose::New, SHARE, more),
            (Purpose::Ongoing, 2 * SHARE, more),
            (Purpose::Ongoing, SHARE, more),
        ] {
            assert!(admits(most, with, body) && !admits(most + 1, with, body), "{body:?} {with}");
        }
        assert!(admits(u64::MAX, 2 * SHARE, Purpose::Answer));
        for body in [Purpose::New, Purpose::Ongoing] {
            assert!(admits(u64::MAX, SHARE / 4, body) && !admits(u64::MAX, SHARE / 4 + 1, body), "{body:?}");
        }
        memory.give(SHARE + 1);
        assert!(admits(u64::MAX, SHARE, Purpose::New), "there is nothing to wait for");
    }
}
