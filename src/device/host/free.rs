//! How much more memory this process can have.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that can still be allocated: what the machine has, or its control groups allow if that is less.
pub fn free() -> Option<usize> {
    free_in(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

fn free_in(proc: &Path, groups: &Path) -> Option<usize> {
    let meminfo = fs::read_to_string(proc.join("meminfo")).ok()?;
    let kilobytes: usize = field(&meminfo, "MemAvailable:")?;
    let membership = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let allowed = membership.lines().filter_map(|line| allowed(line, groups)).min();
    Some((kilobytes * 1024).min(allowed.unwrap_or(usize::MAX)))
}

/// What the memory group of a line of /proc/self/cgroup, and those above it, leave.
fn allowed(line: &str, groups: &Path) -> Option<usize> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, limit, used, cached) = match controllers {
        "" => (groups.to_path_buf(), "memory.max", "memory.current", "inactive_file"),
        list if list.split(',').any(|controller| controller == "memory") => {
            (groups.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        }
        _ => return None,
    };
    let left = |group: PathBuf| -> Option<usize> {
        let read = |name: &str| fs::read_to_string(group.join(name)).ok();
        let limit: usize = read(limit)?.trim().parse().ok()?;
        let used: usize = read(used)?.trim().parse().ok()?;
        // The kernel drops cached files before it refuses memory.
        let cached = read("memory.stat").and_then(|stat| field(&stat, cached)).unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    };
    // A container may see its own group as the root.
    Path::new(path).ancestors().filter_map(|group| left(root.join(group.strip_prefix("/").ok()?))).min()
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<usize> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        free_in(&dir.path().join("proc"), &dir.path().join("cgroup"))
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    5000 kB\n");

    #[test]
    fn the_tightest_limit_counts() {
        assert_eq!(machine(&[MEMINFO]), Some(5000 << 10));
        let member = ("proc/self/cgroup", "0::/a/b\n");
        let above = [("cgroup/a/memory.max", "300000\n"), ("cgroup/a/memory.current", "120000\n")];
        let own = [("cgroup/a/b/memory.max", "max\n"), ("cgroup/a/b/memory.current", "120000\n")];
        assert_eq!(machine(&[MEMINFO, member, above[0], above[1], own[0], own[1]]), Some(180_000));
        let cached = ("cgroup/a/memory.stat", "anon 5\ninactive_file 100000\n");
        assert_eq!(machine(&[MEMINFO, member, above[0], above[1], cached]), Some(280_000));
    }

    #[test]
    fn the_older_hierarchy_is_read() {
        let member = ("proc/self/cgroup", "5:cpu:/x\n4:memory:/job\n0::/\n");
        let limit = ("cgroup/memory/job/memory.limit_in_bytes", "400000\n");
        let used = ("cgroup/memory/job/memory.usage_in_bytes", "500000\n");
        assert_eq!(machine(&[MEMINFO, member, limit, used]), Some(0));
    }

    #[test]
    fn where_nothing_is_known_nothing_is_said() {
        assert_eq!(machine(&[("proc/self/cgroup", "0::/\n")]), None);
    }
}
