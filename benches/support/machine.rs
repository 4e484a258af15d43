//! What a file of figures says about the machine, and how a run writes its part of the file.

use std::fs;
use std::io;
use std::process::Command;

/// Writes `text` to `file`, behind what was written there by hand: a run of `benches/{bench}/run` replaces what follows
/// the line that says so.
pub fn write(file: &str, bench: &str, text: &str) -> io::Result<()> {
    let mark = format!("<!-- What follows is written by benches/{bench}/run. -->");
    let before = fs::read_to_string(file).unwrap_or_default();
    let kept = before.split(&mark).next().unwrap_or_default().trim_end();
    fs::write(file, format!("{kept}\n\n{mark}\n\n{text}"))
}

/// The three load averages, as text.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Commit, processor, kernel, and the load, `before` and now.
pub fn text(before: &str) -> String {
    format!(
        "commit {}; {}, Linux {}, load average {before} before and {} after",
        output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]),
        processor(),
        output("uname", &["-r"]),
        load_average()
    )
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{}, {cores} cores", line.unwrap_or(": unknown").trim_start_matches([' ', '\t', ':']))
}
