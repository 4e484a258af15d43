//! The hot path asks the heap for nothing, and an allocation for little: a counting allocator proves it. It counts by
//! thread, so that tests do not disturb each other.

mod relay_common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use relais::relay::{Relay, Shared};
use relay_common::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(allocations: usize, bytes: isize) {
    let _ = ALLOCATIONS.try_with(|counted| counted.set(counted.get() + allocations));
    let _ = LIVE_BYTES.try_with(|counted| counted.set(counted.get() + bytes));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised thread-local.
#[expect(unsafe_code, reason = "a global allocator cannot be had without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn no_packet_costs_heap() {
    let mut world = World::new(settings());
    let (client, relay) = world.allocated("198.51.100.7:4000", "p.1");
    let (_, _) = world.allocated("198.51.100.8:4000", "p.2");
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    world.permit(&client, OTHER_PEER);
    let by_channel = channel_data(0x4000, &[7; 1200]);
    let by_send = Ask::indication(SEND).peer(OTHER_PEER).data(&[7; 1200]).bytes();
    let unpermitted = Ask::indication(SEND).peer("9.9.9.9:1").data(&[7; 1200]).bytes();
    let (peer, other) = (addr(PEER), addr(OTHER_PEER));
    let (now, tuple) = (world.now, client.tuple);
    let core = &mut world.relay;
    let round = |core: &mut Relay| {
        assert!(core.handle_client(now, &tuple, &by_channel).is_some());
        assert!(core.handle_client(now, &tuple, &by_send).is_some());
        assert_eq!(core.handle_peer(now, relay, peer, 1200).unwrap().head_len, 4);
        assert_eq!(core.handle_peer(now, relay, other, 1200).unwrap().head_len, 36);
        // What is dropped is noted, in a queue that is warm by now.
        assert!(core.handle_client(now, &tuple, &unpermitted).is_none());
        while core.poll_output().is_some() {}
    };
    round(core);
    let allocations = allocations_of(|| {
        for _ in 0..1000 {
            round(core);
        }
    });
    assert_eq!(allocations, 0, "heap allocations in 5000 packets");

    let shared = Arc::new(Shared::new(settings()));
    let mut cores = Vec::with_capacity(10);
    let allocations = allocations_of(|| {
        for seed in 0..10 {
            cores.push(Relay::new(Arc::clone(&shared), seed));
        }
    });
    assert_eq!(allocations, 0, "a new core costs no heap");
    let mut sanity = Vec::new();
    assert!(allocations_of(|| sanity.push(1_u8)) > 0, "the counter counts");
}

#[test]
fn strangers_leave_nothing_on_the_heap() {
    let mut world = World::new(settings());
    let (now, shared) = (world.now, Arc::new(Shared::new(settings())));
    let guess = world.client("198.51.100.9:1", "p.guess");
    let requests = [
        Ask::request(BINDING, 1).bytes(),
        Ask::request(ALLOCATE, 2).transport(17).bytes(),
        Ask::request(REFRESH, 3).signed(&guess).bytes(),
        Ask::request(ALLOCATE, 4).attr(0x7777, &[1; 300]).bytes(),
        Ask::indication(SEND).peer(PEER).data(b"data").bytes(),
        channel_data(0x4000, &[7; 500]),
        vec![0xff; 40],
        Vec::new(),
    ];
    let mut core = Relay::new(shared, 7);
    let mut flood = |first: u16| {
        for number in first..first + 2_000 {
            let [high, low] = number.to_be_bytes();
            let mut from = guess.tuple;
            // The guesser's own nonce and credential, from addresses they were not given to.
            from.client = std::net::SocketAddr::from(([203, high, low, 9], 4_000 + number % 7));
            let request = &requests[usize::from(number) % requests.len()];
            assert!(core.handle_client(now, &from, request).is_none());
            while core.poll_output().is_some() {}
        }
    };
    // The table of budgets and the queue of outputs are made at the first stranger.
    flood(0);
    let before = LIVE_BYTES.get();
    let allocations = allocations_of(|| flood(10_000));
    assert_eq!((allocations, LIVE_BYTES.get() - before), (0, 0));
}

/// The goal of DESIGN section 4 for the whole server is 2 KiB; this is the core's part of it.
#[test]
fn an_allocation_with_a_channel_is_small() {
    const CLIENTS: usize = 500;
    let mut world = World::new(settings());
    let clients: Vec<Client> =
        (0..CLIENTS).map(|port| world.client(&format!("198.51.{}.7:{}", port % 8, port + 1), "p.1234567890")).collect();
    world.opened.reserve(CLIENTS);
    let before = LIVE_BYTES.get();
    for client in &clients {
        assert_eq!(world.ask(client, Ask::request(ALLOCATE, 1).transport(17).signed(client)).code(), None);
        assert_eq!(world.bind(client, 0x4000, PEER), None);
        world.events.clear();
    }
    let each = (LIVE_BYTES.get() - before) as usize / CLIENTS;
    assert!((256..=1536).contains(&each), "{each} bytes for an allocation with a channel");

    for client in &clients {
        let release = Ask::request(REFRESH, 2).lifetime(0).signed(client);
        assert_eq!(world.ask(client, release).code(), None);
        world.events.clear();
    }
    let left = (LIVE_BYTES.get() - before) as usize / CLIENTS;
    assert!(left < 256, "{left} bytes left of each: only the tables keep their room");
}
