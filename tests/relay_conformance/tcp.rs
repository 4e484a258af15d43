//! RFC 6062: TCP allocations, Connect, ConnectionBind.

use relais::relay::tcp::{BindError, ConnectError, ConnectionId, LinkId};
use relais::relay::{FiveTuple, TcpOutput, Transport};

use super::relay_common::*;
use super::{Expected::*, Row, Stage, Stage::*, allocate, request, row, subject};

const CLIENT: &str = "198.51.100.7:4000";
const CONNECTION: ConnectionId = ConnectionId(0x0102_0304);

/// The link of the Connect that waits.
fn link(world: &mut World) -> LinkId {
    match world.tcp.pop() {
        Some(TcpOutput::Connect { link, .. }) => link,
        other => panic!("no Connect waits: {other:?}"),
    }
}

pub fn prepare(world: &mut World, stage: Stage) -> Client {
    if stage == ChallengedTcp {
        let mut client = Client::new(FiveTuple { transport: Transport::Tcp, ..tuple(CLIENT) }, "p.1");
        world.challenge(&mut client);
        return client;
    }
    let (client, _) = world.tcp_allocated(CLIENT, "p.1");
    if stage != Tcp {
        world.permit(&client, PEER);
    }
    if matches!(stage, Connecting | Connected | Joined) {
        assert!(world.try_ask(&client, request(CONNECT).peer(PEER).signed(&client)).is_none());
    }
    if matches!(stage, Connected | Joined) {
        let link = link(world);
        world.relay.peer_connected(world.now, link, Ok(CONNECTION));
        world.drain();
        assert_eq!(world.replies.pop().unwrap().1.connection(), Some(CONNECTION.0));
        if stage == Joined {
            world.relay.link_bound(link);
        }
    }
    client
}

fn tcp() -> Ask {
    request(ALLOCATE).transport(6)
}

fn connect() -> Ask {
    request(CONNECT)
}

fn bind() -> Ask {
    request(CONNECTION_BIND).connection(CONNECTION.0)
}

pub fn allocations() -> Vec<Row> {
    vec![
        row("6062 5.1", "REQUESTED-TRANSPORT TCP over TCP", ChallengedTcp, |c| tcp().signed(c), Success)
            .check(|_, reply| assert!(reply.address(0x0016).is_some() && reply.lifetime() == Some(600))),
        row("6062 5.1", "REQUESTED-TRANSPORT TCP over UDP", Challenged, |c| tcp().signed(c), Error(400)),
        row("6062 5.1", "with EVEN-PORT", ChallengedTcp, |c| tcp().attr(0x0018, &[0]).signed(c), Error(400)),
        row(
            "6062 5.1",
            "with EVEN-PORT and its R bit",
            ChallengedTcp,
            |c| tcp().attr(0x0018, &[0x80]).signed(c),
            Error(400),
        ),
        row("6062 5.1", "with RESERVATION-TOKEN", ChallengedTcp, |c| tcp().attr(0x0022, &[0; 8]).signed(c), Error(400)),
        row("6062 5.1", "with DONT-FRAGMENT", ChallengedTcp, |c| tcp().attr(0x001a, &[]).signed(c), Error(400)),
        row("6062 5.1", "switched off", ChallengedTcp, |c| tcp().signed(c), Error(442))
            .settings(|settings| settings.tcp_connections = 0),
        row("6062 5.1", "both families", ChallengedTcp, |c| tcp().additional_family(2).signed(c), Success),
        row("6062 5.1", "IPv6", ChallengedTcp, |c| tcp().family(2).signed(c), Success)
            .check(|_, reply| assert!(reply.relayed().is_ipv6())),
        row("6062 5.1", "a second Allocate, for UDP", Tcp, |c| allocate().signed(c), Error(437)),
        row("6062 5.1", "UDP over TCP as before", ChallengedTcp, |c| allocate().signed(c), Success),
        row("6062 5.1", "without credentials", ChallengedTcp, |_| tcp(), Error(401)),
        row("6062 4.2", "Refresh", Tcp, |c| request(REFRESH).signed(c), Success),
        row("6062 4.2", "Refresh 0 with a connection", Joined, |c| request(REFRESH).lifetime(0).signed(c), Success),
        row(
            "6062 3",
            "ChannelBind",
            TcpPermitted,
            |c| request(CHANNEL_BIND).channel(0x4000).peer(PEER).signed(c),
            Error(400),
        ),
        row("6062 3", "Send", TcpPermitted, |_| Ask::indication(SEND).peer(PEER).data(b"x"), Silence),
    ]
}

pub fn connects() -> Vec<Row> {
    let succeed = |world: &mut World| world.connects = Some(Ok(CONNECTION));
    vec![
        row("6062 5.2", "a peer that answers", Tcp, |c| connect().peer(PEER).signed(c), Success)
            .world(succeed)
            .check(|_, reply| assert_eq!(reply.connection(), Some(CONNECTION.0))),
        row("6062 5.2", "a peer that has a permission", TcpPermitted, |c| connect().peer(PEER).signed(c), Success)
            .world(succeed),
        row("6062 5.2", "a peer that does not answer", Tcp, |c| connect().peer(PEER).signed(c), Error(447))
            .world(|world| world.connects = Some(Err(ConnectError::Failed))),
        row(
            "6062 5.2",
            "an own address with no relay",
            Tcp,
            |c| connect().peer("192.0.2.1:50001").signed(c),
            Error(403),
        )
        .world(|world| world.connects = Some(Err(ConnectError::Forbidden))),
        row("6062 5.2", "the server is full", Tcp, |c| connect().peer(PEER).signed(c), Error(508))
            .world(|world| world.connects = Some(Err(ConnectError::Capacity))),
        row("6062 5.2", "no allocation", ChallengedTcp, |c| connect().peer(PEER).signed(c), Error(437)),
        row("6062 5.2", "no allocation, over UDP", Challenged, |c| connect().peer(PEER).signed(c), Error(437)),
        row("6062 5.2", "a UDP allocation", Permitted, |c| connect().peer(PEER).signed(c), Error(400)),
        row("6062 5.2", "another subject", Tcp, |c| connect().peer(PEER).signed(&subject(c, "p.2")), Error(441)),
        row("6062 5.2", "without credentials", Tcp, |_| connect().peer(PEER), Error(401)),
        row("6062 5.2", "the same peer while connecting", Connecting, |c| connect().peer(PEER).signed(c), Error(446)),
        row("6062 5.2", "the same peer, pending", Connected, |c| connect().peer(PEER).signed(c), Error(446)),
        row("6062 5.2", "the same peer, bound", Joined, |c| connect().peer(PEER).signed(c), Error(446)),
        row("6062 5.2", "another port of the peer", Joined, |c| connect().peer(PEER_TOO).signed(c), Success)
            .world(succeed),
        row("6062 5.2", "no XOR-PEER-ADDRESS", Tcp, |c| connect().signed(c), Error(400)),
        row(
            "6062 5.2",
            "XOR-PEER-ADDRESS of 4 bytes",
            Tcp,
            |c| connect().attr(0x0012, &[0, 1, 0, 0]).signed(c),
            Error(400),
        ),
        row("6062 5.2", "port 0", Tcp, |c| connect().peer("8.8.8.8:0").signed(c), Error(400)),
        row("6062 5.2", "a peer of the other family", Tcp, |c| connect().peer(PEER_V6).signed(c), Error(443)),
        row("6062 5.2", "a private peer", Tcp, |c| connect().peer(PRIVATE_PEER).signed(c), Error(403)),
        row(
            "6062 5.2",
            "a mapped private peer",
            Tcp,
            |c| connect().peer("[::ffff:10.0.0.1]:5000").signed(c),
            Error(403),
        ),
        row("6062 5.2", "loopback", Tcp, |c| connect().peer("127.0.0.1:5000").signed(c), Error(403)),
        row("6062 5.2", "a service port of ours", Tcp, |c| connect().peer("192.0.2.1:3478").signed(c), Error(403)),
        row("6062 5.2", "a well-known port", Tcp, |c| connect().peer("8.8.8.8:25").signed(c), Error(403)),
        row("6062 5.2", "the last well-known port", Tcp, |c| connect().peer("8.8.8.8:1023").signed(c), Error(403)),
        row("6062 5.2", "the first port behind those", Tcp, |c| connect().peer("8.8.8.8:1024").signed(c), Success)
            .world(succeed),
        row(
            "6062 5.2",
            "a well-known port of an allowed peer",
            Tcp,
            |c| connect().peer("8.8.8.8:25").signed(c),
            Success,
        )
        .settings(|settings| settings.allow_peers = vec![cidr("8.8.8.8/32")])
        .world(succeed),
        row("6062 5.2", "one connection too many", Joined, |c| connect().peer(PEER_TOO).signed(c), Error(508))
            .settings(|settings| settings.tcp_connections = 1),
        row("6062 5.2", "an unknown attribute", Tcp, |c| connect().peer(PEER).attr(0x7fff, &[]).signed(c), Error(420)),
    ]
}

pub fn connection_binds() -> Vec<Row> {
    let found = |world: &mut World| world.binds = Some(Ok(()));
    vec![
        row("6062 5.4", "a pending connection", ChallengedTcp, |c| bind().signed(c), Success).world(found),
        row("6062 5.4", "an unknown connection", ChallengedTcp, |c| bind().signed(c), Error(400))
            .world(|world| world.binds = Some(Err(BindError::Unknown))),
        row("6062 5.4", "another subject's connection", ChallengedTcp, |c| bind().signed(c), Error(441))
            .world(|world| world.binds = Some(Err(BindError::WrongOwner))),
        row("6062 5.4", "over UDP", Challenged, |c| bind().signed(c), Error(400)).world(found),
        row("6062 5.4", "on a control connection", Tcp, |c| bind().signed(c), Error(400)).world(found),
        row("6062 5.4", "no CONNECTION-ID", ChallengedTcp, |c| request(CONNECTION_BIND).signed(c), Error(400))
            .world(found),
        row(
            "6062 5.4",
            "CONNECTION-ID of 2 bytes",
            ChallengedTcp,
            |c| request(CONNECTION_BIND).attr(0x002a, &[1, 2]).signed(c),
            Error(400),
        )
        .world(found),
        row("6062 5.4", "without credentials", ChallengedTcp, |_| bind(), Error(401)).world(found),
        row("6062 5.3", "ConnectionAttempt from a client", Tcp, |_| Ask::indication(CONNECTION_ATTEMPT), Silence),
        row("6062 5.3", "ConnectionAttempt as a request", Tcp, |c| request(CONNECTION_ATTEMPT).signed(c), Silence),
    ]
}
