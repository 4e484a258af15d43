//! What the project has set itself, and how far a run is from it.

use std::fmt::Write;

use relais::bench::WayFigures;

use super::Results;
use super::cases::{CASES, OVERLOAD};
use super::report::{self, FORWARDERS, PEERS, RELAIS};

/// An overload is one when so many times more is sent than is carried.
const PRESSED: f64 = 1.5;

/// One line of the table: what was measured, in words, and whether it is enough.
struct Line {
    goal: &'static str,
    found: Option<(String, bool)>,
}

/// Every goal with what was measured.
pub fn table(results: &Results) -> String {
    let mut text = String::from("| goal | measured | |\n|---|---|---|\n");
    for Line { goal, found } in lines(results) {
        let (found, is_met) = found.unwrap_or(("not measured, or more than 1 % lost".into(), false));
        let _ = writeln!(text, "| {goal} | {found} | {} |", if is_met { "met" } else { "missed" });
    }
    text
}

fn lines(results: &Results) -> Vec<Line> {
    let at = |name: &str| CASES.iter().position(|case| case.name == name);
    let median = |name, server, pick: fn(&super::Outcome) -> Option<f64>| {
        report::spread(results, at(name)?, server, pick).map(|found| found.median)
    };
    // Of those alone that carried the load.
    let cost = |name, server| {
        if report::carried(results, at(name)?, server) { median(name, server, report::cpu) } else { None }
    };
    let best_peer_cost = |name| PEERS.iter().filter_map(|peer| cost(name, peer)).reduce(f64::min);
    let best_peer = |name, pick: fn(&super::Outcome) -> Option<f64>| {
        let found = PEERS.iter().filter_map(|peer| median(name, peer, pick));
        found.reduce(f64::max)
    };
    let limit = |name| FORWARDERS.iter().filter_map(|style| cost(name, style)).reduce(f64::min);
    // Our figure divided by another's, and whether that is within the bound.
    let within = |of: Option<f64>, by: Option<f64>, bound: f64, what: &str| {
        let ratio = of? / by?;
        Some((format!("{ratio:.2} {what}"), ratio <= bound))
    };
    let both = |a: Option<(String, bool)>, b: Option<(String, bool)>| {
        let ((a, a_is_met), (b, b_is_met)) = (a?, b?);
        Some((format!("{a}, {b}"), a_is_met && b_is_met))
    };
    let cpu_goal = |name, of_limit, of_peer| {
        let own = cost(name, RELAIS);
        both(
            within(own, limit(name), of_limit, "of the limit"),
            within(own, best_peer_cost(name), of_peer, "of the best peer"),
        )
    };
    let rate_goal = |name, bound: f64| {
        let own = median(name, RELAIS, report::rate)?;
        let ratio = own / best_peer(name, report::rate)?;
        let of_limit = own / median(name, report::LIMIT, report::rate)?;
        Some((format!("{ratio:.2} of the best peer, {of_limit:.2} of the forwarder with GRO and GSO"), ratio >= bound))
    };
    let stream_goal = |name| {
        let ratio = median(name, RELAIS, report::megabits)? / median(name, PEERS[0], report::megabits)?;
        Some((format!("{ratio:.2} of coturn"), ratio >= 2.5))
    };
    let control = |pick: fn(&super::Outcome) -> Option<f64>| median("Allocate", RELAIS, pick);
    let low = "audio, 10 allocations, 20,000 packets/s";
    let low_latency = median(low, RELAIS, report::p50).map(|p50| (format!("p50 {p50:.0} us"), p50 <= 150.0));
    let indications = |plain, name| within(cost(name, RELAIS), cost(plain, RELAIS), 1.05, "of ChannelData");
    let line = |goal, found| Line { goal, found };
    vec![
        line(
            "video, 10: CPU at most 1.25 of the limit and 0.55 of the best peer",
            cpu_goal("video, 10 allocations", 1.25, 0.55),
        ),
        line("video, 1000: the same", cpu_goal("video, 1000 allocations", 1.25, 0.55)),
        line(
            "video, 10: highest rate at least 3 times the best peer's",
            rate_goal("highest rate, video, 10 allocations", 3.0),
        ),
        line("video, 1000: the same", rate_goal("highest rate, video, 1000 allocations", 3.0)),
        line("audio, 10: CPU at most the limit's, ahead of every peer", cpu_goal("audio, 10 allocations", 1.0, 1.0)),
        line("audio, 1000: the same", cpu_goal("audio, 1000 allocations", 1.0, 1.0)),
        line(
            "20,000 packets/s: CPU at most 0.5 of the best peer, p50 at most 150 us",
            both(within(cost(low, RELAIS), best_peer_cost(low), 0.5, "of the best peer"), low_latency),
        ),
        line(
            "indications, video: within 5 % of ChannelData",
            indications("video, 10 allocations", "video, 10 allocations, indications"),
        ),
        line(
            "indications, audio: the same",
            indications("audio, 10 allocations", "audio, 10 allocations, indications"),
        ),
        line(
            "relay to relay: at most 0.5 of the best peer",
            within(
                cost("audio, relay to relay", RELAIS),
                best_peer_cost("audio, relay to relay"),
                0.5,
                "of the best peer",
            ),
        ),
        line("overload: both ways and all clients share the loss within 10 %", overload(results, at(OVERLOAD))),
        line(
            "Allocate: at most 40 us, 15,000/s at least",
            both(
                control(|outcome| outcome.control.map(|control| control.1 / 1000.0))
                    .map(|us| (format!("{us:.1} us"), us <= 40.0)),
                control(|outcome| outcome.control.map(|control| control.0))
                    .map(|rate| (format!("{rate:.0}/s"), rate >= 15_000.0)),
            ),
        ),
        line(
            "memory of an allocation: at most 2 KiB",
            median("memory", RELAIS, |outcome| outcome.memory)
                .map(|bytes| (format!("{:.2} KiB", bytes / 1024.0), bytes <= 2048.0)),
        ),
        line("TCP to peers: at least 2.5 times coturn", stream_goal("TCP to peers")),
        line("TCP to clients: the same", stream_goal("TCP to clients")),
        line("TLS to peers: the same", stream_goal("TLS to peers")),
        line("TLS to clients: the same", stream_goal("TLS to clients")),
    ]
}

/// The loss of the way and of the allocation that lost least and most, in percent points apart.
fn overload(results: &Results, case: Option<usize>) -> Option<(String, bool)> {
    let apart = report::spread(results, case?, RELAIS, |outcome| {
        let [to_peer, to_client] = &outcome.figures.as_ref()?.ways;
        let losses = [to_peer.spread.0, to_peer.spread.1, to_client.spread.0, to_client.spread.1];
        let (least, most) = losses.iter().fold((1.0, 0.0), |(least, most), loss| (loss.min(least), loss.max(most)));
        Some((most - least) * 100.0)
    })?;
    // What counts is what was sent, not what was due: the generator cannot send twice what a fast server carries.
    let pressed = report::spread(results, case?, RELAIS, |outcome| {
        let ways = &outcome.figures.as_ref()?.ways;
        let sum = |of: fn(&WayFigures) -> u64| ways.iter().map(of).sum::<u64>() as f64;
        Some(sum(|way| way.offered - way.unsent) / sum(|way| way.delivered))
    })?;
    let text = format!("{:.1} points apart, {:.1} times what it carried was sent", apart.median, pressed.median);
    Some((text, apart.median <= 10.0 && pressed.median >= PRESSED))
}
