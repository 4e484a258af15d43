//! The servers that are compared: each a process of its own on core 0, started for one measurement and ended after it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use relais::bench::Tls;
use relais::bench::forwarder::Style;
use relais::relay::stun::{Builder, Class, method};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;

pub const SECRET: &str = "north";
pub const REALM: &str = "relais";
/// The core of the servers; the generator is on another (`benches/compare/run`).
const CORE: &str = "0";
/// How often a server that starts is asked, ten times a second.
const ATTEMPTS: usize = 300;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Relais,
    Coturn,
    /// A minimal server on the `turn` crate.
    TurnCrate,
    Forwarder(Style),
}

impl Kind {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relais => "Relais",
            Self::Coturn => "coturn",
            Self::TurnCrate => "`turn` crate",
            Self::Forwarder(Style::Single) => "forwarder, one call for a packet",
            Self::Forwarder(Style::Batched) => "forwarder, recvmmsg and sendmmsg",
            Self::Forwarder(Style::Segmented) => "forwarder, GRO and GSO",
        }
    }

    /// Starts it.
    pub fn start(self) -> Server {
        let place = tempfile::tempdir().expect("a temporary directory");
        match self {
            Self::Relais => relais(place),
            Self::Coturn => coturn(place),
            Self::TurnCrate => own(place, "turn"),
            Self::Forwarder(style) => {
                let name = Style::ALL.iter().find(|(_, known)| *known == style).map_or("single", |(name, _)| name);
                own(place, name)
            }
        }
    }
}

/// A running server, killed when dropped.
pub struct Server {
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    pub tls: Option<Tls>,
    process: Child,
    _place: TempDir,
}

impl Server {
    /// The process on core 0.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that runs on the servers' core; `taskset` becomes the program, so that its id is the program's.
fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", CORE]).arg(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn relais(place: TempDir) -> Server {
    let mut process = pinned(Path::new(env!("CARGO_BIN_EXE_relais")))
        .args(["serve", "--log-format", "json", "--log-level", "warn,relais::app=info"])
        .args(["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"])
        .args(["--secret", SECRET, "--realm", REALM, "--allow-peer", "127.0.0.0/8", "--state-dir"])
        .arg(place.path().join("state"))
        .current_dir(place.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("relais starts");
    let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
    let ready: Value = loop {
        let line = lines.next().expect("a ready line").expect("text");
        let value: Value = serde_json::from_str(&line).unwrap_or_default();
        if value["event"] == "ready" {
            break value;
        }
    };
    // The log must be read on, or the server would wait for us.
    std::thread::spawn(move || lines.for_each(drop));
    let address = |name: &str| ready[name][0].as_str().and_then(|text| text.parse().ok()).expect("an address");
    let ca = fs::read(ready["ca"].as_str().expect("the local CA")).expect("its certificate");
    let tls = Some(trust(CertificateDer::from_pem_slice(&ca).expect("a certificate")));
    Server { udp: address("udp"), tcp: address("tcp"), tls, process, _place: place }
}

fn coturn(place: TempDir) -> Server {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("tools/coturn/bin/turnserver");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (place.path().join("certificate.pem"), place.path().join("key.pem"));
    fs::write(&certificate, certified.cert.pem()).expect("written");
    fs::write(&key, certified.signing_key.serialize_pem()).expect("written");
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a free port");
    // One relay thread, since there is one core.
    let process = pinned(&program)
        .args(["-n", "--no-cli", "--no-dtls", "--no-rfc5780", "--allow-loopback-peers", "--relay-threads", "1"])
        .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
        .args(["--listening-port", &free.port().to_string(), "--tls-listening-port", &free.port().to_string()])
        .args(["--use-auth-secret", "--static-auth-secret", SECRET, "--realm", REALM])
        .args(["--log-file", "/dev/null", "--pidfile", "/dev/null", "--userdb"])
        .arg(place.path().join("users"))
        .arg("--cert")
        .arg(&certificate)
        .arg("--pkey")
        .arg(&key)
        .spawn()
        .expect("turnserver starts");
    wait_for(free);
    Server { udp: free, tcp: free, tls: Some(trust(certified.cert.der().clone())), process, _place: place }
}

/// Waits until the server answers a Binding request.
fn wait_for(server: SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let request = Builder::new(Class::Request, method::BINDING, [9; 12]).finish().expect("it fits");
    let is_there = (0..ATTEMPTS).any(|_| {
        let _ = socket.send_to(&request, server);
        socket.recv(&mut [0; 1500]).is_ok()
    });
    assert!(is_there, "{server} does not answer");
}

/// This program in another role.
fn own(place: TempDir, role: &str) -> Server {
    let program = std::env::current_exe().expect("this program");
    let mut process = pinned(&program).args(["--serve", role]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let mut output = BufReader::new(process.stdout.take().expect("piped"));
    output.read_line(&mut line).expect("an address");
    let udp = line.trim().parse().expect("an address");
    Server { udp, tcp: udp, tls: None, process, _place: place }
}

fn trust(certificate: CertificateDer<'static>) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls { config: Arc::new(config), name: ServerName::try_from("localhost").expect("a name") }
}
