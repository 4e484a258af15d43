//! A configuration read again while the server runs: what of it is taken into use, and what waits for a restart.

use super::keys::{KEYS, Key};
use super::{Config, show};

/// One key whose value is another than the one in force.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: &'static Key,
    /// The new value as the file would have it, secrets hidden; `None`: left to its default.
    pub value: Option<String>,
}

impl Change {
    /// True when it is in force only after a restart.
    pub fn needs_restart(&self) -> bool {
        self.key.restart
    }
}

/// What is to be in force when `read` comes after `old`, and the keys that differ, in the order of the key table. Keys
/// that need a restart keep their old value, so that the next reload names them again.
pub fn merge(old: &Config, read: Config) -> (Config, Vec<Change>) {
    let changes = KEYS.iter().filter(|key| key.file && is_changed(key.name, old, &read));
    let changes = changes.map(|key| Change { key, value: show::value_of(&read, key.name) }).collect();
    (keep_fixed(old, read), changes)
}

fn is_changed(name: &str, old: &Config, read: &Config) -> bool {
    match name {
        // Shown without what matters.
        "api_keys" => old.api_keys != read.api_keys,
        "secrets" => old.secrets != read.secrets,
        "users" => old.users != read.users,
        "webhook_secret" => {
            let secret = |config: &Config| config.webhook.as_ref().map(|webhook| webhook.secret.clone());
            secret(old) != secret(read)
        }
        _ => show::value_of(old, name) != show::value_of(read, name),
    }
}

/// `read` with the values of `old` wherever a key needs a restart: what sockets, threads and certificates were made of.
fn keep_fixed(old: &Config, read: Config) -> Config {
    let old = old.clone();
    Config {
        state_dir: old.state_dir,
        log_format: old.log_format,
        udp: old.udp,
        tcp: old.tcp,
        http: old.http,
        domain: old.domain,
        public_ips: old.public_ips,
        alt_ip: old.alt_ip,
        metrics: old.metrics,
        relay_ips: old.relay_ips,
        relay_ports: old.relay_ports,
        realm: old.realm,
        webhook: old.webhook,
        certificate: old.certificate,
        acme: old.acme,
        shards: old.shards,
        static_dir: old.static_dir,
        ..read
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::layers::{self, Settings};
    use super::super::{assemble::Reader, keys};
    use super::*;

    /// Another value than the default for every key of the file.
    const OTHER: &str = r#"
state_dir = "/elsewhere"
log_format = "json"
log_level = "debug"
drain_timeout = "1m"
api_keys = { shop = "0123456789abcdef0123456789abcdef" }
[turn]
udp = ["127.0.0.1:4478"]
public_ip = ["203.0.113.7"]
alt_ip = "127.0.0.9"
relay_ip = ["127.0.0.1"]
relay_ports = "50000-50100"
realm = "elsewhere"
secret_file = "/secrets"
users = { ada = "a password of hers" }
allow_peer = ["10.0.0.0/8"]
deny_peer = ["10.1.0.0/16"]
tcp_relay = "off"
credential_ttl = "1h"
legacy_channels = true
strict_family = true
strict_expiry = true
shards = 3
[web]
tcp = ["127.0.0.1:4478"]
http = ["127.0.0.1:4480"]
trust_proxy = ["127.0.0.0/8"]
metrics = "127.0.0.1:9000"
origin = ["https://app.example.org"]
domain = "call.example.org"
static_dir = "/pages"
socketio_client_dir = "/client"
[signaling]
access = "open"
resume = "5s"
webhook_url = "https://app.example.org/hook"
webhook_secret = "0123456789abcdef0123456789abcdef"
[tls]
turns = "never"
[limits]
allocations_per_subject = 1
allocations_total = 2
permissions = 3
channels = 4
tcp_connections = 5
tcp_connections_total = 6
bandwidth = 100000
total_bandwidth = 200000
rooms = 7
peers_per_room = 8
message_bytes = 20000
messages_per_second = 10
bytes_per_second = 30000
"#;

    /// Keys that exclude others above.
    const MORE: [&str; 3] = [
        "[turn]\nsecrets = [\"a secret of sixteen\"]",
        "[tls]\ncert = \"/chain\"\nkey = \"/key\"",
        "[web]\ndomain = \"call.example.org\"\n[tls]\nacme = true\nacme_email = \"a@example.org\"\n\
         acme_directory = \"https://ca.example.org/\"\nacme_ca_file = \"/roots\"\nacme_profile = \"shortlived\"",
    ];

    fn read(text: &str) -> Config {
        let settings: Settings = layers::from_file(Path::new("f"), text).expect(text);
        let mut reader = Reader::new(&settings);
        let dir = settings.get("state_dir").map_or("certs", |setting| setting.values[0].as_str());
        let config = reader.config(dir.into());
        assert!(reader.problems.is_empty(), "{:?}", reader.problems);
        config
    }

    #[test]
    fn every_key_is_either_taken_or_kept_and_named() {
        let old = Config::default();
        let mut named = Vec::new();
        for text in [OTHER, MORE[0], MORE[1], MORE[2]] {
            let read = read(text);
            let (merged, changes) = merge(&old, read.clone());
            for change in &changes {
                let name = change.key.name;
                let expected = if change.needs_restart() { &old } else { &read };
                assert!(!is_changed(name, expected, &merged), "{name} is neither kept nor taken as its key says");
                named.push(name);
            }
            let (_, again) = merge(&merged, read);
            assert!(again.iter().all(Change::needs_restart), "what was applied is no change any more: {again:?}");
            assert_eq!(again.len(), changes.iter().filter(|change| change.needs_restart()).count());
        }
        for key in keys::KEYS.iter().filter(|key| key.file) {
            assert!(named.contains(&key.name), "{} stands in no sample of this test", key.name);
        }
    }

    #[test]
    fn values_of_secrets_are_not_told() {
        let read = Config { secrets: vec!["hunter2".into()], ..Config::default() };
        let (_, changes) = merge(&Config::default(), read);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].value.as_deref(), Some("[\"(hidden)\"]"));
    }
}
