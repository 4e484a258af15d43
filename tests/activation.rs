//! A UDP socket that systemd bound and passed on is the one that serves; systemd-socket-activate and the booted machine of
//! tests/appliance do the same for TCP.

mod common;

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use common::{Output, PATIENCE, Place, Server, finish};

/// Becomes the binary with its standard input as the first passed socket, the way systemd passes one.
const PASS: &[&str] = &["sh", "-c", r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0 0</dev/null"#];

/// A Binding request without attributes.
const BINDING: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42relais-test!";

fn passing(place: &Place, socket: UdpSocket, arguments: &[&str]) -> Command {
    let mut command =
        place.wrapped(PASS, &[&["serve", "--log-format", "json", "--tcp", "127.0.0.1:0"], arguments].concat());
    command.stdin(Stdio::from(OwnedFd::from(socket)));
    command
}

fn bound() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("bound").to_string();
    (socket, address)
}

#[test]
fn a_passed_udp_socket_serves_one_thread() {
    let (socket, address) = bound();
    let inode = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a socket");
    let place = Place::new();
    let command = passing(&place, socket, &["--udp", &address, "--shards", "1"]);
    let server = Server::launch(place, command);
    assert_eq!(server.udp.len(), 1);
    assert!(server.log().iter().any(|line| line.contains("a passed UDP socket is in use")), "{:#?}", server.log());
    let held = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("a process of ours");
    let held: Vec<_> = held.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect();
    assert!(held.contains(&inode), "{inode:?} is not among {held:?}");

    let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
    client.set_read_timeout(Some(PATIENCE)).expect("set");
    client.send_to(&BINDING, &address).expect("sent");
    let mut reply = [0; 200];
    let (len, from) = client.recv_from(&mut reply).expect("an answer");
    assert_eq!(from.to_string(), address);
    assert_eq!((&reply[..2], &reply[8..20]), (&[1, 1][..], &BINDING[8..]), "a Binding success: {:?}", &reply[..len]);
    server.stop();
}

#[test]
fn with_more_threads_it_is_refused_with_the_remedy() {
    let (socket, address) = bound();
    let place = Place::new();
    let output: Output = finish(&mut passing(&place, socket, &["--udp", &address, "--shards", "2"]), &["serve"]);
    output.failure(1, &[&address, "systemd passed", "--shards 1", "ListenDatagram="]);
}

#[test]
fn one_that_the_configuration_does_not_name_is_closed() {
    let (socket, address) = bound();
    let place = Place::new();
    let command = passing(&place, socket, &["--udp", "127.0.0.1:0", "--shards", "2"]);
    let server = Server::launch(place, command);
    let said = server.log().into_iter().find(|line| line.contains("a UDP socket was passed"));
    assert!(said.is_some_and(|line| line.contains(&address) && line.contains("turn.udp")), "{:#?}", server.log());
    assert!(UdpSocket::bind(&address).is_ok(), "the port is free again");
    server.stop();
}
