//! Signaling while the relay works, in the same process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::dialect::{Client, Dialect, Kind, Seat};
use super::load::{Job, number, rate_for};
use super::report::Report;
use super::server::{Load, Server};
use super::wire::Target;

const ROOMS: usize = 50;
/// From one message to the next.
const GAP: Duration = Duration::from_millis(2);
/// Set-up and warm-up of the load come before the first message, and it lasts this much longer than the talk.
const LEAD: Duration = Duration::from_millis(1_200);
const TAIL: f64 = 2.5;
const ALLOCATIONS: usize = 200;
const SHARE: f64 = 0.8;
/// What the p99 may grow to.
const WORST: f64 = 2.0;

pub fn run(seconds: f64, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let server = Server::relais(1, "0,1")?;
    server.pin_shards()?;
    let forwarder = Server::forwarder("0")?;
    let job = |server: &Server| Job::speech(server, ALLOCATIONS, 120_000.0, seconds + TAIL);
    let busy = |server: &Server| anyhow::Ok(Job { rate: rate_for(&job(server), SHARE)?, ..job(server) });
    let loads = [None, Some(busy(&forwarder)?), Some(busy(&server)?)];
    let mut all: [Vec<f64>; 3] = Default::default();
    let mut shares = [0.0; 3];
    for _ in 0..rounds {
        for ((job, samples), share) in loads.iter().zip(&mut all).zip(&mut shares) {
            let load = job.as_ref().map(|job| Load::start(job, "1")).transpose()?;
            std::thread::sleep(LEAD);
            samples.extend(talk(&server, Duration::from_secs_f64(seconds))?);
            if let Some(load) = load {
                *share += number(&load.finish()?, "/server_cpu_share") / rounds as f64;
            }
        }
    }
    report.head("Signaling while the relay works");
    report.text(&format!(
        "{ROOMS} rooms of two, {:.0} messages/s, native protocol; the time from sending a message to its arrival at the other \
         client, {rounds} rounds in turns. On two cores the clients, the generator and the server's signaling threads share \
         what the shard leaves, so the comparison is with the same machine as busy for another process: a bare forwarder on core \
         0 takes the share of the shard, with the same generator on core 1. The first line is the machine at rest.",
        1.0 / GAP.as_secs_f64()
    ));
    report.text("| core 0 works for | its share | p50, us | p99, us | p99.9, us |\n|---|---|---|---|---|");
    let names = ["nobody", "a bare forwarder", "Relais' own relay"];
    let found = all.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        [0.5, 0.99, 0.999]
            .map(|share| samples.get((samples.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN))
    });
    for ((name, share), [p50, p99, p999]) in names.iter().zip(shares).zip(&found) {
        report.text(&format!("| {name} | {:.0} % | {p50:.0} | {p99:.0} | {p999:.0} |", share * 100.0));
    }
    let [rest, beside, within] = found.map(|[_, p99, _]| p99);
    report.verdict(
        "signaling p99 with the relay at 80 % of a core within twice of idle",
        &format!("{:.2} times ({:.2} times the machine at rest)", within / beside, within / rest),
        within / beside <= WORST,
    );
    Ok(())
}

/// Rooms of two exchange candidates; how long each took, in microseconds.
fn talk(server: &Server, time: Duration) -> anyhow::Result<Vec<f64>> {
    let address = server.tcp.ok_or_else(|| anyhow::anyhow!("no TCP address"))?;
    let target = Target { address, tls: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let start = relais::clock::stopwatch();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (mut mouths, mut listening) = (Vec::new(), JoinSet::new());
        for room in 0..ROOMS {
            let mut first = Client::enter(&target, Dialect::Native, Seat { index: 2 * room }, None).await?;
            let mut second = Client::enter(&target, Dialect::Native, Seat { index: 2 * room + 1 }, None).await?;
            first.meet().await?;
            second.meet().await?;
            mouths.push(first.mouth());
            let samples = Arc::clone(&samples);
            listening.spawn(async move {
                while let Ok(sent) = second.hear().await {
                    let took = (start.elapsed().as_nanos() as u64).saturating_sub(sent) as f64 / 1_000.0;
                    samples.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                }
            });
            // It stays, and answers what it is asked.
            listening.spawn(async move { while first.hear().await.is_ok() {} });
        }
        let mut ticks = tokio::time::interval(GAP);
        let count = (time.as_nanos() / GAP.as_nanos()) as usize;
        for mouth in mouths.iter().cycle().take(count) {
            ticks.tick().await;
            mouth.say(Kind::Candidate, start.elapsed().as_nanos() as u64).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let samples = samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        anyhow::ensure!(samples.len() * 1000 >= count * 999, "{} of {count} messages came", samples.len());
        Ok(samples)
    })
}
