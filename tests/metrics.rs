//! `/metrics` of the built binary: who may read it, and that its figures are those of what was done.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use common::{Output, Place, Server};

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
