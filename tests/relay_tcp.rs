//! TCP allocations (RFC 6062) on a simulated clock.

mod relay_common;

use std::sync::Arc;
use std::time::Duration;

use relais::relay::tcp::{BindError, ConnectError, ConnectionId, LinkId};
use relais::relay::{DropReason, EndReason, Event, Route, Settings, Shared, TcpOutput};
use relay_common::*;

const CLIENT: &str = "198.51.100.7:4000";
const ID: ConnectionId = ConnectionId(7);

fn world() -> World {
    World::new(settings())
}

/// Asks for a connection to `peer`; its link.
fn connect(world: &mut World, client: &Client, peer: &str) -> LinkId {
    assert!(world.try_ask(client, Ask::request(CONNECT, 20).peer(peer).signed(client)).is_none());
    match world.tcp.pop() {
        Some(TcpOutput::Connect { link, peer: asked, .. }) => {
            assert_eq!(asked, addr(peer));
            link
        }
        other => panic!("{other:?}"),
    }
}

fn connected(world: &mut World, client: &Client, peer: &str) -> LinkId {
    let link = connect(world, client, peer);
    answer(world, link, Ok(ID));
    assert_eq!(world.replies.pop().unwrap().1.connection(), Some(ID.0));
    link
}

fn answer(world: &mut World, link: LinkId, outcome: Result<ConnectionId, ConnectError>) {
    world.relay.peer_connected(world.now, link, outcome);
    world.drain();
}

fn arrive(world: &mut World, relay: relais::relay::RelayId, from: &str) -> Option<LinkId> {
    let link = world.relay.peer_arrived(world.now, relay, addr(from), ID);
    world.drain();
    link
}

fn last_drop(world: &World) -> Option<DropReason> {
    world.events.iter().rev().find_map(|event| match event {
        Event::Dropped(reason) => Some(*reason),
        _ => None,
    })
}

#[test]
fn the_shell_is_asked_for_a_listening_socket_and_where_to_connect() {
    let mut world = world();
    world.shell = Shell::Waits;
    let mut client = Client::new(tuple(CLIENT), "p.1");
    client.tuple.transport = relais::relay::Transport::Tls;
    world.challenge(&mut client);
    let allocate = Ask::request(ALLOCATE, 1).transport(6).signed(&client);
    assert!(world.try_ask(&client, allocate.clone()).is_none());
    let open = world.asked.pop().unwrap();
    assert!(open.tcp && !open.even_port && open.reserve.is_none() && open.reservation.is_none());
    let bound = world.bound(&open);
    world.grant(&open, Ok(bound));
    let reply = world.replies.pop().unwrap().1;
    assert_eq!(reply.relayed(), bound);
    assert_eq!(world.ask(&client, allocate).relayed(), bound, "a retransmission gets the same answer");

    assert!(world.try_ask(&client, Ask::request(CONNECT, 2).peer(PEER).signed(&client)).is_none());
    let link = LinkId { relay: open.relay, number: 0 };
    assert_eq!(world.tcp, [TcpOutput::Connect { link, peer: addr(PEER), route: Route::Network }]);
    world.tcp.clear();
    let own = "192.0.2.1:50010";
    assert!(world.try_ask(&client, Ask::request(CONNECT, 3).peer(own).signed(&client)).is_none());
    let [TcpOutput::Connect { route, .. }] = world.tcp[..] else { panic!("{:?}", world.tcp) };
    assert_eq!(route, Route::Own { else_network: false });
}

#[test]
fn a_connect_has_30_seconds() {
    let mut world = world();
    let (client, relay) = world.tcp_allocated(CLIENT, "p.1");
    let link = connect(&mut world, &client, PEER);
    world.pass(29);
    assert!(world.replies.is_empty() && world.tcp.is_empty());
    world.pass(1);
    assert_eq!(world.replies.pop().unwrap().1.code(), Some(447));
    assert_eq!(world.tcp, [TcpOutput::Close(link)]);
    world.tcp.clear();
    // The shell's answer crosses it: what it has is closed, and the client hears nothing more.
    answer(&mut world, link, Ok(ID));
    assert_eq!((world.tcp.pop(), world.replies.len()), (Some(TcpOutput::Close(link)), 0));
    answer(&mut world, link, Err(ConnectError::Failed));
    assert_eq!((world.tcp.pop(), world.replies.len()), (None, 0));
    // Another Connect is another link.
    assert_ne!(connect(&mut world, &client, PEER), link);
    assert_eq!((world.closed.len(), world.relay.allocations()), (0, 1));
    let _ = relay;
}

#[test]
fn a_connection_has_30_seconds_to_be_bound() {
    let mut world = world();
    let (client, _) = world.tcp_allocated(CLIENT, "p.1");
    let link = connected(&mut world, &client, PEER);
    world.pass(29);
    assert!(world.tcp.is_empty());
    world.pass(1);
    assert_eq!(world.tcp, [TcpOutput::Close(link)]);
    world.tcp.clear();

    // Bound in time, it lives on; the peer can be connected to again when it is closed.
    let link = connected(&mut world, &client, PEER);
    world.relay.link_bound(link);
    world.pass(400);
    assert!(world.tcp.is_empty());
    let again = |world: &mut World| world.try_ask(&client, Ask::request(CONNECT, 21).peer(PEER).signed(&client));
    assert_eq!(again(&mut world).unwrap().code(), Some(446));
    world.relay.link_closed(link);
    assert!(again(&mut world).is_none());
}

#[test]
fn a_failed_connect_leaves_nothing() {
    let mut world = World::new(Settings { tcp_connections: 1, ..settings() });
    let (client, _) = world.tcp_allocated(CLIENT, "p.1");
    for (error, code) in [(ConnectError::Failed, 447), (ConnectError::Forbidden, 403), (ConnectError::Capacity, 508)] {
        let link = connect(&mut world, &client, PEER);
        answer(&mut world, link, Err(error));
        let reply = world.replies.pop().unwrap().1;
        assert!(reply.is_signed_by(&client));
        assert_eq!(reply.code(), Some(code));
    }
    connected(&mut world, &client, PEER);
}

#[test]
fn a_peer_that_connects_is_announced() {
    let mut world = world();
    let (client, relay) = world.tcp_allocated(CLIENT, "p.1");
    assert_eq!(arrive(&mut world, relay, PEER), None, "no permission");
    assert_eq!((last_drop(&world), world.replies.len()), (Some(DropReason::NoPermission), 0));

    world.permit(&client, PEER_TOO);
    let link = arrive(&mut world, relay, PEER).expect("a permission of its address, whatever the port");
    let (to, indication) = world.replies.pop().unwrap();
    assert_eq!((to, indication.message.typ.method), (client.tuple, CONNECTION_ATTEMPT));
    assert_eq!(indication.message.typ.class, stun::message::CLASS_INDICATION);
    assert_eq!((indication.address(0x0012), indication.connection()), (Some(addr(PEER)), Some(ID.0)));

    assert!(arrive(&mut world, relay, "[::ffff:8.8.8.8]:5002").is_some(), "the same address in IPv6 clothes");
    assert_eq!(world.replies.pop().unwrap().1.address(0x0012), Some(addr("8.8.8.8:5002")));
    assert_eq!(arrive(&mut world, relay, "8.8.8.8:0"), None);
    assert_eq!(last_drop(&world), Some(DropReason::SourcePortZero));
    assert_eq!(arrive(&mut world, relay, PEER_V6), None);

    world.relay.link_bound(link);
    world.pass(30);
    assert_eq!(world.tcp.len(), 1, "the other one was not bound");
    world.pass(271);
    assert_eq!(arrive(&mut world, relay, PEER), None, "the permission is over");
}

#[test]
fn a_peer_cannot_fill_more_than_its_allocation() {
    let mut world = world();
    let (client, relay) = world.tcp_allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    for port in 1..=4 {
        assert!(arrive(&mut world, relay, &format!("8.8.8.8:{port}")).is_some());
    }
    world.replies.clear();
    assert_eq!(arrive(&mut world, relay, PEER), None);
    assert_eq!((last_drop(&world), world.replies.len()), (Some(DropReason::Connections), 0));
    world.pass(30);
    assert_eq!(world.tcp.len(), 4);
    assert!(arrive(&mut world, relay, PEER).is_some(), "their time was over");
}

#[test]
fn nothing_outlives_the_allocation() {
    type End = fn(&mut World, &Client);
    let ends: [(End, EndReason); 4] = [
        (
            |world, client| {
                world.send(&client.tuple, &Ask::request(REFRESH, 4).lifetime(0).signed(client).bytes());
            },
            EndReason::Released,
        ),
        (|world, _| world.pass(600), EndReason::Expired),
        (
            |world, _| {
                world.relay.revoke(world.now, "p.1");
                world.drain();
            },
            EndReason::Revoked,
        ),
        (
            |world, _| {
                world.relay.close(world.now);
                world.drain();
            },
            EndReason::Closed,
        ),
    ];
    for (end, reason) in ends {
        let mut world = world();
        let (client, relay) = world.tcp_allocated(CLIENT, "p.1");
        let bound = connected(&mut world, &client, PEER);
        world.relay.link_bound(bound);
        let waiting = (reason != EndReason::Expired).then(|| connect(&mut world, &client, PEER_TOO));
        world.replies.clear();
        end(&mut world, &client);
        assert_eq!((&world.closed[..], world.relay.poll_timeout()), (&[relay][..], None));
        assert!(world.events.iter().any(|event| matches!(event, Event::Deleted { reason: why, .. } if *why == reason)));
        if let Some(link) = waiting {
            assert_eq!(world.replies.remove(0).1.code(), Some(447), "who waits for a Connect is told");
            answer(&mut world, link, Ok(ID));
            assert_eq!(world.tcp.pop(), Some(TcpOutput::Close(link)));
        }
        // Late news of links that are gone.
        world.relay.link_bound(bound);
        world.relay.link_closed(bound);
        assert_eq!(arrive(&mut world, relay, PEER), None);
    }
}

#[test]
fn one_family_ends_with_its_connections_and_the_other_stays() {
    let mut world = world();
    let mut client = Client::new(tuple(CLIENT), "p.1");
    client.tuple.transport = relais::relay::Transport::Tcp;
    world.challenge(&mut client);
    let dual = Ask::request(ALLOCATE, 1).transport(6).additional_family(2).signed(&client);
    assert_eq!(world.ask(&client, dual).code(), None);
    let four = connected(&mut world, &client, PEER);
    let six = connected(&mut world, &client, PEER_V6);
    assert_ne!(four.relay.family, six.relay.family);
    let end = Ask::request(REFRESH, 5).lifetime(0).family(1).signed(&client);
    assert_eq!(world.ask(&client, end).code(), None);
    assert_eq!(world.closed, [four.relay]);
    world.pass(30);
    assert_eq!(world.tcp, [TcpOutput::Close(six)], "the other one was still waiting");
}

#[test]
fn connection_bind_is_answered_once() {
    let mut world = world();
    let mut client = Client::new(tuple(CLIENT), "p.1");
    client.tuple.transport = relais::relay::Transport::Tcp;
    world.challenge(&mut client);
    let bind = |id| Ask::request(CONNECTION_BIND, id).connection(9).signed(&client);
    assert!(world.try_ask(&client, bind(1)).is_none());
    assert_eq!(world.tcp, [TcpOutput::Bind { connection: ConnectionId(9), subject: Arc::from("p.1") }]);
    assert_eq!(world.ask(&client, bind(2)).code(), Some(400), "one at a time");
    world.relay.connection_bound(Err(BindError::Unknown));
    world.drain();
    let reply = world.replies.pop().unwrap().1;
    assert!(reply.is_signed_by(&client) && reply.code() == Some(400));
    world.relay.connection_bound(Ok(()));
    world.drain();
    assert!(world.replies.is_empty(), "nobody waits any more");
}

#[test]
fn static_users_and_fresh_credentials_own_their_connections() {
    let mut world = world();
    let mut client = Client::new(tuple(CLIENT), "p.1");
    client.tuple.transport = relais::relay::Transport::Tls;
    world.challenge(&mut client);
    client.username = "alice".into();
    client.password = "wonderland".into();
    assert!(world.try_ask(&client, Ask::request(CONNECTION_BIND, 1).connection(9).signed(&client)).is_none());
    assert_eq!(world.tcp, [TcpOutput::Bind { connection: ConnectionId(9), subject: Arc::from("u.alice") }]);
}

#[test]
fn a_late_timer_changes_nothing() {
    let mut world = world();
    let (client, relay) = world.tcp_allocated(CLIENT, "p.1");
    let link = connected(&mut world, &client, PEER);
    world.pass_without_timer(Duration::from_secs(31));
    // The next request finds the link's time over, as the timer would have.
    assert!(world.try_ask(&client, Ask::request(CONNECT, 22).peer(PEER).signed(&client)).is_none());
    assert_eq!(world.tcp.first(), Some(&TcpOutput::Close(link)));
    world.pass_without_timer(Duration::from_secs(600));
    assert_eq!(world.relay.peer_arrived(world.now, relay, addr(PEER), ID), None);
}

#[test]
fn a_reload_closes_connections_with_denied_peers() {
    let mut world = world();
    let (client, _) = world.tcp_allocated(CLIENT, "p.1");
    let denied = connected(&mut world, &client, PEER);
    world.relay.link_bound(denied);
    let _stays = connected(&mut world, &client, OTHER_PEER);
    let waiting = connect(&mut world, &client, PEER_TOO);
    let denying = Settings { deny_peers: vec![cidr("8.8.8.0/24")], ..settings() };
    world.relay.set_shared(Arc::new(Shared::new(denying)));
    world.drain();
    assert_eq!(world.tcp, [TcpOutput::Close(denied), TcpOutput::Close(waiting)]);
    assert_eq!(world.replies.pop().unwrap().1.code(), Some(403), "who waited is told");
    world.tcp.clear();
    let reply = world.ask(&client, Ask::request(CONNECT, 2).peer(PEER).signed(&client));
    assert_eq!(reply.code(), Some(403));
}

#[test]
fn nobody_arrives_at_an_address_whose_time_is_over() {
    let mut world = world();
    let (client, relay) = world.tcp_allocated(CLIENT, "p.1");
    world.pass(400);
    world.permit(&client, PEER);
    world.pass_without_timer(Duration::from_secs(199));
    assert!(arrive(&mut world, relay, PEER).is_some());
    world.pass_without_timer(Duration::from_secs(1));
    assert!(arrive(&mut world, relay, PEER_TOO).is_none());
    assert_eq!(last_drop(&world), Some(DropReason::NoAllocation));
}
