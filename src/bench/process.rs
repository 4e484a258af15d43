//! What the server's process uses, from `/proc`.

use std::fs;
use std::path::PathBuf;

/// A process of this machine.
#[derive(Clone, Debug)]
pub struct Process {
    place: PathBuf,
}

impl Process {
    /// The process with this id; an error when there is none whose figures can be read.
    pub fn new(id: u32) -> Result<Self, String> {
        let process = Self { place: PathBuf::from(format!("/proc/{id}")) };
        match process.cpu() {
            Some(_) => Ok(process),
            None => Err(format!("--pid {id}: no process here with that id, or its /proc files cannot be read")),
        }
    }

    /// Time on a CPU so far, all live threads together, in nanoseconds.
    pub fn cpu(&self) -> Option<u64> {
        let threads = fs::read_dir(self.place.join("task")).ok()?;
        let each = threads.flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        each.reduce(|sum, nanos| sum + nanos)
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Option<u64> {
        let text = fs::read_to_string(self.place.join("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_figures() {
        let own = Process::new(std::process::id()).expect("that is us");
        assert!(own.memory().is_some_and(|bytes| bytes > 1 << 20));
        let before = own.cpu().expect("we run");
        let mut sum = 0u64;
        // Until the scheduler has counted it: at its next tick at the latest.
        while own.cpu().is_some_and(|now| now == before) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(own.cpu() > Some(before));
        assert!(Process::new(u32::MAX).is_err());
    }
}
