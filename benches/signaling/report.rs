//! The tables: printed as they grow, and written to `RESULTS.md` after a whole run.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::servers::Kind;
use super::{Run, idle, now, relay, storm};

pub struct Report {
    text: String,
    started: Instant,
    connections: usize,
}

impl Report {
    pub fn new(run: &Run) -> Self {
        let mut report = Self { text: String::new(), started: now(), connections: run.connections };
        report.line("# Signaling under load: the last whole run\n");
        report.line("Made by `benches/signaling/run`; `benches/README.md` says what is measured and how.\n");
        report.line(&machine());
        report
    }

    pub fn idle_head(&mut self, connections: usize) {
        self.line(&format!("\n## {connections} idle connections, two to a room\n"));
        self.line("Growth of the server's memory for each connection, in KiB.\n");
        self.line("| server | TLS | RSS | private | anonymous | CPU to join, us |");
        self.line("|---|---|---|---|---|---|");
    }

    pub fn idle(&mut self, kind: Kind, tls: bool, figures: &idle::Figures) {
        let idle::Figures { rss, private, anonymous, cpu } = figures;
        let name = kind.name();
        self.line(&format!("| {name} | {} | {rss:.1} | {private:.1} | {anonymous:.1} | {cpu:.0} |", yes(tls)));
    }

    pub fn relay_head(&mut self, rate: u32) {
        let rooms = relay::ROOMS;
        self.line(&format!("\n## {rooms} rooms of two, {rate} messages/s\n"));
        self.line("| server | p50 ms | p99 ms | max ms | CPU % of a core | CPU us each | lost | load |");
        self.line("|---|---|---|---|---|---|---|---|");
    }

    pub fn relay(&mut self, kind: Kind, figures: &relay::Figures) {
        let relay::Figures { p50, p99, max, cpu, cpu_each, lost } = figures;
        let (name, load) = (kind.name(), load());
        self.line(&format!("| {name} | {p50:.3} | {p99:.2} | {max:.1} | {cpu:.0} | {cpu_each:.0} | {lost} | {load} |"));
    }

    pub fn storm_head(&mut self, connections: usize) {
        self.line(&format!("\n## {connections} connections cut at once, all come back\n"));
        self.line("Seconds from the cut until so many were in their rooms again.\n");
        self.line("| server | TLS | 50 % | 99 % | all | as the same peer | lost | cannot hear | failed attempts | CPU s | RSS after, MiB |");
        self.line("|---|---|---|---|---|---|---|---|---|---|---|");
    }

    pub fn storm(&mut self, kind: Kind, tls: bool, figures: &storm::Figures) {
        let storm::Figures { half, most, all, same, lost, deaf, failures, cpu, rss } = figures;
        let (name, tls) = (kind.name(), yes(tls));
        let times = format!("{half:.2} | {most:.2} | {all:.2}");
        self.line(&format!(
            "| {name} | {tls} | {times} | {same} | {lost} | {deaf} | {failures} | {cpu:.1} | {rss:.0} |"
        ));
    }

    /// Ends the report; `keep`: as the committed results.
    pub fn finish(mut self, keep: bool) -> anyhow::Result<()> {
        let seconds = self.started.elapsed().as_secs();
        self.line(&format!("\n{seconds} s, load at the end {}; {} connections", load(), self.connections));
        if keep {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/signaling/RESULTS.md"), self.text)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "" }
}

/// The machine, in a sentence.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let node = std::process::Command::new("node").arg("--version").output().map(|output| output.stdout);
    let node = String::from_utf8_lossy(&node.unwrap_or_default()).trim().to_owned();
    format!(
        "{count} cores of {model}, Linux {}, Node {node}, load at the start {}. Server on core 0, client on core 1, loopback.",
        kernel.trim(),
        load()
    )
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
}
