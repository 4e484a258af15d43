//! Memory of a live allocation with a channel, for Relais and for coturn in the same run:
//!
//! ```sh
//! tests/tools/coturn && cargo bench --bench memory
//! ```
//!
//! Each server is a process of its own on loopback. The resident memory is read with few allocations and with many, so
//! that what a server holds anyway does not count. The kernel's part (the sockets) is the same for both and named apart.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use relais::credentials::turn;
use relais::relay::stun::{Builder, Class, Integrity, Message, attr, method, write_xor_address};

const ALLOCATIONS: usize = 5_000;
/// Not counted: with them, what is made at first use is there.
const FIRST: usize = 100;
const SECRET: &str = "north";
const REALM: &str = "relais";
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 5;

fn main() {
    // `cargo test --benches` and `cargo bench` differ in this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{ALLOCATIONS} allocations over UDP, each with one channel, beyond the first {FIRST}\n");
    println!("| server | resident before | with all | for an allocation | kernel, whole machine, for an allocation |");
    println!("|---|---|---|---|---|");
    for start in [relais as fn(&Path) -> Server, coturn] {
        let place = tempfile::tempdir().expect("a temporary directory");
        let server = start(place.path());
        println!("{}", measure(&server));
    }
}

fn measure(server: &Server) -> String {
    let mut clients: Vec<_> = (0..FIRST).map(|number| Client::allocated(server.address, number)).collect();
    let before = (resident(server.process.id()), slab());
    clients.extend((FIRST..FIRST + ALLOCATIONS).map(|number| Client::allocated(server.address, number)));
    let after = (resident(server.process.id()), slab());
    let each = |before: usize, after: usize| after.saturating_sub(before) as f64 / ALLOCATIONS as f64 / 1024.0;
    format!(
        "| {} | {:.1} MiB | {:.1} MiB | **{:.2} KiB** | {:.1} KiB, both ends |",
        server.name,
        before.0 as f64 / f64::from(1 << 20),
        after.0 as f64 / f64::from(1 << 20),
        each(before.0, after.0),
        each(before.1, after.1),
    )
}

/// A running server, killed when dropped.
struct Server {
    name: String,
    address: SocketAddr,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn relais(place: &Path) -> Server {
    let mut process = Command::new(env!("CARGO_BIN_EXE_relais"))
        .args(["serve", "--log-format", "json", "--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"])
        .args(["--secret", SECRET, "--realm", REALM, "--allow-peer", "127.0.0.0/8", "--state-dir"])
        .arg(place.join("state"))
        .current_dir(place)
        .stderr(Stdio::piped())
        .spawn()
        .expect("relais starts");
    let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
    let address = loop {
        let line = lines.next().expect("a ready line").expect("text");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if value["event"] == "ready" {
            break value["udp"][0].as_str().expect("an address").parse().expect("an address");
        }
    };
    // The log must be read on, or the server would wait for us.
    std::thread::spawn(move || lines.for_each(drop));
    Server { name: format!("relais {}", env!("CARGO_PKG_VERSION")), address, process }
}

fn coturn(_place: &Path) -> Server {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("tools/coturn/bin/turnserver");
    assert!(program.is_file(), "{} is missing: tests/tools/coturn unpacks it", program.display());
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let process = Command::new(program)
        .args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--no-rfc5780", "--allow-loopback-peers"])
        .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", &free.port().to_string()])
        .args(["--use-auth-secret", "--static-auth-secret", SECRET, "--realm", REALM, "--log-file", "/dev/null"])
        .args(["--pidfile", "/dev/null"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("turnserver starts");
    Server { name: "coturn of Debian".into(), address: free, process }
}

/// An allocation with a channel; kept by its socket.
struct Client {
    socket: UdpSocket,
    username: String,
    key: turn::LongTermKey,
    nonce: Vec<u8>,
}

impl Client {
    fn allocated(server: SocketAddr, number: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(server).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let expires = relais::clock::now().unix + 3_600;
        let credential = turn::mint(SECRET.as_bytes(), &format!("c.{number}"), expires);
        let key = turn::long_term_key(&credential.username, REALM, &credential.password);
        let mut client = Self { socket, username: credential.username, key, nonce: Vec::new() };
        let transport: &[(u16, &[u8])] = &[(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0])];
        let challenge = client.ask(method::ALLOCATE, 1, transport);
        client.nonce = Message::parse(&challenge).expect("STUN").get(attr::NONCE).expect("a nonce").to_vec();
        client.must(method::ALLOCATE, 2, transport);
        let id = id(3);
        let (peer, length) = write_xor_address(SocketAddr::from(([127, 0, 0, 1], 9_999)), &id);
        let peer = peer.get(..length).expect("its length");
        client.must(
            method::CHANNEL_BIND,
            3,
            &[(attr::CHANNEL_NUMBER, &[0x40, 0, 0, 0]), (attr::XOR_PEER_ADDRESS, peer)],
        );
        client
    }

    fn must(&self, method: u16, number: u8, attributes: &[(u16, &[u8])]) {
        let reply = self.ask(method, number, attributes);
        let reply = Message::parse(&reply).expect("STUN");
        assert_eq!(reply.class, Class::Success, "error {:?}", reply.get(attr::ERROR_CODE));
    }

    fn ask(&self, method: u16, number: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut request = Builder::new(Class::Request, method, id(number));
        for (kind, value) in attributes {
            request.attribute(*kind, value);
        }
        if !self.nonce.is_empty() {
            request.attribute(attr::USERNAME, self.username.as_bytes());
            request.attribute(attr::REALM, REALM.as_bytes());
            request.attribute(attr::NONCE, &self.nonce);
            request.integrity(Integrity::Sha1, &self.key);
        }
        let request = request.finish().expect("it fits");
        let mut buffer = [0; 1500];
        // The server may not be there yet.
        for _ in 0..ATTEMPTS {
            if self.socket.send(&request).is_ok()
                && let Ok(length) = self.socket.recv(&mut buffer)
            {
                return buffer[..length].to_vec();
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("no reply");
    }
}

fn id(number: u8) -> [u8; 12] {
    [number; 12]
}

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> usize {
    field(&format!("/proc/{process}/status"), "VmRSS:")
}

/// The kernel's own objects, of everything that runs here.
fn slab() -> usize {
    field("/proc/meminfo", "Slab:")
}

fn field(file: &str, name: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{file}: no {name}"));
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}
