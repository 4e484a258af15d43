//! Every option, once: its key in the file, its flag, its variable and what `--help` says of it (DESIGN section 7).

/// How an option's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    One,
    /// A list: the flag is repeated, the variable separates by commas, the file has an array.
    List,
    /// On or off.
    Switch,
    /// Names with a value each: a table in the file, `name=value` elsewhere.
    Pairs,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The table of the file it stands in; empty for the top level.
    pub group: &'static str,
    /// The key in that table; `--name` with dashes is the flag.
    pub name: &'static str,
    pub kind: Kind,
    /// False: no flag.
    pub flag: bool,
    /// False: not in the file.
    pub file: bool,
    /// Its values never appear in messages.
    pub secret: bool,
    /// Another value is in force only after a restart: a reload names it and goes on with the old one.
    pub restart: bool,
    /// What stands for the value in `--help`.
    pub value: &'static str,
    /// The only values taken; empty for any.
    pub choices: &'static [&'static str],
    /// The default, in words.
    pub default: &'static str,
    pub help: &'static str,
}

impl Key {
    const fn new(group: &'static str, name: &'static str, kind: Kind, value: &'static str) -> Self {
        let (default, help) = ("", "");
        let (flag, file, secret, restart) = (true, true, false, false);
        Self { group, name, kind, flag, file, secret, restart, value, choices: &[], default, help }
    }

    const fn help(self, default: &'static str, help: &'static str) -> Self {
        Self { default, help, ..self }
    }

    const fn choices(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }

    const fn without_flag(self) -> Self {
        Self { flag: false, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    const fn fixed(self) -> Self {
        Self { restart: true, ..self }
    }

    const fn not_in_file(self) -> Self {
        Self { file: false, ..self }
    }

    /// `group.name`, as messages call it.
    pub fn path(&self) -> String {
        if self.group.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.group, self.name) }
    }

    /// The flag with its dashes.
    pub fn flag_name(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// The environment variable. Limits carry their group's name, since `RELAIS_ROOMS` would say too little.
    pub fn variable(&self) -> String {
        let prefix = if self.group == "limits" { "RELAIS_LIMITS_" } else { "RELAIS_" };
        format!("{prefix}{}", self.name.to_ascii_uppercase())
    }
}

/// The option called `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// A key of `limits`: a number without a flag.
const fn limit(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key::new("limits", name, Kind::One, "N").without_flag().help(default, help)
}

/// All options, in the order in which `--help` and the sample file list them.
pub const KEYS: &[Key] = &[
    Key::new("", "state_dir", Kind::One, "DIR").fixed().help(
        "$STATE_DIRECTORY, else ./certs beside a Cargo.toml, else the user's state directory",
        "Directory of secrets, keys and certificates; made at first run, mode 0700",
    ),
    Key::new("", "log_format", Kind::One, "FORMAT")
        .fixed()
        .choices(&["text", "json"])
        .help("text", "Form of the log on standard error"),
    Key::new("", "log_level", Kind::One, "LEVEL").help(
        "info",
        "error, warn, info, debug, trace, or a filter such as relais::net=debug (also the variable RELAIS_LOG)",
    ),
    Key::new("", "drain_timeout", Kind::One, "TIME")
        .without_flag()
        .help("10s", "How long a stop waits for connections to end"),
    Key::new("", "api_keys", Kind::Pairs, "ID=SECRET")
        .secret()
        .without_flag()
        .help("none", "Keys with which back ends mint tokens and credentials: a name and 32 characters or more each"),
    Key::new("turn", "udp", Kind::List, "ADDR")
        .fixed()
        .help("0.0.0.0:3478 and [::]:3478", "Listen here for STUN/TURN over UDP; port 0 takes a free one"),
    Key::new("turn", "public_ip", Kind::List, "PUBLIC[/BOUND]").fixed().help(
        "the bound addresses",
        "How the world reaches us when that is not the bound address (1:1 NAT of a cloud or a router)",
    ),
    Key::new("turn", "alt_ip", Kind::One, "IP").fixed().help(
        "none",
        "A second address of this host, for NAT discovery (RFC 5780): it and the port beside the first are bound too",
    ),
    Key::new("turn", "relay_ip", Kind::List, "IP")
        .fixed()
        .help("the address the client reached us on", "Bind relayed addresses here"),
    Key::new("turn", "relay_ports", Kind::One, "A-B").fixed().help("49152-65535", "Ports of relayed addresses"),
    Key::new("turn", "realm", Kind::One, "NAME").fixed().help("relais", "Realm of the long-term credentials"),
    Key::new("turn", "secret_file", Kind::One, "FILE").help(
        "turn-secret in the state directory",
        "Shared secrets of time-limited credentials, one a line, newest first",
    ),
    Key::new("turn", "secret", Kind::One, "TEXT")
        .secret()
        .not_in_file()
        .help("none", "The shared secret itself, for tests: other users of the machine can see it"),
    Key::new("turn", "secrets", Kind::List, "TEXT")
        .secret()
        .without_flag()
        .help("none", "Shared secrets in place of secret_file, newest first: the first signs, all verify"),
    Key::new("turn", "users", Kind::Pairs, "NAME=PASSWORD")
        .secret()
        .without_flag()
        .help("none", "Static users beside the time-limited credentials"),
    Key::new("turn", "allow_peer", Kind::List, "CIDR").help(
        "none",
        "Relay to these peers although their range is denied by default (private, loopback, documentation, ...)",
    ),
    Key::new("turn", "deny_peer", Kind::List, "CIDR")
        .help("none", "Never relay to these peers; wins over --allow-peer"),
    Key::new("turn", "tcp_relay", Kind::One, "on|off")
        .choices(&["on", "off"])
        .help("on", "Relay TCP connections too (RFC 6062); ports below 1024 only of peers in --allow-peer"),
    Key::new("turn", "credential_ttl", Kind::One, "TIME")
        .without_flag()
        .help("24h", "Lifetime of the credentials given to pages"),
    Key::new("turn", "legacy_channels", Kind::Switch, "").help(
        "off",
        "Accept RFC 5766's channel numbers 0x5000-0x7FFF too (old clients such as Debian's turnutils_uclient)",
    ),
    Key::new("turn", "strict_family", Kind::Switch, "").without_flag().help(
        "off",
        "Refuse an Allocate that names no address family where there is no IPv4 to relay on; off: IPv6 if it came so",
    ),
    Key::new("turn", "strict_expiry", Kind::Switch, "")
        .without_flag()
        .help("off", "Refuse to refresh an allocation whose credential has expired meanwhile"),
    Key::new("turn", "shards", Kind::One, "N").fixed().help("one per core", "UDP threads; 0 is one per core"),
    Key::new("web", "tcp", Kind::List, "ADDR").fixed().help(
        "0.0.0.0 and [::], ports 3478 and 8443",
        "Listen here for everything over TCP: STUN/TURN, TLS, HTTPS, WebSocket, told apart by the first byte",
    ),
    Key::new("web", "http", Kind::List, "ADDR").fixed().help(
        "none",
        "Listen here too, and serve plain HTTP without redirect (existing pages, behind a reverse proxy)",
    ),
    Key::new("web", "metrics", Kind::One, "ADDR")
        .fixed()
        .help("none", "Serve /metrics (Prometheus) here without a token; elsewhere it needs the admin token"),
    Key::new("web", "trust_proxy", Kind::List, "CIDR")
        .help("none", "Believe X-Forwarded-For and X-Forwarded-Proto from these addresses"),
    Key::new("web", "origin", Kind::List, "ORIGIN")
        .help("the same origin", "Allow pages of this origin, such as https://app.example.org; * allows all"),
    Key::new("web", "domain", Kind::One, "NAME").fixed().help("none", "The name under which the world reaches us"),
    Key::new("web", "static_dir", Kind::One, "DIR")
        .fixed()
        .help("the embedded pages", "Serve files from here before the embedded pages"),
    Key::new("web", "socketio_client_dir", Kind::One, "DIR")
        .help("none", "Serve socket.io.js and its variants from here"),
    Key::new("signaling", "access", Kind::One, "MODE").choices(&["open", "invite"]).help(
        "invite; open when every listener is on a loopback address",
        "Who may join rooms: anybody, or whoever has an invite link",
    ),
    Key::new("signaling", "resume", Kind::One, "TIME")
        .without_flag()
        .help("60s", "How long a lost connection may come back as the same peer"),
    Key::new("signaling", "webhook_url", Kind::One, "URL")
        .fixed()
        .without_flag()
        .help("none", "Tell this address who joins and leaves, which rooms close and which allocations end"),
    Key::new("signaling", "webhook_secret", Kind::One, "TEXT")
        .fixed()
        .secret()
        .without_flag()
        .help("none", "Signs what is told there (HMAC-SHA256): 32 characters or more, or whsec_ and base64"),
    Key::new("tls", "cert", Kind::One, "FILE")
        .fixed()
        .help("made by our own CA at first run", "Certificate chain, PEM, leaf first; with --key"),
    Key::new("tls", "key", Kind::One, "FILE")
        .fixed()
        .help("none", "Its private key, PEM (PKCS#1, PKCS#8 or SEC1); with --cert"),
    Key::new("tls", "acme", Kind::Switch, "").fixed().help(
        "off",
        "Get a certificate for --domain, else for --public-ip, by ACME; this agrees to the authority's terms",
    ),
    Key::new("tls", "acme_email", Kind::One, "ADDRESS")
        .fixed()
        .without_flag()
        .help("none", "Where the authority may write when a certificate is about to expire"),
    Key::new("tls", "acme_directory", Kind::One, "URL")
        .fixed()
        .without_flag()
        .help("Let's Encrypt", "Directory of the ACME authority"),
    Key::new("tls", "acme_ca_file", Kind::One, "FILE")
        .fixed()
        .without_flag()
        .help("the public roots", "Certificates that vouch for the authority's server too, PEM"),
    Key::new("tls", "acme_profile", Kind::One, "NAME")
        .fixed()
        .without_flag()
        .help("the authority's default; shortlived for addresses", "Kind of certificate to ask for"),
    Key::new("tls", "turns", Kind::One, "WHEN")
        .choices(&["auto", "always", "never"])
        .help("auto", "Offer turns: URLs to pages; auto: when browsers will verify the certificate"),
    limit("allocations_per_subject", "40", "Allocations of one caller; one more is answered 486"),
    limit("allocations_total", "10000", "Allocations of the whole server; one more is answered 508"),
    limit("permissions", "256", "Permissions of one allocation; one more is answered 508"),
    limit("channels", "128", "Channels of one allocation; one more is answered 508"),
    limit("tcp_connections", "32", "TCP connections of one allocation; one more is answered 508, or closed"),
    limit("tcp_connections_total", "2000", "The same for all allocations together"),
    limit("bandwidth", "none", "Bytes per second that one allocation may relay each way; media beyond it is dropped"),
    limit("total_bandwidth", "none", "The same for all allocations together"),
    limit("rooms", "10000", "Rooms at a time"),
    limit("peers_per_room", "2", "Peers of a room"),
    limit("message_bytes", "1000000", "Size of a signaling message, in bytes"),
    limit("messages_per_second", "100", "Signaling messages of one peer per second"),
    limit(
        "bytes_per_second",
        "1000000",
        "Bytes of signaling messages of one peer per second; four large ones may burst",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_of_a_kind() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.name != key.name), "{} twice", key.name);
            assert!(!key.help.is_empty() && !key.default.is_empty(), "{} is not explained", key.name);
            assert!(key.flag || key.file, "{} cannot be set", key.name);
        }
    }

    #[test]
    fn the_three_names_of_an_option() {
        let key = find("relay_ports").expect("a key");
        assert_eq!(
            (key.path(), key.flag_name(), key.variable()),
            names("turn.relay_ports", "--relay-ports", "RELAIS_RELAY_PORTS")
        );
        assert_eq!(find("rooms").expect("a key").variable(), "RELAIS_LIMITS_ROOMS");
        assert_eq!(find("state_dir").expect("a key").path(), "state_dir");
    }

    fn names(path: &str, flag: &str, variable: &str) -> (String, String, String) {
        (path.into(), flag.into(), variable.into())
    }
}
