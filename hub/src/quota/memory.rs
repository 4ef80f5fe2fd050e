//! The memory budget of the hub: new work is refused before the system kills the process. The budget depends on the memory
//! of the machine, of control groups and of this process.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::usage::{MemoryUse, UsageByUser};
use crate::error::{ApiError, ErrorKind};
use crate::telemetry::{Limit, Machine};

/// The process's memory is read at most this often, in ms.
const READ_INTERVAL: u64 = 100;
/// At most 1/16 of the budget is little: a large request on a small machine.
const LITTLE: u64 = 16;
/// At most 1/64 of it is few bytes: the heads of small calls, heartbeats and registrations.
const FEW: u64 = 64;

/// The budget of all users' bytes.
pub(crate) struct MemoryBudget {
    pub(super) users: UsageByUser,
    limit: u64,
    /// Bytes of requests, results and answers that are held.
    held: AtomicU64,
    /// Resident memory of the process in bytes, as of `read_at`.
    resident: AtomicU64,
    /// Milliseconds after `start`; 0 for never.
    read_at: AtomicU64,
    start: Instant,
    machine: Machine,
}

impl MemoryBudget {
    /// A budget of `limit` bytes; `None` for a quarter of what the machine has.
    pub(crate) fn new(limit: Option<u64>, machine: Machine) -> Self {
        Self {
            users: UsageByUser::default(),
            limit: limit.unwrap_or_else(|| available() / 4),
            held: AtomicU64::default(),
            resident: AtomicU64::default(),
            read_at: AtomicU64::default(),
            start: Instant::now(),
            machine,
        }
    }

    /// Updates the metrics.
    pub(crate) fn measure(&self) {
        self.machine.memory(self.held(), self.limit);
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Counts `bytes` more, without a check.
    pub(crate) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts `bytes` fewer.
    pub(crate) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Whether a user may take `more` bytes and then have `usage` in all: at most as much as is left for all others. So the
    /// first user can take half of the budget, and the next one half of the rest.
    pub(super) fn admits(&self, usage: usize, more: usize, purpose: MemoryUse) -> bool {
        let usage = usage as u64;
        let extended = self.limit.saturating_add(self.limit / 4);
        let limit = if purpose == MemoryUse::NewCall { self.limit } else { extended };
        let held = self.held().saturating_add(more as u64);
        if usage > limit.saturating_sub(held) {
            return false;
        }
        // Neither memory that the allocator keeps nor that of one user may refuse users with little.
        let has_little = usage <= self.limit / LITTLE;
        let limit = if has_little { extended } else { limit };
        purpose == MemoryUse::Delivery
            || usage <= self.limit / FEW
            || held <= self.limit / LITTLE
            || self.resident() <= limit
    }

    /// Whether heads of `bytes` in all are so few that they are never refused.
    pub(super) fn is_few(&self, bytes: usize) -> bool {
        bytes as u64 <= self.limit / FEW
    }

    /// The error for an allocation that is not admitted.
    pub(super) fn refusal(&self) -> ApiError {
        if self.machine.refused_a_body() {
            log::warn!(
                "the hub's memory is full: {} MiB of requests and answers, {} MiB in all, of {} MiB (--max-memory)",
                self.held() >> 20,
                self.resident() >> 20,
                self.limit >> 20
            );
        }
        ApiError::new(ErrorKind::HubBusy, "the hub's memory is full: try again later")
    }

    /// Counts a refusal by a user's quota of bytes.
    pub(super) fn refused_by(&self, limit: Limit) {
        self.machine.refused_by(limit);
    }

    /// Resident memory of the process, at most [`READ_INTERVAL`] old.
    fn resident(&self) -> u64 {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let read_at = self.read_at.load(Ordering::Relaxed);
        if read_at == 0 || now.saturating_sub(read_at) >= READ_INTERVAL {
            self.read_at.store(now.max(1), Ordering::Relaxed);
            self.resident.store(resident(Path::new("/proc/self/status")), Ordering::Relaxed);
        }
        self.resident.load(Ordering::Relaxed)
    }
}

/// Assumed bytes of memory if the machine does not tell.
const UNKNOWN: u64 = 8 << 30;
const GROUPS: &str = "/sys/fs/cgroup";

/// Resident memory of the process in bytes; 0 if unknown. `status` is `/proc/self/status`.
fn resident(status: &Path) -> u64 {
    fs::read_to_string(status).ok().and_then(|text| kib(&text, "RssAnon:")).unwrap_or(0)
}

/// Memory in bytes of the machine, or of the smallest control group around this process.
pub(super) fn available() -> u64 {
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

/// The memory limits of the control groups in `groups` (`/proc/self/cgroup`) and of their ancestors.
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
        // In a container `root` is its own group, while the path may be the machine's.
        Path::new(path)
            .ancestors()
            .filter_map(move |part| read(&folder.join(part).join(file)))
            .filter_map(|text| text.trim().parse().ok())
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use std::collections::HashMap;

    /// A24: new calls are refused when the budget is used up, uploads and deliveries at a quarter more.
    #[test]
    fn new_calls_are_refused_first() {
        let machine = Metrics::new().unwrap().of_machine().unwrap();
        let memory = MemoryBudget::new(Some(1 << 40), machine);
        memory.take((1 << 40) - 10);
        let admits = |size: usize, purpose| memory.admits(size, size, purpose);
        assert!(admits(5, MemoryUse::NewCall) && !admits(6, MemoryUse::NewCall));
        for purpose in [MemoryUse::Upload, MemoryUse::Delivery] {
            assert!(admits(1 << 37, purpose) && !admits((1 << 37) + 6, purpose));
        }
        memory.release(1 << 39);
        assert!(admits(1 << 38, MemoryUse::NewCall));
        let refused = memory.refusal();
        assert_eq!((refused.kind, refused.status().as_u16()), (ErrorKind::HubBusy, 503));
    }

    /// High resident memory refuses users with many bytes first, and never users with few bytes, deliveries, or anything
    /// while few bytes are held in all.
    #[test]
    fn high_resident_memory_refuses_users_with_many_bytes_first() {
        const LIMIT: u64 = 1 << 40;
        const SHARE: usize = 1 << 36;
        let memory = MemoryBudget::new(Some(LIMIT), Metrics::new().unwrap().of_machine().unwrap());
        // No later time: the process's memory is not read again.
        memory.read_at.store(u64::MAX, Ordering::Relaxed);
        memory.take(2 * SHARE);
        let admits = |resident: u64, usage: usize, purpose| {
            memory.resident.store(resident, Ordering::Relaxed);
            memory.admits(usage, 1, purpose)
        };
        let extended = LIMIT + LIMIT / 4;
        for (purpose, usage, limit) in [
            (MemoryUse::NewCall, 2 * SHARE, LIMIT),
            (MemoryUse::NewCall, SHARE, extended),
            (MemoryUse::Upload, 2 * SHARE, extended),
            (MemoryUse::Upload, SHARE, extended),
        ] {
            assert!(
                admits(limit, usage, purpose) && !admits(limit + 1, usage, purpose),
                "{purpose:?} {usage}"
            );
        }
        assert!(admits(u64::MAX, 2 * SHARE, MemoryUse::Delivery));
        for purpose in [MemoryUse::NewCall, MemoryUse::Upload] {
            assert!(admits(u64::MAX, SHARE / 4, purpose) && !admits(u64::MAX, SHARE / 4 + 1, purpose));
        }
        memory.release(SHARE + 1);
        assert!(admits(u64::MAX, SHARE, MemoryUse::NewCall), "a call is refused although few bytes are held");
    }

    fn limit(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let files: HashMap<_, _> =
            files.iter().map(|(path, text)| (Path::new(path).to_owned(), *text)).collect();
        limits(groups, Path::new("/g"), &|path: &Path| files.get(path).map(|text| (*text).to_owned())).min()
    }

    #[test]
    fn the_smallest_limit_of_all_control_groups_counts() {
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
            // In a container the path is that on the host, but the files are those of the container.
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
    fn resident_and_available_memory_are_read() {
        assert_eq!(kib("Name: x\nRssAnon:\t     123 kB\n", "RssAnon:"), Some(123 << 10));
        assert!(resident(Path::new("/nowhere")) == 0);
        assert!(available() > 1 << 20);
        let limit = |given| MemoryBudget::new(given, Metrics::new().unwrap().of_machine().unwrap()).limit();
        assert_eq!([limit(None), limit(Some(7))], [available() / 4, 7]);
    }
}
