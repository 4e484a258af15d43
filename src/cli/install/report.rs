//! The end of an installation: what works, what a firewall may still block, and the first link.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, ExitCode};

use super::layout::Layout;
use crate::cli::{FAILED, print, reach};
use crate::config::Config;

/// Tests the running service and prints what to know. The exit code is that of the test on this machine.
pub fn installed(config: &Config, layout: &Layout) -> anyhow::Result<ExitCode> {
    let program = layout.installed();
    print("\nThis machine:\n");
    // By address, since not every machine can resolve its own name; the certificate names the outside.
    let works = Command::new(&program).args(["check", &near(config), "--insecure"]).status()?.success();
    print(&firewall(config));
    let host = config.domain.clone().or_else(|| config.public_ips.first().map(|ip| ip.public.to_string()));
    if let Some(host) = host {
        print(&format!("Then, from anywhere: relais check {host}\n"));
    }
    if config.acme.is_some() {
        print("The certificate comes by ACME within a minute or so, once TCP 443 or 80 is reached from outside.\n");
    }
    print("\nOpen this, as the host of any room (`relais invite` makes more):\n\n  ");
    Command::new(&program).args(["invite", "--role", "host"]).status()?;
    if reach::base_url(config).is_none() {
        print("(no TCP port is configured)\n");
    }
    print("\nTo see it run: relais status. Settings: /etc/relais/relais.toml, then systemctl reload relais.\n");
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Where this machine itself reaches the service.
fn near(config: &Config) -> String {
    let address = config.udp.addresses.first().or(config.tcp.addresses.first());
    match address.map(|address| (address.ip(), address.port())) {
        Some((IpAddr::V4(ip), port)) if ip.is_unspecified() => format!("127.0.0.1:{port}"),
        Some((IpAddr::V6(ip), port)) if ip.is_unspecified() => format!("[::1]:{port}"),
        Some((ip, port)) => SocketAddr::new(ip, port).to_string(),
        None => "127.0.0.1".into(),
    }
}

/// The ports that must be open, as lines for `ufw` and `nft`.
fn firewall(config: &Config) -> String {
    let tcp = ports(&[&config.tcp.addresses, &config.http.addresses]);
    let udp = ports(&[&config.udp.addresses]);
    let (low, high) = config.relay_ports;
    let list = |separator: &str| tcp.iter().map(u16::to_string).collect::<Vec<_>>().join(separator);
    let mut datagrams: Vec<String> = udp.iter().map(u16::to_string).collect();
    datagrams.push(format!("{low}-{high}"));
    let for_ufw = datagrams.join(",").replace('-', ":");
    let for_nft = datagrams.join(", ");
    format!(
        "\nA firewall, here or at your provider, must let in TCP {}, UDP {for_nft}. With ufw:\n\n  \
         ufw allow {}/tcp\n  ufw allow {for_ufw}/udp\n\nwith nftables (your table and chain may have other names):\n\n  \
         nft add rule inet filter input tcp dport '{{ {} }}' accept\n  \
         nft add rule inet filter input udp dport '{{ {for_nft} }}' accept\n\n",
        list(", "),
        list(","),
        list(", "),
    )
}

fn ports(lists: &[&[SocketAddr]]) -> BTreeSet<u16> {
    let open = lists.iter().copied().flatten().filter(|address| !address.ip().is_loopback());
    open.map(SocketAddr::port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;

    #[test]
    fn lines_for_firewalls() {
        let listen = |list: &[&str]| Listen {
            addresses: list.iter().map(|text| text.parse().expect("literal")).collect(),
            explicit: true,
        };
        let tcp = listen(&["0.0.0.0:443", "[::]:443", "0.0.0.0:80", "127.0.0.1:9000"]);
        let text = firewall(&Config { tcp, ..Config::default() });
        for line in [
            "  ufw allow 80,443/tcp\n",
            "  ufw allow 3478,49152:65535/udp\n",
            "tcp dport '{ 80, 443 }' accept\n",
            "udp dport '{ 3478, 49152-65535 }' accept\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
