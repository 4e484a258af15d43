//! What a step of load has shown.

use std::time::Duration;

use serde_json::{Value, json};

use super::histogram::Histogram;
use super::packet::Way;

/// Bytes before a payload that count for nobody: figures are of payloads.
const BITS: f64 = 8.0;

/// One way of a step.
#[derive(Clone, Debug, Default)]
pub struct WayFigures {
    /// Packets that were due.
    pub offered: u64,
    /// Of those, what the generator's own sockets did not take.
    pub unsent: u64,
    pub delivered: u64,
    pub latency: Histogram,
    /// Loss of the allocation that lost least, and of the one that lost most.
    pub spread: (f64, f64),
}

impl WayFigures {
    /// Share of the packets due that did not come.
    pub fn loss(&self) -> f64 {
        if self.offered == 0 {
            return 0.0;
        }
        1.0 - (self.delivered as f64 / self.offered as f64).min(1.0)
    }
}

/// A step of load.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Packets per second asked for, both ways together.
    pub rate: f64,
    pub time: Duration,
    /// Payload bytes of each packet.
    pub size: usize,
    /// By [`Way`].
    pub ways: [WayFigures; 2],
    /// What the hot allocation got, apart from the others.
    pub hot: Option<WayFigures>,
    /// Nanoseconds that the server's process ran.
    pub cpu: Option<u64>,
    /// Its resident memory, in bytes.
    pub memory: Option<u64>,
    /// How late the generator itself was with what was due.
    pub late: Histogram,
    /// Datagrams that the server sent and the generator's sockets had no room for.
    pub missed: u64,
    /// The generator could not keep up: what the server could have done is not known.
    pub limited_by_generator: bool,
}

impl Figures {
    /// One way.
    pub fn way(&self, way: Way) -> &WayFigures {
        &self.ways[way as usize]
    }

    /// Packets delivered, both ways together, the hot allocation's included.
    pub fn delivered(&self) -> u64 {
        self.ways.iter().chain(&self.hot).map(|way| way.delivered).sum()
    }

    /// Packets delivered per second.
    pub fn delivered_rate(&self) -> f64 {
        self.delivered() as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The loss of the way that lost most.
    pub fn loss(&self) -> f64 {
        self.ways.iter().map(WayFigures::loss).fold(0.0, f64::max)
    }

    /// The server's CPU time for each packet delivered, in nanoseconds.
    pub fn cpu_per_packet(&self) -> Option<f64> {
        Some(self.cpu? as f64 / self.delivered().max(1) as f64)
    }

    /// How much of one core the server used, 1 for all of it.
    pub fn cpu_share(&self) -> Option<f64> {
        Some(self.cpu? as f64 / self.time.as_nanos().max(1) as f64)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "rate": self.rate,
            "seconds": self.time.as_secs_f64(),
            "size": self.size,
            "delivered_per_second": self.delivered_rate().round(),
            "loss": self.loss(),
            "to_peer": self.way_json(self.way(Way::ToPeer)),
            "to_client": self.way_json(self.way(Way::ToClient)),
            "hot": self.hot.as_ref().map(|hot| self.way_json(hot)),
            "server_cpu_ns_per_packet": self.cpu_per_packet().map(f64::round),
            "server_cpu_share": self.cpu_share(),
            "server_memory_bytes": self.memory,
            "generator_missed": self.missed,
            "generator_late_p99_us": micros(self.late.quantile(0.99)),
            "limited_by_generator": self.limited_by_generator,
        })
    }

    fn way_json(&self, way: &WayFigures) -> Value {
        let rate = way.delivered as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE);
        json!({
            "offered": way.offered,
            "unsent": way.unsent,
            "delivered": way.delivered,
            "loss": way.loss(),
            "least_loss_of_an_allocation": way.spread.0,
            "most_loss_of_an_allocation": way.spread.1,
            "packets_per_second": rate.round(),
            "mbit_per_second": rate * self.size as f64 * BITS / 1e6,
            "latency_us": {
                "p50": micros(way.latency.quantile(0.5)),
                "p99": micros(way.latency.quantile(0.99)),
                "p99_9": micros(way.latency.quantile(0.999)),
                "max": micros(way.latency.quantile(1.0)),
            },
        })
    }
}

/// Microseconds, for JSON.
pub fn micros(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_nanos() as f64 / 1000.0)
}
