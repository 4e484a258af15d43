//! Signaling under load, beside Node's `socket.io` and `ws` in the same run: benches/README.md.

mod dialect;
mod idle;
mod relay;
mod report;
mod servers;
mod storm;
mod wire;

use std::time::{Duration, Instant};

use dialect::Dialect;
use report::Report;
use servers::{Identity, Kind};

/// Connections of the idle runs and of the storm.
const CONNECTIONS: usize = 10_000;
/// Messages per second of all rooms together.
const RATES: [u32; 3] = [2_000, 8_000, 16_000];

const NATIVE: Kind = Kind::Relais(Dialect::Native);
const SOCKET_IO: Kind = Kind::Relais(Dialect::SocketIo);
const LIVE: Kind = Kind::Relais(Dialect::Live);

const IDLE: &[(Kind, bool)] = &[
    (NATIVE, false),
    (SOCKET_IO, false),
    (LIVE, false),
    (Kind::SocketIo, false),
    (Kind::Ws, false),
    (NATIVE, true),
    (SOCKET_IO, true),
    (Kind::SocketIo, true),
    (Kind::Ws, true),
];
const RELAY: &[Kind] = &[SOCKET_IO, Kind::SocketIo, NATIVE, LIVE, Kind::Ws];
const STORM: &[(Kind, bool)] =
    &[(SOCKET_IO, false), (Kind::SocketIo, false), (NATIVE, false), (Kind::Ws, false), (NATIVE, true)];

/// What was asked for, and what all measurements share.
pub struct Run {
    identity: Identity,
    connections: usize,
    /// Of each relay measurement.
    seconds: Duration,
    /// How long idle connections rest before memory is read, beyond the calm after the last join.
    rest: Duration,
    parts: Vec<String>,
    ours_only: bool,
}

const USAGE: &str = "benches/signaling/run [idle] [relay] [storm] [--quick] [--ours] [--rest SECONDS]
    which parts (default: all); --quick: a tenth of it; --ours: Relais alone; --rest: read the memory of idle
    connections later, after some heartbeats";

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut run = Run {
        identity: Identity::make(dir.path())?,
        connections: CONNECTIONS,
        seconds: Duration::from_secs(6),
        rest: Duration::ZERO,
        parts: Vec::new(),
        ours_only: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "idle" | "relay" | "storm" => run.parts.push(arg),
            "--quick" => (run.connections, run.seconds) = (CONNECTIONS / 10, Duration::from_secs(2)),
            "--ours" => run.ours_only = true,
            "--rest" => {
                let seconds = args.next().and_then(|text| text.parse().ok());
                run.rest = Duration::from_secs(seconds.ok_or_else(|| anyhow::anyhow!("{USAGE}"))?);
            }
            // What `cargo bench` passes to every bench.
            "--bench" => {}
            _ => anyhow::bail!("{USAGE}"),
        }
    }
    let mut report = Report::new(&run);
    measure(&run, &mut report)?;
    report.finish(run.parts.is_empty() && !run.ours_only && run.connections == CONNECTIONS)
}

fn measure(run: &Run, report: &mut Report) -> anyhow::Result<()> {
    let wants = |part: &str| run.parts.is_empty() || run.parts.iter().any(|wanted| wanted == part);
    let included = |kind: &Kind| !run.ours_only || kind.is_ours();
    if wants("idle") {
        report.idle_head(run.connections);
        for &(kind, tls) in IDLE.iter().filter(|(kind, _)| included(kind)) {
            let figures = alone(idle::run(run, kind, tls))?;
            report.idle(kind, tls, &figures);
        }
    }
    if wants("relay") {
        for rate in RATES {
            report.relay_head(rate);
            for &kind in RELAY.iter().filter(|kind| included(kind)) {
                let figures = alone(relay::run(run, kind, rate))?;
                report.relay(kind, &figures);
            }
        }
    }
    if wants("storm") {
        report.storm_head(run.connections);
        for &(kind, tls) in STORM.iter().filter(|(kind, _)| included(kind)) {
            let figures = alone(storm::run(run, kind, tls))?;
            report.storm(kind, tls, &figures);
        }
    }
    Ok(())
}

/// Runs one measurement on a runtime of its own: when it is dropped, all connections are closed.
fn alone<T>(measurement: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measurement)
}

/// The present, for spans.
pub fn now() -> Instant {
    relais::clock::stopwatch()
}
