//! What a step of load is, and when its packets are due.

use std::time::Duration;

use super::packet::Way;

/// A step of load.
#[derive(Clone, Debug)]
pub struct Step {
    /// Packets per second, both ways together.
    pub rate: f64,
    /// Packets that are due at the same moment, on the same flow.
    pub burst: usize,
    pub ways: Vec<Way>,
    /// Not counted, at the start.
    pub warm: Duration,
    pub time: Duration,
    /// Packets per second of the first flow beside its share, in bursts of 12.
    pub hot: f64,
    /// The way of the hot ones.
    pub hot_way: Way,
}

/// When the packets of one way are due: flow after flow, at even distances.
#[derive(Debug)]
pub struct Beat {
    pub way: Way,
    interval: f64,
    start: u64,
    pub count: u64,
    /// All on this flow.
    only: Option<usize>,
    pub burst: usize,
}

impl Beat {
    /// The moment of the next burst.
    pub fn due(&self) -> u64 {
        self.start + (self.count as f64 * self.interval) as u64
    }

    /// The flow of the next burst, of so many.
    pub fn flow(&self, flows: usize) -> usize {
        self.only.unwrap_or((self.count % flows.max(1) as u64) as usize)
    }
}

/// What is due in `step`, from `begin` on.
pub fn of(step: &Step, begin: u64) -> Vec<Beat> {
    let ways = step.ways.len().max(1) as f64;
    let interval = step.burst as f64 * ways / step.rate.max(f64::MIN_POSITIVE) * 1e9;
    let beat = |(index, way): (usize, &Way)| {
        let start = begin + (interval * index as f64 / ways) as u64;
        Beat { way: *way, interval, start, count: 0, only: None, burst: step.burst }
    };
    let mut beats: Vec<Beat> = step.ways.iter().enumerate().map(beat).collect();
    if step.hot > 0.0 {
        let interval = 12.0 / step.hot * 1e9;
        beats.push(Beat { way: step.hot_way, interval, start: begin, count: 0, only: Some(0), burst: 12 });
    }
    beats
}
