//! The tables: medians with the smallest and the largest of all rounds.

use std::fmt::Write;
use std::time::Duration;

use relais::bench::{Way, WayFigures};
use relais::relay::Transport;

use super::cases::{CASES, Case, Outcome, Work};
use super::{Results, goals, machine};

pub const RELAIS: &str = "Relais";
pub const PEERS: [&str; 2] = ["coturn", "`turn` crate"];
pub const FORWARDERS: [&str; 3] =
    ["forwarder, one call for a packet", "forwarder, recvmmsg and sendmmsg", "forwarder, GRO and GSO"];

/// The forwarder that makes the most of bursts.
pub const LIMIT: &str = FORWARDERS[2];

/// Loss above which a server's CPU time at an equal load is no figure to hold another against.
const MOST_LOSS: f64 = 0.01;
/// A generator that sends later than this, for one packet of a hundred, disturbs what it measures.
const MOST_LATE: Duration = Duration::from_millis(1);

/// Middle, smallest and largest of some figures.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.retain(|figure| figure.is_finite());
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let (low, high) = ((figures.len() - 1) / 2, figures.len() / 2);
        Some(Self { median: (figures[low] + figures[high]) / 2.0, least, most })
    }
}

/// The figures of a row and a server that `pick` takes out of its outcomes.
pub fn spread(
    results: &Results,
    case: usize,
    server: &'static str,
    pick: impl Fn(&Outcome) -> Option<f64>,
) -> Option<Spread> {
    Spread::of(results.get(&(case, server))?.iter().filter_map(pick).collect())
}

/// Nanoseconds of CPU for a packet delivered.
pub fn cpu(outcome: &Outcome) -> Option<f64> {
    outcome.figures.as_ref()?.cpu_per_packet()
}

/// Share of the packets due that did not come, of the way that lost most.
pub fn loss(outcome: &Outcome) -> Option<f64> {
    outcome.figures.as_ref().map(|figures| figures.loss())
}

/// Whether a server carried the load of a row: one that loses packets batches what is left, and looks cheap.
pub fn carried(results: &Results, case: usize, server: &'static str) -> bool {
    spread(results, case, server, loss).is_some_and(|loss| loss.median <= MOST_LOSS)
}

/// Whether the generator was late, or its sockets full, in half of the rounds.
pub fn was_disturbed(results: &Results, case: usize, server: &'static str) -> bool {
    let disturbed = spread(results, case, server, |outcome| {
        let figures = outcome.figures.as_ref()?;
        let is_late = figures.late.quantile(0.99).is_some_and(|late| late > MOST_LATE);
        Some(f64::from(u8::from(is_late || figures.limited_by_generator)))
    });
    disturbed.is_some_and(|disturbed| disturbed.median > 0.0)
}

/// Packets delivered per second.
pub fn rate(outcome: &Outcome) -> Option<f64> {
    outcome.figures.as_ref().map(|figures| figures.delivered_rate())
}

/// Payload megabits delivered per second.
pub fn megabits(outcome: &Outcome) -> Option<f64> {
    outcome.figures.as_ref().map(|figures| figures.delivered_rate() * figures.size as f64 * 8.0 / 1e6)
}

/// The median latency of the first way, in microseconds.
pub fn p50(outcome: &Outcome) -> Option<f64> {
    let latency = &outcome.figures.as_ref()?.way(Way::ToPeer).latency;
    latency.quantile(0.5).map(|time| time.as_nanos() as f64 / 1000.0)
}

/// Everything, as it stands in `RESULTS.md`.
pub fn markdown(results: &Results, rounds: usize, is_quick: bool, load_before: &str) -> String {
    let mut text = String::new();
    let pace = if is_quick { "quick run" } else { "whole run" };
    let _ = writeln!(
        text,
        "{pace}, {rounds} rounds, {}. Medians, with least and most in brackets.\n",
        machine::text(load_before)
    );
    let all = || CASES.iter().enumerate();
    text += "## Goals\n\n";
    text += &goals::table(results);
    text += "\n## CPU for a packet at equal load, in microseconds\n\n";
    let columns: Vec<_> = [RELAIS].into_iter().chain(PEERS).chain(FORWARDERS).collect();
    head(&mut text, "work, packets/s", &columns);
    for (index, case) in all() {
        if let Work::Equal(rate) = case.work {
            let name = format!("{}, {rate:.0}/s", case.name.split(", 20,000").next().unwrap_or_default());
            row(&mut text, &name, &columns, |server| {
                let mut cell = in_thousands(spread(results, index, server, cpu)?, 2);
                cell += if carried(results, index, server) { "" } else { " \\*" };
                cell += if was_disturbed(results, index, server) { " †" } else { "" };
                Some(cell)
            });
        }
    }
    text += "\n\\* It lost more than 1 % and is left out of the goals: who is overloaded batches by necessity.\n\
             † The generator was late (p99 over 1 ms) or its own sockets were full.\n";
    let equal = || all().filter(|(_, case)| matches!(case.work, Work::Equal(_)));
    text += "\n## Loss at the same load, in percent\n\n";
    head(&mut text, "work", &columns);
    for (index, case) in equal() {
        row(&mut text, case.name, &columns, |server| {
            spread(results, index, server, |outcome| Some(loss(outcome)? * 100.0)).map(|found| plain(found, 2))
        });
    }
    text += "\n## Median latency at the same load, in microseconds\n\n";
    head(&mut text, "work", &columns);
    for (index, case) in equal() {
        row(&mut text, case.name, &columns, |server| spread(results, index, server, p50).map(|found| plain(found, 0)));
    }
    let servers: Vec<_> = [RELAIS].into_iter().chain(PEERS).collect();
    text += "\n## Highest rate with less than 0.1 % loss, in thousand packets/s\n\n";
    let with_limit: Vec<_> = servers.iter().copied().chain([LIMIT]).collect();
    head(&mut text, "work", &with_limit);
    let is_udp = |case: &Case| case.transport == Transport::Udp;
    let marked = |index, server, found: String| {
        let outcomes = results.get(&(index, server)).map_or(&[][..], Vec::as_slice);
        if outcomes.iter().any(|outcome| outcome.is_lower_bound) { format!("{found} \\*") } else { found }
    };
    for (index, case) in all().filter(|(_, case)| matches!(case.work, Work::Highest(_)) && is_udp(case)) {
        row(&mut text, case.name, &with_limit, |server| {
            Some(marked(index, server, in_thousands(spread(results, index, server, rate)?, 1)))
        });
    }
    text += "\n\\* The generator was the limit at least once: the server may do more.\n";
    text += "\n## TURN over TCP and TLS, in Mbit/s of payload\n\n";
    head(&mut text, "work", &servers);
    for (index, case) in all().filter(|(_, case)| !is_udp(case)) {
        row(&mut text, case.name, &servers, |server| {
            Some(marked(index, server, plain(spread(results, index, server, megabits)?, 0)))
        });
    }
    text += "\n\\* As above.\n";
    text += &overload(results, &servers);
    text += &control(results, &servers);
    text
}

fn overload(results: &Results, servers: &[&'static str]) -> String {
    let mut text = String::from(
        "\n## Overload: twice what each carries, loss in percent\n\n† The generator could not offer that much.\n\n",
    );
    text += "| server | to peers | to clients | allocation that lost least to most, to peers | to clients |\n|---|---|---|---|---|\n";
    let Some(index) = CASES.iter().position(|case| matches!(case.work, Work::Overload(_))) else { return text };
    for server in servers {
        let of = |way: Way, pick: fn(&WayFigures) -> f64| {
            spread(results, index, server, |outcome| Some(pick(outcome.figures.as_ref()?.way(way)) * 100.0))
        };
        let show = |found: Option<Spread>| found.map_or("-".into(), |found| plain(found, 1));
        let range = |way| {
            let (least, most) = (of(way, |way| way.spread.0), of(way, |way| way.spread.1));
            least.zip(most).map_or("-".into(), |(least, most)| format!("{:.1} to {:.1}", least.median, most.median))
        };
        let _ = writeln!(
            text,
            "| {server}{} | {} | {} | {} | {} |",
            if was_disturbed(results, index, server) { " †" } else { "" },
            show(of(Way::ToPeer, WayFigures::loss)),
            show(of(Way::ToClient, WayFigures::loss)),
            range(Way::ToPeer),
            range(Way::ToClient)
        );
    }
    text
}

fn control(results: &Results, servers: &[&'static str]) -> String {
    let mut text = String::from("\n## Allocate with its 401, then Refresh 0; and memory\n\n");
    text += "| server | operations/s | CPU for each, us | KiB for an allocation |\n|---|---|---|---|\n";
    let place = |work| CASES.iter().position(|case| case.work == work);
    let (Some(control), Some(memory)) = (place(Work::Control), place(Work::Memory)) else { return text };
    for server in servers {
        let show = |found: Option<Spread>, digits| found.map_or("-".into(), |found| plain(found, digits));
        let rate = spread(results, control, server, |outcome| outcome.control.map(|control| control.0));
        let each = spread(results, control, server, |outcome| outcome.control.map(|control| control.1 / 1000.0));
        let memory = spread(results, memory, server, |outcome| outcome.memory.map(|bytes| bytes / 1024.0));
        let _ = writeln!(text, "| {server} | {} | {} | {} |", show(rate, 0), show(each, 1), show(memory, 2));
    }
    text
}

fn head(text: &mut String, first: &str, columns: &[&str]) {
    let _ = writeln!(text, "| {first} | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
}

fn row(text: &mut String, name: &str, columns: &[&'static str], cell: impl Fn(&'static str) -> Option<String>) {
    let cells: Vec<_> = columns.iter().map(|column| cell(column).unwrap_or_else(|| "-".into())).collect();
    if cells.iter().any(|cell| cell != "-") {
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
}

fn plain(found: Spread, digits: usize) -> String {
    let Spread { median, least, most } = found;
    format!("**{median:.digits$}** ({least:.digits$}–{most:.digits$})")
}

fn in_thousands(found: Spread, digits: usize) -> String {
    let Spread { median, least, most } = found;
    plain(Spread { median: median / 1000.0, least: least / 1000.0, most: most / 1000.0 }, digits)
}
