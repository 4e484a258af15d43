//! What the start tells: the `ready` line of the log, and the banner with links and what is still missing.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::App;
use crate::clock;
use crate::config::{Access, LogFormat, Turns};
use crate::credentials::token::{Claims, Role, random_bytes};
use crate::net;
use crate::time::Mono;
use crate::web::access::hex;
use crate::web::host::Host;

/// How long the invitation of the printed links lasts.
const INVITE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Prints the end of the start-up: JSON on standard error, or a log line and the banner on standard output.
pub(super) fn ready(app: &App, started: Mono) {
    let invite = mint_invite(app);
    let links = links(app, &invite);
    let (web, bound) = (&app.web, &app.web.bound);
    if web.config().log_format == LogFormat::Json {
        let line = json!({
            "level": "INFO",
            "event": "ready",
            "udp": bound.udp,
            "tcp": bound.tcp,
            "http": bound.http,
            "metrics": bound.metrics,
            "urls": links.iter().map(|link| &link.url).collect::<Vec<_>>(),
            "invite": invite,
            "ca": app.tls.authority_file(),
            "notices": notices(app),
        });
        eprintln!("{line}");
        return;
    }
    let milliseconds = (clock::now().mono - started).as_millis();
    tracing::info!(udp = ?bound.udp, tcp = ?bound.tcp, http = ?bound.http, milliseconds, "ready");
    print!("{}", banner(app, &links));
}

struct Link {
    whose: &'static str,
    url: String,
}

fn mint_invite(app: &App) -> String {
    let now = clock::now().unix;
    let exp = now + INVITE_LIFETIME.as_secs();
    app.web.live.get().tokens.mint(&Claims {
        jti: hex(&random_bytes::<12>()),
        room: "*".into(),
        role: Role::Host,
        name: None,
        iat: now,
        exp,
    })
}

/// Where to open the page: on this machine, from the local network, by the domain.
fn links(app: &App, invite: &str) -> Vec<Link> {
    let web = &app.web;
    let fragment = if web.live.get().access == Access::Open { String::new() } else { format!("#t={invite}") };
    let link = |whose, scheme: &str, host: &Host, port: u16| {
        let is_default = (scheme, port) == ("https", 443) || (scheme, port) == ("http", 80);
        let port = if is_default { String::new() } else { format!(":{port}") };
        Link { whose, url: format!("{scheme}://{host}{port}/{fragment}") }
    };
    let mut links = Vec::new();
    let listeners = if web.bound.tcp.is_empty() { ("http", &web.bound.http) } else { ("https", &web.bound.tcp) };
    let (scheme, sockets) = listeners;
    let mut add = |whose, host: Host, reaches: &dyn Fn(IpAddr) -> bool| {
        if let Some(port) = page_port(sockets, reaches) {
            links.push(link(whose, scheme, &host, port));
        }
    };
    if let Some(domain) = web.config().domain.as_deref().and_then(Host::parse) {
        add("Everywhere", domain, &|bound| !bound.is_loopback());
    }
    for public in &web.config().public_ips {
        add("Everywhere", Host::Ip(public.public), &|bound| {
            bound.is_ipv4() == public.public.is_ipv4() && !bound.is_loopback()
        });
    }
    add("This machine", Host::Name("localhost".into()), &|bound| bound.is_loopback() || bound.is_unspecified());
    for ip in net::default_route_addresses() {
        let is_same_family = |bound: IpAddr| bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4();
        add(if is_global(ip) { "Everywhere" } else { "This network" }, Host::Ip(ip), &|bound| {
            bound == ip || is_same_family(bound)
        });
    }
    let specific = sockets.iter().filter(|socket| !socket.ip().is_unspecified() && !socket.ip().is_loopback());
    for socket in specific {
        links.push(link("This network", scheme, &Host::Ip(socket.ip()), socket.port()));
    }
    let mut seen = std::collections::HashSet::new();
    links.retain(|link| seen.insert(link.url.clone()));
    links
}

/// The port to show in links: HTTPS's own, else the usual alternative, else one that is not TURN's.
fn page_port(sockets: &[SocketAddr], reaches: &dyn Fn(IpAddr) -> bool) -> Option<u16> {
    let ports: Vec<u16> = sockets.iter().filter(|socket| reaches(socket.ip())).map(SocketAddr::port).collect();
    let preferred = [443, 8443].into_iter().find(|port| ports.contains(port));
    preferred.or_else(|| ports.iter().copied().find(|port| *port != 3478)).or_else(|| ports.first().copied())
}

fn banner(app: &App, links: &[Link]) -> String {
    let (web, bound) = (&app.web, &app.web.bound);
    let list = |sockets: &[SocketAddr]| sockets.iter().map(ToString::to_string).collect::<Vec<_>>().join("  ");
    let mut text = format!("\nRelais {} is ready.\n\n", env!("CARGO_PKG_VERSION"));
    for link in links {
        let _ = writeln!(text, "  {:<13} {}", link.whose, link.url);
    }
    if web.live.get().access == Access::Invite {
        let _ = writeln!(
            text,
            "  {:<13} these links carry an invitation, valid for 24 hours; `relais invite` makes more",
            ""
        );
    }
    let _ = writeln!(text);
    for (what, sockets, note) in [
        ("UDP", &bound.udp, "STUN/TURN"),
        ("TCP", &bound.tcp, "STUN/TURN, TLS and HTTPS on each"),
        ("HTTP", &bound.http, "the same, and pages without TLS"),
    ] {
        if !sockets.is_empty() {
            let _ = writeln!(text, "  {what:<13} {}  ({note})", list(sockets));
        }
    }
    let _ = writeln!(text, "  {:<13} {}", "State", web.config().state_dir.display());
    let notices = notices(app);
    if !notices.is_empty() {
        let _ = writeln!(text, "\nBefore calls from outside work, and to know:");
    }
    for notice in notices {
        let _ = writeln!(text, "  - {notice}");
    }
    let _ = writeln!(text);
    text
}

/// What the operator should know or do.
fn notices(app: &App) -> Vec<String> {
    let (web, bound) = (&app.web, &app.web.bound);
    let mut notices = app.tls.notices.clone();
    let is_loopback = |address: &SocketAddr| address.ip().is_loopback();
    if bound.udp.iter().chain(&bound.tcp).chain(&bound.http).all(is_loopback) {
        notices.push("every socket is bound to loopback: only this machine reaches it".into());
        return notices;
    }
    if web.live.get().access == Access::Open {
        notices.push("access is open: whoever reaches this server may use it (--access invite)".into());
    }
    notices.extend(missing_public_address(app));
    notices.push(format!("the firewall must let in {}", firewall_ports(app)));
    if app.tls.authority_pem().is_some() {
        let file = app.tls.authority_file().unwrap_or_default();
        notices.push(format!(
            "browsers warn until they trust the local CA: open /ca.crt of a link above on the device and install it \
             ({}), or give a certificate with --cert and --key",
            file.display()
        ));
        if web.config().turns == Turns::Auto {
            notices.push(
                "TURN over TLS is not offered to pages, since browsers refuse it with a certificate that they do not \
                 trust by themselves (--turns always)"
                    .into(),
            );
        }
    }
    notices
}

fn missing_public_address(app: &App) -> Option<String> {
    let config = &app.web.config();
    let is_reachable = config.domain.is_some() || !config.public_ips.is_empty();
    if is_reachable || app.interfaces.iter().any(|ip| ip.is_ipv4() && is_global(*ip)) {
        return None;
    }
    let private: Vec<String> = net::default_route_addresses().iter().map(ToString::to_string).collect();
    let private = if private.is_empty() { "no route to the outside".into() } else { private.join(", ") };
    Some(format!(
        "no public IPv4 address is known here ({private}): for calls from outside forward the ports below in your \
         router and start with --public-ip ADDRESS, or run Relais on a server that has one"
    ))
}

fn firewall_ports(app: &App) -> String {
    let bound = &app.web.bound;
    let ports = |sockets: &[SocketAddr]| {
        let open = sockets.iter().filter(|socket| !socket.ip().is_loopback()).map(SocketAddr::port);
        let ports: std::collections::BTreeSet<u16> = open.collect();
        ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (low, high) = app.web.config().relay_ports;
    let udp = ports(&bound.udp);
    let tcp = ports(&[bound.tcp.as_slice(), bound.http.as_slice()].concat());
    let service = if udp.is_empty() { String::new() } else { format!("UDP {udp}, ") };
    format!("{service}UDP {low}-{high} (relayed media) and TCP {tcp}")
}

/// An address of the public internet.
pub(crate) fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_test = ip.is_documentation() || (a == 198 && (18..20).contains(&b));
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared || is_test || a == 0 || a >= 224)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        let global = |text: &str| is_global(text.parse().expect("address"));
        for address in ["8.8.8.8", "2a00::1"] {
            assert!(global(address), "{address}");
        }
        for address in [
            "10.0.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "198.18.0.1",
            "fd00::1",
            "fe80::1",
            "::1",
        ] {
            assert!(!global(address), "{address}");
        }
    }

    #[test]
    fn the_port_of_links() {
        let port = |sockets: &[&str]| {
            let sockets: Vec<SocketAddr> = sockets.iter().map(|socket| socket.parse().expect("address")).collect();
            page_port(&sockets, &|_| true)
        };
        assert_eq!(port(&["0.0.0.0:3478", "0.0.0.0:8443", "0.0.0.0:443"]), Some(443));
        assert_eq!(port(&["0.0.0.0:3478", "0.0.0.0:9000", "0.0.0.0:8443"]), Some(8443));
        assert_eq!(port(&["0.0.0.0:3478", "0.0.0.0:9000"]), Some(9000));
        assert_eq!(port(&["0.0.0.0:3478"]), Some(3478));
        assert_eq!(port(&[]), None);
    }
}
