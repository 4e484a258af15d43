//! coturn's own load tool against us over UDP, TCP and TLS: every message must come back.
//!
//! `tests/run` unpacks coturn. By hand: RELAIS_COTURN_BIN names the directory of `turnutils_uclient`.

mod net_common;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use net_common::core::{SECRET, addr};
use net_common::{Server, config, soon};
use relais::config::{Config, Listen};
use tokio::io::AsyncReadExt;
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};

const MESSAGES: u32 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_over_any_transport() {
    let udp = Listen { addresses: vec![addr("127.0.0.1:0")], explicit: true };
    // Debian's coturn 4.6 draws channel numbers from the range of RFC 5766.
    let server = Server::start(&Config { legacy_channels: true, udp, ..config() }).await;
    let peer = Peer::start().await;
    let before = server.net.totals();
    tokio::join!(
        every_way(server.udp(true).port(), &[], &peer),
        every_way(server.tcp.port(), &["-t"], &peer),
        every_way(server.tls.port(), &["-t", "-S"], &peer),
    );
    // From one relayed address of ours to another nothing goes through the kernel.
    let after = server.net.totals();
    assert!(after.hairpins - before.hairpins >= 3 * u64::from(MESSAGES), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_allocations_lose_nothing_from_client_to_client() {
    let server = Server::start(&config()).await;
    tokio::join!(exchange(server.tcp.port(), &["-T"], &[]), exchange(server.tls.port(), &["-T", "-S"], &[]));
    let totals = server.net.totals();
    // Two clients, each of which sends every message to the other, over both.
    let bytes = 4 * u64::from(MESSAGES) * 171;
    assert!(totals.tcp_to_peer_bytes >= bytes && totals.tcp_to_client_bytes >= bytes, "{totals:?}");
}

/// With indications, with channels, and from client to client.
async fn every_way(port: u16, transport: &[&str], peer: &Peer) {
    let peer = ["-e", "127.0.0.1", "-r", &peer.port.to_string()];
    exchange(port, &[transport, &["-s"]].concat(), &peer).await;
    exchange(port, transport, &peer).await;
    exchange(port, &[transport, &["-y"]].concat(), &[]).await;
}

/// Runs the client and checks its own account of it.
async fn exchange(port: u16, flags: &[&str], peer: &[&str]) {
    let secret = std::str::from_utf8(SECRET).unwrap();
    let (port, messages) = (port.to_string(), MESSAGES.to_string());
    let fixed = ["-c", "-n", &messages, "-z", "2", "-l", "171", "-u", "c.coturn", "-W", secret, "-p", &port];
    let output = Command::new(tool("turnutils_uclient"))
        .args(fixed)
        .args(flags)
        .args(peer)
        .arg("127.0.0.1")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(net_common::PATIENCE * 6, output).await.expect("uclient ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let last = |key: &str| -> Option<u32> {
        let (_, rest) = text.rsplit_once(key)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    };
    let lost = last("Total lost packets ");
    let received = last("tot_recv_msgs=");
    assert!(lost == Some(0) && received >= Some(MESSAGES), "{flags:?}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stunclient_and_natdiscovery_find_their_address() {
    let server = Server::start(&config()).await;
    for (v4, host) in [(true, "127.0.0.1"), (false, "::1")] {
        let port = server.udp(v4).port().to_string();
        let said = run("turnutils_stunclient", &["-p", &port, host]).await;
        let mapped = said.lines().find(|line| line.contains("UDP reflexive addr")).expect("a mapped address");
        assert!(mapped.contains(&format!("{host}:")) || mapped.contains(&format!("[{host}]:")), "{said}");
    }
    // With one address of ours there is no OTHER-ADDRESS, and the program knows what to make of that.
    let port = server.udp(true).port().to_string();
    let said = run("turnutils_natdiscovery", &["-m", "-f", "-p", &port, "127.0.0.1"]).await;
    assert!(said.contains("Mapping Behavior") && said.contains("Filtering Behavior"), "{said}");
    assert!(said.contains("UDP reflexive addr: 127.0.0.1:") && !said.contains("Other addr"), "{said}");
}

/// Runs a program of coturn to its end, which must be a good one, and gives back what it said.
async fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool(program)).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(net_common::PATIENCE, output).await.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {text}", output.status);
    text.into_owned()
}

/// coturn's echo server on a port of its own; it ends with the value.
struct Peer {
    port: u16,
    _process: Child,
}

impl Peer {
    async fn start() -> Self {
        let free = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut process = Command::new(tool("turnutils_peer"))
            .args(["-L", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let probe = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let echo = async {
            loop {
                // Refused while it is not there yet, which is reported on the next call.
                let _ = probe.send_to(b"there?", ("127.0.0.1", port)).await;
                let mut buffer = [0; 16];
                let wait = probe.recv_from(&mut buffer);
                if let Ok(Ok(_)) = tokio::time::timeout(std::time::Duration::from_millis(20), wait).await {
                    return;
                }
                if let Ok(Some(status)) = process.try_wait() {
                    let mut text = String::new();
                    let _ = process.stderr.take().unwrap().read_to_string(&mut text).await;
                    panic!("turnutils_peer ended with {status}: {text}");
                }
            }
        };
        soon("the echo of turnutils_peer", echo).await;
        Self { port, _process: process }
    }
}

/// Where a program of coturn is.
fn tool(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let unpacked = target.join("tools/coturn");
    let named = std::env::var_os("RELAIS_COTURN_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = named.into_iter().chain([unpacked.join("bin"), unpacked.join("usr/bin")]);
    places
        .chain(std::env::split_paths(&path))
        .map(|place| place.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!("{name} of coturn is missing: tests/tools/coturn unpacks it, tests/run does so first")
        })
}
