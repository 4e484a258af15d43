//! The servers under load: started on one core, asked for what they cost, ended.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::dialect::Dialect;
use super::wire::Target;

/// Whom we load, and in which words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Relais(Dialect),
    /// Node's `socket.io` with a tutorial's room server.
    SocketIo,
    /// Node's `ws` with a room server of thirty lines.
    Ws,
}

impl Kind {
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Relais(dialect) => dialect,
            Self::SocketIo => Dialect::SocketIo,
            Self::Ws => Dialect::Native,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Relais(Dialect::Native) => "Relais, native",
            Self::Relais(Dialect::SocketIo) => "Relais, Socket.IO",
            Self::Relais(Dialect::Live) => "Relais, live",
            Self::SocketIo => "Node, `socket.io`",
            Self::Ws => "Node, `ws`",
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Self::Relais(_))
    }
}

/// What a server is started with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub tls: bool,
    /// Lost connections may come back as the same peer (Relais always lets them).
    pub recovery: bool,
}

/// The certificate of a run, for all servers.
pub struct Identity {
    cert: PathBuf,
    key: PathBuf,
    connector: TlsConnector,
}

impl Identity {
    pub fn make(dir: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&cert, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { cert, key, connector: TlsConnector::from(Arc::new(config)) })
    }
}

/// A running server.
pub struct Server {
    child: Child,
    pub target: Target,
    is_node: bool,
    _state: TempDir,
}

impl Server {
    pub fn start(kind: Kind, options: Options, identity: &Identity) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", "0"]);
        match kind {
            Kind::Relais(_) => {
                let binary = std::env::var_os("RELAIS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_relais").into());
                command.arg(binary).args(["serve", "--log-format", "json", "--access", "open"]);
                command.args(["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--state-dir"]).arg(state.path());
                command.arg("--cert").arg(&identity.cert).arg("--key").arg(&identity.key);
                command.stderr(Stdio::piped());
            }
            Kind::SocketIo | Kind::Ws => {
                let script = if kind == Kind::Ws { "ws.mjs" } else { "socketio.mjs" };
                let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/signaling/peers");
                command.args(["node", "--expose-gc"]).arg(peers.join(script)).env("NODE_ENV", "production");
                if options.tls {
                    command.env("CERT", &identity.cert).env("KEY", &identity.key);
                }
                if options.recovery {
                    command.env("RECOVERY", "1");
                }
                command.stdout(Stdio::piped());
            }
        }
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let output: Box<dyn Read + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(output), _) => Box::new(output),
            (None, Some(errors)) => Box::new(errors),
            (None, None) => anyhow::bail!("the server has no output"),
        };
        let mut server = Self {
            child,
            target: Target {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                tls: options.tls.then(|| identity.connector.clone()),
            },
            is_node: !kind.is_ours(),
            _state: state,
        };
        server.target.address = ready(output)?;
        Ok(server)
    }

    /// Memory of the process, after what is garbage was collected where there is a collector.
    pub async fn memory(&self) -> anyhow::Result<Memory> {
        if self.is_node {
            let pid = self.child.id().to_string();
            anyhow::ensure!(Command::new("kill").args(["-USR2", &pid]).status()?.success(), "no signal for {pid}");
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let kib = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim_start_matches(':').split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Memory {
            rss: kib("Rss"),
            private: kib("Private_Dirty") + kib("Private_Clean"),
            anonymous: kib("Anonymous"),
        })
    }

    /// CPU that the process has used so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // USER_HZ is 100 on every Linux that we know.
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub rss: u64,
    pub private: u64,
    pub anonymous: u64,
}

/// Waits for the line that says where the server listens; what comes later is read by a thread and shown when it is a
/// warning, so that the server never waits for us.
fn ready(output: Box<dyn Read + Send>) -> anyhow::Result<SocketAddr> {
    let mut lines = BufReader::new(output).lines();
    let mut seen = String::new();
    for line in lines.by_ref() {
        let line = line?;
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        if entry["event"] == "ready" {
            std::thread::spawn(move || show_trouble(lines));
            let port = entry["port"].as_u64().map(|port| format!("127.0.0.1:{port}"));
            let address = port.or_else(|| entry["tcp"][0].as_str().map(str::to_owned));
            return Ok(address.ok_or_else(|| anyhow::anyhow!("no address in {line}"))?.parse()?);
        }
        seen.push_str(&line);
    }
    anyhow::bail!("the server did not start: {seen}")
}

fn show_trouble(lines: io::Lines<BufReader<Box<dyn Read + Send>>>) {
    for line in lines.map_while(Result::ok) {
        if line.contains("WARN") || line.contains("ERROR") {
            eprintln!("{line}");
        }
    }
}
