//! Bad input over real sockets against the built binary, native and live: each gets a coded error or a close, while the
//! pages in another room go on undisturbed.

mod common;
mod ws_common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{LOOPBACK, Place, Server};
use hmac::{Hmac, KeyInit, Mac};
use relais::credentials::token::Role;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use ws_common::{Heard, Page, token};

/// Messages that the bystanders exchange beside each row.
const EXCHANGED: u64 = 100;

/// Who sends the bad input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// A WebSocket on `/api/ws` that has not said anything yet.
    Native,
    /// A member of a room.
    Member,
    /// A WebSocket on `/` that has not said anything yet.
    Live,
    /// A streamer that asked for errors.
    Streamer,
}

/// What is to come of it.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// An error of this code, and the connection goes on.
    Complaint(&'static str),
    /// An error of this code, and the end with this close code.
    End(&'static str, u16),
    /// The end, with or without a word.
    Close,
}

struct Row {
    what: &'static str,
    who: Who,
    says: Vec<Message>,
    outcome: Outcome,
}

fn row(what: &'static str, who: Who, says: Vec<Message>, outcome: Outcome) -> Row {
    Row { what, who, says, outcome }
}

fn text(text: impl Into<String>) -> Message {
    Message::text(text.into())
}

fn frame(opcode: Data, payload: &[u8], is_last: bool) -> Message {
    Message::Frame(Frame::message(payload.to_vec(), OpCode::Data(opcode), is_last))
}

/// What every JSON dialect is sent in the room.
fn broken(who: Who) -> Vec<Row> {
    use Outcome::{Close, Complaint, End};
    let rows = [
        ("no JSON", text("{"), Complaint("bad-json")),
        ("nothing", text(""), Complaint("bad-json")),
        ("binary that is no text", Message::Binary(vec![0xff, 0xfe].into()), Complaint("bad-json")),
        ("deeper than anybody reads", text("[".repeat(100_000)), Complaint("bad-message")),
        ("a list", text("[1,2]"), Complaint("bad-message")),
        ("a number", text("7"), Complaint("bad-message")),
        ("no type", text("{}"), Complaint("bad-message")),
        ("a type that is none", text(r#"{"type":7}"#), Complaint("bad-message")),
        ("an unknown type", text(r#"{"type":"what"}"#), Complaint("unknown-type")),
        ("an offer without a body", text(r#"{"type":"offer","to":"x","viewerId":1}"#), Complaint("bad-message")),
        ("2 MB", text("x".repeat(2_000_000)), End("too-large", 1009)),
        ("2 MB in JSON", text(json!({"type": "what", "x": "x".repeat(2_000_000)}).to_string()), End("too-large", 1009)),
        ("a continuation of nothing", frame(Data::Continue, b"x", true), Close),
        ("text that is no UTF-8", frame(Data::Text, &[0xc3, 0x28], true), Close),
        ("a reserved opcode", frame(Data::Reserved(5), b"x", true), Close),
    ];
    let mut table: Vec<Row> = rows.map(|(what, message, outcome)| row(what, who, vec![message], outcome)).into();
    let half = "x".repeat(600_000);
    let parts = vec![frame(Data::Text, half.as_bytes(), false), frame(Data::Continue, half.as_bytes(), false)];
    table.push(row("1.2 MB in two frames", who, parts, End("too-large", 1009)));
    table.push(row("ten times nonsense", who, vec![text("{"); 10], End("bad-json", 1008)));
    table.push(row("a flood of messages", who, vec![text(r#"{"type":"ping"}"#); 20_000], End("too-fast", 1008)));
    table.push(row("a flood of pings", who, vec![Message::Ping(vec![0; 100].into()); 20_000], End("too-fast", 1008)));
    let large = json!({"type": "ping", "x": "x".repeat(900_000)}).to_string();
    table.push(row("a flood of bytes", who, vec![text(large); 8], End("too-fast", 1008)));
    table
}

fn native(server: &Server) -> Vec<Row> {
    use Outcome::{Complaint, End};
    let join = |more: Value| {
        let mut join = json!({"type": "join", "v": 1, "room": "other", "token": server.invite});
        join.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        vec![text(join.to_string())]
    };
    let mut table = vec![
        row("no JSON before the join", Who::Native, vec![text("{")], Complaint("bad-json")),
        row("an offer before the join", Who::Native, vec![text(r#"{"type":"offer"}"#)], End("join-first", 1008)),
        row("a version of text", Who::Native, join(json!({"v": "1"})), Complaint("bad-message")),
        row("another version", Who::Native, join(json!({"v": 2})), End("version", 1008)),
        row("a negative number", Who::Native, join(json!({"session": "x", "seq": -1})), Complaint("bad-message")),
        row("a room that is none", Who::Native, join(json!({"room": "a/b"})), End("bad-room", 1008)),
        row("a long room", Who::Native, join(json!({"room": "r".repeat(65)})), End("bad-room", 1008)),
        row("a name with a line end", Who::Native, join(json!({"name": "a\nb"})), End("bad-name", 1008)),
        row("a long instance", Who::Native, join(json!({"instance": "i".repeat(65)})), End("bad-name", 1008)),
        row(
            "a made-up session",
            Who::Native,
            join(json!({"token": "", "session": "x", "seq": 1})),
            End("token-missing", 1008),
        ),
        row("a kick by a member", Who::Member, vec![text(r#"{"type":"kick","peer":"x"}"#)], Complaint("not-host")),
        row("a lock of text", Who::Member, vec![text(r#"{"type":"lock","locked":"yes"}"#)], Complaint("bad-message")),
        row(
            "an invite of an unknown role",
            Who::Member,
            vec![text(r#"{"type":"invite","role":"god"}"#)],
            Complaint("bad-message"),
        ),
        row("a message to nobody", Who::Member, vec![text(r#"{"type":"bye","to":"x"}"#)], Complaint("unknown-peer")),
        row("a second join", Who::Member, join(json!({})), Complaint("bad-message")),
    ];
    table.extend(
        bad_tokens(server)
            .into_iter()
            .map(|(what, token, code)| row(what, Who::Native, join(json!({"token": token})), End(code, 1008))),
    );
    table.extend(broken(Who::Member));
    table
}

fn live(server: &Server) -> Vec<Row> {
    use Outcome::{Complaint, End};
    let viewer = |more: Value| {
        let mut viewer = json!({"type": "viewer", "stream": "other", "token": server.invite, "viewerId": 1});
        viewer.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        vec![text(viewer.to_string())]
    };
    let watching = token(server, "other", Role::Viewer, false);
    let mut table = vec![
        row("ten times nonsense at first", Who::Live, vec![text("{"); 10], End("bad-json", 1008)),
        row(
            "a viewer's token streams",
            Who::Live,
            viewer(json!({"type": "streamer", "token": watching})),
            End("wrong-role", 1008),
        ),
        row("a stream without a name", Who::Live, viewer(json!({"stream": ""})), End("bad-room", 1008)),
        row("a long name", Who::Live, viewer(json!({"stream": "s".repeat(65)})), End("bad-room", 1008)),
        row(
            "an offer to nobody",
            Who::Streamer,
            vec![text(r#"{"type":"offer","offer":{},"viewerId":9}"#)],
            Complaint("unknown-peer"),
        ),
        row(
            "an offer to a list",
            Who::Streamer,
            vec![text(r#"{"type":"offer","offer":{},"viewerId":[]}"#)],
            Complaint("unknown-peer"),
        ),
    ];
    for (what, id) in [
        ("a list for an id", json!([1])),
        ("an object for an id", json!({})),
        ("a truth for an id", json!(true)),
        ("a long id", json!("v".repeat(200))),
    ] {
        table.push(row(
            what,
            Who::Live,
            [vec![text("{"); 9], viewer(json!({"viewerId": id}))].concat(),
            End("bad-message", 1008),
        ));
    }
    table.extend(
        bad_tokens(server)
            .into_iter()
            .map(|(what, token, code)| row(what, Who::Live, viewer(json!({"token": token})), End(code, 1008))),
    );
    table.extend(broken(Who::Streamer));
    table
}

/// Tokens that open nothing, and the code of the refusal.
fn bad_tokens(server: &Server) -> Vec<(&'static str, String, &'static str)> {
    let good = token(server, "other", Role::Member, false);
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).expect("base64")).expect("text");
    let key = server.place.state_file("token-key");
    // As whoever knows our key would sign it: the algorithm alone must be reason enough.
    let signed = |algorithm: &str| {
        let header = URL_SAFE_NO_PAD.encode(header.replace("HS256", algorithm));
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key");
        mac.update(format!("{header}.{claims}").as_bytes());
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    };
    assert_eq!(signed("HS256"), good, "signed as the server does");
    let unsigned = format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header.replace("HS256", "none")));
    let foreign = relais::credentials::token::Tokens::new(vec![7; 32]);
    let claims_of_another =
        relais::credentials::token::Claims::new("other", Role::Host, None, relais::clock::now().unix, 60);
    vec![
        ("no token", String::new(), "token-missing"),
        ("a token that is none", "x".into(), "token-invalid"),
        ("a long token", "x".repeat(3_000), "token-invalid"),
        ("a token of another key", foreign.mint(&claims_of_another), "token-invalid"),
        (
            "a token with another signature",
            format!(
                "{}.{claims}.{}",
                good.split('.').next().unwrap_or_default(),
                signature.chars().rev().collect::<String>()
            ),
            "token-invalid",
        ),
        ("an unsigned token", unsigned, "token-invalid"),
        ("RS256 signed by our key", signed("RS256"), "token-invalid"),
        ("HS512 named, HS256 signed", signed("HS512"), "token-invalid"),
        ("an expired token", token(server, "other", Role::Host, true), "token-expired"),
        ("a token for another room", token(server, "elsewhere", Role::Host, false), "wrong-room"),
    ]
}

/// `number`: each row has a room of its own.
async fn attack(server: &Server, row: &Row, number: usize) {
    let room = format!("attacked-{number}");
    let page = match row.who {
        Who::Native => Page::open(server.tcp[0], "/api/ws").await,
        Who::Member => {
            let token = token(server, &room, Role::Member, false);
            Page::join(server, &room, json!({"token": token})).await.0
        }
        Who::Live => Page::open(server.tcp[0], "/").await,
        Who::Streamer => {
            let mut page = Page::open(server.tcp[0], "/").await;
            page.say(&json!({"type": "streamer", "stream": room, "token": server.invite})).await;
            assert_eq!(page.message().await, json!({"type": "viewerCount", "count": 0}));
            page
        }
    };
    let (mut sender, mut receiver) = futures_util::StreamExt::split(page.socket);
    let says = row.says.clone();
    // The server may stop reading and close while we still speak.
    let speaking = tokio::spawn(async move {
        for message in says {
            if futures_util::SinkExt::send(&mut sender, message).await.is_err() {
                break;
            }
        }
        sender
    });
    let mut last = Value::Null;
    let end = loop {
        match hear(&mut receiver).await {
            Heard::Message(message) if message["type"] == "error" => {
                last = message["code"].clone();
                if matches!(row.outcome, Outcome::Complaint(_)) {
                    break None;
                }
            }
            Heard::Message(_) => {}
            Heard::Closed(code) => break Some(code),
        }
    };
    match row.outcome {
        Outcome::Complaint(code) => assert_eq!((last, end), (json!(code), None), "{}", row.what),
        Outcome::End(code, close) => assert_eq!((last, end), (json!(code), Some(Some(close))), "{}", row.what),
        Outcome::Close => assert!(end.is_some(), "{}", row.what),
    }
    let mut sender = speaking.await.expect("spoken");
    if matches!(row.outcome, Outcome::Complaint(_)) {
        // The connection goes on.
        futures_util::SinkExt::send(&mut sender, text(r#"{"type":"ping"}"#)).await.expect("open");
        while hear(&mut receiver).await != Heard::Message(json!({"type": "pong"})) {}
    }
}

async fn hear<S>(receiver: &mut S) -> Heard
where
    S: futures_util::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    use futures_util::StreamExt;
    loop {
        match tokio::time::timeout(ws_common::PATIENCE, receiver.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => return Heard::Message(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Heard::Closed(None),
        }
    }
}

/// Two pages in a room of their own.
struct Bystanders {
    pages: [Page; 2],
    peers: [Value; 2],
    sent: u64,
    /// The number of the last message that each has heard.
    seq: [u64; 2],
}

impl Bystanders {
    async fn new(server: &Server) -> Self {
        let token = json!({"token": server.invite});
        let (mut ada, first) = Page::join(server, "bystanders", token.clone()).await;
        let (bob, second) = Page::join(server, "bystanders", token).await;
        ada.message_of("peer-joined").await;
        let peers = [first["peer"].clone(), second["peer"].clone()];
        Self { pages: [ada, bob], peers, sent: 0, seq: [2, 1] }
    }

    /// Each sends to the other in turn; all arrives, in order.
    async fn exchange(&mut self) {
        for _ in 0..EXCHANGED {
            self.sent += 1;
            let (from, to) = if self.sent.is_multiple_of(2) { (0, 1) } else { (1, 0) };
            let candidate = json!({"type": "candidate", "to": self.peers[to], "candidate": self.sent});
            self.pages[from].say(&candidate).await;
            let message = self.pages[to].message().await;
            self.seq[to] += 1;
            assert_eq!(
                (&message["candidate"], &message["seq"]),
                (&json!(self.sent), &json!(self.seq[to])),
                "{message}"
            );
        }
    }
}

fn start() -> Server {
    let place = Place::new();
    let file = place.write("limits.toml", "[limits]\nmessages_per_second = 4000\n");
    let arguments = ["--config", file.to_str().expect("UTF-8"), "--access", "invite"];
    Server::start_in(place, &[LOOPBACK, &arguments].concat())
}

async fn run(table: impl Fn(&Server) -> Vec<Row>) {
    let server = start();
    let mut bystanders = Bystanders::new(&server).await;
    for (number, row) in table(&server).iter().enumerate() {
        println!("{:?}: {}", row.who, row.what);
        tokio::join!(attack(&server, row, number), bystanders.exchange());
    }
    assert!(!server.log().iter().any(|line| line.contains("panicked")), "{:#?}", server.log());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_native_input_is_answered_and_disturbs_nobody() {
    run(native).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_live_input_is_answered_and_disturbs_nobody() {
    run(live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_another_origin_are_refused() {
    let server = start();
    let mut bystanders = Bystanders::new(&server).await;
    let own = format!("http://{}", server.tcp[0]);
    for path in ["/api/ws", "/", "/any"] {
        for (origin, status) in [
            (Some("https://evil.example"), Some(403)),
            (Some("http://127.0.0.1.evil.example"), Some(403)),
            (Some("garbage"), Some(403)),
            (Some(own.as_str()), None),
            (None, None),
        ] {
            let (opened, ()) = tokio::join!(Page::open_from(server.tcp[0], path, origin), bystanders.exchange());
            assert_eq!(opened.err(), status, "{path} {origin:?}");
        }
    }
    server.stop();
}

/// Resident memory of the server, in KiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_never_read_cost_a_bounded_amount_of_memory() {
    let place = Place::new();
    let limits = "[limits]\nbytes_per_second = 1000000000\nmessages_per_second = 4000\n";
    let file = place.write("limits.toml", limits);
    let arguments = ["--config", file.to_str().expect("UTF-8")];
    let server = Server::start_in(place, &[LOOPBACK, &arguments].concat());
    let mut bystanders = Bystanders::new(&server).await;
    bystanders.exchange().await;
    let before = resident(&server);
    let mut sleepers = Vec::new();
    let body = "x".repeat(900_000);
    let mut most = 0;
    // 16 MB to each of 4 that read nothing: four messages may wait for each, one is being written.
    for number in 0..4 {
        let room = format!("r{number}");
        let (mut talker, _) = Page::join(&server, &room, json!({})).await;
        let (sleeper, joined) = Page::join(&server, &room, json!({})).await;
        for _ in 0..18 {
            talker.say(&json!({"type": "candidate", "to": joined["peer"], "candidate": body})).await;
        }
        let (_, ()) = tokio::join!(talker.message_of("peer-lost"), bystanders.exchange());
        most = most.max(resident(&server));
        sleepers.push((talker, sleeper));
    }
    let grown = (most - before) / 1024;
    assert!(grown < 60, "{grown} MiB more");
    server.stop();
}
