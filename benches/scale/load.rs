//! One step of load in a process of its own, as the harness describes it.

use std::net::SocketAddr;
use std::time::Duration;

use relais::bench::{self, Framing, Login, Peers, Plan, Process, Step, Way};
use relais::relay::Transport;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::server::{Load, Server};

pub const SECRET: &str = "north";
/// Not counted, at the start.
const WARM: Duration = Duration::from_millis(500);
/// Credentials are good for longer than any run.
const GOOD: u64 = 7_200;
/// Of a hot allocation: bulk data, which costs the generator little and the server much.
const HOT_BURST: usize = 64;
/// Packets per second that are tried at most.
const MOST: f64 = 20_000_000.0;
/// How near a share of a core must be to the one wanted.
const NEAR: f64 = 0.02;
/// How often a rate is corrected.
const TRIES: usize = 8;

/// What is to be done to a server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Job {
    pub server: SocketAddr,
    pub pid: u32,
    /// To the bare forwarder.
    pub is_bare: bool,
    pub allocations: usize,
    pub size: usize,
    pub burst: usize,
    pub rate: f64,
    pub seconds: f64,
    /// Packets per second of the first allocation besides, read by nobody.
    pub hot: f64,
    pub hot_to_client: bool,
    /// Clients and peers take runs of packets as one message.
    pub gro: bool,
}

impl Job {
    /// Speech of `allocations` at `rate` packets per second, both ways together.
    pub fn speech(server: &Server, allocations: usize, rate: f64, seconds: f64) -> Self {
        Self {
            server: server.udp,
            pid: server.id(),
            is_bare: server.tcp.is_none(),
            allocations,
            size: 160,
            burst: 1,
            rate,
            seconds,
            hot: 0.0,
            hot_to_client: false,
            gro: true,
        }
    }

    /// Does it, and gives its figures.
    pub fn run(&self) -> anyhow::Result<Value> {
        let plan = Plan {
            server: self.server,
            transport: Transport::Udp,
            tls: None,
            login: Login::Secret(SECRET.into()),
            allocations: self.allocations,
            framing: if self.is_bare { Framing::Bare } else { Framing::Channel },
            peers: Peers::Own,
            size: self.size,
            gso: true,
            gro: self.gro,
            expires: relais::clock::now().unix + GOOD,
            deaf: self.hot > 0.0,
        };
        let step = Step {
            rate: self.rate,
            burst: self.burst,
            ways: vec![Way::ToPeer, Way::ToClient],
            warm: WARM,
            time: Duration::from_secs_f64(self.seconds),
            hot: self.hot,
            hot_burst: HOT_BURST,
            hot_way: if self.hot_to_client { Way::ToClient } else { Way::ToPeer },
        };
        let process = Process::new(self.pid).map_err(anyhow::Error::msg)?;
        let (mut engine, _) = bench::set_up(&plan, Some(&process))?;
        let figures = engine.run(&step, Some(&process), |_, _| {})?;
        bench::tear_down(engine.into_field());
        Ok(figures.json())
    }
}

/// The rate at which `job`, on core 1, keeps the server busy for `share` of a core.
pub fn rate_for(job: &Job, share: f64) -> anyhow::Result<f64> {
    find(job, share, |job| &mut job.rate)
}

/// The rate of its hot allocation at which it does.
pub fn hot_for(job: &Job, share: f64) -> anyhow::Result<f64> {
    find(job, share, |job| &mut job.hot)
}

fn find(job: &Job, share: f64, rate: fn(&mut Job) -> &mut f64) -> anyhow::Result<f64> {
    let mut job = Job { seconds: 1.5, ..job.clone() };
    for _ in 0..TRIES {
        let figures = Load::start(&job, "1")?.finish()?;
        let found = number(&figures, "/server_cpu_share").max(0.01);
        let rate = rate(&mut job);
        eprintln!("    {rate:.0} packets/s take {:.0} % of a core", found * 100.0);
        if (found / share - 1.0).abs() < NEAR || (*rate >= MOST && found < share) {
            break;
        }
        *rate = (*rate * (share / found).clamp(0.5, 1.6)).min(MOST).round();
    }
    Ok(*rate(&mut job))
}

/// A figure of a load, NaN when there is none.
pub fn number(figures: &Value, pointer: &str) -> f64 {
    figures.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The larger of both ways' latencies, in microseconds; `of`: `p50`, `p99`, `p99_9`.
pub fn latency(figures: &Value, of: &str) -> f64 {
    ["to_peer", "to_client"]
        .map(|way| number(figures, &format!("/{way}/latency_us/{of}")))
        .into_iter()
        .fold(0.0, f64::max)
}

/// Packets that did not come, both ways together, without the hot ones.
pub fn lost(figures: &Value) -> f64 {
    let of = |way: &str, what: &str| number(figures, &format!("/{way}/{what}"));
    ["to_peer", "to_client"].iter().map(|way| of(way, "offered") - of(way, "delivered")).sum()
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
