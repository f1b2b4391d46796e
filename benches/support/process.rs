//! What processes use, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Ticks of `/proc`: 100 a second on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of this process, all threads, also those that have ended.
pub(crate) fn own_cpu() -> Duration {
    cpu_of(std::process::id()).unwrap_or_default()
}

/// CPU time of a process and of its children, also of those that have ended and were waited for: for a postmaster,
/// all its backends.
pub(crate) fn tree_cpu(pid: u32) -> Duration {
    let Some(root) = fields(pid) else { return Duration::ZERO };
    let mut ticks: u64 = (UTIME..UTIME + 4).map(|index| root[index]).sum();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let child = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(fields);
        if let Some(child) = child.filter(|child| child[PPID] == u64::from(pid)) {
            ticks += child[UTIME] + child[UTIME + 1];
        }
    }
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// CPU time of a process without its children; none if it is gone.
pub(crate) fn cpu_of(pid: u32) -> Option<Duration> {
    let fields = fields(pid)?;
    Some(TICK * u32::try_from(fields[UTIME] + fields[UTIME + 1]).unwrap_or(u32::MAX))
}

/// CPU time of this process's living threads, by name; threads of one name are added up.
pub(crate) fn thread_cpu() -> std::collections::BTreeMap<String, Duration> {
    let mut threads = std::collections::BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let path = task.path();
        let (Ok(name), Some(fields)) = (
            fs::read_to_string(path.join("comm")),
            fs::read_to_string(path.join("stat")).ok().and_then(parsed),
        ) else {
            continue; // it has just ended
        };
        let ticks = u32::try_from(fields[UTIME] + fields[UTIME + 1]).unwrap_or(u32::MAX);
        *threads.entry(name.trim().to_owned()).or_default() += TICK * ticks;
    }
    threads
}

/// The most memory that a process has had resident, in bytes (`VmHWM`); none if it is gone.
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}

/// Places in what follows the name in `/proc/<pid>/stat`, see proc(5): the parent, and user, system, children's user
/// and children's system time one after the other.
const PPID: usize = 1;
const UTIME: usize = 11;

fn fields(pid: u32) -> Option<Vec<u64>> {
    parsed(fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name may hold spaces and brackets, so begin behind its last one. What is no natural number (state, signals as
/// negative numbers) counts as 0.
#[expect(clippy::needless_pass_by_value, reason = "for and_then")]
fn parsed(stat: String) -> Option<Vec<u64>> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<u64> = rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    (fields.len() > UTIME + 4).then_some(fields)
}
