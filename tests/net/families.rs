//! Which address family an allocation gets when its client names none, as browsers do.

use relais::config::Config;

use crate::net_common::core::{ALLOCATE, Ask};
use crate::net_common::{Got, Kind, Server, config, ip};

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_alone_meets_ipv4_alone() {
    let server = Server::start(&config()).await;
    for kind in [Kind::Udp4, Kind::Tcp] {
        let mut six = server.client(Kind::Udp6, "p.six").await;
        six.family = None;
        let mut four = server.client(kind, "p.four").await;
        let (at_six, at_four) = (six.allocate().await, four.allocate().await);
        assert!(at_six.is_ipv4() && at_four.is_ipv4());
        six.permit(at_four).await;
        four.bind(0x4000, at_six).await;
        six.send_to(at_four, b"hello").await;
        assert_eq!(four.got().await, Got::Channel { number: 0x4000, payload: b"hello".to_vec() });
        four.send_on(0x4000, b"and back").await;
        assert_eq!(six.got().await, Got::Data { from: at_four, payload: b"and back".to_vec() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ipv4_the_listeners_family_is_used_unless_strict() {
    // Only where this host has an IPv4 default route does it have another relay address than that one.
    let six_only = Config { relay_ips: vec![ip("::1")], ..config() };
    for strict_family in [false, true] {
        let server = Server::start(&Config { strict_family, ..six_only.clone() }).await;
        let mut client = server.client(Kind::Udp6, "p.six").await;
        client.family = None;
        let reply = client.try_allocate().await;
        let has_ipv4 = relais::net::default_route_addresses().iter().any(std::net::IpAddr::is_ipv4);
        match (has_ipv4, strict_family) {
            (true, _) => assert!(reply.relayed().is_ipv4(), "the default route's"),
            (false, false) => assert!(reply.relayed().is_ipv6()),
            (false, true) => assert_eq!(reply.code(), Some(440)),
        }
        let even = |id| Ask::request(ALLOCATE, id).transport(17).family(2).attr(0x0018, &[0x80]);
        let mut second = server.client(Kind::Udp6, "p.six").await;
        assert!(second.ask(even).await.relayed().is_ipv6());
    }
}
