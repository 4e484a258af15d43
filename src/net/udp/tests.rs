use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use super::*;

/// A receiver with a deadline, and its address.
fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // A burst must fit: what is tested is what was sent.
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; DATAGRAM];
    let (len, _) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

fn path(socket: u32, to: SocketAddr) -> Path {
    Path { socket, to, source: None }
}

/// A recognizable payload.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (seed * 31 + index * 7) as u8).collect()
}

#[test]
fn mixed_sizes_arrive_in_order_whatever_is_grouped() {
    let sizes = [1200, 1200, 1200, 700, 1200, 0, 0, 5, 5, 9, 1, 1472, 1473, 1473, 8_000, 60_000, 20, 20, 20, 19, 20];
    for gso in [true, false] {
        let (socket, to) = receiver();
        let sender = relay_socket_for_test();
        let mut queue = SendQueue::new(gso);
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for (seed, len) in sizes.into_iter().enumerate() {
            let bytes = pattern(seed, len);
            let payload = Payload { region: Region::Input, start: input.len(), len };
            input.extend_from_slice(&bytes);
            let head = [seed as u8; 4];
            let (head, padding) = if len % 2 == 0 { (&head[..], 2) } else { (&head[..0], 0) };
            queue.push(path(0, to), head, payload, padding);
            expected.push([head, &bytes, &[0, 0][..usize::from(padding)]].concat());
        }
        let counters = Counters::default();
        queue.flush(&input, &[], |_| Some(sender.as_fd()), &counters);
        for expected in expected {
            assert!(receive(&socket) == expected, "gso {gso}, a datagram of {} bytes", expected.len());
        }
        let mut totals = Default::default();
        counters.add_to(&mut totals);
        assert_eq!((totals.sent, totals.send_errors, totals.send_full), (sizes.len() as u64, 0, 0));
    }
}

#[test]
fn destinations_and_sockets_keep_their_own_order() {
    let (first, to_first) = receiver();
    let (second, to_second) = receiver();
    let senders = [relay_socket_for_test(), relay_socket_for_test()];
    let mut queue = SendQueue::new(true);
    for round in 0..200u32 {
        for socket in 0..2u32 {
            for to in [to_first, to_second] {
                let size = if round % 50 == 49 { 3 } else { 8 };
                let bytes = [round.to_be_bytes(), socket.to_be_bytes()].concat();
                queue.push_copy(path(socket, to), &bytes[..size]);
            }
        }
    }
    let counters = Counters::default();
    queue.flush(&[], &[], |number| senders.get(number as usize).map(AsFd::as_fd), &counters);
    for socket in [first, second] {
        let ports = senders.each_ref().map(local_port);
        let mut next = [0u32; 2];
        let mut buffer = [0; 64];
        for _ in 0..400 {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            let sender = ports.iter().position(|port| *port == from.port()).unwrap();
            let round = next[sender];
            let size = if round % 50 == 49 { 3 } else { 8 };
            assert_eq!((len, &buffer[..3]), (size, &round.to_be_bytes()[..3]));
            next[sender] += 1;
        }
    }
    let mut totals = Default::default();
    counters.add_to(&mut totals);
    assert_eq!(totals.send_calls, 2, "one system call per socket");
}

#[test]
fn a_group_ends_at_the_kernels_limits() {
    let (socket, to) = receiver();
    let sender = relay_socket_for_test();
    let mut queue = SendQueue::new(true);
    let bytes = pattern(3, 1400);
    for _ in 0..150 {
        queue.push(path(0, to), &[], Payload { region: Region::Inbox, start: 0, len: 1400 }, 0);
    }
    let counters = Counters::default();
    queue.flush(&[], &bytes, |_| Some(sender.as_fd()), &counters);
    for _ in 0..150 {
        assert_eq!(receive(&socket), bytes);
    }
    let mut totals = Default::default();
    counters.add_to(&mut totals);
    assert_eq!(totals.gso_fallbacks, 0);
}

#[test]
fn what_cannot_be_segmented_goes_out_singly() {
    let (socket, to) = receiver();
    let sender = relay_socket_for_test();
    let mut queue = SendQueue::new(true);
    queue.pieces = vec![Piece { region: 0, start: 0, len: 4 }; 5];
    queue.pieces.push(Piece { region: 0, start: 0, len: 1 });
    queue.messages = vec![Outgoing { to, source: None, segment: 8, pieces: 0..6 }];
    let counters = Counters::default();
    queue.send_singly(sender.as_fd(), &[b"abcd"], 0, &counters);
    assert_eq!([receive(&socket), receive(&socket), receive(&socket)].map(|d| d.len()), [8, 8, 5]);
}

#[test]
fn a_datagram_that_must_not_be_fragmented_goes_alone_and_in_place() {
    let (socket, to) = receiver();
    let sender = relay_socket_for_test();
    let mut queue = SendQueue::new(true);
    let before = sys::mtu_discovery(sender.as_fd()).unwrap();
    for index in 0..3 {
        let payload = Payload { region: Region::Input, start: index, len: 1 };
        if index == 1 {
            queue.push_unfragmented(path(0, to), payload);
        } else {
            queue.push(path(0, to), &[], payload, 0);
        }
    }
    queue.flush(b"abc", &[], |_| Some(sender.as_fd()), &Counters::default());
    assert_eq!([receive(&socket), receive(&socket), receive(&socket)].concat(), b"abc");
    assert_eq!(sys::mtu_discovery(sender.as_fd()).unwrap(), before, "the option is the socket's, and restored");
    sys::set_dont_fragment(sender.as_fd(), false, true).unwrap();
    assert_ne!(sys::mtu_discovery(sender.as_fd()).unwrap(), before);
}

#[test]
fn an_error_about_an_earlier_packet_costs_no_other() {
    let (socket, to) = receiver();
    let sender = relay_socket_for_test();
    let mut queue = SendQueue::new(true);
    let counters = Counters::default();
    // Nobody listens on port 1; loopback says so before the send returns, and the next send is told.
    for round in 0..10 {
        queue.push_copy(path(0, "127.0.0.1:1".parse().unwrap()), b"anybody?");
        queue.flush(&[], &[], |_| Some(sender.as_fd()), &counters);
        queue.push_copy(path(0, to), &[round]);
        queue.flush(&[], &[], |_| Some(sender.as_fd()), &counters);
        assert_eq!(receive(&socket), [round]);
        assert_eq!(
            queue.take_failed(),
            Some(Failed { socket: 0, whole: None }),
            "the owner is told to look at the errors"
        );
    }
    let mut totals = Default::default();
    counters.add_to(&mut totals);
    assert_eq!(totals.send_errors, 0);
}

#[test]
fn packets_of_a_closed_socket_are_dropped() {
    let mut queue = SendQueue::new(true);
    queue.push_copy(path(7, "127.0.0.1:9".parse().unwrap()), b"x");
    queue.flush(&[], &[], |_| None, &Counters::default());
    assert!(queue.packets.is_empty() && queue.groups.is_empty());
}

#[test]
fn the_arena_keeps_coalesced_and_empty_datagrams_apart() {
    let receiver = relay_socket_for_test();
    let to = SocketAddr::from(([127, 0, 0, 1], local_port(&receiver)));
    let sender = relay_socket_for_test();
    let mut queue = SendQueue::new(true);
    let sizes = [100, 100, 100, 60, 0, 65_000, 100];
    for (seed, len) in sizes.into_iter().enumerate() {
        queue.push_copy(path(0, to), &pattern(seed, len));
    }
    queue.flush(&[], &[], |_| Some(sender.as_fd()), &Counters::default());
    let mut arena = Arena::new(64);
    let mut seen = Vec::new();
    while seen.len() < sizes.len() {
        // Loopback delivers within the send.
        arena.receive(receiver.as_fd()).unwrap();
        seen.extend(arena.datagrams().map(|datagram| arena.bytes()[datagram.start..][..datagram.len].to_vec()));
    }
    let expected: Vec<_> = sizes.into_iter().enumerate().map(|(seed, len)| pattern(seed, len)).collect();
    assert!(seen == expected);
    assert_eq!(arena.receive(receiver.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

fn relay_socket_for_test() -> std::os::fd::OwnedFd {
    crate::net::relay_socket::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn local_port(socket: &std::os::fd::OwnedFd) -> u16 {
    socket2::SockRef::from(socket).local_addr().unwrap().as_socket().unwrap().port()
}
