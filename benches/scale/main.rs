//! What holds when there is much of everything: `benches/scale/run`, benches/README.md.
//!
//! Servers, generators and this harness are processes of their own, on the cores that each part says.

// All that the signaling bench does with its clients is not done here.
#[allow(dead_code)]
#[path = "../signaling/dialect.rs"]
mod dialect;
mod hot;
mod load;
#[path = "../support/machine.rs"]
mod machine;
mod report;
mod server;
mod shards;
mod soak;
mod talk;
#[allow(dead_code)]
#[path = "../signaling/wire.rs"]
mod wire;

use std::io::Write;

use load::Job;
use relais::bench::forwarder::{self, Style};
use report::Report;

/// Minutes of a whole run's soak.
const MINUTES: f64 = 10.0;

const USAGE: &str = "benches/scale/run [soak] [hot] [shards] [signaling] [--minutes NUMBER] [--quick]
    which parts (default: all); --minutes: of the soak (default 10); --quick: shorter steps, and a minute of the soak";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role, job] if role == "--load" => {
            println!("{}", serde_json::from_str::<Job>(job)?.run()?);
            return Ok(());
        }
        [role] if role == "--forward" => return forward(),
        // `cargo test --benches` and `cargo bench` differ in this.
        arguments if !arguments.iter().any(|argument| argument == "--bench") => return Ok(()),
        _ => {}
    }
    let (mut parts, mut minutes, mut is_quick) = (Vec::new(), None, false);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "soak" | "hot" | "shards" | "signaling" => parts.push(argument),
            "--minutes" => {
                let number = rest.next().and_then(|text| text.parse::<f64>().ok()).filter(|number| *number > 0.0);
                minutes = Some(number.ok_or_else(|| anyhow::anyhow!("{USAGE}"))?);
            }
            "--quick" => is_quick = true,
            "--bench" => {}
            _ => anyhow::bail!("{USAGE}"),
        }
    }
    let load_before = machine::load_average();
    let mut report = Report::default();
    let (seconds, rounds) = if is_quick { (2.0, 1) } else { (4.0, 5) };
    let wants = |part: &str| parts.is_empty() || parts.contains(&part);
    if wants("hot") {
        // Its p99 is what the machine pauses for, which varies by itself.
        hot::run(seconds, if is_quick { 1 } else { 9 }, &mut report)?;
    }
    if wants("shards") {
        shards::run(seconds, rounds, &mut report)?;
    }
    if wants("signaling") {
        talk::run(seconds, rounds, &mut report)?;
    }
    if wants("soak") {
        let minutes = minutes.unwrap_or(if is_quick { 1.0 } else { MINUTES });
        soak::run(minutes * 60.0, &mut report)?;
    }
    let text = report.finish(&machine::text(&load_before));
    println!("{text}");
    if parts.is_empty() && !is_quick {
        machine::write(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/SCALE.md"), "scale", &text)?;
    }
    Ok(())
}

/// A bare forwarder until the process ends; standard output says where.
fn forward() -> anyhow::Result<()> {
    forwarder::run(Style::Segmented, 0, |address| {
        println!("{address}");
        let _ = std::io::stdout().flush();
    })?;
    Ok(())
}
