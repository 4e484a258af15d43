//! What the shell counts.

use relais::config::{Config, Limits};
use relais::relay::{DropReason, EndReason, Family, Transport};

use crate::net_common::core::{Ask, CHANNEL_BIND};
use crate::net_common::{Kind, Server, config, peer_of, receive_from, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_what_was_done() {
    let limits = Limits { allocations_per_subject: 1, ..Limits::default() };
    let server = Server::start(&Config { limits, ..config() }).await;
    for (kind, transport) in [(Kind::Udp4, Transport::Udp), (Kind::Tcp, Transport::Tcp), (Kind::Tls, Transport::Tls)] {
        let before = server.net.snapshot();
        let mut client = server.client(kind, "p.counted").await;
        let relayed = client.allocate().await;
        let peer = peer_of(relayed);
        client.permit(peer.local_addr().unwrap()).await;
        for _ in 0..5 {
            client.send_to(peer.local_addr().unwrap(), &[7; 100]).await;
            receive_from(&peer).await;
            peer.send_to(&[7; 200], relayed).await.unwrap();
            client.got().await;
        }
        // One more than the quota, a service port of ours, a channel that is not there.
        assert_eq!(server.client(kind, "p.counted").await.try_allocate().await.code(), Some(486));
        let service = server.udp(true).to_string();
        let reply = client.ask(|id| Ask::request(CHANNEL_BIND, id).channel(0x4000).peer(&service)).await;
        assert_eq!(reply.code(), Some(403));
        client.send_on(0x4003, b"nowhere").await;
        assert_eq!(server.net.snapshot().allocations, 1);
        client.release().await;
        until("the allocation to end", || server.net.allocations() == 0).await;
        until("the sums to be there", || server.net.totals().to_client_packets >= before.totals.to_client_packets + 5)
            .await;
        let after = server.net.snapshot();
        let (now, then) = (&after.totals, &before.totals);
        assert_eq!((now.to_peer_packets - then.to_peer_packets, now.to_peer_bytes - then.to_peer_bytes), (5, 500));
        assert_eq!(now.to_client_bytes - then.to_client_bytes, 1_000);
        let grown = |of: fn(&relais::net::Snapshot, Transport) -> u64| of(&after, transport) - of(&before, transport);
        assert_eq!(grown(|s, t| find(&s.created, &(t, Family::V4))), 1);
        assert_eq!(grown(|s, t| find(&s.ended, &(t, EndReason::Released))), 1);
        assert_eq!(grown(|s, t| find(&s.refused, &(t, "allocate", 486))), 1);
        assert_eq!(grown(|s, t| find(&s.refused, &(t, "allocate", 401))), 2);
        assert_eq!(grown(|s, t| find(&s.refused, &(t, "channel_bind", 403))), 1);
        assert_eq!(grown(|s, _| find(&s.dropped, &DropReason::UnknownChannel)), 1);
        assert_eq!(after.denied - before.denied, 1);
        // Streams prove their address by their handshake: only UDP has strangers.
        let strangers = now.stranger_replies - then.stranger_replies;
        assert_eq!(strangers, if transport == Transport::Udp { 2 } else { 0 });
        assert!(after.amplification() > 0.0 && after.amplification() <= 2.0);
    }
}

fn find<K: PartialEq>(counts: &[(K, u64)], key: &K) -> u64 {
    counts.iter().find(|(known, _)| known == key).map_or(0, |(_, count)| *count)
}
