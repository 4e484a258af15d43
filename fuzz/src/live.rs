//! Streamers and viewers on a hub of their own.

use std::time::Duration;

use relais::signaling::dialect::Dialect;
use relais::signaling::dialect::live::Live;
use relais::signaling::{Hub, HubLimits, LinkId};
use relais::time::Mono;

use super::Steps;
use super::signaling::{Desk, settle, text};

const CLIENTS: usize = 4;

/// Four live clients in the streams of one hub: what they are sent is JSON, nobody is told anything behind the close, and
/// a place that only one can have is had by one.
pub fn live_message(data: &[u8]) {
    let desk = Desk::default();
    let mut hub = Hub::new(HubLimits { rooms: 2, viewers_per_stream: 2, ..HubLimits::default() });
    let mut now = Mono(0);
    let fresh = |now, number: usize| (Live::new(now, (number == 0).then(|| "s".to_owned()), None), false);
    let mut clients: Vec<(Live, bool)> = (0..CLIENTS).map(|number| fresh(now, number)).collect();
    let mut steps = Steps::new(data);
    while !steps.is_done() {
        let kind = steps.byte();
        let number = usize::from(kind & 3);
        match kind >> 4 {
            0 => {
                now = now + Duration::from_millis(u64::from(steps.byte()) * 50);
                hub.handle_timeout(now);
                clients.iter_mut().for_each(|(client, _)| client.handle_timeout(now));
            }
            1 => {
                hub.handle_lost(now, LinkId { connection: number as u64, slot: 0 });
                clients[number] = fresh(now, number);
            }
            _ => clients[number].0.handle_text(now, &text(steps.bytes()), &desk),
        }
        settle(&mut hub, now, &mut clients, &desk);
        let stats = hub.stats();
        assert!(stats.streams <= 2 && stats.peers <= CLIENTS && stats.lost == 0 && stats.kept == 0, "{stats:?}");
    }
    // With the last connection everything is gone.
    (0..CLIENTS as u64).for_each(|connection| hub.handle_lost(now, LinkId { connection, slot: 0 }));
    let stats = hub.stats();
    assert!((stats.streams, stats.peers) == (0, 0) && hub.poll_timeout().is_none(), "{stats:?}");
}
