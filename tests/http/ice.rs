//! `GET /api/ice`: who gets it, and which URLs it names.

use relais::clock;
use relais::config::{Access, Turns};
use relais::credentials::turn;

use crate::server::{Server, listen};

#[tokio::test]
async fn the_ice_configuration_asks_for_a_token() {
    let server = Server::start_public(|_| {}).await;
    let now = clock::now().unix;
    let good = server.token("abc123", now + 60);
    let expired = server.token("abc123", now - 60);
    let wrong = good.replacen('e', "f", 1);
    for (authorization, status, code) in [
        (String::new(), 401, "token-missing"),
        (format!("\nAuthorization: Bearer {expired}"), 401, "token-expired"),
        (format!("\nAuthorization: Bearer {wrong}"), 401, "token-invalid"),
        (format!("\nAuthorization: Basic {good}"), 401, "token-missing"),
        (format!("\nAuthorization: bearer {good}"), 200, ""),
    ] {
        let reply = server.tls(&format!("GET /api/ice HTTP/1.1\nHost: localhost{authorization}")).await;
        assert_eq!(reply.status, status, "{authorization}");
        assert!(status == 200 || reply.code() == code, "{}", reply.body);
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn the_ice_configuration_has_two_entries_and_a_credential_that_verifies() {
    let server = Server::start_public(|_| {}).await;
    let now = clock::now().unix;
    let token = server.token("abc123", now + 60);
    let reply = server.tls(&format!("GET /api/ice HTTP/1.1\nHost: localhost\nAuthorization: Bearer {token}")).await;
    let ice = reply.json();
    let (udp, tcp) = (server.app.web.bound.udp[0].port(), server.tcp().port());
    let servers = ice["iceServers"].as_array().expect("list");
    assert_eq!(servers.len(), 2);
    assert_eq!(servers[0]["urls"], serde_json::json!([format!("stun:localhost:{udp}")]));
    let expected = [format!("turn:localhost:{udp}?transport=udp"), format!("turn:localhost:{tcp}?transport=tcp")];
    assert_eq!(servers[1]["urls"], serde_json::json!(expected), "no turns: with a CA that browsers do not know");
    let username = servers[1]["username"].as_str().expect("text");
    let (expires, subject) = turn::parse_username(username).expect("form");
    assert!(subject.starts_with("t.abc123."), "{subject}");
    assert_eq!((ice["expiresAt"].as_u64(), ice["ttl"].as_u64()), (Some(expires), Some(24 * 3600)));
    assert!((now + 24 * 3600..now + 24 * 3600 + 60).contains(&expires));
    let secret = &server.app.web.live.get().turn_secrets[0];
    assert_eq!(servers[1]["credential"], turn::password(secret, username));
}

#[tokio::test]
async fn urls_follow_host_and_sockets() {
    type Case<'a> = (&'a str, &'a str, &'a str, Turns, &'a [&'a str]);
    let cases: [Case<'_>; 6] = [
        (
            "127.0.0.1:0",
            "localhost",
            "x",
            Turns::Auto,
            &["stun:localhost:U", "turn:localhost:U?transport=udp", "turn:localhost:T?transport=tcp"],
        ),
        (
            "127.0.0.1:0",
            "127.0.0.1",
            "x",
            Turns::Always,
            &[
                "stun:127.0.0.1:U",
                "turn:127.0.0.1:U?transport=udp",
                "turn:127.0.0.1:T?transport=tcp",
                "turns:127.0.0.1:T?transport=tcp",
            ],
        ),
        (
            "127.0.0.1:0",
            "localhost",
            "Firefox/153",
            Turns::Always,
            &[
                "stun:localhost:U",
                "turn:localhost:U?transport=udp",
                "turn:localhost:T?transport=tcp",
                "turns:localhost:T?transport=tcp",
            ],
        ),
        ("127.0.0.2:0", "127.0.0.1", "x", Turns::Never, &["turn:127.0.0.1:T?transport=tcp"]),
        ("127.0.0.2:0", "localhost", "x", Turns::Never, &["turn:localhost:T?transport=tcp"]),
        (
            "0.0.0.0:0",
            "127.0.0.1",
            "x",
            Turns::Never,
            &["stun:127.0.0.1:U", "turn:127.0.0.1:U?transport=udp", "turn:127.0.0.1:T?transport=tcp"],
        ),
    ];
    for (udp, host, agent, turns, expected) in cases {
        let server = Server::start(|config| {
            config.udp = listen(udp);
            config.turns = turns;
        })
        .await;
        let reply = server.plain(&format!("GET /api/ice HTTP/1.1\nHost: {host}\nUser-Agent: {agent}")).await;
        let ports = (format!(":{}", server.app.web.bound.udp[0].port()), format!(":{}", server.tcp().port()));
        let servers = reply.json()["iceServers"].as_array().expect("list").clone();
        let urls: Vec<String> = servers
            .iter()
            .flat_map(|entry| entry["urls"].as_array().expect("list"))
            .map(|url| url.as_str().expect("text").replace(&ports.0, ":U").replace(&ports.1, ":T"))
            .collect();
        assert_eq!(urls, expected, "{udp} {host} {agent}");
    }
}

#[tokio::test]
async fn ipv6_stands_in_brackets() {
    let server = Server::start(|config| {
        config.udp = listen("[::1]:0");
        config.tcp = listen("[::1]:0");
    })
    .await;
    let (udp, tcp) = (server.app.web.bound.udp[0].port(), server.tcp().port());
    let reply = server.plain(&format!("GET /api/ice HTTP/1.1\nHost: [::1]:{tcp}")).await;
    let servers = &reply.json()["iceServers"];
    assert_eq!(servers[0]["urls"][0], format!("stun:[::1]:{udp}"));
    assert_eq!(servers[1]["urls"][1], format!("turn:[::1]:{tcp}?transport=tcp"));
}

#[tokio::test]
async fn other_origins_are_refused_unless_listed() {
    let server = Server::start_public(|config| config.origins = vec!["https://pages.example".into()]).await;
    let token = server.token("abc", clock::now().unix + 60);
    let ask = |method: &str, origin: &str| {
        format!("{method} /api/ice HTTP/1.1\nHost: localhost\nOrigin: {origin}\nAuthorization: Bearer {token}")
    };
    let listed = server.tls(&ask("GET", "https://pages.example")).await;
    assert_eq!((listed.status, listed.header("access-control-allow-origin")), (200, "https://pages.example"));
    assert_eq!(listed.header("vary"), "Origin");
    let same = server.tls(&ask("GET", "https://localhost")).await;
    assert_eq!((same.status, same.header("access-control-allow-origin")), (200, ""));
    let preflight = server.tls(&ask("OPTIONS", "https://pages.example")).await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    for origin in ["https://evil.example", "null", "http://pages.example"] {
        for method in ["GET", "OPTIONS"] {
            let reply = server.tls(&ask(method, origin)).await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "origin-refused"), "{method} {origin}");
        }
    }
}

#[tokio::test]
async fn loopback_listeners_ask_for_no_token_but_a_proxy_in_front_does() {
    let server = Server::start(|config| config.http = listen("0.0.0.0:0")).await;
    let local = server.plain("GET /api/ice HTTP/1.1\nHost: 127.0.0.1\nOrigin: null").await;
    assert_eq!((local.status, local.header("access-control-allow-origin")), (200, "null"));
    let proxied = server.plain("GET /api/ice HTTP/1.1\nHost: localhost\nX-Forwarded-For: 203.0.113.5").await;
    assert_eq!((proxied.status, proxied.code().as_str()), (401, "token-missing"));
}

#[tokio::test]
async fn access_set_by_hand_holds_everywhere() {
    let invite = Server::start(|config| config.access = Some(Access::Invite)).await;
    let reply = invite.plain("GET /api/ice HTTP/1.1\nHost: 127.0.0.1").await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "token-missing"));
    let open = Server::start_public(|config| config.access = Some(Access::Open)).await;
    let reply = open.tls("GET /api/ice HTTP/1.1\nHost: localhost").await;
    assert_eq!(reply.status, 200);
    let username = reply.json()["iceServers"][1]["username"].as_str().expect("text").to_owned();
    assert!(username.contains(":t.open-4-7f0000."), "{username}: counted by the client's /24");
    let reply = open.tls("GET /api/ice HTTP/1.1\nHost: localhost\nAuthorization: Bearer old").await;
    assert_eq!(reply.status, 200, "an old link opens what is open");
}

#[tokio::test]
async fn a_diagnosis_gets_every_url_and_the_facts() {
    let server = Server::start(|config| {
        config.udp.addresses = ["127.0.0.1:0", "[::1]:0"].map(|at| at.parse().expect("address")).to_vec();
        config.turns = Turns::Auto;
        config.relay_ports = (50_000, 50_999);
    })
    .await;
    let now = clock::now().unix;
    let ice = server.plain("GET /api/ice?all=1 HTTP/1.1\nHost: localhost").await.json();
    let (udp, tcp) = (&server.app.web.bound.udp, server.tcp().port());
    let urls: Vec<&str> = ["stun:", "turn:", "turns:"]
        .iter()
        .flat_map(|scheme| {
            let entries = ice["iceServers"].as_array().expect("list").iter();
            let all = entries.flat_map(|entry| entry["urls"].as_array().expect("list"));
            all.filter_map(|url| url.as_str()).filter(|url| url.starts_with(scheme)).collect::<Vec<_>>()
        })
        .collect();
    for url in [
        format!("stun:localhost:{}", udp[0].port()),
        format!("stun:[::1]:{}", udp[1].port()),
        format!("turn:127.0.0.1:{tcp}?transport=tcp"),
        format!("turns:localhost:{tcp}?transport=tcp"),
    ] {
        assert!(urls.contains(&url.as_str()), "{url} is missing in {urls:?}");
    }
    let facts = &ice["server"];
    assert!((now..now + 60).contains(&facts["time"].as_u64().expect("seconds")), "{facts}");
    assert_eq!(facts["relayPorts"], serde_json::json!([50_000, 50_999]));
    assert_eq!((&facts["address"], &facts["client"]), (&"127.0.0.1".into(), &"127.0.0.1".into()));
    for (fact, expected) in [("certificatePublic", false), ("udpReached", false), ("clientIsPeer", false)] {
        assert_eq!(facts[fact], expected, "{fact}");
    }
    let plain = server.plain("GET /api/ice HTTP/1.1\nHost: localhost").await.json();
    assert_eq!(plain.get("server"), None);
}
