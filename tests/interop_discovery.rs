//! coturn's NAT discovery client (RFC 5780) against us: both of its tests, with answers from both addresses and ports.
//!
//! `tests/run` unpacks coturn. By hand: `tests/tools/coturn`, or RELAIS_COTURN_BIN names the directory of its programs.

mod net_common;

use std::path::{Path, PathBuf};

use net_common::core::addr;
use net_common::{PATIENCE, Server, config, ip};
use relais::config::{Config, Listen};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_learns_mapping_and_filtering() {
    let udp = Listen { addresses: vec![addr("127.0.0.1:0")], explicit: true };
    let server = Server::start(&Config { udp, alt_ip: Some(ip("127.0.0.2")), shards: 4, ..config() }).await;
    let port = server.udp(true).port().to_string();
    let (mapping, filtering) = ("Endpoint Independent Mapping", "Endpoint Independent Filtering");
    for (flags, finding) in [(&["-m"][..], mapping), (&["-f"], filtering), (&["-m", "-P"], mapping)] {
        let output = Command::new(tool("turnutils_natdiscovery"))
            .args(flags)
            .args(["-p", &port, "127.0.0.1"])
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE * 3, output).await.expect("it ends").unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains(finding), "{flags:?}: {text}");
        assert!(text.contains("127.0.0.2"), "{flags:?}: the other address: {text}");
    }
}

/// Where a program of coturn is.
fn tool(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let named = std::env::var_os("RELAIS_COTURN_BIN").map(PathBuf::from);
    let places = named.into_iter().chain([target.join("tools/coturn/bin")]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    places
        .chain(std::env::split_paths(&path))
        .map(|place| place.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} of coturn is missing: tests/tools/coturn unpacks it"))
}
