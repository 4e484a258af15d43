//! The cases of Engine.IO 4.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Case;
use super::applications::{PING_INTERVAL, PING_TIMEOUT, World};
use super::client::{Answer, Polling, Socket};

/// What holds whatever the messages mean.
pub(crate) const TRANSPORT: &[Case] = &[
    ("polling: the open packet tells the terms", "Handshake", |world| Box::pin(polling_opens(world))),
    ("polling: another protocol version is refused", "Handshake", |world| Box::pin(polling_version(world))),
    ("polling: an unknown transport is refused", "Handshake", |world| Box::pin(polling_transport(world))),
    ("polling: only GET opens a session", "Handshake", |world| Box::pin(polling_method(world))),
    ("WebSocket: the open packet tells the terms", "Handshake", |world| Box::pin(socket_opens(world))),
    ("WebSocket: another protocol version is refused", "Handshake", |world| Box::pin(socket_version(world))),
    ("WebSocket: an unknown transport is refused", "Handshake", |world| Box::pin(socket_transport(world))),
    ("polling: pings come and pongs keep the session", "Heartbeat", |world| Box::pin(polling_heartbeat(world))),
    ("polling: without a pong the session ends", "Heartbeat", |world| Box::pin(polling_silence(world))),
    ("WebSocket: pings come and pongs keep the session", "Heartbeat", |world| Box::pin(socket_heartbeat(world))),
    ("WebSocket: without a pong the session ends", "Heartbeat", |world| Box::pin(socket_silence(world))),
    ("polling: the client closes, its poll is let go", "Packet: close", |world| Box::pin(polling_close(world))),
    ("WebSocket: the client closes", "Packet: close", |world| Box::pin(socket_close(world))),
    ("probe, pong and a released poll, then the switch", "Upgrade", |world| Box::pin(upgrade(world))),
    ("behind the switch HTTP requests are refused", "Upgrade", |world| Box::pin(upgrade_then_poll(world))),
    ("behind the switch another WebSocket is closed", "Upgrade", |world| Box::pin(upgrade_then_socket(world))),
];

/// What needs the echo.
pub(crate) const MESSAGES: &[Case] = &[
    ("polling: one text there and back", "Packet: message", |world| Box::pin(polling_echo(world, "4hello"))),
    ("polling: several texts in one body", "HTTP: payload", |world| {
        Box::pin(polling_echo(world, "4a\u{1e}4b\u{1e}4c"))
    }),
    ("polling: text and base64 in one body", "HTTP: payload", |world| {
        Box::pin(polling_echo(world, "4hello\u{1e}bAQIDBA=="))
    }),
    ("polling: what is no packet ends the session", "HTTP: payload", |world| Box::pin(polling_nonsense(world))),
    ("polling: a second poll ends the session", "HTTP: request cycle", |world| Box::pin(polling_twice(world))),
    ("WebSocket: a text there and back", "Packet: message", |world| Box::pin(socket_text(world))),
    ("WebSocket: bytes there and back", "WebSocket: binary", |world| Box::pin(socket_binary(world))),
    ("WebSocket: what is no packet ends the session", "Packet", |world| Box::pin(socket_nonsense(world))),
];

fn check_terms(packet: &str, upgrades: &Value) {
    let mut open: Value = serde_json::from_str(packet.strip_prefix('0').expect("open")).expect("JSON");
    let sid = open.as_object_mut().expect("an object").remove("sid").expect("a sid");
    assert!(sid.as_str().is_some_and(|sid| !sid.is_empty()), "{sid}");
    let interval = PING_INTERVAL.as_millis() as u64;
    let timeout = PING_TIMEOUT.as_millis() as u64;
    let terms =
        json!({"upgrades": upgrades, "pingInterval": interval, "pingTimeout": timeout, "maxPayload": 1_000_000});
    assert_eq!(open, terms, "these and no others");
}

async fn refused(world: World, method: &str, queries: &[&str]) {
    for query in queries {
        assert_eq!(world.request(method, query, "").await.status, 400, "{method} {query}");
    }
}

async fn polling_opens(world: World) {
    let answer = world.get("EIO=4&transport=polling").await;
    assert_eq!(answer.status, 200);
    check_terms(&answer.body, &json!(["websocket"]));
}

async fn polling_version(world: World) {
    refused(world, "GET", &["transport=polling", "EIO=abc&transport=polling", "EIO=3&transport=polling"]).await;
}

async fn polling_transport(world: World) {
    refused(world, "GET", &["EIO=4", "EIO=4&transport=abc"]).await;
}

async fn polling_method(world: World) {
    refused(world, "POST", &["EIO=4&transport=polling"]).await;
    refused(world, "PUT", &["EIO=4&transport=polling"]).await;
}

async fn socket_opens(world: World) {
    let mut socket = world.connect("EIO=4&transport=websocket").await.expect("connected");
    check_terms(&socket.text().await, &json!([]));
}

async fn no_socket(world: World, queries: &[&str]) {
    for query in queries {
        if let Some(mut socket) = world.connect(query).await {
            assert_eq!(socket.closed().await, [""; 0], "{query}");
        }
    }
}

async fn socket_version(world: World) {
    no_socket(world, &["transport=websocket", "EIO=abc&transport=websocket"]).await;
}

async fn socket_transport(world: World) {
    no_socket(world, &["EIO=4", "EIO=4&transport=abc"]).await;
}

async fn polling_heartbeat(world: World) {
    let session = world.open().await;
    for _ in 0..3 {
        assert_eq!(session.poll().await, Answer::ok("2"));
        assert_eq!(session.post("3").await, Answer::ok("ok"));
    }
}

async fn polling_silence(world: World) {
    let opened = Instant::now();
    let session = world.open().await;
    assert_eq!(session.poll().await, Answer::ok("2"));
    gone(&session).await;
    assert!(opened.elapsed() >= PING_INTERVAL + PING_TIMEOUT, "{:?}", opened.elapsed());
}

/// Polls until the session is unknown. The poll that is waiting when it ends may still be let go.
async fn gone(session: &Polling) {
    let answer = session.poll().await;
    if answer.status == 200 {
        assert_eq!(answer.body, "1");
        assert_eq!(session.poll().await.status, 400);
    } else {
        assert_eq!(answer.status, 400);
    }
}

async fn socket_heartbeat(world: World) {
    let mut socket = world.socket().await;
    for _ in 0..3 {
        assert_eq!(socket.text().await, "2");
        socket.say("3").await;
    }
}

async fn socket_silence(world: World) {
    let opened = Instant::now();
    let mut socket = world.socket().await;
    socket.closed().await;
    assert!(opened.elapsed() >= PING_INTERVAL + PING_TIMEOUT, "{:?}", opened.elapsed());
}

async fn polling_close(world: World) {
    let session = world.open().await;
    let waiting = tokio::spawn({
        let session = session.clone();
        async move { session.poll().await }
    });
    assert_eq!(session.post("1").await, Answer::ok("ok"));
    let let_go = waiting.await.expect("polled");
    // Whichever of the two requests came first.
    assert!(let_go == Answer::ok("6") || let_go.status == 400, "{let_go:?}");
    assert_eq!(session.poll().await.status, 400);
}

async fn socket_close(world: World) {
    let mut socket = world.socket().await;
    socket.say("1").await;
    socket.closed().await;
}

async fn upgrade(world: World) {
    let session = world.open().await;
    let mut socket = session.probed().await;
    assert_eq!(session.poll().await, Answer::ok("6"), "polls end at once");
    socket.say("5").await;
    still_there(&mut socket).await;
}

/// The session goes on over this WebSocket.
async fn still_there(socket: &mut Socket) {
    assert_eq!(socket.text().await, "2");
    socket.say("3").await;
    assert_eq!(socket.text().await, "2");
}

async fn upgrade_then_poll(world: World) {
    let session = world.open().await;
    let mut socket = session.upgraded().await;
    // A heartbeat over the new transport shows that it is the session's.
    assert_eq!(socket.text().await, "2");
    socket.say("3").await;
    assert_eq!(session.poll().await.status, 400);
    assert_eq!(session.post("4hello").await.status, 400);
    still_there(&mut socket).await;
}

async fn upgrade_then_socket(world: World) {
    let session = world.open().await;
    let mut socket = session.upgraded().await;
    assert_eq!(socket.text().await, "2");
    socket.say("3").await;
    if let Some(mut second) = session.upgrade().await {
        assert_eq!(second.closed().await, [""; 0]);
    }
    still_there(&mut socket).await;
}

async fn polling_echo(world: World, body: &str) {
    let session = world.open().await;
    assert_eq!(session.post(body).await, Answer::ok("ok"));
    assert_eq!(session.poll().await, Answer::ok(body));
}

async fn polling_nonsense(world: World) {
    let session = world.open().await;
    assert_eq!(session.post("abc").await.status, 400);
    assert_eq!(session.poll().await.status, 400);
}

async fn polling_twice(world: World) {
    let session = world.open().await;
    let (one, other) = tokio::join!(session.poll(), session.poll());
    let (let_go, refused) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!(let_go, Answer::ok("1"));
    assert_eq!(refused.status, 400);
    assert_eq!(session.poll().await.status, 400);
}

async fn socket_text(world: World) {
    let mut socket = world.socket().await;
    socket.say("4hello").await;
    assert_eq!(socket.packet().await, "4hello");
}

async fn socket_binary(world: World) {
    let mut socket = world.socket().await;
    socket.send(&[1, 2, 3, 4]).await;
    assert_eq!(socket.binary().await, [1, 2, 3, 4]);
}

async fn socket_nonsense(world: World) {
    let mut socket = world.socket().await;
    socket.say("abc").await;
    assert_eq!(socket.closed().await, [""; 0]);
}
