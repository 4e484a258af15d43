//! Arbitrary operations on the core and on the reference model that the property tests use as well.

use relais::relay::Family;

use super::Steps;
use super::relay_common::model::{CLIENTS, NUMBERS, PEERS, Pair, Step};

/// The core does what the model says, and everything ends.
pub fn relay_operations(data: &[u8]) {
    let mut pair = Pair::new();
    let mut steps = Steps::new(data);
    while !steps.is_done() {
        let step = step(&mut steps);
        pair.run(&step);
        if steps.byte() & 7 == 0 {
            pair.observe();
        }
    }
    pair.finish();
}

fn step(steps: &mut Steps<'_>) -> Step {
    let kind = steps.byte();
    let client = usize::from(kind >> 4) % CLIENTS.len();
    let mut below = |limit: usize| usize::from(steps.byte()) % limit;
    match kind & 0x0f {
        0 | 1 => Step::Allocate { client, id: below(3) as u32, dual: kind & 1 == 1 },
        2 => {
            let lifetime = [0, 600, 1200, 9999][below(4)];
            Step::Refresh { client, lifetime, family: [None, None, Some(Family::V4), Some(Family::V6)][below(4)] }
        }
        3 | 4 => {
            let count = below(4);
            Step::Permit { client, peers: (0..count).map(|_| below(PEERS.len())).collect() }
        }
        5 | 6 => Step::Bind { client, number: below(NUMBERS.len()), peer: below(PEERS.len()) },
        7 => Step::Send { client, peer: below(PEERS.len()) },
        8 => Step::ChannelData { client, number: below(NUMBERS.len()) },
        9 => Step::FromPeer { client, peer: below(PEERS.len()) },
        10 => Step::Revoke { client },
        11..=13 => {
            // Around the moments when permissions, channels and allocations end.
            let seconds = [0, 1, 59, 60, 299, 300, 301, 599, 600, 601, 1200, 3599][below(12)];
            Step::Pass { seconds, timer: kind & 1 == 1 }
        }
        _ => Step::Garbage { client, bytes: steps.bytes().to_vec() },
    }
}
