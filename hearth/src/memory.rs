//! How much memory there is for this process: what its container has, else what the machine has.
use std::fs;

/// The share of it that a process may count on.
const SHARE: (usize, usize) = (4, 5);
/// Where a container's limit stands, in both versions of cgroups.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// What an edge should use at most unless it is told otherwise, in bytes; 0, no limit, where nothing says how much there is.
pub fn usual_budget() -> usize {
    let read = |path: &str| fs::read_to_string(path).ok();
    let limits = LIMITS.iter().filter_map(|path| limit(&read(path)?));
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    // Without a limit a container says a number larger than any machine.
    let least = limits.chain(machine).min().unwrap_or(0);
    least / SHARE.1 * SHARE.0
}

/// A container's limit; none is `max`.
fn limit(text: &str) -> Option<usize> {
    text.trim().parse().ok()
}

/// The machine's memory, as `/proc/meminfo` has it.
fn total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!((limit("max\n"), limit("536870912\n")), (None, Some(512 << 20)));
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!((total(""), total("MemTotal: many kB\n")), (None, None));
    }
}
