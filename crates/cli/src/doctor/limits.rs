//! Limits of this process and of the machine that connections run into.

use super::report::{Finding, State};
use ringway::Platform;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::{Path, PathBuf};

/// Looks at all of them.
pub fn limits(platform: &Platform) -> Vec<Finding> {
    vec![
        processors(platform),
        quota(),
        memory_available(),
        memory_of_group(),
        address_space(),
        locked_memory(),
        overcommit(),
        shared_memory_mount(),
    ]
}

fn processors(platform: &Platform) -> Finding {
    let allowed = ringway::allowed_cpus();
    let found = format!("{} allowed: {allowed:?}", platform.cpus);
    if platform.cpus > 1 {
        return Finding::new(GROUP, "processors", State::Ok).found(found);
    }
    Finding::new(GROUP, "processors", State::Missing)
        .found(found)
        .instead("waiting sleeps at once, as spinning would keep the peer from running")
        .fix("allow more: taskset -c 0-3 COMMAND, or raise the container's processors")
}

fn quota() -> Finding {
    let finding = |state| Finding::new(GROUP, "processor quota", state);
    let Some((path, text)) = group_files("cpu.max").into_iter().find(|(_, text)| !text.starts_with("max"))
    else {
        return finding(State::Ok).found("none that can be seen");
    };
    finding(State::Info)
        .found(format!("{text} us of each period, by {}", path.display()))
        .fix("if tails are long: a group that has used its quota stands still until the next period")
}

fn memory_available() -> Finding {
    let finding = |state| Finding::new(GROUP, "memory available", state);
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).and_then(first_number);
    let Some(bytes) = kib.map(|kib| kib.saturating_mul(1024)) else {
        return finding(State::Unknown).found("/proc/meminfo does not say");
    };
    let found = format!("{}; a connection takes 2 MiB (latency) or 8 MiB (bulk) once used", mebibytes(bytes));
    if bytes >= MEMORY_ENOUGH {
        return finding(State::Ok).found(found);
    }
    finding(State::Missing).found(found).fix("close something, or set smaller rings: Config::ring_bytes")
}

fn memory_of_group() -> Finding {
    let finding = |state| Finding::new(GROUP, "memory limit of the control group", state);
    let version_2 = group_files("memory.max").into_iter().filter(|(_, text)| text != "max");
    let version_1 = fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes")
        .ok()
        .map(|text| (PathBuf::from("/sys/fs/cgroup/memory/memory.limit_in_bytes"), text.trim().to_owned()));
    let limits =
        version_2.chain(version_1).filter_map(|(path, text)| Some((text.parse::<u64>().ok()?, path)));
    // Without a limit the first version says the largest multiple of a page.
    match limits.filter(|(bytes, _)| *bytes < i64::MAX as u64 / 2).min() {
        Some((bytes, path)) => finding(State::Info).found(format!(
            "{}, by {}; segments count as memory of who wrote them first",
            mebibytes(bytes),
            path.display()
        )),
        None if Path::new("/proc/self/cgroup").exists() => finding(State::Ok).found("none that can be seen"),
        None => finding(State::Unknown).found("/proc/self/cgroup is missing"),
    }
}

fn address_space() -> Finding {
    let limit = getrlimit(Resource::As).current;
    let file = getrlimit(Resource::Fsize).current;
    let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), mebibytes);
    let found = format!("{}; file size {}", text(limit), text(file));
    if limit.or(file).is_none() {
        return Finding::new(GROUP, "address space", State::Ok).found(found);
    }
    Finding::new(GROUP, "address space", State::Info)
        .found(found)
        .fix("if connecting fails for lack of memory: ulimit -v unlimited; ulimit -f unlimited")
}

fn locked_memory() -> Finding {
    let limit = getrlimit(Resource::Memlock).current.map_or("unlimited".to_owned(), mebibytes);
    Finding::new(GROUP, "locked memory", State::Info)
        .found(format!("{limit}; not used: ringway locks no memory"))
}

fn overcommit() -> Finding {
    let finding = |state| Finding::new(GROUP, "overcommit", state);
    match fs::read_to_string("/proc/sys/vm/overcommit_memory").as_deref().map(str::trim) {
        Ok("2") => finding(State::Missing)
            .found("2: strict")
            .instead("each connection counts with both rings in full, used or not")
            .fix("if connecting fails for lack of memory: sysctl vm.overcommit_memory=0, or smaller rings"),
        Ok(mode) => finding(State::Ok).found(format!("{mode}: memory counts when it is used")),
        Err(error) => finding(State::Unknown).found(format!("cannot be read: {error}")),
    }
}

fn shared_memory_mount() -> Finding {
    let size = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let options = size.lines().find(|line| line.split(' ').nth(1) == Some("/dev/shm"));
    let found = options.and_then(|line| line.split(' ').nth(3)).unwrap_or("not mounted");
    Finding::new(GROUP, "/dev/shm", State::Info)
        .found(format!("{found}; not used: segments have no name, and that limit does not hold for them"))
}

/// Returns this file of our control group and of those that it is in, where they can be read, the innermost first.
fn group_files(name: &str) -> Vec<(PathBuf, String)> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let root = Path::new("/sys/fs/cgroup");
    let inner = root.join(group.trim_start_matches("../"));
    let folders = inner.ancestors().take_while(|folder| folder.starts_with(root));
    let read = |folder: &Path| {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).ok()?;
        Some((path, text.trim().to_owned()))
    };
    folders.filter_map(read).collect()
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn mebibytes(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

const GROUP: &str = "limits";
const MEMORY_ENOUGH: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_says_something() {
        for finding in limits(&ringway::platform()) {
            let json = serde_json::to_value(finding).unwrap();
            assert_ne!(json["found"], "", "{json}");
        }
    }
}
