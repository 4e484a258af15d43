//! ICE agents of other projects in relayed calls through us: aioice and aiortc (Python), libnice (C, used from Python).
//!
//! `tests/run` installs them. By hand: `tests/tools/python`, and Debian's python3-gi and gir1.2-nice-0.1.

mod net_common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use net_common::core::addr;
use net_common::{Server, config};
use relais::config::{Config, Listen};
use relais::credentials::turn;
use tokio::process::Command;

/// The scripts wait for themselves, and say what for.
const PATIENCE: Duration = Duration::from_secs(100);

#[tokio::test(flavor = "multi_thread")]
async fn aioice_connects_through_us_alone() {
    let said = run(environment(), "aioice_relay.py").await;
    assert_eq!(said.matches("messages each way").count(), 3, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aiortc_calls_through_us_alone() {
    let said = run(environment(), "aiortc_call.py").await;
    assert_eq!(said.matches("frames of sound").count(), 2, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn libnice_connects_through_us_alone() {
    // Debian's bindings belong to Debian's interpreter.
    let said = run("/usr/bin/python3".into(), "libnice_relay.py").await;
    assert_eq!(said.matches("messages each way").count(), 2, "{said}");
}

/// Runs a script against a server of its own; every call of it must have gone through the relay.
async fn run(python: PathBuf, script: &str) -> String {
    let udp = Listen { addresses: vec![addr("127.0.0.1:0")], explicit: true };
    let server = Server::start(&Config { udp, ..config() }).await;
    let expires = relais::clock::now().unix + 3_600;
    let credential = turn::mint(net_common::core::SECRET, "c.interop", expires);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
    let (udp, tcp) = (server.udp(true).port().to_string(), server.tcp.port().to_string());
    let output = Command::new(&python)
        .arg(&script)
        .args(["127.0.0.1", &udp, &tcp, &credential.username, &credential.password])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("the script ends").expect("the script starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}: {text}", script.display(), output.status);
    assert!(server.net.totals().hairpins > 0, "from one relayed address to the other: {text}");
    text
}

/// The interpreter with the packages of `tests/interop/requirements.txt`.
fn environment() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let python = target.join("tools/python/bin/python");
    assert!(python.exists(), "{} is missing: tests/tools/python makes it, tests/run does so first", python.display());
    python
}
