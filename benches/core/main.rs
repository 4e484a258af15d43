//! What the relay's core costs by itself, without a kernel: parsing, forwarding each way, and an allocation's life.
//!
//! ```sh
//! cargo bench --bench core
//! ```

#[path = "../../tests/relay_common/mod.rs"]
mod relay_common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use relais::relay::stun::Message;
use relais::relay::{FiveTuple, Output, Relay};
use relais::time::{Mono, Now};
use relay_common::{ALLOCATE, Ask, BINDING, Client, OTHER_PEER, PEER, REFRESH, SEND, World};
use relay_common::{addr, channel_data, settings, tuple};

/// How long each is measured, in how many parts.
const PART: Duration = Duration::from_millis(40);
const PARTS: usize = 9;
/// Calls between two looks at the clock.
const CALLS: u32 = 64;

fn main() {
    // `cargo test --benches` and `cargo bench` differ in this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("| what | ns, median of {PARTS} | least |\n|---|---|---|");
    parsing();
    forwarding();
    requests();
}

fn parsing() {
    let binding = Ask::request(BINDING, 1).bytes();
    measure("parse a Binding request", || {
        black_box(Message::parse(black_box(&binding)).is_ok());
    });
    let send = Ask::indication(SEND).peer(PEER).data(&[7; 1200]).bytes();
    measure("parse a Send indication of 1200 bytes", || {
        black_box(Message::parse(black_box(&send)).is_ok());
    });
}

fn forwarding() {
    for allocations in [1, 1_000] {
        let mut world = World::new(settings());
        let mut clients = Vec::new();
        for number in 0..allocations {
            let from = format!("198.51.{}.{}:4000", 100 + number / 100, 1 + number % 100);
            let (client, relay) = world.allocated(&from, &format!("p.{number}"));
            assert_eq!(world.bind(&client, 0x4000, PEER), None);
            world.permit(&client, OTHER_PEER);
            clients.push((client.tuple, relay));
        }
        let channel = channel_data(0x4000, &[7; 1200]);
        let send = Ask::indication(SEND).peer(OTHER_PEER).data(&[7; 1200]).bytes();
        let (now, peer, other) = (world.now, addr(PEER), addr(OTHER_PEER));
        let core = &mut world.relay;
        let mut turn = 0;
        let mut next = || {
            turn = (turn + 1) % clients.len();
            clients[turn]
        };
        let name = |what: &str| format!("{what}, {allocations} allocations");
        measure(&name("ChannelData to a peer"), || {
            black_box(core.handle_client(now, &next().0, black_box(&channel)).is_some());
        });
        measure(&name("Send indication to a peer"), || {
            black_box(core.handle_client(now, &next().0, black_box(&send)).is_some());
        });
        measure(&name("ChannelData to a client"), || {
            black_box(core.handle_peer(now, next().1, peer, 1200).is_some());
        });
        measure(&name("Data indication to a client"), || {
            black_box(core.handle_peer(now, next().1, other, 1200).is_some());
        });
    }
}

fn requests() {
    let mut world = World::new(settings());
    let stranger = tuple("198.51.100.9:4000");
    let bare = Ask::request(ALLOCATE, 1).transport(17).bytes();
    // Its source is this machine's, and time passes, or the budget for strangers would end it.
    let local = FiveTuple { client: addr("127.0.0.1:4000"), ..stranger };
    let mut calls = 0;
    measure("refuse an Allocate with 401", || {
        calls += 1;
        let now = Now { mono: Mono(10_000 + calls / 10), ..world.now };
        black_box(world.relay.handle_client(now, &local, black_box(&bare)).is_some());
        drain(&mut world.relay, now);
    });
    // Another world: the strangers have used up the budget of this one.
    let mut world = World::new(settings());
    let mut client = Client::new(tuple("198.51.100.10:4000"), "p.life");
    let reply = world.ask(&client, Ask::request(ALLOCATE, 2).transport(17));
    client.nonce = reply.get(0x0015).expect("a nonce");
    let allocate = Ask::request(ALLOCATE, 3).transport(17).signed(&client).bytes();
    let release = Ask::request(REFRESH, 4).lifetime(0).signed(&client).bytes();
    let (now, core) = (world.now, &mut world.relay);
    measure("an allocation: signed Allocate, grant, signed Refresh 0", || {
        core.handle_client(now, &client.tuple, black_box(&allocate));
        drain(core, now);
        core.handle_client(now, &client.tuple, black_box(&release));
        drain(core, now);
    });
    assert_eq!(core.allocations(), 0);
}

/// Takes what the core asks for, and grants relay sockets.
fn drain(core: &mut Relay, now: Now) {
    while let Some(output) = core.poll_output() {
        if let Output::OpenRelay(open) = output {
            core.relay_opened(now, open.relay, Ok(addr("192.0.2.1:50000")));
        }
    }
}

/// Prints what a call of `run` takes.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn measure(name: &str, mut run: impl FnMut()) {
    let mut parts = Vec::new();
    for _ in 0..PARTS {
        let (start, mut calls) = (Instant::now(), 0);
        while start.elapsed() < PART {
            for _ in 0..CALLS {
                run();
            }
            calls += CALLS;
        }
        parts.push(start.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    parts.sort_by(f64::total_cmp);
    println!("| {name} | {:.0} | {:.0} |", parts[PARTS / 2], parts[0]);
}
