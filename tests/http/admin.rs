//! The administrator's page: its session, what it is shown, what it does, and who may not.

use relais::clock;
use relais::config::Config;
use relais::signaling::PeerId;
use relais::web::admin::MAX_WATCHERS;
use relais::web::admin::sessions::LOGIN_ATTEMPTS;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::net_common::{peer_of, receive_from, soon};
use crate::revocation::{all_end, allocate, client, credential, member, server};
use crate::server::{Reply, Server, exchange, listen};
use crate::signaling::next;

const OWN: &str = "\nOrigin: https://localhost";

fn admin_token(server: &Server) -> String {
    std::fs::read_to_string(server.dir.path().join("state/admin-token")).expect("made at first run").trim().to_owned()
}

/// A request with a JSON body and more header lines.
pub(crate) fn post(path: &str, more: &str, body: &Value) -> String {
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.1\nHost: localhost{more}\nContent-Type: application/json");
    format!("{head}\nContent-Length: {}\n\n{body}", body.len())
}

fn login(token: &str) -> String {
    post("/api/admin/session", OWN, &json!({ "token": token }))
}

/// Logs in over TLS; gives the cookie as a header line.
pub(crate) async fn log_in(server: &Server) -> String {
    let reply = server.tls(&login(&admin_token(server))).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    cookie_of(&reply)
}

fn cookie_of(reply: &Reply) -> String {
    format!("\nCookie: other=1; {}", reply.header("set-cookie").split(';').next().expect("a cookie"))
}

async fn act(server: &Server, cookie: &str, path: &str, body: Value) -> Reply {
    server.tls(&post(path, &format!("{OWN}{cookie}"), &body)).await
}

async fn is_open(server: &Server, cookie: &str) -> bool {
    let reply = server.tls(&format!("GET /api/admin/session HTTP/1.1\nHost: localhost{cookie}")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["open"] == true
}

/// A stream of events.
pub(crate) struct Events {
    lines: Lines<BufReader<TlsStream<TcpStream>>>,
}

impl Events {
    /// Watches; the head of the answer is passed on.
    pub(crate) async fn open(server: &Server, cookie: &str, query: &str) -> (Reply, Self) {
        let mut stream = server.handshake("localhost", &["http/1.1"]).await.expect("handshake");
        let head =
            format!("GET /api/admin/events{query} HTTP/1.1\r\nHost: localhost{}\r\n\r\n", cookie.replace('\n', "\r\n"));
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut lines = BufReader::new(stream).lines();
        let mut head = String::new();
        while let Some(line) = soon("a head", lines.next_line()).await.expect("read").filter(|line| !line.is_empty()) {
            head.push_str(&line);
            head.push_str("\r\n");
        }
        (Reply::parse(format!("{head}\r\n").as_bytes()), Self { lines })
    }

    /// The data of the next event of this name.
    async fn next(&mut self, name: &str) -> Value {
        loop {
            let line = self.line().await.expect("an event");
            if line == format!("event: {name}") {
                let data = self.line().await.expect("data");
                return serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            }
        }
    }

    /// The row of a subject, once `check` holds for it.
    async fn row(&mut self, subject: &str, check: impl Fn(&Value) -> bool) -> Value {
        loop {
            let people = self.next("people").await;
            let rows = people["people"]["rows"].as_array().expect("rows").clone();
            if let Some(row) = rows.into_iter().find(|row| row["subject"] == subject).filter(&check) {
                return row;
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        soon("a line", self.lines.next_line()).await.expect("read")
    }

    /// Whether the stream ends, whatever it tells before.
    async fn ends(&mut self) -> bool {
        // The last chunk (RFC 9112 section 7.1), or the end of the connection.
        let is_more =
            |line: std::io::Result<Option<String>>| line.is_ok_and(|line| line.is_some_and(|line| line != "0"));
        let end = async { while is_more(self.lines.next_line().await) {} };
        soon("the end", end).await;
        true
    }
}

#[tokio::test]
async fn the_token_becomes_a_cookie_that_neither_scripts_nor_other_sites_get() {
    let server = server().await;
    let token = admin_token(&server);
    let reply = server.tls(&login(&token)).await;
    let set = reply.header("set-cookie").to_owned();
    let parts: Vec<&str> = set.split("; ").collect();
    assert!(parts[0].starts_with("__Host-relais-admin=") && parts[0].len() > 60, "{set}");
    for flag in ["Path=/", "HttpOnly", "Secure", "SameSite=Strict", "Max-Age=43200"] {
        assert!(parts.contains(&flag), "{flag}: {set}");
    }
    assert!(!set.contains("Domain") && !format!("{reply:?}").contains(&token), "{reply:?}");
    let cookie = cookie_of(&reply);
    assert!(is_open(&server, &cookie).await && !is_open(&server, "").await);
    assert!(!is_open(&server, "\nCookie: __Host-relais-admin=guessed").await);
    assert!(!is_open(&server, &cookie.replace("__Host-", "")).await, "the other name is for plain HTTP");
    let (head, _) = Events::open(&server, "", "").await;
    assert_eq!(head.status, 401);
    // Leaving takes the cookie away and ends the session for whoever has copied it.
    let leave = format!("DELETE /api/admin/session HTTP/1.1\nHost: localhost{OWN}{cookie}");
    let left = server.tls(&leave).await;
    assert_eq!(left.status, 204);
    assert!(left.header("set-cookie").contains("=; Path=/; Max-Age=0"), "{left:?}");
    assert!(!is_open(&server, &cookie).await);
}

#[tokio::test]
async fn the_token_is_taken_over_tls_and_from_this_machine_alone() {
    let server = Server::start(|config| config.http = listen("0.0.0.0:0")).await;
    let token = admin_token(&server);
    let own = login(&token).replace("https://localhost", "http://localhost");
    let here = server.plain(&own).await;
    assert_eq!(here.status, 201, "{}", here.body);
    let set = here.header("set-cookie");
    assert!(set.starts_with("relais-admin=") && set.contains("HttpOnly; SameSite=Strict"), "{set}");
    assert!(!set.contains("Secure"), "browsers keep no such cookie of plain HTTP: {set}");
    let port = server.app.web.bound.http[0].port();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let elsewhere = exchange(stream, &own).await;
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (403, "https-only"));
}

#[tokio::test]
async fn wrong_tokens_are_counted_by_network_and_then_not_even_the_right_one_is_taken() {
    let server = server().await;
    let token = admin_token(&server);
    for _ in 0..LOGIN_ATTEMPTS / 2 {
        assert_eq!(server.tls(&login("wrong")).await.code(), "login-refused");
    }
    log_in(&server).await;
    for attempt in 0..LOGIN_ATTEMPTS {
        let almost = &token[..token.len() - 1];
        let reply = server.tls(&login(if attempt % 2 == 0 { almost } else { "" })).await;
        assert_eq!((reply.status, reply.code().as_str(), reply.header("set-cookie")), (401, "login-refused", ""));
    }
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (address, request) = (server.tcp(), login(&token).replace("https://localhost", "http://localhost"));
        flood.spawn(async move { exchange(TcpStream::connect(address).await.expect("connected"), &request).await });
    }
    for reply in flood.join_all().await {
        assert_eq!((reply.status, reply.header("retry-after")), (429, "60"), "{}", reply.body);
    }
}

#[tokio::test]
async fn pages_of_other_origins_change_and_see_nothing() {
    let server = server().await;
    let cookie = log_in(&server).await;
    let (_, _socket, joined) = member(&server, r#"{"room":"blue"}"#).await;
    let peer = joined["peer"].as_str().expect("id");
    let room = json!({ "kind": "call", "name": "blue", "action": "close" });
    let changes = [
        ("/api/admin/kick", json!({ "peer": peer })),
        ("/api/admin/revoke", json!({ "subject": format!("p.{peer}") })),
        ("/api/admin/room", room),
        ("/api/admin/session", json!({ "token": admin_token(&server) })),
    ];
    for from in [
        "\nOrigin: https://evil.example",
        "\nOrigin: null",
        "\nOrigin: https://localhost\nSec-Fetch-Site: same-site",
        "\nSec-Fetch-Site: cross-site",
        "\nSec-Fetch-Site: none",
        "",
    ] {
        for (path, body) in &changes {
            let reply = server.tls(&post(path, &format!("{from}{cookie}"), body)).await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "origin-refused"), "{path} {from:?}");
        }
    }
    for from in ["\nOrigin: https://evil.example", "\nSec-Fetch-Site: cross-site"] {
        let (head, _) = Events::open(&server, &format!("{from}{cookie}"), "").await;
        assert_eq!(head.status, 403, "{from}");
    }
    let leave = format!("DELETE /api/admin/session HTTP/1.1\nHost: localhost\nOrigin: https://evil.example{cookie}");
    assert_eq!(server.tls(&leave).await.status, 403);
    // Without a cookie the same is asked to log in, and nothing of it was done.
    for (path, body) in &changes[..3] {
        assert_eq!(server.tls(&post(path, OWN, body)).await.code(), "session-missing", "{path}");
    }
    let found = server.app.web.hub.peer(PeerId::from(peer)).await.expect("still there");
    assert!(found.connected && is_open(&server, &cookie).await);
    let fetched = post("/api/admin/kick", &format!("\nSec-Fetch-Site: same-origin{cookie}"), &json!({ "peer": peer }));
    assert_eq!(server.tls(&fetched).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_told_who_relays_how_much_and_a_kick_ends_it_within_a_second() {
    let server = server().await;
    let cookie = log_in(&server).await;
    let (minted, mut socket, joined) = member(&server, r#"{"room":"blue","name":"Ada"}"#).await;
    let ice = credential(&joined["ice"]);
    let mut clients = allocate(&server, &ice).await;
    let (head, mut events) = Events::open(&server, &cookie, "").await;
    let head = (head.status, head.header("content-type").to_owned(), head.header("cache-control").to_owned());
    assert_eq!(head, (200, "text/event-stream".into(), "no-store".into()));
    let about = events.next("server").await;
    assert_eq!((&about["version"], &about["access"]), (&json!(env!("CARGO_PKG_VERSION")), &json!("invite")));
    assert_eq!((&about["openToAll"], &about["certificate"]["source"]), (&json!(false), &json!("local")));
    assert!(about["secrets"]["admin-token"].is_u64() && about["authority"]["until"].is_i64(), "{about}");
    let peer = joined["peer"].as_str().expect("id");
    let subject = format!("p.{peer}");
    let row = events.row(&subject, |row| row["allocations"] == 3).await;
    let told = json!([row["name"], row["room"], row["role"], row["connected"], row["toPeer"]]);
    assert_eq!(told, json!(["Ada", "blue", "member", true, 0]));
    assert_eq!(row["token"], format!("shop~{}", minted["jti"].as_str().expect("text")));
    assert_eq!((&row["from"], &row["to"]), (&json!(["private"]), &json!([])));
    let mut transports: Vec<&str> =
        row["transports"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    transports.sort_unstable();
    assert_eq!(transports, ["tcp", "tls", "udp"]);
    // What it relays is told, at what rate, and to whom.
    let receiver = peer_of(server.app.web.bound.udp[0]);
    let there = receiver.local_addr().expect("address");
    clients[0].bind(0x4001, there).await;
    for _ in 0..4 {
        clients[0].send_on(0x4001, &[7; 1000]).await;
        receive_from(&receiver).await;
    }
    let row = events.row(&subject, |row| row["toPeer"] == 4000).await;
    assert!(row["rate"].as_u64().expect("number") > 100, "{row}");
    assert!(!row["to"].as_array().expect("a list").is_empty(), "{row}");
    let figures = events.next("figures").await;
    assert_eq!((&figures["allocations"], &figures["rooms"], &figures["peers"]), (&json!(3), &json!(1), &json!(1)));
    assert_eq!(figures["relayed"], json!({ "udp": 1, "tcp": 1, "tls": 1 }));
    assert!(
        figures["toPeer"]["bytes"].as_u64() >= Some(4000) && figures["shards"][0]["received"].is_u64(),
        "{figures}"
    );
    let started = clock::now().mono;
    let kick = act(&server, &cookie, "/api/admin/kick", json!({ "peer": peer }));
    let (reply, ()) = tokio::join!(kick, all_end(&server, started, &mut clients));
    assert_eq!(reply.json(), json!({ "kicked": peer }));
    assert_eq!(next(&mut socket).await["code"], "kicked");
    assert_eq!(act(&server, &cookie, "/api/admin/kick", json!({ "peer": peer })).await.code(), "unknown-peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_and_invites_are_taken_back() {
    let server = server().await;
    let cookie = log_in(&server).await;
    let minted = server.post("/api/credentials", crate::server::SHOP, r#"{"name":"ada","ttl":600}"#).await.json();
    let mut clients = allocate(&server, &credential(&minted)).await;
    let (_, mut events) = Events::open(&server, &cookie, "?search=SHOP.a").await;
    let row = events.row("a.shop.ada", |row| row["allocations"] == 3).await;
    assert_eq!((&row["peer"], &row["name"], &row["room"]), (&Value::Null, &Value::Null, &Value::Null));
    let started = clock::now().mono;
    let revoke = act(&server, &cookie, "/api/admin/revoke", json!({ "subject": "a.shop.ada" }));
    let (reply, ()) = tokio::join!(revoke, all_end(&server, started, &mut clients));
    assert_eq!((&reply.json()["revoked"], &reply.json()["kept"]), (&json!("a.shop.ada"), &json!(true)));
    // An invite goes with whoever came by it.
    let (minted, mut socket, _) = member(&server, r#"{"room":"blue"}"#).await;
    let token = format!("shop~{}", minted["jti"].as_str().expect("text"));
    assert_eq!(act(&server, &cookie, "/api/admin/revoke", json!({ "token": token })).await.status, 200);
    assert_eq!(next(&mut socket).await["code"], "token-revoked");
    for wrong in [json!({ "token": "a b" }), json!({ "token": "" }), json!({ "subject": "" }), json!({ "jti": "x" })] {
        assert_eq!(act(&server, &cookie, "/api/admin/revoke", wrong.clone()).await.code(), "bad-request", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_listed_locked_and_ended() {
    let server = server().await;
    let cookie = log_in(&server).await;
    let (_, mut socket, _) = member(&server, r#"{"room":"blue"}"#).await;
    let (_, mut events) = Events::open(&server, &cookie, "").await;
    let rooms = events.next("people").await["rooms"].clone();
    let blue =
        |locked| json!({ "rows": [{ "kind": "call", "name": "blue", "members": 1, "locked": locked }], "found": 1 });
    assert_eq!(rooms, blue(false));
    let wish = |action: &str| json!({ "kind": "call", "name": "blue", "action": action });
    for (action, locked) in [("lock", true), ("unlock", false)] {
        assert_eq!(act(&server, &cookie, "/api/admin/room", wish(action)).await.json(), json!({ "room": "blue" }));
        let told = next(&mut socket).await;
        assert_eq!((&told["type"], &told["locked"], &told["by"]), (&json!("lock"), &json!(locked), &json!("admin")));
        while events.next("people").await["rooms"] != blue(locked) {}
    }
    assert_eq!(act(&server, &cookie, "/api/admin/room", wish("close")).await.status, 200);
    assert_eq!(next(&mut socket).await["code"], "room-closed");
    assert_eq!(act(&server, &cookie, "/api/admin/room", wish("lock")).await.code(), "unknown-room");
    while events.next("people").await["rooms"]["found"] != 0 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_with_their_causes() {
    let server = server().await;
    let cookie = log_in(&server).await;
    server.plain("GET /api/ice HTTP/1.1\nHost: localhost\nAuthorization: Bearer e.e.e").await;
    server.tls(&login("wrong")).await;
    let wrong = ("1:p.nobody".to_owned(), "wrong".to_owned());
    let mut stranger = client(&server, relais::relay::Transport::Udp, (&wrong.0, &wrong.1)).await;
    assert_eq!(stranger.try_allocate().await.code(), Some(401));
    let (_, mut events) = Events::open(&server, &cookie, "").await;
    let mut missing = vec!["access.token-invalid", "access.login-refused", "turn.credential"];
    while !missing.is_empty() {
        let failures = events.next("failures").await;
        for failure in failures.as_array().expect("a list") {
            assert!(failure["count"].as_u64() > Some(0) && failure["last"].as_u64() >= failure["first"].as_u64());
            missing.retain(|cause| failure["cause"] != *cause);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_the_token_that_opened_it_and_so_does_its_stream() {
    let mut server = server().await;
    let cookie = log_in(&server).await;
    let (_, mut events) = Events::open(&server, &cookie, "").await;
    events.next("figures").await;
    let token = server.dir.path().join("state/admin-token");
    std::fs::write(&token, "another-admin-token-of-some-length\n").expect("written");
    let same = Config::clone(&server.app.web.config());
    server.app.reload(same).await.expect("reloaded");
    events.next("over").await;
    assert!(events.ends().await);
    let (head, _) = Events::open(&server, &cookie, "").await;
    assert_eq!((head.status, is_open(&server, &cookie).await), (401, false));
    assert_eq!(act(&server, &cookie, "/api/admin/kick", json!({ "peer": "x" })).await.code(), "session-over");
    // Leaving ends the stream, too.
    let cookie = log_in(&server).await;
    let (_, mut events) = Events::open(&server, &cookie, "").await;
    server.tls(&format!("DELETE /api/admin/session HTTP/1.1\nHost: localhost{OWN}{cookie}")).await;
    events.next("over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_have_a_bound_and_a_stop_does_not_wait_for_them() {
    let server = Server::start(|_| {}).await;
    let cookie = log_in(&server).await;
    let mut watching = Vec::new();
    for _ in 0..MAX_WATCHERS {
        let (head, events) = Events::open(&server, &cookie, "").await;
        assert_eq!(head.status, 200);
        watching.push(events);
    }
    let (head, _) = Events::open(&server, &cookie, "").await;
    assert_eq!(head.status, 429);
    for query in ["?page=-1", "?page=x", "?page=10001", &format!("?search={}", "x".repeat(65))] {
        let (head, _) = Events::open(&server, &cookie, query).await;
        assert_eq!(head.status, 400, "{query}");
    }
    watching.pop();
    loop {
        let (head, _) = Events::open(&server, &cookie, "").await;
        if head.status == 200 {
            break;
        }
    }
    let started = clock::now().mono;
    server.app.stop().await;
    assert!((clock::now().mono - started).as_secs() < 4, "the streams end by themselves");
    for mut events in watching {
        assert!(events.ends().await);
    }
}

#[tokio::test]
async fn the_page_itself_holds_no_secret_and_no_inline_script() {
    let server = Server::start(|config| config.static_dir = None).await;
    let page = server.tls("GET /admin HTTP/1.1\nHost: localhost").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("script-src 'self';"));
    assert!(!page.body.contains(&admin_token(&server)) && !page.body.contains("<script>"));
}
