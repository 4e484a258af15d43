//! Relais beside coturn, a minimal server on the `turn` crate and a bare forwarder: one command, `benches/compare/run`.
//!
//! Every server runs alone on core 0, the generator (`relais::bench`, what `relais bench` is made of) on core 1. A row of
//! the table is measured with one server after the other before the next row begins, and all rows in every round.

mod cases;
mod goals;
#[path = "../support/machine.rs"]
mod machine;
mod report;
mod servers;
mod turn_crate;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use cases::{CASES, Case, Outcome, Pace, Work};
use relais::bench::forwarder::{self, Style};

/// Rounds of a whole run.
const ROUNDS: usize = 5;

/// Every outcome of a row and a server, by the row's place and the server's name.
pub type Results = BTreeMap<(usize, &'static str), Vec<Outcome>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` and `cargo bench` differ in this.
    if !arguments.iter().any(|argument| argument == "--bench" || argument == "--serve") {
        return ExitCode::SUCCESS;
    }
    if let Some(role) = value_of(&arguments, "--serve") {
        return serve(role);
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let only = value_of(&arguments, "--only");
    let rounds = value_of(&arguments, "--rounds").and_then(|count| count.parse().ok());
    let rounds = rounds.unwrap_or(if is_quick { 1 } else { ROUNDS });
    let load_before = machine::load_average();
    let results = measure(rounds, Pace::new(is_quick), only);
    let text = report::markdown(&results, rounds, is_quick, &load_before);
    println!("{text}");
    if only.is_none() && !is_quick {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");
        if let Err(error) = machine::write(file, "compare", &text) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

/// Another role of this program: a server of the comparison.
fn serve(role: &str) -> ExitCode {
    if role == "turn" {
        turn_crate::serve();
        return ExitCode::SUCCESS;
    }
    let Some((_, style)) = Style::ALL.into_iter().find(|(name, _)| *name == role) else { return ExitCode::FAILURE };
    let ended = forwarder::run(style, 0, |address| {
        println!("{address}");
        let _ = std::io::stdout().flush();
    });
    eprintln!("the forwarder ended: {ended:?}");
    ExitCode::FAILURE
}

fn measure(rounds: usize, pace: Pace, only: Option<&str>) -> Results {
    let mut results = Results::new();
    for round in 1..=rounds {
        for (index, case) in CASES.iter().enumerate() {
            if only.is_some_and(|only| !case.name.contains(only)) {
                continue;
            }
            eprintln!("round {round} of {rounds}: {}", case.name);
            for kind in case.servers() {
                let base = match case.work {
                    Work::Overload(name) => {
                        last_rate(&results, CASES.iter().position(|case| case.name == name), kind.name())
                    }
                    _ => None,
                };
                let before = last_rate(&results, Some(index), kind.name());
                match case.measure(kind, pace, before, base) {
                    Ok(outcome) => {
                        eprintln!("    {:<34} {}", kind.name(), line(case, &outcome));
                        results.entry((index, kind.name())).or_default().push(outcome);
                    }
                    Err(error) => eprintln!("    {:<34} failed: {error}", kind.name()),
                }
            }
        }
    }
    results
}

/// The rate of the last step that a search settled on.
fn last_rate(results: &Results, case: Option<usize>, server: &'static str) -> Option<f64> {
    Some(results.get(&(case?, server))?.last()?.figures.as_ref()?.rate)
}

/// What is said while it runs.
fn line(case: &Case, outcome: &Outcome) -> String {
    if let Some((rate, nanos, failed, code)) = outcome.control {
        return format!("{rate:.0} operations/s, {:.1} us each, {failed} failed (last refusal {code})", nanos / 1000.0);
    }
    if let Some(bytes) = outcome.memory {
        return format!("{:.2} KiB for an allocation", bytes / 1024.0);
    }
    let Some(figures) = &outcome.figures else { return "nothing found".into() };
    let bound = if outcome.is_lower_bound { " at least" } else { "" };
    let p50 = figures.way(case.ways[0]).latency.quantile(0.5).map_or(0, |time| time.as_micros());
    format!(
        "{:.0} packets/s{bound}, {:.0} ns each, {:.0} % of the core, loss {:.3} %, p50 {p50} us, generator late p99 {} us",
        figures.delivered_rate(),
        figures.cpu_per_packet().unwrap_or_default(),
        figures.cpu_share().unwrap_or_default() * 100.0,
        figures.loss() * 100.0,
        figures.late.quantile(0.99).map_or(0, |late| late.as_micros())
    )
}
