use super::*;
use crate::signaling::{Event, Join, Kind, Pass, To};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn start(message_bytes: usize) -> HubHandle {
    let limits = Limits { message_bytes, ..Limits::default() };
    HubHandle::start(&limits, Duration::from_secs(60), |_| None, |_| {})
}

fn wish(peer: &str, room: usize) -> Join {
    Join::nobody(RoomKey::Call(format!("r{room}").into()), peer)
}

async fn join(hub: &HubHandle, peer: &str, room: usize) -> Port {
    let mut port = hub.open(hub.admit(CLIENT).expect("a place"), Speech::Native).await.expect("open");
    port.send(0, Command::Join(Box::new(wish(peer, room)))).await;
    assert!(matches!(port.receive().await, Some((0, Delivery { event: Event::Joined(_), .. }))));
    port
}

#[tokio::test]
async fn a_pass_that_is_spent_meanwhile_opens_nothing() {
    let spent = |pass: &Pass| pass.token.as_deref().filter(|token| *token == "spent").map(|_| Fault::TokenRevoked);
    let hub = HubHandle::start(&Limits::default(), Duration::from_secs(60), spent, |_| {});
    let mut port = hub.open(hub.admit(CLIENT).expect("a place"), Speech::Native).await.expect("open");
    for (token, is_let_in) in [("spent", false), ("good", true)] {
        let pass = Pass { token: Some(token.into()), ..Pass::default() };
        port.send(0, Command::Join(Box::new(Join { pass, ..wish("a", 0) }))).await;
        let event = port.receive().await.expect("told").1.event;
        assert_eq!(matches!(event, Event::Joined(_)), is_let_in, "{event:?}");
        assert_eq!(matches!(event, Event::Closed(Fault::TokenRevoked)), !is_let_in, "{event:?}");
    }
}

#[tokio::test]
async fn a_room_writes_no_fields_of_its_own_into_the_log() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let writer = std::sync::Mutex::new(writer);
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    let guard = tracing::subscriber::set_default(log);
    let hub = start(1000);
    let mut port = hub.open(hub.admit(CLIENT).expect("a place"), Speech::Native).await.expect("open");
    let room = RoomKey::Call("x peer=somebody".into());
    port.send(0, Command::Join(Box::new(Join { room, ..wish("a", 0) }))).await;
    assert!(port.receive().await.is_some());
    // The pipe ends with its last writer.
    drop((guard, port, hub));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&mut reader), &mut line).expect("read");
    assert!(line.contains(r#"room="x peer=somebody" peer=a "#), "{line}");
}

#[tokio::test]
async fn places_are_limited_and_given_back() {
    let hub = start(1000);
    let mut places: Vec<Place> = std::iter::from_fn(|| hub.admit(CLIENT)).collect();
    assert_eq!((places.len(), hub.connections()), (MAX_CONNECTIONS_PER_CLIENT, MAX_CONNECTIONS_PER_CLIENT));
    let other = hub.admit(IpAddr::from([192, 0, 2, 1]));
    assert!(other.is_some());
    places.pop();
    assert!(hub.admit(CLIENT).is_some());
    drop((places, other));
    assert_eq!(hub.connections(), 0);
}

#[tokio::test]
async fn who_does_not_read_is_let_go_and_holds_nobody_up() {
    let hub = start(1000);
    let (mut reader, mut sleeper) = (join(&hub, "reader", 0).await, join(&hub, "sleeper", 0).await);
    let body: crate::signaling::Body =
        serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(10_000))).expect("JSON").into();
    // Over the bytes that may wait, under the number of messages.
    for _ in 0..200 {
        let to = To::Peer("sleeper".into());
        reader.send(0, Command::Send { to, kind: Kind::Offer, body: Some(body.clone()) }).await;
    }
    let mut last = None;
    while let Some((_, delivery)) = reader.receive().await {
        if matches!(delivery.event, Event::PeerLeft { .. }) {
            last = Some(delivery.event);
            break;
        }
    }
    assert!(last.is_some());
    // What waited for it is of no use to anybody any more.
    assert!(sleeper.receive().await.is_none());
    assert!(!hub.is_closing());
    assert_eq!(hub.stats().await.peers, 1);
}

#[tokio::test]
async fn what_waits_for_all_is_bounded_and_the_largest_go_first() {
    let hub = start(1_000_000);
    let mut talker = join(&hub, "talker", 0).await;
    let mut modest = join(&hub, "modest", 0).await;
    let mut sleepers = Vec::new();
    let body: crate::signaling::Body =
        serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(1_000_000))).expect("JSON").into();
    let mut pairs = Vec::new();
    for room in 1..=100 {
        let sender = join(&hub, &format!("sender {room}"), room).await;
        sleepers.push(join(&hub, &format!("sleeper {room}"), room).await);
        pairs.push(sender);
    }
    let mut most = 0;
    for _ in 0..3 {
        for (room, sender) in pairs.iter_mut().enumerate() {
            let to = To::Peer(format!("sleeper {}", room + 1).as_str().into());
            sender.send(0, Command::Send { to, kind: Kind::Offer, body: Some(body.clone()) }).await;
            // The hub has taken it when it answers.
            hub.stats().await;
            most = most.max(hub.queued_bytes());
        }
        let to = To::Peer("modest".into());
        talker.send(0, Command::Send { to, kind: Kind::Candidate, body: None }).await;
    }
    assert!((MAX_QUEUED_BYTES / 2..=MAX_QUEUED_BYTES).contains(&most), "{most}");
    let cut: Vec<_> = sleepers.iter().map(|sleeper| sleeper.queue.held()).filter(|&held| held < 2_000_000).collect();
    assert!(!cut.is_empty() && cut.iter().all(|&held| held == 0), "{cut:?}");
    let mut heard = 0;
    while heard < 3 {
        let (_, delivery) = modest.receive().await.expect("it reads, and holds little");
        heard += usize::from(matches!(delivery.event, Event::Message { .. }));
    }
    assert!(talker.receive().await.is_some());
    drop((talker, modest, sleepers, pairs));
    hub.shutdown().await;
    assert_eq!(hub.queued_bytes(), 0, "what is gone holds nothing");
}

#[tokio::test]
async fn everybody_is_told_of_the_end() {
    let hub = start(1000);
    let mut port = join(&hub, "a", 0).await;
    hub.shutdown().await;
    assert!(matches!(port.receive().await, Some((0, Delivery { event: Event::Closing, .. }))));
    assert!(port.receive().await.is_none());
    assert!(hub.is_closing());
    assert!(hub.admit(CLIENT).is_none());
}

#[tokio::test(start_paused = true)]
async fn sessions_that_may_come_back_count_for_their_client() {
    let hub = HubHandle::start(&Limits::default(), Duration::from_secs(60), |_| None, |_| {});
    let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().expect("address"));
    for _ in 0..MAX_HELD_PER_CLIENT {
        hub.admit(one).expect("room").wait(Duration::from_secs(60));
    }
    assert_eq!(hub.connections(), 0, "they hold up no stop");
    assert!(hub.admit(one).is_none() && hub.admit(other).is_some());
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(hub.admit(one).is_some());
    let clients = hub.shared.clients.lock().expect("lock");
    assert!(clients.is_empty(), "nothing is kept of who is gone");
}
