//! What is measured: the rows of the table, and how one server is measured for one of them.

use std::io;
use std::time::Duration;

use relais::bench::forwarder::Style;
use relais::bench::{self, Field, Figures, Framing, Login, Peers, Plan, Process, Step, Way};
use relais::relay::Transport;

use super::servers::{Kind, SECRET, Server};

/// How long steps last.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub warm: Duration,
    /// At one rate.
    pub equal: Duration,
    /// A step of a search.
    pub search: Duration,
    pub control: Duration,
    /// Long enough for what the sockets' buffers hold to be the smaller part.
    pub overload: Duration,
}

impl Pace {
    pub fn new(is_quick: bool) -> Self {
        let millis = |quick, whole| Duration::from_millis(if is_quick { quick } else { whole });
        Self {
            warm: millis(200, 300),
            equal: millis(700, 1_200),
            search: millis(400, 500),
            control: millis(1_000, 1_500),
            overload: millis(2_000, 4_000),
        }
    }
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Packets at one rate, which all servers carry without loss: a third of the slowest one's highest at most.
    Equal(f64),
    /// The highest rate with less than 0.1 % loss, from this one on.
    Highest(f64),
    /// Twice the highest rate found for the row of this name.
    Overload(&'static str),
    /// Allocate and Refresh 0.
    Control,
    /// Memory of an allocation.
    Memory,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub work: Work,
    pub allocations: usize,
    pub size: usize,
    pub burst: usize,
    pub framing: Framing,
    pub peers: Peers,
    pub transport: Transport,
    pub ways: &'static [Way],
}

const BOTH: &[Way] = &[Way::ToPeer, Way::ToClient];

const VIDEO: Case = Case {
    name: "video, 10 allocations",
    work: Work::Equal(80_000.0),
    allocations: 10,
    size: 1_200,
    burst: 12,
    framing: Framing::Channel,
    peers: Peers::Own,
    transport: Transport::Udp,
    ways: BOTH,
};
const AUDIO: Case = Case { name: "audio, 10 allocations", size: 160, burst: 1, ..VIDEO };
const STREAM: Case = Case { work: Work::Highest(60_000.0), transport: Transport::Tcp, ..VIDEO };

/// The row of the overload.
pub const OVERLOAD: &str = "twice the highest rate, video, 10 allocations";

/// The rows, in the order in which they are measured.
pub const CASES: &[Case] = &[
    VIDEO,
    Case { name: "video, 1000 allocations", allocations: 1_000, ..VIDEO },
    AUDIO,
    Case { name: "audio, 1000 allocations", allocations: 1_000, work: Work::Equal(60_000.0), ..AUDIO },
    Case { name: "audio, 10 allocations, 20,000 packets/s", work: Work::Equal(20_000.0), ..AUDIO },
    Case { name: "video, 10 allocations, indications", framing: Framing::Indication, ..VIDEO },
    Case { name: "audio, 10 allocations, indications", framing: Framing::Indication, ..AUDIO },
    Case { name: "audio, relay to relay", peers: Peers::Allocation, work: Work::Equal(40_000.0), ..AUDIO },
    Case { name: "highest rate, video, 10 allocations", work: Work::Highest(120_000.0), ..VIDEO },
    Case { name: "highest rate, video, 1000 allocations", allocations: 1_000, work: Work::Highest(120_000.0), ..VIDEO },
    Case { name: "highest rate, audio, 10 allocations", work: Work::Highest(100_000.0), ..AUDIO },
    Case { name: "highest rate, audio, 1000 allocations", allocations: 1_000, work: Work::Highest(80_000.0), ..AUDIO },
    // Of video, since the generator can send twice of that.
    Case { name: OVERLOAD, work: Work::Overload("highest rate, video, 10 allocations"), ..VIDEO },
    Case { name: "TCP to peers", ways: &[Way::ToPeer], ..STREAM },
    Case { name: "TCP to clients", ways: &[Way::ToClient], ..STREAM },
    Case { name: "TLS to peers", transport: Transport::Tls, ways: &[Way::ToPeer], ..STREAM },
    Case { name: "TLS to clients", transport: Transport::Tls, ways: &[Way::ToClient], ..STREAM },
    Case { name: "Allocate", work: Work::Control, ..AUDIO },
    Case { name: "memory", work: Work::Memory, allocations: 3_000, ..AUDIO },
];

impl Case {
    /// Who takes part: the forwarders where there is nothing but packets, no server without TCP where it is asked for.
    pub fn servers(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Relais, Kind::Coturn];
        if self.transport == Transport::Udp {
            kinds.push(Kind::TurnCrate);
        }
        let is_plain = self.framing == Framing::Channel && self.peers == Peers::Own;
        if matches!(self.work, Work::Equal(_)) && is_plain {
            kinds.extend(Style::ALL.map(|(_, style)| Kind::Forwarder(style)));
        }
        // What this machine carries of bursts at most, whatever the server.
        if matches!(self.work, Work::Highest(_)) && is_plain && self.transport == Transport::Udp && self.burst > 1 {
            kinds.extend(Style::ALL.last().map(|(_, style)| Kind::Forwarder(*style)));
        }
        kinds
    }

    /// Measures `kind`, of which a search found `before` last time. What `Work::Overload` is twice of is `base`.
    pub fn measure(&self, kind: Kind, pace: Pace, before: Option<f64>, base: Option<f64>) -> io::Result<Outcome> {
        let server = kind.start();
        let process = Process::new(server.id()).map_err(io::Error::other)?;
        let plan = self.plan(kind, &server);
        if self.work == Work::Control {
            let figures = bench::run_control(&plan, 64, pace.control, Some(&process))?;
            let refused = figures.last_refusal.unwrap_or_default();
            return Ok(Outcome {
                control: Some((
                    figures.rate(),
                    figures.cpu_per_operation().unwrap_or_default(),
                    figures.failed,
                    refused,
                )),
                ..Outcome::default()
            });
        }
        if self.work == Work::Memory {
            // What is made at first use is there then.
            let first = Field::new(&Plan { allocations: 100, ..plan.clone() })?;
            let (engine, each) = bench::set_up(&plan, Some(&process))?;
            drop((first, engine));
            return Ok(Outcome { memory: each, ..Outcome::default() });
        }
        let (mut engine, _) = bench::set_up(&plan, Some(&process))?;
        let step = |rate, time| Step {
            rate,
            burst: self.burst,
            ways: self.ways.to_vec(),
            warm: pace.warm,
            time,
            hot: 0.0,
            hot_way: Way::ToPeer,
            hot_burst: 1,
        };
        let mut run = |rate, time| engine.run(&step(rate, time), Some(&process), |_, _| {});
        let outcome = match self.work {
            Work::Equal(rate) => Outcome { figures: Some(run(rate, pace.equal)?), ..Outcome::default() },
            Work::Highest(first) => {
                let first = before.map_or(first, |before| before * 0.9);
                let found = bench::search(first, bench::MAX_RATE, 0.001, |rate| run(rate, pace.search))?;
                Outcome { figures: found.best, is_lower_bound: found.is_lower_bound, ..Outcome::default() }
            }
            Work::Overload(_) => {
                let Some(base) = base else { return Ok(Outcome::default()) };
                Outcome { figures: Some(run(base * 2.0, pace.overload)?), ..Outcome::default() }
            }
            Work::Control | Work::Memory => Outcome::default(),
        };
        bench::tear_down(engine.into_field());
        Ok(outcome)
    }

    fn plan(&self, kind: Kind, server: &Server) -> Plan {
        let framing = if matches!(kind, Kind::Forwarder(_)) { Framing::Bare } else { self.framing };
        Plan {
            server: if self.transport == Transport::Udp { server.udp } else { server.tcp },
            transport: self.transport,
            tls: server.tls.clone(),
            login: Login::Secret(SECRET.into()),
            allocations: self.allocations,
            framing,
            peers: self.peers,
            size: self.size,
            gso: true,
            // A receiver that does not coalesce: the dearer case for who sends to it, and the usual one.
            gro: false,
            expires: relais::clock::now().unix + 7_200,
            deaf: false,
        }
    }
}

/// What one measurement of one server gave.
#[derive(Debug, Default)]
pub struct Outcome {
    pub figures: Option<Figures>,
    /// The generator was the limit.
    pub is_lower_bound: bool,
    /// Operations per second, nanoseconds for each, failed ones, the last refusal's code.
    pub control: Option<(f64, f64, u64, u16)>,
    /// Bytes for an allocation.
    pub memory: Option<f64>,
}
