//! Allocations that come and go by the thousand leave memory, descriptors and ports where they were.

mod heap;
mod net_common;

use heap::{at_rest, descriptors};
use net_common::{Kind, Server, TurnClient, config, peer_of, until};
use relais::config::{Config, Limits};

/// Clients at the same time.
const CLIENTS: usize = 16;
/// Ports there are for relayed addresses: some that are not given back would be missed soon.
const PORTS: u16 = 128;
/// So many of them other programs may sit on.
const TAKEN: u16 = 16;
/// Allocate, CreatePermission or ChannelBind now and then, and Refresh 0.
const CYCLES: usize = 20_000;
/// Of these over TCP, a connection for ten of them.
const TCP_CYCLES: usize = 4_000;
const PER_CONNECTION: usize = 10;
/// What the heap may differ by: queues and tables grow to what the busiest moment needed.
const HEAP_GROWTH: isize = 64 << 10;
/// Buffers of one thread of the runtime, made when it first serves a stream.
const THREAD_BUFFERS: isize = 2 << 20;
/// What the resident memory may grow by after the first half.
const RSS_GROWTH: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_allocations_leave_nothing_behind() {
    // Below what the kernel hands out by itself, and another place for each process that runs this.
    let first = 20_000 + (std::process::id() % 90) as u16 * PORTS;
    let relay_ports = (first, first + PORTS - 1);
    let limits = Limits { allocations_per_subject: PORTS.into(), allocations_total: PORTS.into(), ..Limits::default() };
    let server = Server::start(&Config { relay_ports, limits, ..config() }).await;
    // Buffers and tables of first use.
    cycles(&server, CYCLES / 20, TCP_CYCLES / 20).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push((at_rest().await, descriptors()));
        cycles(&server, (CYCLES - TCP_CYCLES) / 2, TCP_CYCLES / 2).await;
    }
    seen.push((at_rest().await, descriptors()));
    println!("((heap, resident), descriptors): {seen:?}");
    // The buffers of another of the runtime's threads may be made in one half; what cycles leave would show in both.
    let growth = |half: usize| seen[half + 1].0.0 - seen[half].0.0;
    assert!(growth(0).min(growth(1)) <= HEAP_GROWTH, "on the heap: {seen:?}");
    assert!(growth(0).max(growth(1)) <= THREAD_BUFFERS, "on the heap: {seen:?}");
    assert!(seen.iter().all(|(_, descriptors)| *descriptors == seen[0].1), "descriptors: {seen:?}");
    assert!(seen[2].0.1 <= seen[1].0.1 + RSS_GROWTH, "resident: {seen:?}");
    every_port_is_free(&server).await;
}

/// Runs that many over UDP and over TCP, by all clients at once.
async fn cycles(server: &Server, udp: usize, tcp: usize) {
    let half = CLIENTS / 2;
    let over_udp = futures_util::future::join_all((0..half).map(|_| over_udp(server, udp / half)));
    let over_tcp = futures_util::future::join_all((0..half).map(|_| over_tcp(server, tcp / half)));
    tokio::join!(over_udp, over_tcp);
    until("the last allocation to end", || server.net.allocations() == 0).await;
}

async fn over_udp(server: &Server, count: usize) {
    let mut client = server.client(Kind::Udp4, "p.cycles").await;
    for number in 0..count {
        cycle(&mut client, number).await;
    }
}

async fn over_tcp(server: &Server, count: usize) {
    for _ in 0..count.div_ceil(PER_CONNECTION) {
        let mut client = server.client(Kind::Tcp, "p.cycles").await;
        for number in 0..PER_CONNECTION {
            cycle(&mut client, number).await;
        }
    }
}

async fn cycle(client: &mut TurnClient, number: usize) {
    let relayed = client.allocate().await;
    match number % 8 {
        0 => client.permit(relayed).await,
        1 => client.bind(0x4000, relayed).await,
        _ => {}
    }
    assert_eq!(client.release().await.code(), None);
}

/// Each port is given once more, all at the same time, and the quotas allow it.
async fn every_port_is_free(server: &Server) {
    let mut last = Vec::new();
    for _ in 0..PORTS - TAKEN {
        let mut client = server.client(Kind::Udp4, "p.cycles").await;
        let relayed = client.allocate().await;
        let peer = peer_of(relayed);
        client.permit(peer.local_addr().unwrap()).await;
        last.push((client, relayed.port()));
    }
    let ports: std::collections::BTreeSet<u16> = last.iter().map(|(_, port)| *port).collect();
    assert_eq!(ports.len(), usize::from(PORTS - TAKEN));
    for (client, _) in last {
        assert_eq!(client.into_released().await, None);
    }
}
