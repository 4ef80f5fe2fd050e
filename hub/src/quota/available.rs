//! Memory of the machine, of control groups and of this process.

use std::fs;
use std::path::Path;

/// Assumed bytes of memory if the machine does not tell.
const UNKNOWN: u64 = 8 << 30;
const GROUPS: &str = "/sys/fs/cgroup";

/// Resident memory of the process in bytes; 0 if unknown. `status` is `/proc/self/status`.
pub(super) fn resident(status: &Path) -> u64 {
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
    use std::collections::HashMap;

    use super::*;

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
            // The path in a container is the machine's, its files are the container's.
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
    }
}
