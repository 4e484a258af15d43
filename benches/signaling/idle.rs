//! What an idle connection costs: memory of the server's process before and after many have joined their rooms.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Run;
use super::dialect::{Client, Dialect, Seat};
use super::servers::{Kind, Options, Server};
use super::wire::Target;

/// Connections before the first measurement: code, caches and compilers are warm then.
const WARM: usize = 200;
/// Rooms that fill at the same time.
const AT_ONCE: usize = 64;
/// How long the server has to calm down.
const CALM: Duration = Duration::from_secs(2);

/// KiB for each connection.
pub struct Figures {
    pub rss: f64,
    pub private: f64,
    pub anonymous: f64,
    /// CPU of the server for each connection, up to the complete room, in microseconds.
    pub cpu: f64,
}

pub async fn run(run: &Run, kind: Kind, tls: bool) -> anyhow::Result<Figures> {
    let server = Server::start(kind, Options { tls, recovery: false }, &run.identity)?;
    let _warm = fill(&server.target, kind.dialect(), 0..WARM / 2).await?;
    tokio::time::sleep(CALM).await;
    let (before, cpu_before) = (server.memory().await?, server.cpu()?);
    let _all = fill(&server.target, kind.dialect(), WARM / 2..(WARM + run.connections) / 2).await?;
    tokio::time::sleep(CALM).await;
    let cpu = server.cpu()? - cpu_before;
    tokio::time::sleep(run.rest).await;
    let after = server.memory().await?;
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / run.connections as f64;
    Ok(Figures {
        rss: each(after.rss, before.rss),
        private: each(after.private, before.private),
        anonymous: each(after.anonymous, before.anonymous),
        cpu: cpu.as_secs_f64() * 1e6 / run.connections as f64,
    })
}

/// Fills rooms with two clients each, who stay until the set is dropped.
async fn fill(target: &Target, dialect: Dialect, rooms: std::ops::Range<usize>) -> anyhow::Result<JoinSet<()>> {
    let mut staying = JoinSet::new();
    let (done, mut ready) = mpsc::unbounded_channel();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let count = rooms.len();
    for room in rooms {
        let (target, done, places) = (target.clone(), done.clone(), Arc::clone(&places));
        staying.spawn(async move {
            let entered = {
                let _place = places.acquire_owned().await;
                pair(&target, dialect, room).await
            };
            match entered {
                Ok((mut first, mut second)) => {
                    let _ = done.send(Ok(()));
                    // Nobody speaks; this answers the heartbeats.
                    let _ = tokio::join!(first.hear(), second.hear());
                }
                Err(error) => drop(done.send(Err(error))),
            }
        });
    }
    for _ in 0..count {
        ready.recv().await.transpose()?;
    }
    Ok(staying)
}

/// The two clients of a room.
pub async fn pair(target: &Target, dialect: Dialect, room: usize) -> std::io::Result<(Client, Client)> {
    let mut first = Client::enter(target, dialect, Seat { index: 2 * room }, None).await?;
    let mut second = Client::enter(target, dialect, Seat { index: 2 * room + 1 }, None).await?;
    first.meet().await?;
    second.meet().await?;
    Ok((first, second))
}
