//! A thousand allocations for minutes: nothing is lost, and memory stays what it is.

use std::time::{Duration, Instant};

use super::load::{Job, latency, lost, number, rate_for};
use super::report::Report;
use super::server::{Load, Server};

const ALLOCATIONS: usize = 1_000;
const SHARE: f64 = 0.6;
/// How often memory is read.
const SAMPLE: Duration = Duration::from_secs(10);
/// What memory may grow by in the second half of the run.
const FLAT: f64 = 0.01;
const MIB: f64 = 1_048_576.0;

pub fn run(seconds: f64, report: &mut Report) -> anyhow::Result<()> {
    let server = Server::relais(1, "0")?;
    let job = Job::speech(&server, ALLOCATIONS, 100_000.0, seconds);
    let rate = rate_for(&job, SHARE)?;
    report.say(&format!("{rate:.0} packets/s for {seconds:.0} s"));
    let mut load = Load::start(&Job { rate, ..job }, "1")?;
    let start: Instant = relais::clock::stopwatch();
    let mut memory = Vec::new();
    while !load.is_over() {
        if start.elapsed() >= SAMPLE * (memory.len() as u32 + 1) {
            let found = server.memory().unwrap_or_default() as f64 / MIB;
            report.say(&format!("{:>4} s, {found:.2} MiB resident", start.elapsed().as_secs()));
            memory.push(found);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let figures = load.finish()?;
    let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (first, second) = memory.split_at(memory.len().div_ceil(2));
    let growth = most(second) / most(first) - 1.0;
    let share = number(&figures, "/server_cpu_share");
    let [p50, p99, p999] = ["p50", "p99", "p99_9"].map(|of| latency(&figures, of));
    report.head(&format!("{ALLOCATIONS} allocations for {:.1} minutes", seconds / 60.0));
    report.text(&format!(
        "160 bytes, {rate:.0} packets/s both ways together, {:.0} % of a core. Latency of the slower way: {p50:.0} us p50, \
         {p99:.0} us p99, {p999:.0} us p99.9; the generator was {:.0} us late (p99), and its own sockets dropped {:.0}. \
         Memory each 10 s, MiB: {}.",
        share * 100.0,
        number(&figures, "/generator_late_p99_us"),
        number(&figures, "/generator_missed"),
        memory.iter().map(|found| format!("{found:.2}")).collect::<Vec<_>>().join(" "),
    ));
    let lost = lost(&figures);
    let offered = number(&figures, "/to_peer/offered") + number(&figures, "/to_client/offered");
    report.verdict("nothing is lost", &format!("{lost:.0} of {offered:.0} packets lost"), lost == 0.0);
    report.verdict(
        "memory is flat: the second half's most within 1 % of the first half's",
        &format!("{:+.2} %", growth * 100.0),
        growth <= FLAT,
    );
    report.verdict("60 % of a core", &format!("{:.0} %", share * 100.0), (share / SHARE - 1.0).abs() < 0.1);
    Ok(())
}
