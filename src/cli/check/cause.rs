//! What can be wrong, by name: stable words for programs, a clause and a remedy for people.

use serde::Serialize;

/// A cause that a finding names. In JSON it is written in kebab case, and those words do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    NameUnknown,
    NoRoute,
    PortClosed,
    UdpBlocked,
    NoAnswer,
    NotStun,
    NotTls,
    CertificateUntrusted,
    CertificateName,
    CertificateExpired,
    CertificateExpires,
    CertificateInvalid,
    NoRelay,
    OpenRelay,
    TokenRefused,
    CredentialExpired,
    CredentialWrong,
    ClockSkew,
    QuotaReached,
    OutOfPorts,
    RelayLost,
    PacketLoss,
    WrongPublicAddress,
    RelayRangeFirewalled,
    PrivatePeers,
    Other,
}

impl Cause {
    /// The cause as a clause: why something does not work.
    pub fn clause(self) -> &'static str {
        self.words().0
    }

    /// What to do.
    pub fn remedy(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NameUnknown => ("the name has no address", "check the spelling, the DNS zone and the resolver here"),
            Self::NoRoute => (
                "this machine has no way to the server's address",
                "test from a machine with that address family, or take the record out of the DNS zone",
            ),
            Self::PortClosed => (
                "nothing listens on the port",
                "start the server, or name the port that it listens on (HOST:PORT, --tls-port)",
            ),
            Self::UdpBlocked => (
                "UDP is blocked while TCP gets through",
                "open the UDP port in the server's firewall and its provider's; if it is open there, the network here blocks UDP",
            ),
            Self::NoAnswer => {
                ("nothing answers", "see whether the server runs, and open the port in its firewall and its provider's")
            }
            Self::NotStun => ("what listens there speaks no STUN", "name the port of the STUN/TURN server"),
            Self::NotTls => ("what listens there speaks no TLS", "name the port of TLS with --tls-port"),
            Self::CertificateUntrusted => (
                "the certificate's issuer is not trusted",
                "get a certificate that browsers trust, send the intermediate ones along, or name its authority with --ca FILE",
            ),
            Self::CertificateName => {
                ("the certificate is for another name", "get one for the name in use, or use the name that it bears")
            }
            Self::CertificateExpired => ("the certificate is out of date", "renew it, and compare the clocks"),
            Self::CertificateExpires => ("the certificate ends soon", "renew it, or see why its renewal fails"),
            Self::CertificateInvalid => ("the certificate cannot be used", "replace it"),
            Self::NoRelay => ("the server answers STUN but does not relay", "turn TURN on there"),
            Self::OpenRelay => ("the server relays for anybody", "demand credentials, today"),
            Self::TokenRefused => ("the server gives out no ICE configuration", "make a new invite"),
            Self::CredentialExpired => ("the credential has expired", "fetch or make a new one"),
            Self::CredentialWrong => ("the server refuses the credential", "compare the secret with the server's"),
            Self::ClockSkew => ("the clocks of both machines differ", "let both follow a time server"),
            Self::QuotaReached => ("this user's quota is used up", "wait, or raise the quota"),
            Self::OutOfPorts => ("the server is out of relay ports or at its limit", "widen the range or the limit"),
            Self::RelayLost => (
                "no packet gets through the relay",
                "let the server reach its own relayed addresses: firewall, and its public address behind NAT",
            ),
            Self::PacketLoss => ("packets are lost", "look at the load of the server and of the lines on the way"),
            Self::WrongPublicAddress => (
                "the server gives out relayed addresses that are not its own",
                "tell the server the address that the world sees (relais: --public-ip, coturn: external-ip)",
            ),
            Self::RelayRangeFirewalled => (
                "a firewall closes the ports of the relayed addresses",
                "open the range (relais: UDP 49152-65535, --relay-ports) in the server's firewall and its provider's",
            ),
            Self::PrivatePeers => (
                "the relay carries its users into private networks",
                "deny private addresses as peers (coturn: denied-peer-ip; relais does it unless allow_peer opens them)",
            ),
            Self::Other => ("something failed", "read the finding"),
        }
    }
}

/// A cause with what was seen, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub cause: Cause,
    pub text: String,
}

impl Fault {
    pub fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }

    /// A fault without a name of its own.
    pub fn other(text: impl ToString) -> Self {
        Self::new(Cause::Other, text.to_string())
    }
}
