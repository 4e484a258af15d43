//! What the check found, in words and as JSON.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::relay::Passage;
use super::target::Transport;

/// One thing that was tested.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `dns`, `stun`, `turn`.
    pub test: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    pub ok: bool,
    /// What was seen, or why it failed and what to do.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relayed: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u32>,
    /// Median round trip in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

impl Finding {
    /// A finding with nothing measured.
    pub fn new(test: &'static str, ok: bool, text: String) -> Self {
        let (transport, server, mapped, relayed, sent, received, rtt_ms) = (None, None, None, None, None, None, None);
        Self { test, transport, server, ok, text, mapped, relayed, sent, received, rtt_ms }
    }

    /// The same, about one transport to one address.
    pub fn about(self, transport: Transport, server: SocketAddr) -> Self {
        Self { transport: Some(transport), server: Some(server), ..self }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mark = if self.ok { "ok  " } else { "FAIL" };
        let transport = self.transport.map_or("", Transport::name);
        let server = self.server.map_or(String::new(), |server| format!(" {server}"));
        format!("{mark}  {:<4} {transport:<3}{server}: {}", self.test, self.text)
    }
}

/// The finding of a passage through the relay. Any loss on a path without congestion is a fault.
pub fn passage(passage: &Passage, server: IpAddr) -> Finding {
    let lost = passage.sent.saturating_sub(passage.received);
    let mut sorted = passage.round_trips.clone();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied();
    let worst = sorted.last().copied();
    let relayed = passage.relayed.map_or(String::new(), |relayed| format!("relayed as {relayed}, "));
    let times = match (median, worst) {
        (Some(median), Some(worst)) => format!(", round trip {} (worst {})", milliseconds(median), milliseconds(worst)),
        _ => String::new(),
    };
    let hint = passage.relayed.map_or("", |relayed| address_hint(relayed.ip(), server));
    let ok = lost * 20 <= passage.sent && hint.is_empty();
    let text = format!("{relayed}{lost} of {} packets lost{times}{hint}", passage.sent);
    Finding {
        relayed: passage.relayed,
        sent: Some(passage.sent),
        received: Some(passage.received),
        rtt_ms: median.map(|median| median.as_secs_f64() * 1000.0),
        ..Finding::new("turn", ok, text)
    }
}

/// A public server that relays on a private address is behind NAT and does not know it.
fn address_hint(relayed: IpAddr, server: IpAddr) -> &'static str {
    let is_private = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    };
    if is_private(relayed) && !is_private(server) {
        "; the world cannot reach that address: the server is behind NAT, tell it its own with --public-ip"
    } else {
        ""
    }
}

/// A duration as people read it.
pub fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}

/// The last line: what works and what does not.
pub fn verdict(findings: &[Finding]) -> String {
    let failed: Vec<String> = findings.iter().filter(|finding| !finding.ok).map(name).collect();
    let passed: Vec<String> = findings.iter().filter(|finding| finding.ok && finding.test != "dns").map(name).collect();
    match (failed.is_empty(), passed.is_empty()) {
        (true, _) => "Everything that was tested works.".into(),
        (false, true) => format!("Nothing works: {}.", failed.join(", ")),
        (false, false) => format!("{} failed; {} works.", failed.join(", "), passed.join(", ")),
    }
}

fn name(finding: &Finding) -> String {
    let family = match finding.server {
        Some(server) if server.is_ipv6() => " (IPv6)",
        _ => "",
    };
    match finding.transport {
        Some(transport) => format!("{} over {}{family}", finding.test.to_uppercase(), transport.name()),
        None => finding.test.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_private_addresses_fail() {
        let relayed: SocketAddr = "10.0.0.1:50000".parse().expect("literal");
        let seen =
            Passage { relayed: Some(relayed), sent: 50, received: 50, round_trips: vec![Duration::from_millis(3)] };
        let private: IpAddr = "10.0.0.1".parse().expect("literal");
        let public: IpAddr = "203.0.113.1".parse().expect("literal");
        assert!(passage(&seen, private).ok);
        let behind_nat = passage(&seen, public);
        assert!(!behind_nat.ok && behind_nat.text.contains("--public-ip"), "{}", behind_nat.text);
        let lossy = passage(&Passage { received: 40, ..seen }, private);
        assert!(!lossy.ok && lossy.text.contains("10 of 50 packets lost"), "{}", lossy.text);
    }

    #[test]
    fn verdicts() {
        let server: SocketAddr = "[::1]:1".parse().expect("literal");
        let good = Finding::new("stun", true, String::new()).about(Transport::Udp, server);
        let bad = Finding::new("turn", false, String::new()).about(Transport::Tls, server);
        assert!(verdict(std::slice::from_ref(&good)).contains("works"));
        assert_eq!(verdict(&[good, bad.clone()]), "TURN over TLS (IPv6) failed; STUN over UDP (IPv6) works.");
        assert!(verdict(&[bad]).starts_with("Nothing works"));
    }
}
