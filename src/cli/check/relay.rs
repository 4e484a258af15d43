//! Packets through the relay: two allocations of the independent `turn` client send to each other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

use super::cause::{Cause, Fault};
use super::open::{Connection, Opener};
use super::target::Transport;
use crate::clock;

/// Packets sent each way, of the size and at the rate of a voice call.
const PACKETS: u32 = 50;
const PACKET_BYTES: usize = 160;
const INTERVAL: Duration = Duration::from_millis(20);
/// Time for the last packet to come back.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Tries to open the way between the allocations before the count begins.
const WARM_UP: u32 = 10;
/// Number of a warm-up packet, which is not counted.
const UNCOUNTED: u32 = u32::MAX;

/// The username and password to authenticate with.
#[derive(Clone, Debug)]
pub struct Login {
    pub username: String,
    pub password: String,
    /// Seconds by which the server's clock is ahead of ours, where it told.
    pub skew: Option<i64>,
}

/// What came of the packets.
#[derive(Clone, Debug, Default)]
pub struct Passage {
    /// The relayed address of the first allocation.
    pub relayed: Option<SocketAddr>,
    pub sent: u32,
    pub received: u32,
    /// Round trips client - relay - relay - client and back, in the order of arrival.
    pub round_trips: Vec<Duration>,
}

/// One client of the server and its allocation.
struct Allocation {
    client: Client,
    conn: Arc<dyn Conn + Send + Sync>,
    relayed: SocketAddr,
}

/// Makes two allocations and sends packets from one to the other, which sends them back.
pub async fn round_trip(
    opener: &Opener,
    transport: Transport,
    server: SocketAddr,
    login: &Login,
) -> Result<Passage, Fault> {
    let near = allocate(opener, transport, server, login).await?;
    let far = allocate(opener, transport, server, login).await?;
    let echo = echo(&far, near.relayed);
    let passage = send_and_count(&near, far.relayed, opener.timeout).await;
    echo.abort();
    for allocation in [&near, &far] {
        let _ = allocation.conn.close().await;
        let _ = allocation.client.close().await;
    }
    passage
}

async fn allocate(
    opener: &Opener,
    transport: Transport,
    server: SocketAddr,
    login: &Login,
) -> Result<Allocation, Fault> {
    let conn: Connection = opener.open(transport, server).await?;
    let config = ClientConfig {
        stun_serv_addr: server.to_string(),
        turn_serv_addr: server.to_string(),
        username: login.username.clone(),
        password: login.password.clone(),
        realm: String::new(),
        software: String::new(),
        rto_in_ms: 0,
        conn,
        vnet: None,
    };
    let client = Client::new(config).await.map_err(Fault::other)?;
    client.listen().await.map_err(Fault::other)?;
    let allocated = tokio::time::timeout(opener.timeout, client.allocate()).await;
    let conn = allocated.map_err(|_| no_answer("Allocate"))?;
    let conn = conn.map_err(|error| refusal(&error.to_string(), login))?;
    let relayed = conn.local_addr().map_err(Fault::other)?;
    Ok(Allocation { client, conn: Arc::new(conn), relayed })
}

fn no_answer(what: &str) -> Fault {
    Fault::new(Cause::NoAnswer, format!("no answer to {what}"))
}

/// The cause behind an error answer to Allocate; `text` holds `error CODE`.
pub fn refusal(text: &str, login: &Login) -> Fault {
    let says = |code: &str| text.contains(&format!("error {code}"));
    let (cause, remedy) = if says("401") {
        return unauthorized(text, login);
    } else if says("441") {
        (Cause::CredentialWrong, "the server knows another user on this connection")
    } else if says("486") {
        (Cause::QuotaReached, "this user's quota is used up: wait, or raise limits.allocations_per_subject")
    } else if says("508") {
        (Cause::OutOfPorts, "the server is out of relay ports or at its limit")
    } else if says("440") {
        (Cause::NoRelay, "the server does not relay this address family")
    } else {
        return Fault::other(format!("Allocate failed: {text}"));
    };
    Fault::new(cause, format!("Allocate failed: {remedy} ({text})"))
}

/// 401 to a request with credentials: a time-limited one tells by itself whether it is too old.
fn unauthorized(text: &str, login: &Login) -> Fault {
    let now = clock::now().unix;
    let expiry =
        login.username.split(':').find_map(|part| part.parse::<u64>().ok()).filter(|time| *time > 1_000_000_000);
    let skew = login.skew.unwrap_or(0);
    let (cause, reason) = match expiry {
        Some(expiry) if expiry <= now => {
            let ago = Duration::from_secs(now - expiry);
            (Cause::CredentialExpired, format!("the credential expired {} s ago", ago.as_secs()))
        }
        Some(expiry) if skew > 0 && expiry <= now.saturating_add_signed(skew) => (
            Cause::ClockSkew,
            format!("the server's clock is {skew} s ahead of ours, by which the credential has expired"),
        ),
        Some(_) => (Cause::CredentialWrong, "the credential was not made with the server's secret".to_owned()),
        None => (Cause::CredentialWrong, "the user name or the password is wrong".to_owned()),
    };
    Fault::new(cause, format!("Allocate failed: {reason} ({text})"))
}

/// Sends everything that arrives at `far` back to `near`. The first packet opens `far`'s permission.
fn echo(far: &Allocation, near: SocketAddr) -> JoinHandle<()> {
    let conn = Arc::clone(&far.conn);
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        if conn.send_to(&packet(UNCOUNTED), near).await.is_err() {
            return;
        }
        while let Ok((length, from)) = conn.recv_from(&mut buffer).await {
            let _ = conn.send_to(&buffer[..length], from).await;
        }
    })
}

async fn send_and_count(near: &Allocation, far: SocketAddr, patience: Duration) -> Result<Passage, Fault> {
    let mut passage = Passage { relayed: Some(near.relayed), ..Passage::default() };
    let permitted = tokio::time::timeout(patience, near.conn.send_to(&packet(UNCOUNTED), far)).await;
    match permitted {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(forbidden(far.ip(), &error.to_string())),
        Err(_) => return Err(no_answer("CreatePermission")),
    }
    warm_up(near, far).await?;
    let mut sent = Vec::new();
    let mut interval = tokio::time::interval(INTERVAL);
    let mut back = vec![false; PACKETS as usize];
    while passage.sent < PACKETS {
        tokio::select! {
            _ = interval.tick() => {
                sent.push(clock::stopwatch());
                near.conn.send_to(&packet(passage.sent), far).await.map_err(Fault::other)?;
                passage.sent += 1;
            }
            number = receive(near) => count(&mut passage, &sent, &mut back, number?),
        }
    }
    let rest = async {
        while passage.received < passage.sent {
            match receive(near).await {
                Ok(number) => count(&mut passage, &sent, &mut back, number),
                Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(LAST_WAIT, rest).await;
    Ok(passage)
}

/// Sends until one packet has been all the way and back: permissions and channels of both sides then stand.
async fn warm_up(near: &Allocation, far: SocketAddr) -> Result<(), Fault> {
    for _ in 0..WARM_UP {
        let _ = near.conn.send_to(&packet(UNCOUNTED), far).await;
        if tokio::time::timeout(Duration::from_millis(200), receive(near)).await.is_ok() {
            return Ok(());
        }
    }
    let text = format!(
        "nothing comes through the relay: packets from {} to {far} are lost; a firewall on the server drops its relay \
         ports, or the server is behind NAT and does not know its public address",
        near.relayed
    );
    Err(Fault::new(Cause::RelayLost, text))
}

/// The number of the next packet that comes back.
async fn receive(near: &Allocation) -> Result<u32, Fault> {
    let mut buffer = [0; 2048];
    let (length, _) = near.conn.recv_from(&mut buffer).await.map_err(Fault::other)?;
    let number = buffer[..length].first_chunk().copied().map_or(UNCOUNTED, u32::from_be_bytes);
    Ok(number)
}

fn count(passage: &mut Passage, sent: &[Instant], back: &mut [bool], number: u32) {
    let place = number as usize;
    let (Some(sent), Some(seen)) = (sent.get(place), back.get_mut(place)) else { return };
    if !std::mem::replace(seen, true) {
        passage.received += 1;
        passage.round_trips.push(sent.elapsed());
    }
}

fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0; PACKET_BYTES];
    packet[..4].copy_from_slice(&number.to_be_bytes());
    packet
}

fn forbidden(far: IpAddr, error: &str) -> Fault {
    let text =
        format!("CreatePermission for {far} failed: {error}; the server refuses its own relayed address as a peer");
    Fault::new(Cause::RelayLost, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_credential_is_told_from_a_wrong_one() {
        let now = clock::now().unix;
        let cause = |username: String, skew| {
            let login = Login { username, password: String::new(), skew };
            refusal("Allocate error response (error 401: Unauthorized)", &login).cause
        };
        assert_eq!(cause(format!("{}:c.x", now - 60), None), Cause::CredentialExpired);
        assert_eq!(cause(format!("c.x:{}", now - 60), None), Cause::CredentialExpired);
        assert_eq!(cause(format!("{}:c.x", now + 600), None), Cause::CredentialWrong);
        assert_eq!(cause(format!("{}:c.x", now + 600), Some(3600)), Cause::ClockSkew);
        assert_eq!(cause(format!("{}:c.x", now + 600), Some(-3600)), Cause::CredentialWrong);
        assert_eq!(cause("alice".into(), Some(3600)), Cause::CredentialWrong);
        assert_eq!(cause("alice:12".into(), None), Cause::CredentialWrong);
    }
}
