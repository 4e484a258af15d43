//! What relaying costs: rooms of two exchange offers, answers and candidates at a set rate, which does not wait for the
//! server (an open loop), so that what it delays is counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::dialect::{Kind as Message, Mouth};
use super::servers::{Kind, Options, Server};
use super::{Run, idle, now};

/// Rooms at the same time.
pub const ROOMS: usize = 500;
/// Left out of the figures.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the last messages may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A call: an offer, an answer, and five candidates of each side.
const CALL: usize = 12;

pub struct Figures {
    /// Milliseconds from the moment a message was due to its arrival.
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    /// Share of its core, in percent.
    pub cpu: f64,
    /// Microseconds of CPU for each message.
    pub cpu_each: f64,
    pub lost: usize,
}

type Samples = Arc<Mutex<Vec<(u64, u64)>>>;

/// `rate`: messages per second of all rooms together.
pub async fn run(run: &Run, kind: Kind, rate: u32) -> anyhow::Result<Figures> {
    let server = Server::start(kind, Options::default(), &run.identity)?;
    let samples = Samples::default();
    let start = now();
    let mut listening = JoinSet::new();
    let mut mouths = Vec::new();
    for room in 0..ROOMS {
        let (first, second) = idle::pair(&server.target, kind.dialect(), room).await?;
        mouths.push([first.mouth(), second.mouth()]);
        for mut client in [first, second] {
            let samples = Arc::clone(&samples);
            listening.spawn(async move {
                while let Ok(due) = client.hear().await {
                    let at = start.elapsed().as_nanos() as u64;
                    samples.lock().unwrap_or_else(PoisonError::into_inner).push((due, at.saturating_sub(due)));
                }
            });
        }
    }
    let begin = start.elapsed() + Duration::from_millis(200);
    speak(&mouths, start, begin..begin + WARM_UP, rate).await?;
    let cpu_before = server.cpu()?;
    let (from, to) = (begin + WARM_UP, begin + WARM_UP + run.seconds);
    let sent = speak(&mouths, start, from..to, rate).await?;
    let cpu = server.cpu()? - cpu_before;
    let mut latencies = Vec::new();
    while latencies.len() < sent && start.elapsed() < to + PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let all = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let measured = all.iter().filter(|(due, _)| Duration::from_nanos(*due) >= from);
        latencies = measured.map(|(_, latency)| *latency).collect();
    }
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
    };
    Ok(Figures {
        p50: at(0.5),
        p99: at(0.99),
        max: at(1.0),
        cpu: cpu.as_secs_f64() / run.seconds.as_secs_f64() * 100.0,
        cpu_each: cpu.as_secs_f64() * 1e6 / sent as f64,
        lost: sent.saturating_sub(latencies.len()),
    })
}

/// Sends evenly in a span of time, whatever comes back. How many were sent.
async fn speak(
    mouths: &[[Mouth; 2]],
    start: Instant,
    span: std::ops::Range<Duration>,
    rate: u32,
) -> anyhow::Result<usize> {
    let step = Duration::from_secs(1) / rate;
    let count = ((span.end - span.start).as_nanos() / step.as_nanos()) as usize;
    for index in 0..count {
        let due = span.start + step * index as u32;
        // Timers are too coarse: this core is ours.
        while start.elapsed() < due {
            tokio::task::yield_now().await;
        }
        let position = index / mouths.len() % CALL;
        let message = match position {
            0 => Message::Offer,
            1 => Message::Answer,
            _ => Message::Candidate,
        };
        mouths[index % mouths.len()][position % 2].say(message, due.as_nanos() as u64).await?;
    }
    Ok(count)
}
