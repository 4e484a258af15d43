//! Two shards cost no more for each packet than one does at the same load per shard.

use super::load::{Job, lost, median, number};
use super::report::Report;
use super::server::{Load, Server};

const ALLOCATIONS: usize = 200;
/// Packets per second for each shard.
const RATE: f64 = 30_000.0;
/// What two may cost more.
const MOST: f64 = 1.1;

pub fn run(seconds: f64, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut one, mut two, mut missing) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..rounds {
        for (shards, costs) in [(1, &mut one), (2, &mut two)] {
            let (cost, lost) = cost(shards, seconds)?;
            report.say(&format!("{shards} shards: {cost:.0} ns for a packet, {lost:.0} lost"));
            costs.push(cost);
            missing += lost;
        }
    }
    report.head("Two shards and one");
    report.text(&format!(
        "160 bytes, {RATE:.0} packets/s for each shard. A shard is pinned to core 0, the second to core 1, and on both cores \
         runs a generator with half of the load, with one shard as with two: half of the packets come from the other core, \
         and every shard shares its core with a generator that spins, in both cases. Only CPU time is compared, not latency; \
         medians of {rounds} rounds in turns, least and most in brackets."
    ));
    let show = |costs: &[f64]| {
        let (least, most) =
            costs.iter().fold((f64::MAX, 0.0f64), |(least, most), cost| (cost.min(least), cost.max(most)));
        format!("{:.0} ({least:.0}–{most:.0})", median(costs.to_vec()))
    };
    report.text(&format!(
        "CPU for a packet: one shard {} ns, two shards {} ns; {missing:.0} packets lost.",
        show(&one),
        show(&two)
    ));
    let ratio = median(two) / median(one);
    report.verdict("two shards cost at most 10 % more for a packet", &format!("{ratio:.2} times"), ratio <= MOST);
    Ok(())
}

/// The server's nanoseconds for a packet, and packets lost.
fn cost(shards: usize, seconds: f64) -> anyhow::Result<(f64, f64)> {
    let server = Server::relais(shards, "0,1")?;
    server.pin_shards()?;
    let job = Job::speech(&server, ALLOCATIONS * shards / 2, RATE * shards as f64 / 2.0, seconds);
    let loads = ["0", "1"].map(|core| Load::start(&job, core));
    let (mut cpu, mut packets, mut missing) = (0.0, 0.0, 0.0);
    for load in loads {
        let figures = load?.finish()?;
        // Each sees the whole server.
        cpu += number(&figures, "/server_cpu_share") / 2.0;
        packets += number(&figures, "/delivered_per_second");
        missing += lost(&figures);
    }
    Ok((cpu * 1e9 / packets, missing))
}
