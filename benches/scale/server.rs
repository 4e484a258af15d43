//! The server under load, and what loads it: processes of their own, each on the cores it is given.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use relais::bench::Process;
use serde_json::Value;
use tempfile::TempDir;

use super::load::{Job, SECRET};

/// The name of a thread that relays, with its number behind.
const SHARD: &str = "relais-udp-";

/// A program that spins on cores whenever nobody else wants them, and ends with its owner.
pub struct Busy(Child);

impl Busy {
    pub fn on(cores: &str) -> anyhow::Result<Self> {
        let spin = ["--idle", "0", "sh", "-c", "while :; do :; done"];
        Ok(Self(pinned(cores, "chrt").args(spin).spawn().context("chrt")?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that ends with its owner.
pub struct Server {
    child: Child,
    pub udp: SocketAddr,
    /// Of the signaling; the forwarder has none.
    pub tcp: Option<SocketAddr>,
    _place: Option<TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Relais with `shards` UDP threads on `cores`.
    pub fn relais(shards: usize, cores: &str) -> anyhow::Result<Self> {
        let place = tempfile::tempdir()?;
        let mut child = pinned(cores, env!("CARGO_BIN_EXE_relais"))
            .args(["serve", "--log-format", "json", "--log-level", "warn,relais::app=info", "--access", "open"])
            .args(["--udp", "127.0.0.1:0", "--tcp", &free_tcp()?.to_string(), "--shards", &shards.to_string()])
            // The clients of the signaling come from many addresses, as through a proxy.
            .args(["--trust-proxy", "127.0.0.0/8", "--secret", SECRET, "--allow-peer", "127.0.0.0/8", "--state-dir"])
            .arg(place.path().join("state"))
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("piped")?).lines();
        let ready: Value = loop {
            let line = lines.next().context("Relais did not start")??;
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["event"] == "ready" {
                break value;
            }
        };
        // The log must be read on, or the server would wait for us.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| ready[name][0].as_str().and_then(|text| text.parse().ok());
        let udp = address("udp").context("a UDP address")?;
        Ok(Self { child, udp, tcp: address("tcp"), _place: Some(place) })
    }

    /// The bare forwarder, this program in another role.
    pub fn forwarder(cores: &str) -> anyhow::Result<Self> {
        let mut child = pinned(cores, own()?.as_str()).arg("--forward").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        Ok(Self { child, udp: line.trim().parse()?, tcp: None, _place: None })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> Option<u64> {
        Process::new(self.id()).ok()?.memory()
    }

    /// Gives each relaying thread the core of its number.
    pub fn pin_shards(&self) -> anyhow::Result<()> {
        for thread in fs::read_dir(format!("/proc/{}/task", self.id()))?.flatten() {
            let name = fs::read_to_string(thread.path().join("comm"))?;
            let Some(core) = name.trim().strip_prefix(SHARD) else { continue };
            let status = Command::new("taskset")
                .args(["--cpu-list", "--pid", core])
                .arg(thread.file_name())
                .stdout(Stdio::null())
                .status()?;
            anyhow::ensure!(status.success(), "taskset cannot pin a thread");
        }
        Ok(())
    }
}

/// Load under way.
pub struct Load(Child);

impl Load {
    /// Begins `job` on `cores`.
    pub fn start(job: &Job, cores: &str) -> anyhow::Result<Self> {
        let text = serde_json::to_string(job)?;
        Ok(Self(pinned(cores, own()?.as_str()).args(["--load", &text]).stdout(Stdio::piped()).spawn()?))
    }

    /// Its figures, when it is over; see `Figures::json`.
    pub fn finish(mut self) -> anyhow::Result<Value> {
        let mut text = String::new();
        self.0.stdout.take().context("piped")?.read_to_string(&mut text)?;
        anyhow::ensure!(self.0.wait()?.success(), "the load failed");
        Ok(serde_json::from_str(&text)?)
    }

    /// Whether it is over.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command on `cores`; `taskset` becomes the program, so that its id is the program's.
/// A free TCP address whose port the kernel gives to no socket by itself: a peer of the generator that had its number
/// would be refused, since the server's own ports are no peers.
fn free_tcp() -> anyhow::Result<SocketAddr> {
    let ports = 20_000..30_000;
    let free = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).find(|at| TcpListener::bind(at).is_ok());
    free.context("no TCP port is free")
}

fn pinned(cores: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", cores, program]).stdin(Stdio::null());
    command
}

fn own() -> anyhow::Result<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}
