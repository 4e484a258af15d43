//! The commented configuration file: every option of [`keys::KEYS`] with its explanation and its default or an example.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Config, keys, show};

/// Longest line of a comment, in characters.
const WIDTH: usize = 118;

const HEAD: &str = "\
# Relais: configuration of an installed server, /etc/relais/relais.toml.
#
# Lines \"#key = value\" are options with their defaults (or an example, where there is no default): take the # away to
# set them. Check what you wrote with: relais config check
# Each option is also a variable (RELAIS_ and its name, such as RELAIS_UDP) and most are a flag (--udp); flags win over
# variables over this file, and a list replaces the list below it.
";

/// Examples of options without a default, as TOML.
const EXAMPLES: &[(&str, &str)] = &[
    ("api_keys", r#"{ shop = "0000000000000000000000000000000000000000000000000000000000000000" }"#),
    ("public_ip", r#"["203.0.113.7/10.0.0.7"]"#),
    ("alt_ip", r#""203.0.113.8""#),
    ("relay_ip", r#"["203.0.113.7"]"#),
    ("secret_file", r#""/etc/relais/turn-secrets""#),
    ("secrets", r#"["a-long-random-text-of-your-own"]"#),
    ("users", r#"{ ada = "a-long-password" }"#),
    ("allow_peer", r#"["192.168.7.0/24"]"#),
    ("deny_peer", r#"["198.18.0.0/15"]"#),
    ("http", r#"["127.0.0.1:8080"]"#),
    ("metrics", r#""127.0.0.1:9090""#),
    ("trust_proxy", r#"["127.0.0.1/32"]"#),
    ("origin", r#"["https://app.example.org"]"#),
    ("domain", r#""call.example.org""#),
    ("static_dir", r#""/srv/relais""#),
    ("socketio_client_dir", r#""/usr/share/nodejs/socket.io-client/dist""#),
    ("access", r#""invite""#),
    ("webhook_url", r#""https://app.example.org/relais""#),
    ("webhook_secret", r#""0000000000000000000000000000000000000000000000000000000000000000""#),
    ("cert", r#""/etc/relais/fullchain.pem""#),
    ("key", r#""/etc/relais/privkey.pem""#),
    ("acme_email", r#""admin@example.org""#),
    ("acme_directory", r#""https://acme-v02.api.letsencrypt.org/directory""#),
    ("acme_ca_file", r#""/etc/relais/acme-root.pem""#),
    ("acme_profile", r#""classic""#),
    ("bandwidth", "1000000"),
    ("total_bandwidth", "100000000"),
];

/// Options that are set in the file, by name, as TOML.
pub type Set = BTreeMap<&'static str, String>;

/// What an installed server sets: its state directory, and ports that pass firewalls. `has_ipv6` leaves out the
/// addresses that a machine without IPv6 cannot bind.
pub fn installed(has_ipv6: bool) -> Set {
    let ports = [443, 80, 3478].into_iter();
    let hosts = if has_ipv6 { &["0.0.0.0", "[::]"][..] } else { &["0.0.0.0"] };
    let tcp: Vec<String> = ports.flat_map(|port| hosts.iter().map(move |host| format!("\"{host}:{port}\""))).collect();
    let mut set =
        Set::from([("state_dir", "\"/var/lib/relais\"".to_owned()), ("tcp", format!("[{}]", tcp.join(", ")))]);
    if !has_ipv6 {
        set.insert("udp", "[\"0.0.0.0:3478\"]".to_owned());
    }
    set
}

/// `text` as a TOML string.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The file with these options set and all others as comments.
pub fn render(set: &Set) -> String {
    let default = Config::default();
    let mut text = HEAD.to_owned();
    let mut group = "";
    for key in keys::KEYS.iter().filter(|key| key.file) {
        text.push('\n');
        if key.group != group {
            group = key.group;
            let _ = writeln!(text, "[{group}]");
        }
        comment(&mut text, &explanation(key));
        let example = || EXAMPLES.iter().find(|(name, _)| *name == key.name).map(|(_, value)| (*value).to_owned());
        let _ = match (set.get(key.name), example().or_else(|| show::value_of(&default, key.name))) {
            (Some(value), _) => writeln!(text, "{} = {value}", key.name),
            (None, Some(value)) => writeln!(text, "#{} = {value}", key.name),
            (None, None) => Ok(()),
        };
    }
    text
}

fn explanation(key: &keys::Key) -> String {
    let choices = if key.choices.is_empty() { String::new() } else { format!(" ({})", key.choices.join(", ")) };
    let default = if key.default == "none" { String::new() } else { format!(" Default: {}.", key.default) };
    format!("{}{choices}.{default}", key.help)
}

/// Writes `text` as a comment, broken between words.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::layers;
    use super::*;

    #[test]
    fn every_option_stands_in_the_file_once() {
        let text = render(&Set::new());
        for key in keys::KEYS.iter().filter(|key| key.file) {
            let line = format!("#{} = ", key.name);
            let lines = text.lines().filter(|one| one.starts_with(&line)).count();
            assert_eq!(lines, 1, "{}: add an example to EXAMPLES", key.path());
        }
        assert!(text.lines().all(|line| line.starts_with("#key") || line.chars().count() <= 160));
        for (name, _) in EXAMPLES {
            assert!(keys::find(name).is_some(), "{name} is no option");
        }
    }

    #[test]
    fn what_is_set_is_no_comment() {
        let mut set = installed(false);
        set.insert("domain", quoted("call.example.org"));
        let settings = layers::from_file(Path::new("f"), &render(&set)).expect("good");
        assert_eq!(settings["domain"].values, ["call.example.org"]);
        assert_eq!(settings["tcp"].values, ["0.0.0.0:443", "0.0.0.0:80", "0.0.0.0:3478"]);
        assert_eq!(settings.len(), 4);
    }
}
