//! What TCP clients may not do, over the built binary: keep silent, send byte by byte, or have much kept for them.

mod common;
mod relay_common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use common::{Server, now};
use relay_common::{ALLOCATE, Ask, BINDING, Reply};
use socket2::{Domain, Socket, Type};

/// Silent connections in all (`src/web/front.rs`).
const SILENT_TOTAL: usize = 4096;
/// How long a stream without an allocation stays open without a whole message.
const IDLE: Duration = Duration::from_secs(30);
/// And how much later it may be closed on a busy machine.
const LATE: Duration = Duration::from_secs(15);

#[test]
fn newcomers_get_in_when_the_silent_take_every_place() {
    let server = Server::start(&[]);
    // From many prefixes: half of them without a word, half with the beginning of a TLS handshake.
    let silent = (0..SILENT_TOTAL + 50).map(|number| {
        let mut stream = connect(&server, [127, 2, (number % 64) as u8, 1]);
        if number % 2 == 1 {
            stream.write_all(&[0x16, 0x03, 0x01]).unwrap();
        }
        stream
    });
    let silent: Vec<TcpStream> = silent.collect();
    for last in 0..20 {
        assert!(answers(&mut connect(&server, [127, 0, 8, last])), "newcomer {last}");
    }
    drop(silent);
}

#[test]
fn silence_and_single_bytes_keep_no_stream_open() {
    let server = Server::start(&[]);
    let begun = now();
    let request = Ask::request(ALLOCATE, 1).transport(17).bytes();
    let mut silent = connect(&server, [127, 0, 0, 1]);
    assert!(answers(&mut silent), "it is served, and then says nothing more");
    let mut slow = connect(&server, [127, 0, 0, 1]);
    let mut alive = connect(&server, [127, 0, 0, 1]);
    assert!(answers(&mut alive));
    let (mut sent, mut last) = (0, now());
    let mut ended = [None, None];
    while ended.contains(&None) {
        assert!(now() - begun < IDLE + LATE, "closed after {ended:?}");
        if now() - last > Duration::from_secs(1) {
            last = now();
            // A byte each second, which is no message.
            if ended[1].is_none() && sent < request.len() - 1 && slow.write_all(&request[sent..=sent]).is_ok() {
                sent += 1;
            }
            assert!(answers(&mut alive), "a message each second keeps a stream open");
        }
        for (stream, ended) in [&mut silent, &mut slow].into_iter().zip(&mut ended) {
            if ended.is_none() && has_ended(stream) {
                *ended = Some(now() - begun);
            }
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(ended.iter().flatten().all(|after| *after >= IDLE - Duration::from_secs(1)), "too early: {ended:?}");
    assert!(sent > 20 && answers(&mut alive));
}

#[test]
fn a_large_message_needs_an_allocation() {
    let server = Server::start(&[]);
    // The header of the largest message there is, and then more and more of it.
    let mut stream = connect(&server, [127, 0, 0, 1]);
    stream.write_all(&[0x00, 0x01, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
    // It may be closed while we still write.
    let _ = stream.write_all(&[0; 16 << 10]);
    stream.set_read_timeout(Some(IDLE / 2)).unwrap();
    assert!(is_closed(&mut stream), "more than a request is not waited for");
    // One that fits is read as ever, whatever comes of it.
    assert!(answers(&mut connect(&server, [127, 0, 0, 1])));
}

/// Connects from an address of this machine.
fn connect(server: &Server, from: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::from(from), 0).into()).unwrap();
    socket.connect(&server.tcp[0].into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream
}

/// Whether a Binding request gets its answer.
fn answers(stream: &mut TcpStream) -> bool {
    let mut reply = [0; 512];
    stream.write_all(&Ask::request(BINDING, 7).bytes()).is_ok()
        && stream.read(&mut reply).is_ok_and(|len| len > 20 && Reply::parse(&reply[..len]).code().is_none())
}

/// Waits for the end of the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(len) => len == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Whether the connection is at its end, without waiting.
fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let ended = is_closed(stream);
    stream.set_nonblocking(false).unwrap();
    ended
}
