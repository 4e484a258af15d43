//! The figures of signaling, HTTP, TLS and webhooks.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::metrics::{Page, process};
use crate::net::Net;
use crate::signaling::Stats;
use crate::web::figures::{Class, Figures, Handshake};
use crate::web::hub::{Drop, HubHandle, MAX_QUEUED_BYTES, Speech};
use crate::web::tls::Identity;
use crate::web::tls::acme::Acme;
use crate::webhooks::Webhooks;

/// Rooms, peers, messages and queues.
pub fn signaling(page: &mut Page, hub: &HubHandle, stats: &Stats) {
    let mut rooms = page.gauge("rooms", "Rooms with somebody in them");
    rooms.sample(&[("kind", "call")], stats.rooms).sample(&[("kind", "stream")], stats.streams);
    let mut peers = page.gauge("peers", "Peers in rooms, streams and by-id sockets");
    let connected = stats.peers.saturating_sub(stats.lost);
    peers.sample(&[("state", "connected")], connected).sample(&[("state", "lost")], stats.lost);
    page.gauge("signaling_connections", "Signaling connections, in a room or not").sample(&[], hub.connections());
    let figures = hub.figures();
    let mut messages = page.counter("signaling_messages_total", "Signaling messages, by what the client speaks");
    for speech in Speech::ALL {
        let (received, sent) = figures.messages(speech);
        let dialect = ("dialect", speech.name());
        messages.sample(&[dialect, ("direction", "in")], received).sample(&[dialect, ("direction", "out")], sent);
    }
    let help = "Signaling connections without a place, too slow, or cut to free memory";
    let mut dropped = page.counter("signaling_connections_dropped_total", help);
    for reason in Drop::ALL {
        dropped.sample(&[("reason", reason.name())], figures.drops(reason));
    }
    page.gauge("signaling_queued_bytes", "Bytes that wait for signaling clients").sample(&[], hub.queued_bytes());
    page.gauge("signaling_queued_bytes_max", "Bytes that may wait for all of them").sample(&[], MAX_QUEUED_BYTES);
    page.gauge("signaling_kept_bytes", "Bytes kept for sessions that may come back").sample(&[], stats.kept);
}

/// Connections, handshakes and requests.
pub fn http(page: &mut Page, figures: &Figures) {
    let (accepted, refused) = figures.connections();
    let mut connections = page.counter("tcp_connections_total", "TCP connections, by whether there was a place");
    connections.sample(&[("outcome", "accepted")], accepted).sample(&[("outcome", "refused")], refused);
    let mut handshakes = page.counter("tls_handshakes_total", "TLS handshakes by outcome");
    for outcome in Handshake::ALL {
        handshakes.sample(&[("outcome", outcome.name())], figures.handshakes(outcome));
    }
    let mut requests = page.counter("http_requests_total", "HTTP requests by class and status");
    for class in Class::ALL {
        for (status, count) in figures.requests(class) {
            requests.sample(&[("class", class.name()), ("status", status)], count);
        }
    }
}

/// The life of the certificate in use, and ACME's attempts where it is on.
pub fn certificates(page: &mut Page, identity: &Identity, acme: Option<&Acme>) {
    let chain = identity.chain();
    let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok()).map(|(_, leaf)| leaf);
    let validity = leaf.as_ref().map(|leaf| leaf.validity());
    let mut from = page.gauge("certificate_not_before_timestamp_seconds", "Start of the certificate in use, unix time");
    if let Some(validity) = validity {
        from.sample(&[], validity.not_before.timestamp());
    }
    let mut until = page.gauge("certificate_not_after_timestamp_seconds", "End of the certificate in use, unix time");
    if let Some(validity) = validity {
        until.sample(&[], validity.not_after.timestamp());
    }
    let status = acme.map(Acme::status);
    let mut failures = page.gauge("acme_failures", "Attempts to get a certificate that failed since the last success");
    if let Some(status) = &status {
        failures.sample(&[], status.failures);
    }
    let mut next = page.gauge("acme_next_attempt_timestamp_seconds", "When ACME is next asked, unix time");
    if let Some(status) = &status {
        next.sample(&[], status.next);
    }
}

/// What became of webhook messages.
pub fn webhooks(page: &mut Page, webhooks: &Webhooks) {
    let tally = webhooks.tally();
    let mut messages = page.counter("webhook_messages_total", "Webhook messages by what became of them");
    for (outcome, count) in [("delivered", tally.delivered), ("dropped", tally.dropped), ("failed", tally.failed)] {
        messages.sample(&[("outcome", outcome)], count);
    }
    page.gauge("webhook_queue", "Webhook messages that wait").sample(&[], webhooks.waiting());
}

/// What each UDP thread does.
pub fn shards(page: &mut Page, net: &Net) {
    let totals = net.shard_totals();
    type Pick = fn(&crate::net::Totals) -> u64;
    let counters: [(&str, &str, Pick); 3] = [
        ("shard_received_total", "Datagrams received, by UDP thread", |totals| totals.received),
        ("shard_sent_total", "Datagrams queued for sending, by UDP thread", |totals| totals.sent),
        ("shard_hairpin_full_total", "Packets for another thread whose queue was full", |totals| totals.hairpin_full),
    ];
    for (name, help, pick) in counters {
        let mut counter = page.counter(name, help);
        for (shard, totals) in totals.iter().enumerate() {
            counter.sample(&[("shard", &shard.to_string())], pick(totals));
        }
    }
    let mut seconds = page.counter("shard_cpu_seconds_total", "CPU time of each UDP thread, in seconds");
    for (shard, time) in process::shard_seconds() {
        seconds.sample(&[("shard", &shard.to_string())], time);
    }
}
