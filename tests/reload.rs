//! SIGHUP on the built binary: under load it drops nothing, each changed key is reported, a broken file changes nothing;
//! and what systemd is told.

mod common;
mod net_common;
mod ws_common;

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{LOOPBACK, Place, Server};
use net_common::core::{ALLOCATE, Ask, CREATE_PERMISSION};
use net_common::{Got, Link, TurnClient, large_socket, soon, udp_link};
use relais::credentials::turn;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UdpSocket};
use ws_common::Page;

/// Of each: allocations that relay, and signaling peers that talk.
const MANY: usize = 200;
/// Of the allocations, those over TCP.
const OVER_TCP: usize = 40;
/// Exchanges of everybody before the first reload, between two and after the last.
const ROUNDS: usize = 10;
/// Least time between two exchanges of one client or pair: a load that this machine carries beside other work.
const PACE: Duration = Duration::from_millis(50);

/// A configuration file: what differs between the versions of these tests, by group.
fn file(top: &str, turn: &str, tls: &str, limits: &str) -> String {
    format!(
        "{top}\n[turn]\nrelay_ip = [\"127.0.0.1\"]\nallow_peer = [\"127.0.0.0/8\"]\n{turn}\n[tls]\n{tls}\n[limits]\n{limits}\n"
    )
}

const SECRET: &str = "secrets = [\"north\"]";

/// A certificate for `localhost` in the place's files; gives it as a root.
fn certificate(place: &Place) -> tokio_rustls::rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    place.write("chain.pem", &made.cert.pem());
    place.write("key.pem", &made.signing_key.serialize_pem());
    made.cert.der().clone()
}

fn tls_keys(place: &Place) -> String {
    format!("cert = {:?}\nkey = {:?}", place.path().join("chain.pem"), place.path().join("key.pem"))
}

fn start(place: Place) -> Server {
    let config = place.path().join("relais.toml").display().to_string();
    Server::start_in(place, &[LOOPBACK, &["--config", &config]].concat())
}

/// Sends SIGHUP and gives what the log says of it, the last line included.
fn reload(server: &Server, last: &str) -> Vec<Value> {
    let before = server.log().len();
    server.signal("HUP");
    server.wait_for_log(last);
    let lines = server.log();
    lines[before..].iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The keys of these lines whose message ends so.
fn keys(lines: &[Value], outcome: &str) -> Vec<String> {
    let lines = lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.ends_with(outcome)));
    lines.map(|line| line["key"].as_str().or(line["file"].as_str()).unwrap_or_default().to_owned()).collect()
}

async fn client(server: &Server, over_tcp: bool, subject: &str) -> TurnClient {
    let address = server.udp[0];
    let link = match over_tcp {
        true => Link::stream(TcpStream::connect(server.tcp[0]).await.expect("connected")),
        false => udp_link(address).await,
    };
    let mut client = TurnClient::new(link, address, subject);
    renew(&mut client, b"north", subject);
    client
}

fn renew(client: &mut TurnClient, secret: &[u8], subject: &str) {
    let minted = turn::mint(secret, subject, relais::clock::now().unix + 3_600);
    (client.credential.username, client.credential.password) = (minted.username, minted.password);
}

/// Everybody's exchanges so far, and whether they go on.
#[derive(Default)]
struct Load {
    rounds: Vec<AtomicUsize>,
    is_over: AtomicBool,
}

impl Load {
    fn least(&self) -> usize {
        self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    fn all(&self) -> usize {
        self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).sum()
    }

    /// Waits until everybody has made some more.
    async fn go_on(&self, what: &str) {
        let wanted: Vec<_> = self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed) + ROUNDS).collect();
        let done = || self.rounds.iter().zip(&wanted).all(|(rounds, wanted)| rounds.load(Ordering::Relaxed) >= *wanted);
        let waited = async {
            while !done() {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(common::PATIENCE, waited).await;
        waited.unwrap_or_else(|_| panic!("{what}: somebody does not go on, {} exchanges at least", self.least()));
    }
}

/// One packet each way at a time over the allocation; each must arrive, none is sent twice.
async fn relay(load: Arc<Load>, index: usize, mut client: TurnClient, peer: UdpSocket, relayed: SocketAddr) {
    let mut buffer = [0; 64];
    let mut pace = tokio::time::interval(PACE);
    while !load.is_over.load(Ordering::Relaxed) {
        pace.tick().await;
        let payload = format!("{index} {}", load.rounds[index].load(Ordering::Relaxed));
        client.send_on(0x4000, payload.as_bytes()).await;
        let (len, from) = soon("a packet at the peer", peer.recv_from(&mut buffer)).await.expect("received");
        assert_eq!((&buffer[..len], from), (payload.as_bytes(), relayed));
        peer.send_to(payload.as_bytes(), relayed).await.expect("sent");
        assert_eq!(client.got().await, Got::Channel { number: 0x4000, payload: payload.into_bytes() });
        load.rounds[index].fetch_add(1, Ordering::Relaxed);
    }
}

/// Two pages of a room that send each other a candidate in turn.
async fn talk(load: Arc<Load>, index: usize, mut pages: [(Page, String); 2]) {
    let mut pace = tokio::time::interval(PACE);
    while !load.is_over.load(Ordering::Relaxed) {
        pace.tick().await;
        let round = load.rounds[index].load(Ordering::Relaxed);
        for (from, to) in [(0, 1), (1, 0)] {
            let (candidate, other) = (json!({ "candidate": format!("{round}") }), pages[to].1.clone());
            pages[from].0.say(&json!({ "type": "candidate", "to": other, "candidate": candidate })).await;
            let heard = pages[to].0.message_of("candidate").await;
            assert_eq!((&heard["candidate"], heard["from"].as_str()), (&candidate, Some(pages[from].1.as_str())));
        }
        load.rounds[index].fetch_add(1, Ordering::Relaxed);
        load.rounds[index + 1].fetch_add(1, Ordering::Relaxed);
    }
}

/// True when a new TLS connection is made with `root` as the only authority.
async fn trusts(server: &Server, root: &tokio_rustls::rustls::pki_types::CertificateDer<'static>) -> bool {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.tcp[0]).await.expect("connected");
    let name = "localhost".try_into().expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_under_load_drops_nothing() {
    let place = Place::new();
    let first = certificate(&place);
    let tls = tls_keys(&place);
    let limits = format!("allocations_per_subject = {MANY}");
    place.write("relais.toml", &file("", SECRET, &tls, &limits));
    let server = start(place);
    let counters = || (0..MANY).map(|_| AtomicUsize::new(0)).collect();
    let relaying = Arc::new(Load { rounds: counters(), ..Load::default() });
    let talking = Arc::new(Load { rounds: counters(), ..Load::default() });
    let mut tasks = Vec::new();
    for index in 0..MANY {
        let mut client = client(&server, index < OVER_TCP, "c.load").await;
        let relayed = client.allocate().await;
        let peer = large_socket("127.0.0.1:0");
        client.bind(0x4000, peer.local_addr().expect("bound")).await;
        tasks.push(tokio::spawn(relay(Arc::clone(&relaying), index, client, peer, relayed)));
    }
    for index in (0..MANY).step_by(2) {
        let room = format!("room-{index}");
        let (one, joined) = Page::join(&server, &room, json!({})).await;
        let (two, after) = Page::join(&server, &room, json!({})).await;
        let id = |joined: &Value| joined["peer"].as_str().expect("an id").to_owned();
        tasks.push(tokio::spawn(talk(Arc::clone(&talking), index, [(one, id(&joined)), (two, id(&after))])));
    }
    relaying.go_on("before").await;
    talking.go_on("before").await;
    assert!(trusts(&server, &first).await);

    let versions = [
        (
            "secrets = [\"south of here\", \"north\"]\ndeny_peer = [\"127.99.0.0/16\"]",
            "allocations_per_subject = 150\nrooms = 5000",
        ),
        (
            "secrets = [\"south of here\"]\ndeny_peer = [\"127.98.0.0/16\"]",
            "messages_per_second = 200\npermissions = 8",
        ),
        ("secrets = [\"south of here\"]", "allocations_total = 210"),
    ];
    for (turn, limits) in versions {
        let last = certificate(&server.place);
        server.place.write("relais.toml", &file("", turn, &tls, limits));
        let lines = reload(&server, "\"reloaded\"");
        let applied = keys(&lines, ": applied");
        assert!(
            applied.contains(&"certificate".into()) && applied.iter().any(|key| key.starts_with("limits.")),
            "{lines:?}"
        );
        assert_eq!(keys(&lines, "needs restart"), [""; 0]);
        relaying.go_on("after a reload").await;
        talking.go_on("after a reload").await;
        assert!(trusts(&server, &last).await, "the new certificate is in use");
    }
    // What was changed is in force.
    let allocate = |id| Ask::request(ALLOCATE, id).transport(17);
    let mut old = client(&server, false, "c.old").await;
    assert_eq!(old.ask(allocate).await.code(), Some(401), "the old secret");
    renew(&mut old, b"south of here", "c.new");
    assert_eq!(old.ask(allocate).await.code(), None, "the new one");
    let mut more = Vec::new();
    for index in 0.. {
        let mut one = client(&server, true, "c.more").await;
        renew(&mut one, b"south of here", &format!("c.more{index}"));
        if one.try_allocate().await.code() == Some(508) {
            break;
        }
        more.push(one);
    }
    assert_eq!(more.len(), 210 - MANY - 1, "allocations_total is in force");
    for load in [&relaying, &talking] {
        load.is_over.store(true, Ordering::Relaxed);
    }
    for task in tasks {
        task.await.expect("no packet and no message was lost, and nobody was disconnected");
    }
    println!(
        "{MANY} allocations ({OVER_TCP} over TCP) and {MANY} signaling peers over {} reloads: {} packets relayed, {} \
         messages carried, none lost, nobody disconnected",
        versions.len(),
        2 * relaying.all(),
        talking.all(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_changed_key_is_reported() {
    let place = Place::new();
    place.write("relais.toml", &file("", SECRET, "", ""));
    let server = start(place);
    let mut before = client(&server, false, "c.one").await;
    before.allocate().await;
    let turn = format!("{SECRET}\ndeny_peer = [\"127.99.0.0/16\"]\nrelay_ports = \"50000-50100\"");
    server.place.write("relais.toml", &file("log_level = \"debug\"", &turn, "", "rooms = 7"));
    for _ in 0..2 {
        let lines = reload(&server, "\"reloaded\"");
        assert_eq!(keys(&lines, "needs restart"), ["turn.relay_ports"], "said again until the restart");
        let done = lines.iter().find(|line| line["message"] == "reloaded").expect("told");
        assert_eq!(done["needs_restart"], 1);
        if done["applied"] == 3 {
            assert_eq!(keys(&lines, ": applied"), ["log_level", "turn.deny_peer", "limits.rooms"]);
        } else {
            assert_eq!(done["applied"], 0, "{lines:?}");
        }
    }
    let denied = |id| Ask::request(CREATE_PERMISSION, id).peer("127.99.0.1:9");
    soon("the new policy", async { while before.ask(denied).await.code() != Some(403) {} }).await;
    // Secrets of the state directory are read again as well, and never shown.
    let token = "a-new-admin-token-of-32-characters";
    std::fs::write(server.place.state_dir().join("admin-token"), token).expect("written");
    let lines = reload(&server, "\"reloaded\"");
    assert_eq!(keys(&lines, ": applied"), ["admin-token"]);
    assert!(server.log().iter().all(|line| !line.contains(token) && !line.contains("north")), "a secret in the log");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_says_so() {
    let place = Place::new();
    let good_root = certificate(&place);
    let tls = tls_keys(&place);
    place.write("relais.toml", &file("", SECRET, &tls, ""));
    let server = start(place);
    let new = "secrets = [\"another secret\"]";
    let broken = [
        (file("", &format!("{new}\nrelay_prots = \"1-2\""), &tls, ""), &["relay_prots", "relay_ports"][..]),
        (
            file("", &format!("{new}\ndeny_peer = [\"10.0.0.1/8\"]"), &tls, ""),
            &["turn.deny_peer", "10.0.0.1/8", "10.0.0.0/8"],
        ),
        (file("", new, &tls, "rooms = 0"), &["limits.rooms", "line"]),
        (file("", new, &tls, "rooms = "), &["relais.toml", "line"]),
    ];
    for (text, words) in &broken {
        server.place.write("relais.toml", text);
        let lines = reload(&server, "nothing was reloaded");
        let said = lines.iter().map(Value::to_string).collect::<String>();
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    }
    server.place.write("relais.toml", &file("", new, &tls, ""));
    server.place.write("key.pem", "no key");
    for _ in 0..2 {
        let said = reload(&server, "nothing was reloaded").iter().map(Value::to_string).collect::<String>();
        assert!(said.contains("key.pem") && said.contains("PEM"), "{said}");
    }
    std::fs::remove_file(server.place.path().join("relais.toml")).expect("removed");
    let said = reload(&server, "nothing was reloaded").iter().map(Value::to_string).collect::<String>();
    assert!(said.contains("relais.toml"), "{said}");
    // All is as before: the old secret, the old certificate.
    client(&server, false, "c.same").await.allocate().await;
    assert!(trusts(&server, &good_root).await);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_calls_and_takes_no_new_ones() {
    let place = Place::new();
    place.write("relais.toml", &file("drain_timeout = \"30s\"", SECRET, "", ""));
    let mut server = start(place);
    let mut caller = client(&server, false, "c.call").await;
    let relayed = caller.allocate().await;
    let peer = large_socket("127.0.0.1:0");
    caller.bind(0x4000, peer.local_addr().expect("bound")).await;
    let mut other = client(&server, false, "c.other").await;
    // Its nonce comes before the stop.
    assert_eq!(other.release().await.code(), Some(437));
    let (mut page, _) = Page::join(&server, "blue", json!({})).await;
    let mut late = Page::open(server.tcp[0], "/api/ws").await;
    server.signal("TERM");
    let told = page.message_of("draining").await;
    assert_eq!(told["seconds"], 30);
    assert_eq!(other.try_allocate().await.code(), Some(508));
    late.say(&json!({ "type": "join", "v": 1, "room": "blue", "token": server.invite })).await;
    assert_eq!(late.message().await, json!({ "type": "closing", "reason": "shutdown" }));
    assert!(TcpStream::connect(server.tcp[0]).await.is_err(), "no new connections");
    // The call goes on.
    peer.send_to(b"still there", relayed).await.expect("sent");
    assert_eq!(caller.got().await, Got::Channel { number: 0x4000, payload: b"still there".to_vec() });
    page.say(&json!({ "type": "ping" })).await;
    page.message_of("pong").await;
    // With its end the server ends.
    assert_eq!(caller.release().await.code(), None);
    page.message_of("closing").await;
    assert_eq!(server.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    place.write("relais.toml", &file("drain_timeout = \"1h\"", SECRET, "", ""));
    let mut server = start(place);
    let mut caller = client(&server, false, "c.call").await;
    caller.allocate().await;
    server.signal("TERM");
    server.wait_for_log("stopping");
    server.signal("HUP");
    server.wait_for_log("nothing was reloaded: the server is stopping");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_readiness_reloads_the_watchdog_and_the_end() {
    let place = Place::new();
    place.write("relais.toml", &file("", SECRET, "", ""));
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(common::PATIENCE)).expect("set");
    let config = place.path().join("relais.toml").display().to_string();
    let mut command = place.command(&[&["serve", "--log-format", "json", "--config", &config], LOOPBACK].concat());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let mut server = Server::launch(place, command);
    let wait_for = |word: &str| {
        let mut buffer = [0; 512];
        loop {
            let len = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{word} was never sent: {error}"));
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.contains(word) {
                return text;
            }
        }
    };
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    server.signal("HUP");
    assert!(wait_for("RELOADING=1").contains("MONOTONIC_USEC="));
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    server.signal("TERM");
    assert!(wait_for("STOPPING=1").contains("EXTEND_TIMEOUT_USEC="));
    assert_eq!(server.ended().code(), Some(0));
}
