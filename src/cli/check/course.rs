//! The course of a check: what is tested in which order, each finding shown as soon as it is there.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::cause::{Cause, Fault};
use super::open::Opener;
use super::relay::{self, Login};
use super::report::{self, Finding, milliseconds};
use super::target::{self, Transport};
use super::{certificate, fetch, nat, outside, peers, probe};
use crate::cli::{complain, print};
use crate::clock;

/// Where TLS is looked for when no port was named: ours, that of RFC 7065, HTTPS's.
const TLS_PORTS: [u16; 3] = [3478, 5349, 443];

/// One transport to test on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub host: String,
    pub transport: Transport,
    /// More than one: the first that works counts.
    pub ports: Vec<u16>,
    pub is_stun_only: bool,
}

impl Step {
    /// A step of a named port, or of the usual ones.
    pub fn new(host: &str, transport: Transport, port: u16, has_port: bool, is_stun_only: bool) -> Self {
        let ports = if transport == Transport::Tls && !has_port { TLS_PORTS.to_vec() } else { vec![port] };
        Self { host: host.to_owned(), transport, ports, is_stun_only }
    }
}

/// Findings as they come in.
pub struct Course {
    pub findings: Vec<Finding>,
    is_json: bool,
    is_terminal: bool,
}

impl Course {
    /// Findings go to standard output, or to standard error if the output is to be JSON.
    pub fn new(is_json: bool) -> Self {
        Self { findings: Vec::new(), is_json, is_terminal: std::io::stderr().is_terminal() }
    }

    /// Shows and keeps a finding.
    pub fn add(&mut self, finding: Finding) {
        self.wipe();
        if self.is_json {
            complain(&finding.line())
        } else {
            print(&format!("{}\n", finding.line()))
        }
        self.findings.push(finding);
    }

    /// Says what is going on, where somebody watches, until the next finding.
    pub fn going_on(&self, what: &str) {
        self.wipe();
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "…     {what}");
        }
    }

    fn wipe(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// Resolves `host` and takes `steps`, which are all of it, to each of its addresses.
    pub async fn host(&mut self, host: &str, steps: &[Step], opener: &Opener, login: Option<&Login>) {
        self.going_on(&format!("looking up {host}"));
        let servers = match target::resolve(host, 0).await {
            Ok(servers) if !servers.is_empty() => servers,
            Ok(_) => {
                let fault = Fault::new(Cause::NameUnknown, format!("{host} has no address"));
                return self.add(Finding::failed("dns", fault));
            }
            Err(error) => {
                let text =
                    format!("{host} cannot be resolved ({error}): check the spelling and this machine's resolver");
                return self.add(Finding::failed("dns", Fault::new(Cause::NameUnknown, text)));
            }
        };
        let shown = servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ");
        self.add(Finding::good("dns", format!("{host} is {shown}")));
        for server in servers {
            self.address(server, steps, opener, login).await;
        }
    }

    /// Everything about one address of the server; the port of `server` does not matter.
    async fn address(&mut self, server: SocketAddr, steps: &[Step], opener: &Opener, login: Option<&Login>) {
        let tls_port = self.certificate(server, steps, opener).await;
        let skew = self.clock(server, steps, tls_port, opener).await;
        let login = login.map(|login| Login { skew: login.skew.or(skew), ..login.clone() });
        let (mut relaying, mut udp) = (None, None);
        for step in steps {
            let port = tls_port.filter(|port| step.transport == Transport::Tls && step.ports.contains(port));
            let port = port.or(step.ports.first().copied());
            let at = SocketAddr::new(server.ip(), port.unwrap_or(0));
            if step.transport == Transport::Udp {
                udp = self.answers(step, at, steps, opener).await.then_some(at).or(udp);
            } else if !self.answers(step, at, steps, opener).await {
                continue;
            }
            let answered = step.transport != Transport::Udp || udp == Some(at);
            if answered && !step.is_stun_only && self.relays(step.transport, at, opener, login.as_ref()).await {
                relaying = relaying.or(Some((step.transport, at)));
            }
        }
        let mut seen = None;
        if let (Some((transport, at)), Some(login)) = (relaying, &login) {
            if let Some(udp) = udp {
                self.going_on("packets between the relay and this machine");
                let (finding, found) = outside::check(opener, transport, at, udp, login).await;
                seen = found;
                self.add(finding.about(transport, at));
            }
            self.going_on("private addresses as peers");
            for finding in peers::check(opener, transport, at, login).await {
                self.add(finding);
            }
        }
        if let Some(udp) = udp {
            self.going_on("the NAT here");
            if let Some(finding) = nat::check(udp, seen).await {
                self.add(finding);
            }
        }
    }

    /// Judges the certificate on the first port where TLS is spoken, and gives that port.
    async fn certificate(&mut self, server: SocketAddr, steps: &[Step], opener: &Opener) -> Option<u16> {
        let step = steps.iter().find(|step| step.transport == Transport::Tls)?;
        for &port in &step.ports {
            let at = SocketAddr::new(server.ip(), port);
            self.going_on(&format!("the certificate on {at}"));
            if let Some(chain) = certificate::fetch(opener, at).await {
                let now = clock::now().unix;
                let finding = certificate::judge(&chain, &opener.name, &opener.extra, opener.insecure, now);
                self.add(finding.at(at));
                return Some(port);
            }
        }
        None
    }

    /// Asks the server for the time where it speaks HTTP.
    async fn clock(
        &mut self,
        server: SocketAddr,
        steps: &[Step],
        tls_port: Option<u16>,
        opener: &Opener,
    ) -> Option<i64> {
        let tcp =
            steps.iter().find(|step| step.transport == Transport::Tcp).and_then(|step| step.ports.first().copied());
        let (port, is_tls) = tls_port.map(|port| (port, true)).or(tcp.map(|port| (port, false)))?;
        let at = SocketAddr::new(server.ip(), port);
        self.going_on(&format!("the clock of {at}"));
        let skew = fetch::skew_of(opener, at, is_tls).await?;
        self.add(fetch::clock_finding(skew).at(at));
        Some(skew)
    }

    /// STUN over one transport.
    async fn answers(&mut self, step: &Step, at: SocketAddr, steps: &[Step], opener: &Opener) -> bool {
        let transport = step.transport;
        self.going_on(&format!("STUN over {} to {at}", transport.name()));
        let binding = async {
            let connection = opener.open(transport, at).await?;
            let binding = probe::binding(&connection, transport, at, opener.timeout).await;
            let _ = connection.close().await;
            binding
        };
        let finding = match binding.await {
            Ok(binding) => {
                let text = format!("seen as {}, round trip {}", binding.mapped, milliseconds(binding.round_trip));
                let rtt_ms = Some(binding.round_trip.as_secs_f64() * 1000.0);
                Finding { mapped: Some(binding.mapped), rtt_ms, ..Finding::good("stun", text) }
            }
            Err(fault) if transport == Transport::Udp && fault.cause == Cause::NoAnswer => {
                Finding::failed("stun", blocked(fault, at, steps, opener).await)
            }
            Err(fault) => Finding::failed("stun", fault),
        };
        let ok = finding.ok;
        self.add(finding.about(transport, at));
        ok
    }

    /// TURN over one transport: packets through the relay with credentials, else that it asks for them.
    async fn relays(&mut self, transport: Transport, at: SocketAddr, opener: &Opener, login: Option<&Login>) -> bool {
        self.going_on(&format!("TURN over {} to {at}", transport.name()));
        let challenge = async {
            let connection = opener.open(transport, at).await?;
            let challenge = probe::challenge(&connection, transport, at, opener.timeout).await;
            let _ = connection.close().await;
            challenge
        };
        let finding = match (challenge.await, login) {
            (Err(fault), _) => Finding::failed("turn", fault),
            (Ok((realm, _)), None) => Finding::good("turn", format!("asks for credentials (realm {realm})")),
            (Ok(_), Some(login)) => match relay::round_trip(opener, transport, at, login).await {
                Ok(passage) => report::passage(&passage, at.ip()),
                Err(fault) => Finding::failed("turn", fault),
            },
        };
        // What is wrong with relayed addresses is found out where a packet of the relay's own gets nowhere.
        let relays = finding.ok || matches!(finding.cause, Some(Cause::RelayLost | Cause::PacketLoss));
        let relays = relays || finding.cause == Some(Cause::WrongPublicAddress);
        self.add(finding.about(transport, at));
        relays
    }
}

/// Silence over UDP where TCP is taken means that UDP alone is dropped.
async fn blocked(fault: Fault, at: SocketAddr, steps: &[Step], opener: &Opener) -> Fault {
    let streams = steps.iter().filter(|step| step.transport != Transport::Udp).flat_map(|step| &step.ports);
    let mut ports: Vec<u16> = [at.port()].into_iter().chain(streams.copied()).collect();
    ports.dedup();
    for port in ports {
        let tried = tokio::time::timeout(opener.timeout, TcpStream::connect((at.ip(), port))).await;
        if matches!(tried, Ok(Ok(_))) {
            let text = format!(
                "no answer, while TCP to port {port} gets through: a firewall drops UDP to port {} or its answers",
                at.port()
            );
            return Fault::new(Cause::UdpBlocked, text);
        }
    }
    fault
}
