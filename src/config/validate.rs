//! What only several values together, or the file system, can tell.

use std::collections::HashSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use super::assemble::Reader;
use super::{Access, Config};
use crate::net::alternate::other_port;

/// Shorter secrets can be guessed from one captured message, in characters.
const SECRET_ADVISED: usize = 16;

/// Checks `config`, which came out of `reader`; problems and warnings go there.
pub fn check(reader: &mut Reader<'_>, config: &Config) {
    listeners(reader, config);
    alternate(reader, config);
    users(reader, config);
    relay_ports(reader, config);
    directories(reader, config);
    files(reader, config);
    acme(reader, config);
    api_keys(reader, config);
    advice(reader, config);
}

fn listeners(reader: &mut Reader<'_>, config: &Config) {
    if [&config.udp, &config.tcp, &config.http].iter().all(|listen| listen.addresses.is_empty()) {
        reader.complain("tcp", "[]", "nothing to listen on; leave udp, tcp or http out for its default");
    }
    repeated(reader, "udp", &config.udp.addresses, &mut HashSet::new());
    let mut seen = HashSet::new();
    repeated(reader, "tcp", &config.tcp.addresses, &mut seen);
    repeated(reader, "http", &config.http.addresses, &mut seen);
    repeated(reader, "metrics", config.metrics.as_slice(), &mut seen);
    for (name, listen) in [("udp", &config.udp), ("tcp", &config.tcp)] {
        for address in &listen.addresses {
            if !browsers_allow(address.port()) {
                reader.warnings.push(format!(
                    "{name} {address}: Chromium refuses TURN on this port (53, 80, 443 and 1024 up are allowed), so pages are not offered it"
                ));
            }
        }
    }
}

/// The ports on which Chromium speaks TURN; 0 is one yet to be chosen.
fn browsers_allow(port: u16) -> bool {
    matches!(port, 0 | 53 | 80 | 443 | 1024..)
}

fn repeated(reader: &mut Reader<'_>, name: &str, addresses: &[SocketAddr], seen: &mut HashSet<SocketAddr>) {
    for address in addresses {
        if address.port() != 0 && !seen.insert(*address) {
            reader.complain(name, &address.to_string(), "this address is listed twice; remove one");
        }
    }
}

/// Two ways to write an accent are one name.
fn users(reader: &mut Reader<'_>, config: &Config) {
    let mut seen = HashSet::new();
    for user in config.users.iter().filter(|user| !seen.insert(&user.name)) {
        let reason = format!("the user {} is there twice (once with its accents apart, maybe); remove one", user.name);
        reader.complain("users", &user.name, &reason);
    }
}

/// RFC 5780 needs two addresses and two ports, all four of which can be told apart by where an answer comes from.
fn alternate(reader: &mut Reader<'_>, config: &Config) {
    let Some(ip) = config.alt_ip else { return };
    let of_family = || config.udp.addresses.iter().filter(|address| address.is_ipv4() == ip.is_ipv4());
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let complaint = match of_family().next() {
        None => Some(format!("there is no UDP listener of {family}; add one with --udp IP:PORT")),
        Some(_) if of_family().any(|address| address.ip().is_unspecified()) => Some(format!(
            "NAT discovery needs listeners on literal addresses; name the first with --udp IP:PORT instead of all {family}"
        )),
        Some(first) if first.ip() == ip => {
            Some(format!("that is the first address ({first}); give another one of this host's"))
        }
        Some(first) => {
            let port = other_port(first.port());
            let taken =
                [SocketAddr::new(first.ip(), port), SocketAddr::new(ip, port), SocketAddr::new(ip, first.port())];
            let taken = of_family().find(|address| first.port() != 0 && taken.contains(address));
            taken.map(|taken| format!("it binds {taken} itself; take that out of --udp"))
        }
    };
    if let Some(reason) = complaint {
        reader.complain("alt_ip", &ip.to_string(), &reason);
    }
}

/// A range that the operator set must leave our own ports out. The default range is so wide that a port chosen by hand
/// or by the kernel may well lie in it: sockets in use are skipped when relay ports are drawn, so that is only advice.
fn relay_ports(reader: &mut Reader<'_>, config: &Config) {
    let (from, to) = config.relay_ports;
    let is_set = reader.setting("relay_ports").is_some();
    for (name, listen) in [("udp", &config.udp), ("tcp", &config.tcp), ("http", &config.http)] {
        for address in listen.addresses.iter().filter(|address| (from..=to).contains(&address.port())) {
            let reason = format!(
                "this port lies among the relay ports {from}-{to}; choose another, or move them with --relay-ports"
            );
            if is_set {
                reader.complain(name, &address.to_string(), &reason);
            } else {
                reader.warnings.push(format!("{name} {address}: {reason}"));
            }
        }
    }
}

fn directories(reader: &mut Reader<'_>, config: &Config) {
    for (name, dir) in [("static_dir", &config.static_dir), ("socketio_client_dir", &config.socketio_client_dir)] {
        let Some(dir) = dir else { continue };
        let shown = dir.display().to_string();
        match std::fs::read_dir(dir) {
            Ok(_) => {}
            Err(error) => {
                reader.complain(name, &shown, &format!("cannot be listed ({error}); name a readable directory"))
            }
        }
        let (public, state) = (real(dir), real(&config.state_dir));
        if state.starts_with(&public) {
            let state = config.state_dir.display();
            let reason = format!("the state directory {state} lies in it, and with it the keys; move one of them");
            reader.complain(name, &shown, &reason);
        } else if public.starts_with(&state) {
            let state = config.state_dir.display();
            reader.complain(name, &shown, &format!("lies in the state directory {state}; move it out"));
        }
    }
}

/// `path` without links and dots as far as it exists; what does not exist yet is appended as it stands.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let Ok(found) = ancestor.canonicalize() {
            let rest = absolute.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return rest.components().fold(found, |mut path, part| {
                match part {
                    Component::ParentDir => {
                        path.pop();
                    }
                    Component::Normal(_) | Component::CurDir | Component::RootDir | Component::Prefix(_) => {
                        path.push(part)
                    }
                }
                path
            });
        }
    }
    absolute
}

fn files(reader: &mut Reader<'_>, config: &Config) {
    let certificate = config.certificate.as_ref();
    let named = [
        ("cert", certificate.map(|(cert, _)| cert)),
        ("key", certificate.map(|(_, key)| key)),
        ("acme_ca_file", config.acme.as_ref().and_then(|acme| acme.ca_file.as_ref())),
        ("secret_file", config.secret_file.as_ref()),
    ];
    for (name, path) in named {
        let Some(path) = path else { continue };
        let readable = File::open(path).and_then(|file| file.metadata());
        let shown = path.display().to_string();
        match readable {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => reader.complain(name, &shown, "not a file; name the file itself"),
            Err(error) => {
                let reason = format!("cannot be read ({error}); name a file that the user running relais may read");
                reader.complain(name, &shown, &reason);
            }
        }
    }
    if let Some(path) = config.secret_file.as_ref().filter(|path| path.is_file())
        && let Err(error) = crate::state::read_secret_file(path)
    {
        reader.complain("secret_file", &path.display().to_string(), &format!("{error:#}"));
    }
}

fn acme(reader: &mut Reader<'_>, config: &Config) {
    if config.acme.is_none() {
        return;
    }
    if config.certificate.is_some() {
        reader.complain("acme", "true", "a certificate is given with --cert as well; keep one of the two");
    }
    if config.domain.is_none() && config.public_ips.is_empty() {
        reader.complain("acme", "true", "for which name? give --domain, or --public-ip for a certificate of addresses");
    }
    let ports = config.tcp.addresses.iter().chain(&config.http.addresses).map(|address| address.port());
    if !ports.clone().any(|port| matches!(port, 80 | 443)) {
        let reason = "the authority looks at TCP 443 or 80 and neither is ours; add --tcp 0.0.0.0:443";
        reader.complain("acme", "true", reason);
    }
}

/// A bearer is looked up by the secret alone.
fn api_keys(reader: &mut Reader<'_>, config: &Config) {
    for (index, key) in config.api_keys.iter().enumerate() {
        for before in config.api_keys.iter().take(index) {
            if before.id == key.id {
                reader.complain("api_keys", "", &format!("the name {} is given twice; keep one", key.id));
            } else if before.secret == key.secret {
                let reason = format!("{} and {} have the same secret; give each its own", before.id, key.id);
                reader.complain("api_keys", "", &reason);
            }
        }
    }
}

fn advice(reader: &mut Reader<'_>, config: &Config) {
    let listens = [&config.udp, &config.tcp, &config.http];
    let only_loopback = listens.iter().flat_map(|listen| &listen.addresses).all(|address| address.ip().is_loopback());
    if config.access == Some(Access::Open) && !only_loopback {
        let warning = "access = open on a listener that others can reach: anybody may use the relay; invite is safer";
        reader.warnings.push(warning.into());
    }
    if let Some(address) = config.metrics.filter(|address| !address.ip().is_loopback()) {
        let warning = "whoever reaches this address reads the figures of the server, without a token";
        reader.warnings.push(format!("metrics {address}: {warning}"));
    }
    if config.secrets.iter().any(|secret| secret.chars().count() < SECRET_ADVISED) {
        reader.warnings.push(format!("a shared secret is shorter than {SECRET_ADVISED} characters: it can be guessed"));
    }
    for block in config.allow_peers.iter().filter(|block| block.prefix == 0) {
        let warning = "the relay will reach private and local networks too; name the networks that are meant";
        reader.warnings.push(format!("allow_peer {block}: {warning}"));
    }
}
