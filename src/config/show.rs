//! The effective configuration as a TOML file, secrets hidden: what `relais config check` prints.

use std::fmt::Write;
use std::time::Duration;

use super::{Access, Config, Listen, LogFormat, Turns, keys};

/// `config` as TOML; keys without a value stand as comments with their default.
pub fn to_toml(config: &Config) -> String {
    let mut text = String::new();
    let mut group = "";
    for key in keys::KEYS.iter().filter(|key| key.file) {
        if key.group != group {
            group = key.group;
            let _ = write!(text, "\n[{group}]\n");
        }
        let _ = match value_of(config, key.name) {
            Some(value) => writeln!(text, "{} = {value}", key.name),
            None => writeln!(text, "# {}: {}", key.name, key.default),
        };
    }
    text
}

/// The value of the key `name` in TOML; `None` when it is left to its default.
pub(super) fn value_of(config: &Config, name: &str) -> Option<String> {
    let limits = &config.limits;
    let acme = config.acme.as_ref();
    match name {
        "state_dir" => Some(quote(config.state_dir.display())),
        "log_format" => Some(quote(if config.log_format == LogFormat::Json { "json" } else { "text" })),
        "log_level" => Some(quote(&config.log_level)),
        "drain_timeout" => Some(time(config.drain_timeout)),
        "api_keys" => hidden_pairs(config.api_keys.iter().map(|key| key.id.as_str())),
        "webhook_url" => config.webhook.as_ref().map(|webhook| quote(&webhook.url)),
        "webhook_secret" => config.webhook.as_ref().map(|_| quote("(hidden)")),
        "udp" => listen(&config.udp),
        "public_ip" => list(config.public_ips.iter().map(|ip| match ip.bound {
            Some(bound) => format!("{}/{bound}", ip.public),
            None => ip.public.to_string(),
        })),
        "alt_ip" => config.alt_ip.map(quote),
        "relay_ip" => list(&config.relay_ips),
        "relay_ports" => Some(quote(format_args!("{}-{}", config.relay_ports.0, config.relay_ports.1))),
        "realm" => Some(quote(&config.realm)),
        "secret_file" => config.secret_file.as_ref().map(|path| quote(path.display())),
        "secrets" => list(config.secrets.iter().map(|_| "(hidden)")),
        "users" => hidden_pairs(config.users.iter().map(|user| user.name.as_str())),
        "allow_peer" => list(&config.allow_peers),
        "deny_peer" => list(&config.deny_peers),
        "tcp_relay" => Some(quote(if config.tcp_relay { "on" } else { "off" })),
        "credential_ttl" => Some(time(config.credential_ttl)),
        "legacy_channels" => Some(config.legacy_channels.to_string()),
        "strict_family" => Some(config.strict_family.to_string()),
        "strict_expiry" => Some(config.strict_expiry.to_string()),
        "shards" => Some(config.shards.to_string()),
        "tcp" => listen(&config.tcp),
        "http" => listen(&config.http),
        "metrics" => config.metrics.map(quote),
        "trust_proxy" => list(&config.trust_proxy),
        "origin" => list(&config.origins),
        "domain" => config.domain.as_ref().map(quote),
        "static_dir" => config.static_dir.as_ref().map(|path| quote(path.display())),
        "socketio_client_dir" => config.socketio_client_dir.as_ref().map(|path| quote(path.display())),
        "access" => config.access.map(|access| quote(if access == Access::Open { "open" } else { "invite" })),
        "resume" => Some(time(config.resume)),
        "cert" => config.certificate.as_ref().map(|(cert, _)| quote(cert.display())),
        "key" => config.certificate.as_ref().map(|(_, key)| quote(key.display())),
        "acme" => Some(config.acme.is_some().to_string()),
        "acme_email" => acme.and_then(|acme| acme.email.as_ref()).map(quote),
        "acme_directory" => acme.map(|acme| quote(&acme.directory)),
        "acme_ca_file" => acme.and_then(|acme| acme.ca_file.as_ref()).map(|path| quote(path.display())),
        "acme_profile" => acme.and_then(|acme| acme.profile.as_ref()).map(quote),
        "turns" => Some(quote(match config.turns {
            Turns::Auto => "auto",
            Turns::Always => "always",
            Turns::Never => "never",
        })),
        "allocations_per_subject" => Some(limits.allocations_per_subject.to_string()),
        "allocations_total" => Some(limits.allocations_total.to_string()),
        "permissions" => Some(limits.permissions.to_string()),
        "channels" => Some(limits.channels.to_string()),
        "tcp_connections" => Some(limits.tcp_connections.to_string()),
        "tcp_connections_total" => Some(limits.tcp_connections_total.to_string()),
        "bandwidth" => limits.bandwidth.map(|rate| rate.to_string()),
        "total_bandwidth" => limits.total_bandwidth.map(|rate| rate.to_string()),
        "rooms" => Some(limits.rooms.to_string()),
        "peers_per_room" => Some(limits.peers_per_room.to_string()),
        "message_bytes" => Some(limits.message_bytes.to_string()),
        "messages_per_second" => Some(limits.messages_per_second.to_string()),
        "bytes_per_second" => Some(limits.bytes_per_second.to_string()),
        _ => None,
    }
}

fn quote(value: impl std::fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> Option<String> {
    let values: Vec<String> = values.into_iter().map(|value| quote(value.to_string())).collect();
    (!values.is_empty()).then(|| format!("[{}]", values.join(", ")))
}

fn listen(listen: &Listen) -> Option<String> {
    // An empty list of the operator's is not the default.
    list(&listen.addresses).or_else(|| listen.explicit.then(|| "[]".into()))
}

/// Names whose values are secret.
fn hidden_pairs<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let pairs: Vec<String> = names.map(|name| format!("{} = \"(hidden)\"", quote(name))).collect();
    (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    quote(match seconds {
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ => format!("{seconds}s"),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::layers;
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again() {
        let text = to_toml(&Config::default());
        let settings = layers::from_file(Path::new("f"), &text).expect(&text);
        assert_eq!(settings["relay_ports"].values, ["49152-65535"]);
        assert_eq!(settings["credential_ttl"].values, ["24h"]);
        assert_eq!(settings["udp"].values, ["0.0.0.0:3478", "[::]:3478"]);
        assert!(text.contains("# access: invite;"), "{text}");
    }

    #[test]
    fn secrets_are_hidden() {
        let user = super::super::StaticUser { name: "ada".into(), password: "hunter2".into() };
        let key = super::super::ApiKey { id: "shop".into(), secret: "hunter2".into() };
        let webhook = super::super::Webhook { url: "https://a.b/".into(), secret: b"hunter2".to_vec() };
        let (users, api_keys, webhook) = (vec![user], vec![key], Some(webhook));
        let config = Config { secrets: vec!["hunter2".into()], users, api_keys, webhook, ..Config::default() };
        let text = to_toml(&config);
        assert!(!text.contains("hunter2") && text.matches("(hidden)").count() == 4, "{text}");
    }
}
