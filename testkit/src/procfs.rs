//! Data about processes from `/proc` (proc(5)).

use std::time::Duration;

/// User and system CPU time so far, in steps of 10 ms: `USER_HZ` is 100 on every Linux port.
pub fn cpu(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// What all threads of a process have run so far, in nanoseconds (`/proc/PID/task/TID/schedstat`). Threads that ended do not
/// count.
pub fn ran(pid: i32) -> Duration {
    let ran = |thread: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(ran).sum())
}

/// CPU time of this thread so far.
pub fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Resident memory in bytes.
pub fn resident(pid: i32) -> u64 {
    memory(pid, "VmRSS:")
}

/// Resident memory that is no page of a file, in bytes: what the process itself has written.
pub fn anonymous(pid: i32) -> u64 {
    memory(pid, "RssAnon:")
}

fn memory(pid: i32, kind: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(kind)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Whether a process runs. A zombie, such as a killed child that init has not reaped yet, does not count.
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
