use super::*;

fn policy(own: &[&str], allow: &[(&str, u8)], deny: &[(&str, u8)]) -> Policy {
    let block = |&(network, prefix): &(&str, u8)| Block::new(&Cidr { network: network.parse().unwrap(), prefix });
    Policy {
        own_ips: own.iter().map(|ip| ip.parse().unwrap()).collect(),
        service_ports: [3478].into_iter().collect(),
        allow: allow.iter().map(block).collect(),
        deny: deny.iter().map(block).collect(),
    }
}

fn judge(policy: &Policy, ip: &str) -> Option<Reach> {
    policy.judge(canonical_ip(ip.parse().unwrap()))
}

#[test]
fn special_purpose_ranges_are_denied_in_every_disguise() {
    let policy = policy(&[], &[], &[]);
    let plain = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ];
    for text in plain {
        assert_eq!(judge(&policy, text), None, "{text}");
        let v4: Ipv4Addr = text.parse().unwrap();
        let [a, b] = [(u32::from(v4) >> 16) as u16, u32::from(v4) as u16];
        let disguises = [
            format!("::ffff:{text}"),
            format!("::{text}"),
            format!("64:ff9b::{text}"),
            format!("2002:{a:x}:{b:x}::1"),
            format!("2001:0:{a:x}:{b:x}::1"),
            format!("2001:0:808:808:0:0:{:x}:{:x}", !a, !b),
        ];
        for disguise in disguises {
            assert_eq!(judge(&policy, &disguise), None, "{disguise}");
        }
    }
    for text in [
        "::",
        "::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "2001:2::1",
        "100::1",
        "64:ff9b:1::1",
        "3fff::1",
        "5f00::1",
        "4000::1",
    ] {
        assert_eq!(judge(&policy, text), None, "{text}");
    }
}

/// IANA's registries, entry by entry: first and last address. The one exception is the well-known NAT64 prefix, whose
/// addresses are as good as the IPv4 addresses in them.
#[test]
fn every_entry_of_the_registries_is_denied() {
    let policy = policy(&[], &[], &[]);
    let entries = [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.0.0", "192.0.0.7"),
        ("192.0.0.8", "192.0.0.8"),
        ("192.0.0.9", "192.0.0.9"),
        ("192.0.0.10", "192.0.0.10"),
        ("192.0.0.170", "192.0.0.171"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.31.196.0", "192.31.196.255"),
        ("192.52.193.0", "192.52.193.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.88.99.2", "192.88.99.2"),
        ("192.168.0.0", "192.168.255.255"),
        ("192.175.48.0", "192.175.48.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "239.255.255.255"),
        ("240.0.0.0", "255.255.255.255"),
        ("::1", "::1"),
        ("::", "::"),
        ("::ffff:0:0", "::ffff:0.255.255.255"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
        ("100::", "100::ffff:ffff:ffff:ffff"),
        ("100:0:0:1::", "100::1:ffff:ffff:ffff:ffff"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:1::1", "2001:1::3"),
        ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"),
        ("2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff"),
        ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    for (first, last) in entries {
        assert_eq!((judge(&policy, first), judge(&policy, last)), (None, None), "{first} to {last}");
    }
    assert_eq!(judge(&policy, "64:ff9b::8.8.8.8"), Some(Reach::Network));
}

#[test]
fn metadata_services_of_clouds_are_denied_until_allowed() {
    let services = [
        "168.63.129.16",   // Azure
        "169.254.169.254", // most clouds
        "169.254.170.2",   // AWS, containers
        "100.100.100.200", // Alibaba
        "192.0.0.192",     // Oracle
        "fd00:ec2::254",   // AWS
        "fd20:ce::254",    // Google
        "fe80::a9fe:a9fe", // OpenStack
        "::ffff:168.63.129.16",
        "::168.63.129.16",
        "64:ff9b::168.63.129.16",
        "2002:a83f:8110::1",
    ];
    for service in services {
        assert_eq!(judge(&policy(&[], &[], &[]), service), None, "{service}");
    }
    for neighbour in ["168.63.129.15", "168.63.129.17"] {
        assert_eq!(judge(&policy(&[], &[], &[]), neighbour), Some(Reach::Network), "{neighbour}");
    }
    assert_eq!(judge(&policy(&[], &[("168.63.129.16", 32)], &[]), "168.63.129.16"), Some(Reach::Network));
}

/// A network that translates for itself allows the prefix, and private addresses behind it stay denied, wherever in the
/// prefix they stand (RFC 6052 section 2.2).
#[test]
fn local_nat64_is_no_way_around() {
    let policy = policy(&["9.9.9.9"], &[("64:ff9b:1::", 48), ("2002::", 16)], &[]);
    for denied in [
        "64:ff9b:1::10.0.0.1",   // /96
        "64:ff9b:1:2:a:0:100:0", // /64: 10.0.0.1 in bits 72 to 103
        "64:ff9b:1:20a:0:1::",   // /56: in bits 56 to 63 and 72 to 95
        "64:ff9b:1:a00:0:100::", // /48: in bits 48 to 63 and 72 to 87
        "64:ff9b:1::9.9.9.9",
        "64:ff9b:1::169.254.169.254",
        "2002:a00:1::1",
        "2002:909:909::1",
    ] {
        assert_eq!(judge(&policy, denied), None, "{denied}");
    }
    for reached in ["64:ff9b:1::8.8.8.8", "64:ff9b:1:808:8:800::", "2002:808:808::1"] {
        assert_eq!(judge(&policy, reached), Some(Reach::Network), "{reached}");
    }
}

#[test]
fn public_addresses_are_reached() {
    let policy = policy(&["9.9.9.9"], &[], &[]);
    for text in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255"] {
        assert_eq!(judge(&policy, text), Some(Reach::Network), "{text}");
    }
    for text in ["2606:4700::1111", "2a00::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"] {
        assert_eq!(judge(&policy, text), Some(Reach::Network), "{text}");
    }
    assert_eq!(judge(&policy, "9.9.9.9"), Some(Reach::Own { allowed: false }));
    assert_eq!(judge(&policy, "64:ff9b::9.9.9.9"), None, "no way around to ourselves");
}

#[test]
fn deny_beats_allow_beats_built_in() {
    let policy = policy(&[], &[("10.0.0.0", 8), ("0.0.0.0", 0)], &[("10.1.0.0", 16), ("8.8.8.8", 32)]);
    assert_eq!(judge(&policy, "10.0.0.1"), Some(Reach::Network));
    assert_eq!(judge(&policy, "10.1.0.1"), None);
    assert_eq!(judge(&policy, "8.8.8.8"), None);
    assert_eq!(judge(&policy, "::ffff:8.8.8.8"), None);
    assert_eq!(judge(&policy, "64:ff9b::8.8.8.8"), None);
    assert_eq!(judge(&policy, "0.0.0.0"), None, "the kernel takes it for loopback");
    assert_eq!(judge(&policy, "fd00::1"), None, "an IPv4 list says nothing about IPv6");
}

#[test]
fn own_addresses_never_lead_to_a_service_port() {
    let policy = policy(&["203.0.113.9", "127.0.0.1"], &[("127.0.0.0", 8)], &[]);
    let own = judge(&policy, "203.0.113.9").unwrap();
    assert_eq!(policy.route(own, 3478), None);
    assert_eq!(policy.route(own, 50_000), Some(Route::Own { else_network: false }));
    for text in ["127.0.0.1", "127.0.0.2"] {
        let loopback = judge(&policy, text).unwrap();
        assert_eq!(policy.route(loopback, 3478), None);
        assert_eq!(policy.route(loopback, 50_000), Some(Route::Own { else_network: true }));
    }
    assert_eq!(policy.route(Reach::Network, 3478), Some(Route::Network));
}

#[test]
fn blocks() {
    let contains = |network: &str, prefix, ip: &str| {
        Block::new(&Cidr { network: network.parse().unwrap(), prefix }).contains(ip.parse().unwrap())
    };
    assert!(contains("::", 0, "2001::1"));
    assert!(!contains("::", 0, "1.2.3.4"));
    assert!(contains("::ffff:10.0.0.0", 104, "10.9.9.9"));
    assert!(contains("10.0.0.7", 32, "10.0.0.7"));
    assert!(!contains("10.0.0.7", 32, "10.0.0.6"));
    assert!(contains("10.0.0.7", 8, "10.200.0.6"));
}

#[test]
fn the_loopback_of_ipv6_is_no_ipv4_address() {
    let policy = policy(&[], &[("::1", 128)], &[]);
    assert_eq!(judge(&policy, "::1"), Some(Reach::Own { allowed: true }));
}

#[test]
fn teredo_once_allowed_leads_to_public_servers_and_clients_only() {
    let policy = policy(&[], &[("2001::", 32)], &[]);
    // The client's address stands inverted: f7f7:f7f7 is 8.8.8.8, and 808:808 a reserved one.
    assert_eq!(judge(&policy, "2001:0:808:808::f7f7:f7f7"), Some(Reach::Network));
    assert_eq!(judge(&policy, "2001:0:a00:1::f7f7:f7f7"), None, "a private server");
    assert_eq!(judge(&policy, "2001:0:808:808::808:808"), None, "a client that is none");
}
