//! What the check found, in words and as JSON.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::cause::{Cause, Fault};
use super::relay::Passage;
use super::target::Transport;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Good,
    /// Something to know, or what could not be tested.
    Note,
    /// It works, but is dangerous or about to fail.
    Warning,
    Failed,
}

/// One thing that was tested.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `dns`, `ice`, `clock`, `certificate`, `stun`, `turn`, `address`, `peers` or `nat`.
    pub test: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// False for warnings and failures.
    pub ok: bool,
    pub level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
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
    /// Mean difference between one round trip and the next, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
}

impl Finding {
    fn new(test: &'static str, level: Level, cause: Option<Cause>, text: String) -> Self {
        let ok = matches!(level, Level::Good | Level::Note);
        let (transport, server, mapped, relayed, sent, received) = (None, None, None, None, None, None);
        let (rtt_ms, jitter_ms) = (None, None);
        Self { test, transport, server, ok, level, cause, text, mapped, relayed, sent, received, rtt_ms, jitter_ms }
    }

    /// Something that works.
    pub fn good(test: &'static str, text: String) -> Self {
        Self::new(test, Level::Good, None, text)
    }

    /// Something to know.
    pub fn note(test: &'static str, text: String) -> Self {
        Self::new(test, Level::Note, None, text)
    }

    /// Something that works and should not stay as it is.
    pub fn warning(test: &'static str, fault: Fault) -> Self {
        Self::new(test, Level::Warning, Some(fault.cause), fault.text)
    }

    /// Something that does not work.
    pub fn failed(test: &'static str, fault: Fault) -> Self {
        Self::new(test, Level::Failed, Some(fault.cause), fault.text)
    }

    /// The same, about one transport to one address.
    pub fn about(self, transport: Transport, server: SocketAddr) -> Self {
        Self { transport: Some(transport), server: Some(server), ..self }
    }

    /// The same, about one address of the server.
    pub fn at(self, server: SocketAddr) -> Self {
        Self { server: Some(server), ..self }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mark = match self.level {
            Level::Good => "ok  ",
            Level::Note => "note",
            Level::Warning => "WARN",
            Level::Failed => "FAIL",
        };
        let transport = self.transport.map_or(String::new(), |transport| format!(" {}", transport.name()));
        let server = self.server.map_or(String::new(), |server| format!(" {server}"));
        format!("{mark}  {}{transport}{server}: {}", self.test, self.text)
    }
}

/// The finding of a passage through the relay. More than one packet of 50 lost is a fault, and so is an address that
/// nobody can reach.
pub fn passage(passage: &Passage, server: IpAddr) -> Finding {
    let lost = passage.sent.saturating_sub(passage.received);
    let mut sorted = passage.round_trips.clone();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied();
    let jitter = jitter(&passage.round_trips);
    let relayed = passage.relayed.map_or(String::new(), |relayed| format!("relayed as {relayed}, "));
    let times = match (median, sorted.last(), jitter) {
        (Some(median), Some(worst), Some(jitter)) => format!(
            ", round trip {} (worst {}), jitter {}",
            milliseconds(median),
            milliseconds(*worst),
            milliseconds(jitter)
        ),
        _ => String::new(),
    };
    let text = format!("{relayed}{lost} of {} packets lost{times}", passage.sent);
    let fault = match passage.relayed {
        Some(relayed) if is_private(relayed.ip()) && !is_private(server) => Some((
            Cause::WrongPublicAddress,
            "; the world cannot reach that address: the server is behind NAT and does not know its own",
        )),
        _ if lost * 20 > passage.sent => Some((Cause::PacketLoss, "")),
        _ => None,
    };
    let finding = match fault {
        Some((cause, hint)) => Finding::failed("turn", Fault::new(cause, text + hint)),
        None => Finding::good("turn", text),
    };
    Finding {
        relayed: passage.relayed,
        sent: Some(passage.sent),
        received: Some(passage.received),
        rtt_ms: median.map(|median| median.as_secs_f64() * 1000.0),
        jitter_ms: jitter.map(|jitter| jitter.as_secs_f64() * 1000.0),
        ..finding
    }
}

/// The mean difference between one round trip and the next.
fn jitter(round_trips: &[Duration]) -> Option<Duration> {
    let pairs = u32::try_from(round_trips.len().checked_sub(1)?).ok().filter(|pairs| *pairs > 0)?;
    let sum: Duration = round_trips.windows(2).map(|pair| pair[0].abs_diff(pair[1])).sum();
    Some(sum / pairs)
}

/// True for addresses that mean nothing on the internet.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared || a == 0
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

/// A duration as people read it.
pub fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}

/// The whole in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Good,
    /// Calls work over one way at least, but something does not, or should not stay so.
    Degraded,
    /// Nothing that was tested carries a call.
    Broken,
}

impl Status {
    /// The exit code of the command.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Degraded => 1,
            Self::Broken => 2,
        }
    }

    /// The whole of `findings`.
    pub fn of(findings: &[Finding]) -> Self {
        let is_turn_tested = findings.iter().any(|finding| finding.test == "turn");
        let carries = if is_turn_tested { "turn" } else { "stun" };
        if !findings.iter().any(|finding| finding.test == carries && finding.ok) {
            Self::Broken
        } else if findings.iter().all(|finding| finding.ok) {
            Self::Good
        } else {
            Self::Degraded
        }
    }
}

/// The causes of what failed, each once, failures before warnings.
pub fn causes(findings: &[Finding]) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    for level in [Level::Failed, Level::Warning] {
        for cause in findings.iter().filter(|finding| finding.level == level).filter_map(|finding| finding.cause) {
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
    }
    causes
}

/// The verdict in one sentence: what works, and why the rest does not.
pub fn verdict(findings: &[Finding]) -> String {
    let status = Status::of(findings);
    let works = works(findings);
    let clauses: Vec<String> = causes(findings)
        .into_iter()
        .map(|cause| {
            let places: Vec<String> =
                findings.iter().filter(|finding| finding.cause == Some(cause)).filter_map(place).collect();
            let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
            format!("{}{places}", cause.clause())
        })
        .collect();
    match status {
        Status::Good => "Good: everything that was tested works.".into(),
        Status::Degraded if works.is_empty() => format!("Degraded: {}.", clauses.join("; ")),
        Status::Degraded => format!("Degraded: {}; {works}.", clauses.join("; ")),
        Status::Broken if clauses.is_empty() => "Broken: nothing could be tested.".into(),
        Status::Broken => format!("Broken: {}.", clauses.join("; ")),
    }
}

/// The report as one JSON object.
pub fn json(host: &str, findings: &[Finding]) -> Value {
    let status = Status::of(findings);
    let causes: Vec<Value> = causes(findings)
        .into_iter()
        .map(|cause| json!({ "cause": cause, "text": cause.clause(), "remedy": cause.remedy() }))
        .collect();
    json!({
        "host": host,
        "ok": status == Status::Good,
        "status": status,
        "verdict": verdict(findings),
        "causes": causes,
        "findings": findings,
    })
}

/// The transport that a finding is about.
fn place(finding: &Finding) -> Option<String> {
    let family = match finding.server {
        Some(server) if server.is_ipv6() => " over IPv6",
        _ => "",
    };
    Some(format!("{}{family}", finding.transport?.name()))
}

/// What works, as a clause: TURN where there is any.
fn works(findings: &[Finding]) -> String {
    for (test, verb) in [("turn", "relaying works"), ("stun", "STUN works")] {
        let passed = findings.iter().filter(|finding| finding.ok && finding.test == test);
        let places: Vec<String> = passed.filter_map(place).collect();
        if !places.is_empty() {
            return format!("{verb} with {}", places.join(", "));
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_private_addresses_fail() {
        let relayed: SocketAddr = "10.0.0.1:50000".parse().expect("literal");
        let times = vec![Duration::from_millis(3), Duration::from_millis(5), Duration::from_millis(4)];
        let seen = Passage { relayed: Some(relayed), sent: 50, received: 50, round_trips: times };
        let private: IpAddr = "10.0.0.1".parse().expect("literal");
        let public: IpAddr = "203.0.113.1".parse().expect("literal");
        let good = passage(&seen, private);
        assert!(good.ok && good.jitter_ms == Some(1.5) && good.rtt_ms == Some(4.0), "{good:?}");
        assert_eq!(passage(&seen, public).cause, Some(Cause::WrongPublicAddress));
        let lossy = passage(&Passage { received: 40, ..seen }, private);
        assert_eq!(lossy.cause, Some(Cause::PacketLoss));
        assert!(lossy.text.contains("10 of 50 packets lost"), "{}", lossy.text);
    }

    #[test]
    fn verdicts() {
        let server: SocketAddr = "[::1]:1".parse().expect("literal");
        let good = |test| Finding::good(test, String::new()).about(Transport::Tcp, server);
        let blocked = Finding::failed("stun", Fault::new(Cause::UdpBlocked, "")).about(Transport::Udp, server);
        let exposed = Finding::warning("peers", Fault::new(Cause::PrivatePeers, ""));
        assert_eq!(Status::of(&[good("stun")]), Status::Good);
        assert_eq!(Status::of(&[good("stun"), exposed.clone()]).exit_code(), 1);
        assert_eq!(Status::of(&[]), Status::Broken);
        let all = [exposed, blocked.clone(), good("turn")];
        assert_eq!(causes(&all), [Cause::UdpBlocked, Cause::PrivatePeers]);
        assert_eq!(
            verdict(&all),
            "Degraded: UDP is blocked while TCP gets through (UDP over IPv6); \
             the relay carries its users into private networks; relaying works with TCP over IPv6."
        );
        assert_eq!(Status::of(std::slice::from_ref(&blocked)).exit_code(), 2);
        assert!(verdict(&[blocked]).starts_with("Broken: UDP is blocked"));
        assert_eq!(json("a", &all)["causes"][0]["cause"], "udp-blocked");
    }
}
