//! A reconnect storm: everybody is in a call, all connections are cut at once, and all come back as soon as they can.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dialect::{Client, Dialect, Kind as Message, Pass, Seat};
use super::servers::{Kind, Options, Server};
use super::wire::Target;
use super::{Run, idle, now};

/// Rooms that fill at the same time, before the storm.
const AT_ONCE: usize = 64;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a client waits after an attempt that failed.
const BACK_OFF: Duration = Duration::from_millis(500);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Figures {
    /// Seconds from the cut until half, 99 % and all of the clients were in their rooms again.
    pub half: f64,
    pub most: f64,
    pub all: f64,
    /// Clients that came back as the peer that they were.
    pub same: usize,
    /// Clients that did not come back, and those whose partner no longer reaches them.
    pub lost: usize,
    pub deaf: usize,
    /// Attempts that failed on the way.
    pub failures: usize,
    /// CPU of the server from the cut to the end, in seconds.
    pub cpu: f64,
    /// Memory of the server after it all, in MiB.
    pub rss: f64,
}

/// How often each thing went wrong.
type Troubles = Arc<Mutex<BTreeMap<String, usize>>>;

/// Handshakes that are under way at the same time: the clients of a storm have a processor each, ours share one.
const TLS_AT_ONCE: usize = 1000;

struct Back {
    client: Client,
    after: Duration,
    failures: usize,
}

pub async fn run(run: &Run, kind: Kind, tls: bool) -> anyhow::Result<Figures> {
    let server = Server::start(kind, Options { tls, recovery: true }, &run.identity)?;
    let dialect = kind.dialect();
    let mut clients = gather(&server.target, dialect, run.connections / 2).await?;
    let left: Vec<(Seat, Pass, String)> =
        clients.iter().map(|(seat, client)| (*seat, client.pass().clone(), client.partner().to_owned())).collect();
    let cpu_before = server.cpu()?;
    clients.clear();
    let cut = now();
    let mut returning = JoinSet::new();
    let troubles = Troubles::default();
    let places = Arc::new(Semaphore::new(if tls { TLS_AT_ONCE } else { Semaphore::MAX_PERMITS }));
    for (seat, pass, partner) in left {
        let (target, places, troubles) = (server.target.clone(), Arc::clone(&places), Arc::clone(&troubles));
        returning.spawn(async move {
            let mut failures = 0;
            while cut.elapsed() < PATIENCE {
                let attempt = {
                    let _place = places.acquire().await;
                    come_back(&target, dialect, seat, &pass).await
                };
                match attempt {
                    Ok(mut client) => {
                        client.set_partner(partner);
                        return Some(Back { client, after: cut.elapsed(), failures });
                    }
                    Err(error) => {
                        *troubles
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .entry(error.to_string())
                            .or_default() += 1;
                    }
                }
                failures += 1;
                tokio::time::sleep(BACK_OFF).await;
            }
            None
        });
    }
    let mut back = Vec::new();
    while let Some(returned) = returning.join_next().await {
        back.extend(returned?);
    }
    let cpu = server.cpu()? - cpu_before;
    for (trouble, count) in troubles.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        eprintln!("{}: {count} attempts failed: {trouble}", kind.name());
    }
    back.sort_by_key(|back| back.after);
    let at = |share: f64| {
        let index = (run.connections as f64 * share).ceil() as usize;
        back.get(index.saturating_sub(1)).map_or(f64::NAN, |back| back.after.as_secs_f64())
    };
    let (half, most, all) = (at(0.5), at(0.99), at(1.0));
    let (lost, same) = (run.connections - back.len(), back.iter().filter(|back| back.client.is_same).count());
    let failures = back.iter().map(|back| back.failures).sum();
    let deaf = deaf(back).await?;
    let rss = server.memory().await?.rss as f64 / 1024.0;
    Ok(Figures { half, most, all, same, lost, deaf, failures, cpu: cpu.as_secs_f64(), rss })
}

/// Fills the rooms, and lets everybody hear from the partner once.
async fn gather(target: &Target, dialect: Dialect, rooms: usize) -> anyhow::Result<Vec<(Seat, Client)>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut gathering = JoinSet::new();
    for room in 0..rooms {
        let (target, places) = (target.clone(), Arc::clone(&places));
        gathering.spawn(async move {
            let _place = places.acquire_owned().await;
            let (mut first, mut second) = idle::pair(&target, dialect, room).await?;
            first.mouth().say(Message::Offer, 1).await?;
            second.hear_and_note().await?;
            second.mouth().say(Message::Answer, 2).await?;
            first.hear_and_note().await?;
            io::Result::Ok([(Seat { index: 2 * room }, first), (Seat { index: 2 * room + 1 }, second)])
        });
    }
    let mut clients = Vec::new();
    while let Some(gathered) = gathering.join_next().await {
        clients.extend(gathered??);
    }
    Ok(clients)
}

async fn come_back(target: &Target, dialect: Dialect, seat: Seat, pass: &Pass) -> io::Result<Client> {
    timeout(ATTEMPT, Client::enter(target, dialect, seat, Some(pass))).await?
}

/// Everybody speaks to the partner; how many hear nothing.
async fn deaf(back: Vec<Back>) -> anyhow::Result<usize> {
    let mouths: Vec<_> = back.iter().map(|back| back.client.mouth()).collect();
    let mut hearing = JoinSet::new();
    for Back { mut client, .. } in back {
        hearing.spawn(async move { matches!(timeout(ATTEMPT, client.hear()).await, Ok(Ok(_))) });
    }
    for mouth in mouths {
        // Who cannot be spoken for leaves the partner deaf, which is counted.
        let _ = mouth.say(Message::Candidate, 3).await;
    }
    let mut deaf = 0;
    while let Some(heard) = hearing.join_next().await {
        deaf += usize::from(!heard?);
    }
    Ok(deaf)
}
