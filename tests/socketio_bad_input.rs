//! Whatever a Socket.IO client sends that it should not gets an error with a code, or an end. Over real sockets, while
//! two bystanders in a room exchange messages that all arrive, once and in order.

#[path = "http/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with another test")]
mod server;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use relais::config::Access;
use serde_json::{Value, json};
use server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(30);
const MEGABYTE: usize = 1_000_000;

/// A token that opens everything, for clients that are bad in other ways.
const GOOD: &str = "GOOD";

/// What a client sends behind the open packet.
enum Sent {
    Text(String),
    Binary(usize),
    Ping,
}

/// What it does, and which codes it hears, in this order; `end`: the connection is over.
type Case = (&'static str, Vec<Sent>, &'static [&'static str]);

fn texts(lines: &[&str]) -> Vec<Sent> {
    lines.iter().map(|line| Sent::Text((*line).to_owned())).collect()
}

fn many(count: usize, sent: impl Fn() -> Sent) -> Vec<Sent> {
    let mut all = texts(&["40/webrtc,"]);
    all.extend((0..count).map(|_| sent()));
    all
}

/// Behind the connection to `/webrtc`, and a room.
fn in_room(lines: &[&str]) -> Vec<Sent> {
    let mut all = texts(&["40/webrtc,", r#"42/webrtc,1["join-room",{"room":"bad"}]"#]);
    all.extend(texts(lines));
    all
}

fn packets() -> Vec<Case> {
    vec![
        ("not Engine.IO", texts(&["hello"]), &["end"]),
        ("a packet only servers send", texts(&["0{}"]), &["end"]),
        ("not Socket.IO", texts(&["4nonsense"]), &["end"]),
        ("an event before a namespace", texts(&[r#"42["offer",{}]"#]), &["end"]),
        ("malformed JSON", in_room(&[r#"42/webrtc,["webrtc-offer",{"#]), &["bad-message", "end"]),
        ("an event that is an object", in_room(&["42/webrtc,{}"]), &["bad-message", "end"]),
        ("an event without a name", in_room(&["42/webrtc,[]"]), &["bad-message", "end"]),
        ("an event whose name is a number", in_room(&["42/webrtc,[5]"]), &["bad-message", "end"]),
        ("an acknowledgement without id", in_room(&["43/webrtc,[]"]), &["bad-message", "end"]),
        ("an acknowledgement nobody waits for", in_room(&["43/webrtc,7[]"]), &[]),
        ("a connect error from a client", in_room(&["44/webrtc,{}"]), &["bad-message", "end"]),
        (
            "deep JSON",
            in_room(&[&format!("42/webrtc,[\"webrtc-offer\",{}", "[".repeat(20_000))]),
            &["bad-message", "end"],
        ),
        ("base64 over WebSocket", in_room(&["bAQID"]), &["bad-message", "end"]),
        ("a namespace that is none", texts(&["40", "40/nope,"]), &["Invalid namespace"]),
        ("eleven attachments", in_room(&[r#"4511-/webrtc,["x"]"#]), &["bad-message", "end"]),
        (
            "a placeholder for nothing",
            in_room(&[r#"451-/webrtc,["webrtc-offer",{"offer":{"_placeholder":true,"num":4}}]"#]),
            &["bad-message", "end"],
        ),
        ("a text for an attachment", in_room(&[r#"451-/webrtc,["x"]"#, "42/webrtc,[\"x\"]"]), &["bad-message", "end"]),
        ("an attachment for nothing", many(1, || Sent::Binary(5)), &["bad-message", "end"]),
    ]
}

fn events() -> Vec<Case> {
    vec![
        ("no argument", in_room(&[r#"42/webrtc,["webrtc-offer"]"#]), &["bad-message"]),
        ("a number for an object", in_room(&[r#"42/webrtc,["webrtc-offer",5]"#]), &["bad-message"]),
        ("no offer in an offer", in_room(&[r#"42/webrtc,["webrtc-offer",{"answer":{}}]"#]), &["bad-message"]),
        ("a room that is a number", texts(&["40/webrtc,", r#"42/webrtc,["join-room",{"room":5}]"#]), &["bad-message"]),
        ("a join without a room", texts(&["40/webrtc,", r#"42/webrtc,["join-room",{}]"#]), &["bad-room"]),
        ("a join of null", texts(&["40/webrtc,", r#"42/webrtc,["join-room",null]"#]), &["bad-message"]),
        ("a room of nothing", texts(&["40/webrtc,", r#"42/webrtc,["join-room",""]"#]), &["bad-room"]),
        (
            "a room of too many characters",
            texts(&["40/webrtc,", &format!(r#"42/webrtc,["join-room","{}"]"#, "r".repeat(65))]),
            &["bad-room"],
        ),
        (
            "a name with control characters",
            texts(&["40/webrtc,", r#"42/webrtc,["join-room",{"room":"r","name":"a\u0007b"}]"#]),
            &["bad-name"],
        ),
        (
            "an offer outside a room",
            texts(&["40/webrtc,", r#"42/webrtc,["webrtc-offer",{"offer":1}]"#]),
            &["join-first"],
        ),
        ("the bystanders' room", in_room(&[r#"42/webrtc,["webrtc-offer",{"room":"by","offer":1}]"#]), &["wrong-room"]),
        ("nobody", in_room(&[r#"42/webrtc,["webrtc-offer",{"to":"nobody","offer":1}]"#]), &["unknown-peer"]),
        ("an event we do not know", in_room(&[r#"42/webrtc,["delete-everything",1]"#]), &[]),
        ("by id: nobody", texts(&["40", r#"42["offer",{"offer":1,"to":"nobody"}]"#]), &["unknown-peer"]),
        ("by id: a room", texts(&["40", r#"42["offer",{"offer":1,"to":"by"}]"#]), &["unknown-peer"]),
        ("by id: to nowhere", texts(&["40", r#"42["offer",{"offer":1}]"#]), &["bad-message"]),
        ("by id: to a number", texts(&["40", r#"42["offer",{"offer":1,"to":7}]"#]), &["bad-message"]),
        ("by id: a recovery that was never lost", texts(&[r#"40{"pid":"x","offset":"1.1"}"#]), &[]),
        ("by id: a recovery of the wrong types", texts(&[r#"40{"pid":5,"offset":[]}"#]), &[]),
    ]
}

fn too_much() -> Vec<Case> {
    let event = || Sent::Text(r#"42/webrtc,["x"]"#.into());
    let large = || Sent::Text(format!("42/webrtc,[\"webrtc-offer\",\"{}\"]", "x".repeat(2 * MEGABYTE)));
    let mut in_parts = texts(&["40/webrtc,", "452-/webrtc,[\"webrtc-offer\"]"]);
    in_parts.extend([Sent::Binary(MEGABYTE - 100), Sent::Binary(MEGABYTE - 100)]);
    vec![
        ("a text of 2 MB", many(1, large), &["too-large", "end"]),
        ("2 MB of bytes", many(1, || Sent::Binary(2 * MEGABYTE)), &["too-large", "end"]),
        ("attachments of 2 MB", in_parts, &["too-large", "end"]),
        (
            "megabyte upon megabyte",
            many(9, || Sent::Text(format!("42/webrtc,[\"x\",\"{}\"]", "x".repeat(990_000)))),
            &["too-fast", "end"],
        ),
        ("a flood of events", many(300, event), &["too-fast", "end"]),
        ("a flood of nothing", many(300, || Sent::Text("6".into())), &["too-fast", "end"]),
        ("a flood of pongs", many(300, || Sent::Text("3".into())), &["too-fast", "end"]),
        ("a flood of WebSocket pings", many(300, || Sent::Ping), &["too-fast", "end"]),
        (
            "a flood of namespaces",
            many(300, || Sent::Text("40/nope,".into())),
            &["Invalid namespace", "too-fast", "end"],
        ),
    ]
}

/// A token with this header and these claims, signed with nonsense.
fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

fn now() -> u64 {
    relais::clock::now().unix
}

/// Tokens and the codes that they get, in the main namespace, which wants one for every room.
fn tokens(server: &Server) -> Vec<(&'static str, String, &'static str)> {
    let claims = json!({"jti": "x", "room": "*", "role": "member", "iat": now(), "exp": now() + 600});
    let nonsense = URL_SAFE_NO_PAD.encode([7; 32]);
    let good = server.token("x", now() + 600);
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (header, _) = signed.split_once('.').expect("three parts");
    vec![
        ("none", String::new(), "token-missing"),
        ("not a token", "hello".into(), "token-invalid"),
        ("another server's", forged(&json!({"alg": "HS256", "typ": "JWT"}), &claims, &nonsense), "token-invalid"),
        (
            "other claims",
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string())),
            "token-invalid",
        ),
        ("expired", server.token("x", now() - 3600), "token-expired"),
        ("algorithm none", forged(&json!({"alg": "none"}), &claims, ""), "token-invalid"),
        ("algorithm None", forged(&json!({"alg": "None"}), &claims, ""), "token-invalid"),
        ("algorithm RS256", forged(&json!({"alg": "RS256"}), &claims, &nonsense), "token-invalid"),
        ("algorithm HS512", forged(&json!({"alg": "HS512"}), &claims, &nonsense), "token-invalid"),
        ("2 MB", "x".repeat(40_000), "token-invalid"),
    ]
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(server: &Server, token: &str) -> Stream {
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket&token={token}", server.tcp());
    connect_async(url).await.expect("connected").0
}

/// Does a case, and tells the codes heard until a harmless question, which the hub answers, or until the end.
async fn codes(server: &Server, token: &str, sent: Vec<Sent>) -> Vec<String> {
    let (mut sink, mut stream) = connect(server, token).await.split();
    let is_main = matches!(sent.first(), Some(Sent::Text(first)) if !first.contains("/webrtc"));
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let sending = async {
        for part in sent {
            let asks = matches!(&part, Sent::Text(text) if text.starts_with("40") || text.starts_with("42/webrtc,1["));
            let message = match part {
                Sent::Text(text) => Message::text(text),
                Sent::Binary(length) => Message::binary(vec![0; length]),
                Sent::Ping => Message::Ping(bytes::Bytes::new()),
            };
            sink.feed(message).await?;
            if asks {
                // Nothing may be said in a namespace before its answer, and what is said in a room is told of there.
                sink.flush().await?;
                answers.recv().await;
            }
        }
        if is_main {
            sink.send(Message::text("40/webrtc,")).await?;
            answers.recv().await;
        }
        sink.send(Message::text(r#"42/webrtc,99["join-room",{"room":"bad"}]"#)).await
    };
    let hearing = async {
        let mut heard = Vec::new();
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) if text.starts_with("43/webrtc,99") => break,
                Some(Ok(Message::Text(text))) => {
                    heard.extend(code(&text));
                    if ["40", "44", "43/webrtc,1["].iter().any(|answer| text.starts_with(answer)) {
                        let _ = answered.send(());
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    heard.push("end".to_owned());
                    break;
                }
                Some(Ok(_)) => {}
            }
        }
        drop(answered);
        // The same again and again is told once.
        heard.dedup();
        heard
    };
    // Whoever is shut out may find that it cannot go on sending.
    let (_sent, heard): (Result<(), tungstenite::Error>, _) =
        timeout(PATIENCE, async { tokio::join!(sending, hearing) }).await.expect("in time");
    heard
}

/// The code of an `error` event or a refused namespace, or the message of one that is none.
fn code(text: &str) -> Option<String> {
    let packet = text.strip_prefix('4')?;
    let json: Value = serde_json::from_str(&packet[packet.find(['[', '{'])?..]).ok()?;
    let code = match packet.as_bytes().first()? {
        b'2' if json[0] == "error" => &json[1]["code"],
        b'4' if json["data"].is_null() => &json["message"],
        b'4' => &json["data"]["code"],
        _ => return None,
    };
    Some(code.as_str().unwrap_or("no code").to_owned())
}

/// Two in a room who exchange numbers until they are told to stop; how many arrived.
async fn bystanders(server: &Server, token: &str, mut stop: watch::Receiver<bool>) -> usize {
    let mut pair = [connect(server, token).await, connect(server, token).await];
    for stream in &mut pair {
        stream.send(Message::text("40/webrtc,")).await.expect("sent");
        stream.send(Message::text(r#"42/webrtc,1["join-room",{"room":"by"}]"#)).await.expect("sent");
        while !hear(stream).await.starts_with("43/webrtc,1") {}
    }
    // Slower than the limit of 100 a second.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut count = 0;
    while count < 100 || !*stop.borrow_and_update() {
        pace.tick().await;
        let [one, other] = &mut pair;
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = if from < to { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
            let text = format!(r#"42/webrtc,["webrtc-ice-candidate",{{"candidate":{count}}}]"#);
            from.send(Message::text(text)).await.expect("sent");
            let expected = format!(r#"42/webrtc,["webrtc-ice-candidate",{{"candidate":{count},"#);
            loop {
                let heard = hear(to).await;
                if heard.starts_with(&expected) {
                    break;
                }
                assert!(!heard.contains("webrtc-"), "{heard} for {expected}");
            }
            count += 1;
        }
    }
    count
}

async fn hear(stream: &mut Stream) -> String {
    loop {
        match timeout(PATIENCE, stream.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                stream.send(Message::text("3")).await.expect("sent");
            }
            Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
            other => panic!("a bystander was hit: {other:?}"),
        }
    }
}

/// The status of one HTTP request.
async fn status(server: &Server, head: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(server.tcp()).await.expect("connected");
    let length = body.len();
    let head =
        format!("{head}\nHost: localhost\nConnection: close\nContent-Length: {length}\n\n").replace('\n', "\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    // Whoever is refused early may not be read to the end.
    let _ = stream.write_all(body).await;
    let mut reply = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut reply)).await.expect("in time");
    let reply = String::from_utf8_lossy(&reply);
    reply.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no HTTP: {reply:?}"))
}

/// The secret name of a new session on polling.
async fn polling(server: &Server) -> String {
    let reply = server.plain("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: localhost").await;
    let open: Value = serde_json::from_str(reply.body.strip_prefix('0').expect("open")).expect("JSON");
    open["sid"].as_str().expect("a sid").to_owned()
}

async fn over_polling(server: &Server) {
    let large = "4".repeat(2 * MEGABYTE).into_bytes();
    let flood = vec!["6"; 300].join("\u{1e}").into_bytes();
    let cases: [(&str, &[u8], u16); 5] = [
        ("no packet", b"nonsense", 400),
        ("no base64", b"b!!!", 400),
        ("no UTF-8", b"4\xff\xfe", 400),
        ("2 MB", &large, 413),
        ("a flood", &flood, 200),
    ];
    for (name, body, wanted) in cases {
        let sid = polling(server).await;
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1");
        assert_eq!(status(server, &format!("POST {target}"), body).await, wanted, "{name}");
        // The session is over, or says that it is.
        let mut last = 200;
        for _ in 0..3 {
            last = status(server, &format!("GET {target}"), b"").await;
        }
        assert_eq!(last, 400, "{name}");
    }
    let origin = "Origin: https://elsewhere.example";
    for method in ["GET", "OPTIONS", "POST"] {
        let head = format!("{method} /socket.io/?EIO=4&transport=polling HTTP/1.1\n{origin}");
        let reply = server.plain(&format!("{head}\nHost: localhost")).await;
        assert_eq!((reply.status, reply.json()["code"].as_u64()), (403, Some(4)), "{method}");
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.tcp());
    let mut request = url.into_client_request().expect("request");
    request.headers_mut().insert("origin", "https://elsewhere.example".parse().expect("a value"));
    let refused = connect_async(request).await.expect_err("refused");
    assert!(matches!(&refused, tungstenite::Error::Http(reply) if reply.status() == 403), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_a_code_or_an_end_and_bystanders_notice_nothing() {
    let server = Server::start(|config| config.access = Some(Access::Invite)).await;
    let good = server.token(GOOD, now() + 600);
    let (stop, stopped) = watch::channel(false);
    let all = async {
        for (name, sent, wanted) in [packets(), events(), too_much()].into_iter().flatten() {
            assert_eq!(codes(&server, &good, sent).await, wanted, "{name}");
        }
        for (name, token, wanted) in tokens(&server) {
            let connect = format!("40{}", json!({"token": token}));
            let heard = codes(&server, "", texts(&[&connect])).await;
            // Neither namespace lets in, and the question is an event outside of both.
            let mut all = vec![wanted, "token-missing", "end"];
            all.dedup();
            assert_eq!(heard, all, "{name}");
        }
        over_polling(&server).await;
        stop.send(true).expect("somebody listens");
    };
    let (arrived, ()) = tokio::join!(bystanders(&server, &good, stopped), all);
    assert!(arrived >= 100, "{arrived}");
    let stats = server.app.web.hub.stats().await;
    // The bystanders' room, and that of the others, whose lost sockets gave way to each other.
    assert!(stats.rooms <= 2, "{stats:?}");
    server.app.stop().await;
}
