//! Runs the built binary: as a server on free loopback ports with a state directory of its own, or as a command.

#![allow(dead_code, reason = "every test crate that includes this uses a part of it")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a start, a stop or a command may take on a busy machine before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments that bind one UDP and one TCP socket to a free loopback port.
pub const LOOPBACK: &[&str] = &["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"];

/// A place for everything a run touches: home, working directory and state, removed at the end.
pub struct Place {
    root: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(root.path().join("empty.toml"), "").expect("written");
        Self { root }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The state directory that `serve` and the other commands are told.
    pub fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Contents of a file of the state directory, without the line end.
    pub fn state_file(&self, name: &str) -> String {
        let path = self.state_dir().join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim_end().to_owned()
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).expect("written");
        path
    }

    /// The binary with nothing of the developer's own surroundings, `--state-dir` by variable.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Command::new(env!("CARGO_BIN_EXE_relais")), arguments)
    }

    /// The same for a program that runs the binary: a shell that sets a limit first, say.
    pub fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(env!("CARGO_BIN_EXE_relais"));
        self.command_of(command, arguments)
    }

    fn command_of(&self, mut command: Command, arguments: &[&str]) -> Command {
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("RELAIS_") || shown == "STATE_DIRECTORY" || shown == "XDG_STATE_HOME" {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", self.path())
            .env("RELAIS_CONFIG", self.path().join("empty.toml"))
            .env("RELAIS_STATE_DIR", self.state_dir())
            .current_dir(self.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        finish(&mut self.command(arguments), arguments)
    }
}

/// What a command left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must have succeeded.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// Standard error of a command that must have ended with `code`; every word must be in it.
    #[track_caller]
    pub fn failure(&self, code: i32, words: &[&str]) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing in: {}", self.stderr);
        }
        &self.stderr
    }
}

/// Starts `command` and waits for its end within [`PATIENCE`].
pub fn finish(command: &mut Command, shown: &[&str]) -> Output {
    let mut child = command.spawn().expect("the binary starts");
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let status = wait(&mut child).unwrap_or_else(|| {
        let _ = child.kill();
        panic!("{shown:?} did not end within {PATIENCE:?}");
    });
    let text = |pipe: Receiver<String>| pipe.recv_timeout(PATIENCE).expect("the pipe ends with the process");
    Output { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// True within namespaces of the test `name`. Outside it runs the test there, by `unshare` with these arguments and a
/// script `setup` that has `exec "$0" "$@"` at its end, and checks how that went.
pub fn is_inside(name: &str, unshare: &[&str], setup: &str) -> bool {
    const INSIDE: &str = "RELAIS_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .args(unshare)
        .args(["sh", "-c", setup])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name} in network namespaces (user namespaces, iproute2 and nftables are needed): {text}"
    );
    false
}

/// A running `relais serve`. It is killed when dropped.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    /// Links as printed, with the invite.
    pub urls: Vec<String>,
    /// Token of the first invite: a host of any room.
    pub invite: String,
    /// Certificate of the local CA.
    pub ca: Option<PathBuf>,
    /// The whole `ready` line.
    pub ready: Value,
    pub place: Place,
}

impl Server {
    /// Starts on free loopback ports, with `extra` arguments, and waits until it is ready.
    pub fn start(extra: &[&str]) -> Self {
        Self::start_in(Place::new(), &[LOOPBACK, extra].concat())
    }

    /// Starts with these arguments in `place`.
    pub fn start_in(place: Place, arguments: &[&str]) -> Self {
        let all = [&["serve", "--log-format", "json"], arguments].concat();
        let command = place.command(&all);
        Self::launch(place, command)
    }

    /// Starts on free loopback ports by `wrapper`, which must become the binary.
    pub fn start_wrapped(place: Place, wrapper: &[&str], extra: &[&str]) -> Self {
        let all = [&["serve", "--log-format", "json"], LOOPBACK, extra].concat();
        let command = place.wrapped(wrapper, &all);
        Self::launch(place, command)
    }

    /// Starts `command` and waits until it is ready.
    pub fn launch(place: Place, mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = follow(child.stderr.take().expect("piped"), Arc::clone(&log));
        let deadline = deadline();
        let ready = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(now())) {
                Ok(line) => match serde_json::from_str::<Value>(&line) {
                    Ok(value) if value["event"] == "ready" => break value,
                    _ => {}
                },
                Err(reason) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("not ready ({reason}): {:#?}", log.lock().expect("unpoisoned"));
                }
            }
        };
        let addresses = |name: &str| serde_json::from_value(ready[name].clone()).expect("a list of addresses");
        let texts = |name: &str| serde_json::from_value(ready[name].clone()).expect("a list of texts");
        Self {
            udp: addresses("udp"),
            tcp: addresses("tcp"),
            http: addresses("http"),
            urls: texts("urls"),
            invite: ready["invite"].as_str().unwrap_or_default().to_owned(),
            ca: ready["ca"].as_str().map(PathBuf::from),
            child,
            lines,
            log,
            ready,
            place,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to this process alone.
    pub fn signal(&self, signal: &str) {
        send_signal(self.pid(), signal);
    }

    /// Waits for the end that a signal has asked for.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        wait(&mut self.child).unwrap_or_else(|| panic!("it did not end: {:#?}", self.log()))
    }

    /// Bearer token of the administrator.
    pub fn admin_token(&self) -> String {
        self.place.state_file("admin-token")
    }

    /// Everything logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("unpoisoned").clone()
    }

    /// Waits for a line of the log that holds `word`, from those not yet waited for.
    #[track_caller]
    pub fn wait_for_log(&self, word: &str) -> String {
        let deadline = deadline();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(now())) {
                Ok(line) if line.contains(word) => return line,
                Ok(_) => {}
                Err(_) => panic!("{word:?} was never logged: {:#?}", self.log()),
            }
        }
    }

    /// Sends SIGTERM and waits for the end; gives the place for another start.
    #[track_caller]
    pub fn stop(self) -> Place {
        let (status, place) = self.stop_by("TERM");
        assert!(status.success(), "ended with {status}");
        place
    }

    /// Sends `signal` (`TERM`, `INT`) to this process alone and waits for the end.
    #[track_caller]
    pub fn stop_by(mut self, signal: &str) -> (ExitStatus, Place) {
        send_signal(self.pid(), signal);
        let status = wait(&mut self.child).unwrap_or_else(|| panic!("{signal} did not end it: {:#?}", self.log()));
        (status, std::mem::replace(&mut self.place, Place::new()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of the wait that begins now.
pub fn deadline() -> Instant {
    now() + PATIENCE
}

#[allow(clippy::disallowed_methods, reason = "tests wait in real time")]
pub fn now() -> Instant {
    Instant::now()
}

fn send_signal(pid: u32, signal: &str) {
    // The shell's own `kill`: no other program has to be installed.
    let status = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status().expect("a shell");
    assert!(status.success(), "kill -{signal} {pid}: {status}");
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let deadline = deadline();
    while now() < deadline {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
    None
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn follow(pipe: impl Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            log.lock().expect("unpoisoned").push(line.clone());
            let _ = sender.send(line);
        }
    });
    receiver
}
