//! What the kernel knows of this process, from /proc; a figure that cannot be read is left out.

use std::fs;

use super::Page;

/// Clock ticks a second of /proc/self/stat, which Linux shows to programs whatever its own are.
const TICKS: f64 = 100.0;
/// Name of a shard's thread, before its number (15 characters at most are kept by the kernel).
const SHARD_THREAD: &str = "relais-udp-";

/// Memory, descriptors and CPU time of the process.
pub fn write(page: &mut Page) {
    let status = read("/proc/self/status");
    let mut memory = page.gauge("process_resident_memory_bytes", "Memory of this process that is in RAM");
    if let Some(kib) = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(first) {
        memory.sample(&[], kib * 1024);
    }
    let mut open = page.gauge("process_open_fds", "File descriptors in use");
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One is the directory that is being read.
        open.sample(&[], descriptors.count().saturating_sub(1));
    }
    let limits = read("/proc/self/limits");
    let mut most = page.gauge("process_max_fds", "File descriptors that this process may use");
    if let Some(limit) = limits.lines().find_map(|line| line.strip_prefix("Max open files")).and_then(first) {
        most.sample(&[], limit);
    }
    let mut threads = page.gauge("process_threads", "Threads");
    if let Some(count) = status.lines().find_map(|line| line.strip_prefix("Threads:")).and_then(first) {
        threads.sample(&[], count);
    }
    let mut cpu = page.counter("process_cpu_seconds_total", "CPU time of all threads, in seconds");
    // Fields 14 and 15; the second, in parentheses, may hold spaces.
    let stat = read("/proc/self/stat");
    let ticks = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').skip(11).take(2).filter_map(first).sum::<u64>());
    if let Some(ticks) = ticks {
        cpu.sample(&[], ticks as f64 / TICKS);
    }
}

/// CPU seconds of each shard's thread, by the shard's number.
pub fn shard_seconds() -> Vec<(usize, f64)> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let shard = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let number = name.trim_end().strip_prefix(SHARD_THREAD)?.parse().ok()?;
        // The first number is the time on a CPU, in nanoseconds.
        let nanoseconds = first(&fs::read_to_string(task.path().join("schedstat")).ok()?)?;
        Some((number, nanoseconds as f64 / 1e9))
    };
    let mut seconds: Vec<_> = tasks.flatten().filter_map(shard).collect();
    seconds.sort_by_key(|(number, _)| *number);
    seconds
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first number of `text`.
fn first(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_descriptors_and_threads() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.finish();
        let names = ["resident_memory_bytes", "open_fds", "max_fds", "threads", "cpu_seconds_total"];
        for name in names {
            let sample = format!("\nrelais_process_{name} ");
            let (_, rest) = text.split_once(&sample).unwrap_or_else(|| panic!("no {name} in {text}"));
            let value: f64 = rest.lines().next().and_then(|value| value.parse().ok()).expect("a number");
            assert!(value > 0.0 || name == "cpu_seconds_total", "{name}: {value}");
        }
    }
}
