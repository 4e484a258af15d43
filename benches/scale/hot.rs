//! One allocation that takes all it can get, beside 999 quiet ones.

use super::load::{Job, hot_for, latency, lost, median, number};
use super::report::Report;
use super::server::{self, Load, Server};

const ALLOCATIONS: usize = 1_000;
/// Packets per second of the quiet ones, both ways together.
const QUIET: f64 = 20_000.0;
/// Where looking for the hot one's rate begins.
const FIRST: f64 = 500_000.0;
/// The share of its core that the server takes then: full, and not so overloaded that everybody must lose.
const FULL: f64 = 0.93;
/// What counts as full in the end.
const ENOUGH: f64 = 0.9;
/// What the quiet ones' p99 may grow to.
const WORST: f64 = 2.0;

pub fn run(seconds: f64, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    report.head("One hot allocation beside 999 quiet ones");
    report.text(&format!(
        "{QUIET:.0} packets/s of 160 bytes for all quiet ones, both ways together. The hot one's packets come in bursts of 64, \
         as many as fill the server's core; nobody reads them, so that the generator has time for the quiet ones. A program that \
         gives way to any other takes what the server leaves of its core, with the hot one and without: a virtual machine \
         stands still more often when all of its cores are busy. Medians of {rounds} rounds, with the hot one and without it in turns."
    ));
    report.text("| hot one | packets/s | server's core | quiet p50, us | p99, us | alone p50, us | p99, us | generator late p99, us | alone |\n|---|---|---|---|---|---|---|---|---|");
    for (name, to_client) in [("to its peer", false), ("to its client", true)] {
        let server = Server::relais(1, "0")?;
        let _busy = server::Busy::on("0")?;
        let quiet = Job::speech(&server, ALLOCATIONS, QUIET, seconds);
        let job = Job { hot_to_client: to_client, gro: false, ..quiet };
        let hot = hot_for(&Job { hot: FIRST, ..job.clone() }, FULL)?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            // The same readers, deaf to the first allocation too.
            without.push(Load::start(&Job { hot: 1.0, ..job.clone() }, "1")?.finish()?);
            with.push(Load::start(&Job { hot, ..job.clone() }, "1")?.finish()?);
        }
        let of = |all: &[serde_json::Value], what: &str| median(all.iter().map(|one| latency(one, what)).collect());
        let late =
            |all: &[serde_json::Value]| median(all.iter().map(|one| number(one, "/generator_late_p99_us")).collect());
        let share = median(with.iter().map(|one| number(one, "/server_cpu_share")).collect());
        let (p99, alone) = (of(&with, "p99"), of(&without, "p99"));
        report.text(&format!(
            "| {name} | {hot:.0} | {:.0} % | {:.0} | {p99:.0} | {:.0} | {alone:.0} | {:.0} | {:.0} |",
            share * 100.0,
            of(&with, "p50"),
            of(&without, "p50"),
            late(&with),
            late(&without)
        ));
        let missing = |all: &[serde_json::Value]| all.iter().map(lost).sum::<f64>();
        let lost = missing(&with);
        let own = with.iter().map(|one| number(one, "/generator_missed")).sum::<f64>();
        report.verdict(
            &format!("hot {name}: the quiet ones lose nothing"),
            &format!(
                "{lost:.0} lost in {rounds} rounds, {:.0} without it; {own:.0} at the generator",
                missing(&without)
            ),
            lost == 0.0,
        );
        report.verdict(
            &format!("hot {name}: their p99 within twice"),
            &format!("{:.2} times", p99 / alone),
            p99 / alone <= WORST,
        );
        report.verdict(&format!("hot {name}: the core is full"), &format!("{:.0} %", share * 100.0), share >= ENOUGH);
    }
    Ok(())
}
