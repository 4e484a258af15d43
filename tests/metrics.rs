//! `/metrics` of the built binary: who may read it, and that its figures are those of what was done.

mod common;
mod ws_common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Output, Place, Server};
use serde_json::Value;

/// Status and body of a GET.
fn get(address: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
    let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// The value of a sample.
fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {page}")).parse().expect("a number")
}

#[test]
fn the_administrator_reads_it_everywhere_and_anybody_on_its_own_port() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let own: SocketAddr = serde_json::from_value(server.ready["metrics"].clone()).expect("an address");
    let (status, page) = get(own, "/metrics", None);
    assert_eq!(status, 200);
    assert_eq!(value(&page, "relais_allocations"), 0.0);
    for path in ["/", "/admin", "/api/ice", "/healthz"] {
        assert_eq!(get(own, path, None).0, 404, "{path} is not for this port");
    }
    let elsewhere = server.tcp[0];
    assert_eq!(get(elsewhere, "/metrics", None).0, 401);
    assert_eq!(get(elsewhere, "/metrics", Some(&server.invite)).0, 401);
    let (status, page) = get(elsewhere, "/metrics", Some(&server.admin_token()));
    assert_eq!(status, 200);
    assert!(page.contains("# TYPE relais_amplification_ratio gauge"), "{page}");
}

#[test]
fn strangers_are_counted_and_not_amplified() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let own: SocketAddr = serde_json::from_value(server.ready["metrics"].clone()).expect("an address");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
    // A Binding and an Allocate without credentials, each with SOFTWARE of 16 bytes: 40 and 48 bytes.
    let software = [&[0x80, 0x22, 0, 16][..], b"sixteen letters."].concat();
    let message = |kind: [u8; 2], attributes: &[u8]| {
        let length = (attributes.len() as u16).to_be_bytes();
        [&kind[..], &length, &[0x21, 0x12, 0xa4, 0x42], &[7; 12], attributes].concat()
    };
    let transport = [0, 0x19, 0, 4, 17, 0, 0, 0];
    let requests = [message([0, 1], &software), message([0, 3], &[&software[..], &transport].concat())];
    let (mut sent, mut received) = (0, 0);
    for request in &requests {
        for _ in 0..10 {
            socket.send_to(request, server.udp[0]).expect("sent");
            received += socket.recv(&mut [0; 1500]).expect("an answer") + 28;
            sent += request.len() + 28;
        }
    }
    socket.send_to(b"garbage", server.udp[0]).expect("sent");
    let deadline = common::deadline();
    let page = loop {
        let page = get(own, "/metrics", None).1;
        let is_done = value(&page, "relais_packets_dropped_total{reason=\"malformed\"}") >= 1.0;
        if is_done && value(&page, "relais_stranger_replies_total") >= 20.0 {
            break page;
        }
        assert!(common::now() < deadline, "{page}");
        std::thread::yield_now();
    };
    assert_eq!(value(&page, "relais_stranger_received_bytes_total"), sent as f64);
    assert_eq!(value(&page, "relais_stranger_sent_bytes_total"), received as f64);
    let ratio = value(&page, "relais_amplification_ratio");
    assert!(ratio > 0.5 && ratio <= 2.0, "{ratio}");
    let refused = "relais_requests_refused_total{transport=\"udp\",method=\"allocate\",code=\"401\"}";
    assert_eq!(value(&page, refused), 10.0);
}

#[test]
fn a_metrics_port_that_serves_something_else_is_refused() {
    let place = Place::new();
    let output: Output = place.run(&["serve", "--tcp", "127.0.0.1:8443", "--metrics", "127.0.0.1:8443"]);
    output.failure(output.code.expect("an exit code"), &["metrics", "127.0.0.1:8443", "twice"]);
}

/// Runs promtool, as `tests/tools/prometheus` unpacks it, with `input`; it must be content.
fn promtool(arguments: &[&str], input: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [target.join("tools/prometheus/bin")].into_iter().chain(std::env::split_paths(&path));
    let mut programs = places.map(|place| place.join("promtool"));
    let program = programs.find(|program| program.is_file());
    let program = program.expect("tests/tools/prometheus unpacks promtool, tests/run does so first");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}\n{input}");
}

/// The `relais_…` names in `text`.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("relais_")).map(str::to_owned).collect()
}

#[test]
fn prometheus_takes_the_page_and_the_rules_and_both_speak_of_the_same() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let own: SocketAddr = serde_json::from_value(server.ready["metrics"].clone()).expect("an address");
    let page = get(own, "/metrics", None).1;
    promtool(&["check", "metrics"], &page);
    promtool(&["check", "rules", "systemd/monitoring/alerts.yml"], "");
    promtool(&["test", "rules", "systemd/monitoring/alerts.test.yml"], "");
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let served: BTreeSet<String> = kinds.map(str::to_owned).collect();
    assert_eq!(served.len(), page.matches("# TYPE ").count(), "each metric is told once: {page}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/monitoring");
    for file in ["dashboard.json", "alerts.yml", "alerts.test.yml"] {
        let text = std::fs::read_to_string(folder.join(file)).expect(file);
        let unknown: Vec<_> = names(&text).into_iter().filter(|name| !served.contains(name)).collect();
        assert!(unknown.is_empty(), "{file} names what is not served: {unknown:?}");
    }
    let text = std::fs::read_to_string(folder.join("dashboard.json")).expect("the dashboard");
    serde_json::from_str::<Value>(&text).expect("JSON");
    assert!(names(&text).len() > 35, "the dashboard shows most of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_by_dialect() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let own: SocketAddr = serde_json::from_value(server.ready["metrics"].clone()).expect("an address");
    let mut page = ws_common::Page::open(server.tcp[0], "/api/ws").await;
    page.say(&serde_json::json!({ "type": "join", "v": 1, "room": "blue" })).await;
    page.hear().await;
    let deadline = common::deadline();
    let text = loop {
        let text = tokio::task::spawn_blocking(move || get(own, "/metrics", None).1).await.expect("scraped");
        if value(&text, "relais_peers{state=\"connected\"}") == 1.0 {
            break text;
        }
        assert!(common::now() < deadline, "{text}");
    };
    assert_eq!(value(&text, "relais_rooms{kind=\"call\"}"), 1.0);
    assert_eq!(value(&text, "relais_signaling_connections"), 1.0);
    let messages = |dialect: &str, direction: &str| {
        value(&text, &format!("relais_signaling_messages_total{{dialect=\"{dialect}\",direction=\"{direction}\"}}"))
    };
    assert!(messages("native", "in") >= 1.0 && messages("native", "out") >= 1.0, "{text}");
    assert_eq!((messages("live", "in"), messages("socketio", "in")), (0.0, 0.0), "{text}");
    assert_eq!(value(&text, "relais_http_requests_total{class=\"websocket\",status=\"1xx\"}"), 1.0);
}

#[test]
fn what_goes_on_is_counted_by_kind() {
    let server = Server::start(&["--metrics", "127.0.0.1:0", "--shards", "2"]);
    let own: SocketAddr = serde_json::from_value(server.ready["metrics"].clone()).expect("an address");
    // A client that does not know the authority ends the handshake with an alert.
    let elsewhere = Place::new();
    elsewhere.run(&["check", &server.tcp[0].to_string(), "--transport", "tls"]);
    let state = server.place.state_dir();
    let address = server.udp[0].to_string();
    let checked =
        server.place.run(&["check", &address, "--state-dir", state.to_str().expect("UTF-8"), "--transport", "udp"]);
    checked.success();
    assert_eq!(get(server.tcp[0], "/healthz", None).0, 200);
    assert_eq!(get(server.tcp[0], "/api/tokens", None).0, 405);
    let page = get(own, "/metrics", None).1;
    let at_least = |sample: &str, least: f64| {
        let found = value(&page, sample);
        assert!(found >= least, "{sample} is {found}: {page}");
    };
    at_least("relais_tls_handshakes_total{outcome=\"refused\"}", 1.0);
    at_least("relais_tls_handshakes_total{outcome=\"done\"}", 1.0);
    at_least("relais_tcp_connections_total{outcome=\"accepted\"}", 4.0);
    at_least("relais_http_requests_total{class=\"health\",status=\"2xx\"}", 1.0);
    at_least("relais_http_requests_total{class=\"api\",status=\"4xx\"}", 1.0);
    at_least("relais_to_peer_packets_total", 100.0);
    at_least("relais_shard_received_total{shard=\"0\"}", 0.0);
    let shards = |name: &str| [0, 1].map(|shard| value(&page, &format!("relais_{name}{{shard=\"{shard}\"}}")));
    assert!(shards("shard_received_total").iter().sum::<f64>() >= 100.0, "{page}");
    assert!(shards("shard_cpu_seconds_total").iter().sum::<f64>() > 0.0, "{page}");
    at_least("relais_process_resident_memory_bytes", 1_000_000.0);
    at_least("relais_process_open_fds", 10.0);
    let from = value(&page, "relais_certificate_not_before_timestamp_seconds");
    let until = value(&page, "relais_certificate_not_after_timestamp_seconds");
    let now = relais::clock::now().unix as f64;
    assert!(from < now && now + 80.0 * 86400.0 < until, "{from} {until}");
    assert!(!page.contains("\nrelais_acme_failures "), "no ACME here: {page}");
    for sample in ["relais_rooms{kind=\"call\"}", "relais_peers{state=\"connected\"}", "relais_webhook_queue"] {
        assert_eq!(value(&page, sample), 0.0, "{sample}");
    }
}
