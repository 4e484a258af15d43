//! From what was set to a [`Config`]: each value parsed, each fault kept with the place where it was set.

use std::path::PathBuf;

use super::layers::{Problem, Setting, Settings, problem};
use super::parse::{self, Reason};
use super::{Access, AcmeConfig, Config, Limits, Listen, LogFormat, Turns, Webhook, keys};

/// The directory of the authority that is asked when none is named.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Takes parsed values out of the settings and collects the problems on the way.
pub struct Reader<'a> {
    settings: &'a Settings,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, problems: Vec::new(), warnings: Vec::new() }
    }

    pub fn setting(&self, name: &str) -> Option<&'a Setting> {
        self.settings.get(name)
    }

    /// Notes a problem of the key `name`, naming the place where it was set, or that it is the default.
    pub fn complain(&mut self, name: &str, value: &str, reason: &str) {
        let key = keys::find(name).expect("a key of the table");
        self.problems.push(match self.setting(name) {
            Some(setting) => problem(key, &setting.source, value, reason),
            None => Problem(format!("{} = {value} (the default): {reason}", key.path())),
        });
    }

    /// The value of `name`, or `default` when it is not set or at fault.
    fn one<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Result<T, Reason>) -> T {
        let Some(setting) = self.setting(name) else { return default };
        // The command line parser and the file reader see to it that there is one.
        let text = setting.values.last().map_or("", String::as_str);
        match parse(text) {
            Ok(value) => value,
            Err(reason) => {
                self.complain(name, text, &reason);
                default
            }
        }
    }

    fn optional<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Reason>) -> Option<T> {
        self.one(name, None, |text| parse(text).map(Some))
    }

    fn list<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Reason>) -> Vec<T> {
        let mut values = Vec::new();
        for text in self.setting(name).map_or(&[][..], |setting| &setting.values[..]) {
            match parse(text) {
                Ok(value) => values.push(value),
                Err(reason) => self.complain(name, text, &reason),
            }
        }
        values
    }

    fn listen(&mut self, name: &str, default: Listen) -> Listen {
        if self.setting(name).is_none() {
            return default;
        }
        Listen { addresses: self.list(name, parse::address), explicit: true }
    }

    /// The whole configuration, `state_dir` set apart as it needs more than the settings.
    pub fn config(&mut self, state_dir: PathBuf) -> Config {
        let default = Config::default();
        let (secret_file, secrets) = self.secrets();
        Config {
            state_dir,
            udp: self.listen("udp", default.udp),
            tcp: self.listen("tcp", default.tcp),
            http: self.listen("http", default.http),
            metrics: self.optional("metrics", parse::address),
            trust_proxy: self.list("trust_proxy", parse::cidr),
            origins: self.list("origin", parse::origin),
            domain: self.optional("domain", parse::domain),
            public_ips: self.list("public_ip", parse::public_ip),
            alt_ip: self.optional("alt_ip", parse::literal_ip),
            relay_ips: self.list("relay_ip", parse::literal_ip),
            relay_ports: self.one("relay_ports", default.relay_ports, parse::port_range),
            realm: self.one("realm", default.realm, parse::realm),
            secret_file,
            secrets,
            users: self.list("users", parse::user),
            api_keys: self.list("api_keys", parse::api_key),
            webhook: self.webhook(),
            allow_peers: self.list("allow_peer", parse::cidr),
            deny_peers: self.list("deny_peer", parse::cidr),
            tcp_relay: self.one("tcp_relay", default.tcp_relay, on_or_off),
            access: self.optional("access", access),
            certificate: self.certificate(),
            acme: self.acme(),
            turns: self.one("turns", default.turns, turns),
            legacy_channels: self.one("legacy_channels", false, parse::switch),
            strict_family: self.one("strict_family", false, parse::switch),
            strict_expiry: self.one("strict_expiry", false, parse::switch),
            shards: self.one("shards", default.shards, parse::number_within(0, 256)),
            static_dir: self.optional("static_dir", parse::path),
            socketio_client_dir: self.optional("socketio_client_dir", parse::path),
            log_format: self.one("log_format", default.log_format, log_format),
            log_level: self.one("log_level", default.log_level, log_level),
            credential_ttl: self.one("credential_ttl", default.credential_ttl, parse::duration_within(60, 30 * 86400)),
            resume: self.one("resume", default.resume, parse::duration_within(0, 3600)),
            drain_timeout: self.one("drain_timeout", default.drain_timeout, parse::duration_within(0, 3600)),
            limits: self.limits(),
        }
    }

    fn limits(&mut self) -> Limits {
        let default = Limits::default();
        let upper = 10_000_000;
        Limits {
            allocations_per_subject: self.one(
                "allocations_per_subject",
                default.allocations_per_subject,
                parse::number_within(1, upper),
            ),
            allocations_total: self.one("allocations_total", default.allocations_total, parse::number_within(1, upper)),
            permissions: self.one("permissions", default.permissions, parse::number_within(1, 65535)),
            // RFC 8656 section 12 has no more numbers than that.
            channels: self.one("channels", default.channels, parse::number_within(1, 0x4000)),
            tcp_connections: self.one("tcp_connections", default.tcp_connections, parse::number_within(1, 65535)),
            tcp_connections_total: self.one(
                "tcp_connections_total",
                default.tcp_connections_total,
                parse::number_within(1, upper),
            ),
            bandwidth: self.optional("bandwidth", parse::bandwidth),
            total_bandwidth: self.optional("total_bandwidth", parse::bandwidth),
            rooms: self.one("rooms", default.rooms, parse::number_within(1, upper)),
            peers_per_room: self.one("peers_per_room", default.peers_per_room, parse::number_within(2, 1000)),
            // An offer with audio, video and data has some 8 KiB.
            message_bytes: self.one(
                "message_bytes",
                default.message_bytes,
                parse::number_within(16 * 1024, 64 * 1024 * 1024),
            ),
            messages_per_second: self.one("messages_per_second", default.messages_per_second, |text| {
                parse::number_within(1, 100_000)(text).map(|number| number as u32)
            }),
            bytes_per_second: self.one("bytes_per_second", default.bytes_per_second, |text| {
                parse::number_within(16 * 1024, 1_000_000_000)(text).map(|number| number as u64)
            }),
        }
    }

    /// `secret`, `secret_file` and `secrets` say the same thing: the one of the highest layer counts.
    fn secrets(&mut self) -> (Option<PathBuf>, Vec<String>) {
        let single = self.list("secret", parse::secret);
        let file = self.optional("secret_file", parse::path);
        let list = self.list("secrets", parse::secret);
        if self.setting("secrets").is_some_and(|setting| setting.values.is_empty()) {
            self.complain(
                "secrets",
                "[]",
                "the list is empty; write a secret into it, or leave it out for its default",
            );
        }
        let rank = |name: &str| self.setting(name).map(|setting| setting.source.rank());
        let ranks = [rank("secret"), rank("secret_file"), rank("secrets")];
        let top = ranks.iter().flatten().max().copied();
        let Some(top) = top else { return (None, Vec::new()) };
        if ranks.iter().filter(|rank| **rank == Some(top)).count() > 1 {
            let name = if ranks[1] == Some(top) { "secret_file" } else { "secret" };
            let value = self.setting(name).map_or(String::new(), |setting| setting.values.join(" "));
            self.complain(name, &value, "the secret is given twice; keep one of secret, secret_file and secrets");
            return (None, Vec::new());
        }
        if ranks[0] == Some(top) {
            self.warnings
                .push("--secret shows the shared secret to every user of this machine: use --secret-file".into());
            return (None, single);
        }
        if ranks[1] == Some(top) { (file, Vec::new()) } else { (None, list) }
    }

    /// An unsigned message could come from anybody, so the address needs a secret.
    fn webhook(&mut self) -> Option<Webhook> {
        let url = self.optional("webhook_url", parse::webhook_url);
        let secret = self.optional("webhook_secret", parse::webhook_secret);
        if url.is_some() && self.setting("webhook_secret").is_none() {
            let reason = "messages to it would not be signed; set webhook_secret beside it";
            let shown = self.setting("webhook_url").and_then(|setting| setting.values.last().cloned());
            self.complain("webhook_url", &shown.unwrap_or_default(), reason);
        }
        if secret.is_some() && self.setting("webhook_url").is_none() {
            self.complain("webhook_secret", "", "there is nothing to sign; set webhook_url beside it, or remove this");
        }
        url.zip(secret).map(|(url, secret)| Webhook { url, secret })
    }

    fn certificate(&mut self) -> Option<(PathBuf, PathBuf)> {
        let cert = self.optional("cert", parse::path);
        let key = self.optional("key", parse::path);
        match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(cert), None) => {
                let reason = "a certificate without its key; give the key's file with --key";
                self.complain("cert", &cert.display().to_string(), reason);
                None
            }
            (None, Some(key)) => {
                let reason = "a key without its certificate; give the chain's file with --cert";
                self.complain("key", &key.display().to_string(), reason);
                None
            }
        }
    }
}

impl Reader<'_> {
    fn acme(&mut self) -> Option<AcmeConfig> {
        let email = self.optional("acme_email", parse::email);
        let directory = self.one("acme_directory", LETS_ENCRYPT.to_owned(), parse::https_url);
        let ca_file = self.optional("acme_ca_file", parse::path);
        let profile = self.optional("acme_profile", parse::word);
        let is_on = self.one("acme", false, parse::switch);
        is_on.then_some(AcmeConfig { email, directory, ca_file, profile })
    }
}

fn access(text: &str) -> Result<Access, Reason> {
    match text {
        "open" => Ok(Access::Open),
        "invite" => Ok(Access::Invite),
        _ => Err("write open or invite".into()),
    }
}

fn on_or_off(text: &str) -> Result<bool, Reason> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".into()),
    }
}

fn turns(text: &str) -> Result<Turns, Reason> {
    match text {
        "auto" => Ok(Turns::Auto),
        "always" => Ok(Turns::Always),
        "never" => Ok(Turns::Never),
        _ => Err("write auto, always or never".into()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, Reason> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("write text or json".into()),
    }
}

fn log_level(text: &str) -> Result<String, Reason> {
    match crate::logging::filter(text) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err("no log level; write error, warn, info, debug or trace".into()),
    }
}
