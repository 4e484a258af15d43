//! The shell over TCP and TLS: the same battery, and what only streams have.

mod net_common;

use std::net::SocketAddr;
use std::sync::Arc;

use net_common::core::{Ask, BINDING, Reply, channel_data};
use net_common::{
    Got, Kind, Link, Server, battery, config, pattern, peer_of, receive_from, relay_to_relay, soon, until,
};
use relais::config::Config;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use webrtc_util::conn::Conn;

#[tokio::test(flavor = "multi_thread")]
async fn battery_over_tcp() {
    battery(&Server::start(&config()).await, Kind::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn battery_over_tls() {
    battery(&Server::start(&config()).await, Kind::Tls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_to_relay_between_all_transports() {
    let server = Server::start(&config()).await;
    let kinds = [Kind::Udp4, Kind::Tcp, Kind::Tls];
    for one in kinds {
        for two in kinds {
            relay_to_relay(&server, [one, two]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turn_crates_client_over_tcp_and_tls() {
    let server = Server::start(&config()).await;
    exchange_with_turn_crate(&server, TcpStream::connect(server.tcp).await.unwrap()).await;
    exchange_with_turn_crate(&server, server.connect_tls().await).await;
}

async fn exchange_with_turn_crate<S>(server: &Server, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let credential = server.client(Kind::Tcp, "p.turn").await.credential;
    let client = turn::client::Client::new(turn::client::ClientConfig {
        stun_serv_addr: server.tcp.to_string(),
        turn_serv_addr: server.tcp.to_string(),
        username: credential.username,
        password: credential.password,
        realm: "relais".into(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(Framed::new(stream, server.tcp)),
        vnet: None,
    })
    .await
    .unwrap();
    client.listen().await.unwrap();
    let relay = client.allocate().await.unwrap();
    let relayed = relay.local_addr().unwrap();
    let peer = peer_of(relayed);
    let there = peer.local_addr().unwrap();
    for seed in 0..50 {
        let payload = pattern(seed, 1 + seed * 20);
        relay.send_to(&payload, there).await.unwrap();
        assert_eq!(receive_from(&peer).await, (payload.clone(), relayed));
        peer.send_to(&payload, relayed).await.unwrap();
        let mut buffer = [0; 2048];
        let (len, from) = soon("the echo", relay.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..len], from), (&payload[..], there));
    }
    relay.close().await.unwrap();
    client.close().await.unwrap();
    until("the allocation to end", || server.net.allocations() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_stream_ends_the_allocation() {
    let server = Server::start(&config()).await;
    for kind in [Kind::Tcp, Kind::Tls] {
        let mut client = server.client(kind, "p.close").await;
        let relayed = client.allocate().await;
        assert_eq!(server.net.allocations(), 1);
        assert!(std::net::UdpSocket::bind(relayed).is_err());
        drop(client);
        until("the allocation to end", || server.net.allocations() == 0).await;
        until("the port to be free", || std::net::UdpSocket::bind(relayed).is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_cut_anywhere_are_put_together() {
    let server = Server::start(&config()).await;
    let mut client = server.client(Kind::Tcp, "p.cut").await;
    let relayed = client.allocate().await;
    let peer = peer_of(relayed);
    client.bind(0x4000, peer.local_addr().unwrap()).await;
    let mut bytes = Vec::new();
    for len in [0, 1, 3, 4, 7, 40] {
        bytes.extend(channel_data(0x4000, &pattern(len, len)));
        bytes.resize(bytes.len().next_multiple_of(4), 0xee);
    }
    // Byte by byte, then all at once.
    for byte in &bytes {
        client.link.send(&[*byte]).await;
    }
    client.link.send(&bytes).await;
    for len in [0, 1, 3, 4, 7, 40].repeat(2) {
        assert_eq!(receive_from(&peer).await.0, pattern(len, len));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_the_stream_after_what_is_owed() {
    let server = Server::start(&config()).await;
    let Link::Stream { mut stream, .. } = server.client(Kind::Tcp, "p.bad").await.link else { unreachable!() };
    let mut bytes = Ask::request(BINDING, 5).bytes();
    bytes.extend([0xff; 100]);
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    soon("the end of the stream", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(Reply::parse(&answer).address(0x0020).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_closing_still_gets_the_answer() {
    let server = Server::start(&config()).await;
    let Link::Stream { mut stream, .. } = server.client(Kind::Tls, "p.half").await.link else { unreachable!() };
    stream.write_all(&Ask::request(BINDING, 6).bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("the end of the stream", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(Reply::parse(&answer).address(0x0020).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_loses_whole_frames_of_media() {
    let server = Server::start(&config()).await;
    for kind in [Kind::Tcp, Kind::Tls] {
        let mut client = server.client(kind, "p.slow").await;
        let relayed = client.allocate().await;
        let peer = peer_of(relayed);
        let there = peer.local_addr().unwrap();
        client.bind(0x4000, there).await;
        let before = server.net.totals().stream_backlog;
        let mut seed = 0;
        // Until the kernel's buffers and our backlog are full and media is dropped.
        soon("the backlog to overflow", async {
            while server.net.totals().stream_backlog < before + 50 {
                peer.send_to(&pattern(seed, 1_200), relayed).await.unwrap();
                seed += 1;
                tokio::task::yield_now().await;
            }
        })
        .await;
        // It reads again: every frame is whole, in order, and the last one arrives.
        peer.send_to(b"the end", relayed).await.unwrap();
        let mut last = 0;
        loop {
            let Got::Channel { payload, .. } = client.got().await else { panic!("an indication on a bound channel") };
            if payload == b"the end" {
                break;
            }
            let next = (last..seed).find(|seed| pattern(*seed, 1_200) == payload);
            last = next.expect("a frame as it was sent, none twice") + 1;
        }
        // Control still works.
        assert_eq!(client.release().await.code(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_and_stopping_reach_streams() {
    let server = Server::start(&config()).await;
    let mut gone = server.client(Kind::Tcp, "p.gone").await;
    gone.allocate().await;
    let mut stays = server.client(Kind::Tls, "p.stays").await;
    stays.allocate().await;
    server.net.revoke("p.gone", relais::clock::now().unix + 60);
    until("the allocation to end", || server.net.allocations() == 1).await;
    assert_eq!(gone.try_allocate().await.code(), Some(401));
    server.net.stop();
    until("the other one to end", || server.net.allocations() == 0).await;
    assert!(soon("the end of the stream", stays.link.recv()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_count_for_the_quota_like_everybody() {
    let limits = relais::config::Limits { allocations_per_subject: 2, ..Default::default() };
    let server = Server::start(&Config { limits, ..config() }).await;
    let mut clients = Vec::new();
    for (kind, expected) in [(Kind::Tcp, None), (Kind::Udp4, None), (Kind::Tls, Some(486)), (Kind::Udp6, Some(486))] {
        let mut client = server.client(kind, "p.same").await;
        assert_eq!(client.try_allocate().await.code(), expected);
        clients.push(client);
    }
}

/// The `turn` crate's packet connection over a byte stream.
struct Framed<S> {
    reader: Mutex<(tokio::io::ReadHalf<S>, Vec<u8>)>,
    writer: Mutex<tokio::io::WriteHalf<S>>,
    server: SocketAddr,
}

impl<S: AsyncRead + AsyncWrite> Framed<S> {
    fn new(stream: S, server: SocketAddr) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: Mutex::new((reader, Vec::new())), writer: Mutex::new(writer), server }
    }
}

#[async_trait::async_trait]
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Conn for Framed<S> {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> webrtc_util::Result<usize> {
        Ok(self.recv_from(buffer).await?.0)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        let mut reader = self.reader.lock().await;
        let (stream, bytes) = &mut *reader;
        loop {
            if let Some((frame, advance)) = net_common::whole_frame(bytes) {
                buffer[..frame].copy_from_slice(&bytes[..frame]);
                bytes.drain(..advance);
                return Ok((frame, self.server));
            }
            if stream.read_buf(bytes).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    async fn send(&self, frame: &[u8]) -> webrtc_util::Result<usize> {
        let mut bytes = frame.to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let mut writer = self.writer.lock().await;
        writer.write_all(&bytes).await?;
        writer.flush().await?;
        Ok(frame.len())
    }

    async fn send_to(&self, frame: &[u8], _: SocketAddr) -> webrtc_util::Result<usize> {
        self.send(frame).await
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(self.server)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.server)
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        self.writer.lock().await.shutdown().await?;
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}
