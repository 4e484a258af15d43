//! The HTTP surface and the one TCP port, over real sockets on loopback.

#[path = "http/server.rs"]
mod server;

use std::time::Duration;

use relais::app::App;
use relais::clock;
use relais::config::{PublicIp, Turns};
use relais::credentials::turn;
use server::{Server, binding, config, exchange, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn pages_are_served_with_their_headers() {
    let server = Server::start(|_| {}).await;
    for (path, status, body, content_type) in [
        ("/", 200, "<p>home", "text/html; charset=utf-8"),
        ("/call/blue-fox-42", 200, "<p>call", "text/html; charset=utf-8"),
        ("/app.js", 200, "let a;", "text/javascript; charset=utf-8"),
        ("/healthz", 200, "ok\n", "text/plain; charset=utf-8"),
        ("/nothing", 404, "", "application/json"),
        ("/call/a%20b", 404, "", "application/json"),
    ] {
        let reply = server.tls(&format!("GET {path} HTTP/1.1\nHost: localhost")).await;
        assert_eq!((reply.status, reply.header("content-type")), (status, content_type), "{path}");
        assert!(status != 200 || reply.body == body, "{path}: {}", reply.body);
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{path}");
        assert!(reply.header("permissions-policy").contains("camera=(self)"), "{path}");
        assert_eq!(reply.header("strict-transport-security"), "", "a local CA must not bind browsers to HTTPS");
    }
}

#[tokio::test]
async fn embedded_pages_have_a_strict_policy_and_the_operators_own_do_not() {
    let server = Server::start(|config| config.static_dir = None).await;
    let policy = |reply: &server::Reply| reply.header("content-security-policy").to_owned();
    let embedded = server.tls("GET / HTTP/1.1\nHost: localhost").await;
    assert_eq!(embedded.status, 200);
    assert!(policy(&embedded).contains("script-src 'self';") && !policy(&embedded).contains("unsafe-inline"));
    assert!(policy(&embedded).contains("connect-src 'self' ws: wss:"));
    let server = Server::start(|_| {}).await;
    assert!(!policy(&server.tls("GET / HTTP/1.1\nHost: localhost").await).contains("script-src"));
}

#[tokio::test]
async fn caches_are_asked_again_and_told_unchanged() {
    let server = Server::start(|_| {}).await;
    let first = server.plain("GET /app.js HTTP/1.1\nHost: 127.0.0.1").await;
    assert_eq!(first.header("cache-control"), "no-cache");
    let etag = first.header("etag");
    let again = server.plain(&format!("GET /app.js HTTP/1.1\nHost: 127.0.0.1\nIf-None-Match: {etag}")).await;
    assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", etag));
    let head = server.plain("HEAD /app.js HTTP/1.1\nHost: 127.0.0.1").await;
    assert_eq!((head.status, head.body.as_str(), head.header("content-length")), (200, "", "6"));
}

#[tokio::test]
async fn other_methods_are_refused_with_what_is_possible() {
    let server = Server::start(|_| {}).await;
    for path in ["/", "/call/a", "/app.js", "/ca.crt", "/api/ice"] {
        let reply = server.plain(&format!("DELETE {path} HTTP/1.1\nHost: 127.0.0.1")).await;
        assert_eq!(reply.status, 405, "{path}");
        assert!(reply.header("allow").contains("GET"), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_pages() {
    let server = Server::start(|_| {}).await;
    for path in [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/%2e%2e%2f%2e%2e%2fetc/passwd",
        "//etc/passwd",
        "/a/../../outside.txt",
        "/.env",
        "/%2eenv",
        "/socket.io/..%2f..%2foutside.txt",
        "/..%5coutside.txt",
        "/%00",
    ] {
        let reply = server.plain(&format!("GET {path} HTTP/1.1\nHost: 127.0.0.1")).await;
        assert!(matches!(reply.status, 400 | 404), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn plain_http_of_a_public_port_leads_to_https() {
    let server = Server::start_public(|_| {}).await;
    let port = server.tcp().port();
    let page = server.plain(&format!("GET /call/a?x=1 HTTP/1.1\nHost: localhost:{port}")).await;
    assert_eq!(page.status, 308);
    assert_eq!(page.header("location"), format!("https://localhost:{port}/call/a?x=1"));
    let forwarded = server.plain("GET / HTTP/1.1\nHost: localhost:9999").await;
    assert_eq!(forwarded.header("location"), "https://localhost:9999/", "the port that a router forwards");
    let api = server.plain("GET /api/ice HTTP/1.1\nHost: localhost").await;
    assert_eq!((api.status, api.code().as_str()), (403, "https-only"));
    assert!(api.body.contains(&format!("https://localhost:{port}/api/ice")), "{}", api.body);
    let polling = server.plain("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: localhost").await;
    assert_eq!(polling.status, 403);
    let upgrade = "GET /api/ws HTTP/1.1\nHost: localhost\nUpgrade: websocket\nSec-WebSocket-Version: 13";
    let socket = server.plain(upgrade).await;
    assert_eq!(socket.status, 403);
    assert!(socket.body.contains(&format!("wss://localhost:{port}/api/ws")), "{}", socket.body);
    for path in ["/healthz", "/ca.crt"] {
        assert_eq!(server.plain(&format!("GET {path} HTTP/1.1\nHost: localhost")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn loopback_and_http_listeners_serve_plain() {
    let server = Server::start(|_| {}).await;
    assert_eq!(server.plain("GET / HTTP/1.1\nHost: 127.0.0.1").await.status, 200);
    let server = Server::start(|config| config.http = listen("0.0.0.0:0")).await;
    let port = server.app.web.bound.http[0].port();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    assert_eq!(exchange(stream, "GET / HTTP/1.1\nHost: 127.0.0.1").await.status, 200);
}

#[tokio::test]
async fn unknown_hosts_are_misdirected() {
    let public = PublicIp { public: "203.0.113.9".parse().expect("address"), bound: None };
    let server = Server::start_public(|config| {
        config.domain = Some("call.example".into());
        config.public_ips = vec![public];
    })
    .await;
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1", 200),
        ("call.example", 200),
        ("Call.Example.", 200),
        ("203.0.113.9:443", 200),
        ("evil.example", 421),
        ("call.example.evil", 421),
        ("198.51.100.1", 421),
        ("[::ffff:203.0.113.7]", 421),
        ("a b", 421),
    ] {
        let reply = server.tls(&format!("GET / HTTP/1.1\nHost: {host}")).await;
        assert_eq!(reply.status, status, "{host}");
        assert!(status == 200 || reply.body.contains("--domain"), "{}", reply.body);
    }
    assert_eq!(server.tls("GET /healthz HTTP/1.1\nHost: evil.example").await.status, 200);
}

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
    let secret = &server.app.web.turn_secrets[0];
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
async fn one_port_speaks_stun_over_tcp_and_tls_beside_https() {
    let server = Server::start(|_| {}).await;
    let plain = binding(TcpStream::connect(server.tcp()).await.expect("connected")).await;
    assert_eq!(plain[..2], [1, 1], "Binding success");
    for alpn in [&[][..], &["stun.turn"], &["stun.nat-discovery"], &["http/1.1", "stun.turn"]] {
        let over_tls = binding(server.handshake("localhost", alpn).await.expect("handshake")).await;
        assert_eq!((&over_tls[..2], &over_tls[8..]), (&[1, 1][..], &b"twelve bytes"[..]), "{alpn:?}");
    }
    assert!(server.handshake("localhost", &["h2"]).await.is_err(), "nothing in common");
    assert_eq!(server.tls("GET / HTTP/1.1\nHost: localhost").await.status, 200);
}

#[tokio::test]
async fn the_certificate_verifies_for_our_names_and_no_other() {
    let server = Server::start(|_| {}).await;
    for name in ["localhost", "127.0.0.1", "::1"] {
        server.handshake(name, &[]).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in ["evil.example", "192.0.2.1"] {
        let error = server.handshake(name, &[]).await.expect_err("refused").to_string();
        assert!(error.contains("certificate"), "{name}: {error}");
    }
}

#[tokio::test]
async fn connections_are_kept_for_further_requests() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.handshake("localhost", &[]).await.expect("handshake");
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
        let mut text = String::new();
        while !text.ends_with("ok\n") {
            let mut part = [0; 1024];
            let len = stream.read(&mut part).await.expect("answered");
            assert!(len > 0, "the connection was closed");
            text.push_str(std::str::from_utf8(&part[..len]).expect("text"));
        }
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[tokio::test]
async fn silent_slow_and_strange_connections_are_closed() {
    let server = Server::start(|_| {}).await;
    // A handshake that stops in the middle, silence, and a head that never ends. Paused time runs by itself while
    // everything waits.
    for said in [&[][..], &[0x16, 3, 1], b"GET / HTTP/1.1\r\nHost: local"] {
        let mut stream = TcpStream::connect(server.tcp()).await.expect("connected");
        stream.write_all(said).await.expect("sent");
        tokio::time::pause();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(120), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "{said:?} was not closed");
        tokio::time::resume();
    }
    // ChannelData comes never first, and no protocol of ours begins with these.
    for first in [0x40, 0x7f, b'{', 0xff] {
        let mut stream = TcpStream::connect(server.tcp()).await.expect("connected");
        stream.write_all(&[first; 8]).await.expect("sent");
        let mut rest = Vec::new();
        let closed = stream.read_to_end(&mut rest).await;
        assert!(closed.is_err() || rest.is_empty(), "{first:#x}: {rest:?}");
    }
}

#[tokio::test]
async fn oversized_requests_cost_nobody_else_anything() {
    let server = Server::start(|_| {}).await;
    let many = (0..200).map(|index| format!("X-{index}: y")).collect::<Vec<_>>().join("\n");
    let reply = server.plain(&format!("GET / HTTP/1.1\nHost: 127.0.0.1\n{many}")).await;
    assert_eq!(reply.status, 431);
    let long = server.plain(&format!("GET /{} HTTP/1.1\nHost: 127.0.0.1", "a".repeat(70_000))).await;
    assert!(matches!(long.status, 414 | 431), "{}", long.status);
    assert_eq!(server.plain("GET /healthz HTTP/1.1\nHost: 127.0.0.1").await.status, 200);
}

#[tokio::test]
async fn the_local_ca_is_served_constrained_and_kept() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let dir = tempfile::tempdir().expect("directory");
    let read = |name: &str| std::fs::read(dir.path().join("state").join(name)).expect("file");
    let app = App::start(config(dir.path())).await.expect("started");
    let server = Server { app, dir: tempfile::tempdir().expect("directory") };
    let served = server.plain("GET /ca.crt HTTP/1.1\nHost: 127.0.0.1").await;
    assert_eq!(served.header("content-type"), "application/x-x509-ca-cert");
    assert_eq!(served.body.as_bytes(), read("ca.pem"));
    let chain = server.app.web.identity.chain();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("leaf");
    let (_, ca) = X509Certificate::from_der(&chain[1]).expect("CA");
    assert_eq!(leaf.issuer(), ca.subject());
    assert!(ca.name_constraints().expect("one").expect("present").critical);
    let days = (leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()) / 86_400;
    assert_eq!(days, 91, "90 days, and one back for slow clocks");
    let files: Vec<_> = ["ca.pem", "ca.key", "leaf.pem", "leaf.key"].map(|name| (name, read(name))).into();
    for (name, _) in &files {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join("state").join(name)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    server.app.stop().await;
    let app = App::start(config(dir.path())).await.expect("started again");
    for (name, content) in files {
        assert_eq!(read(name), content, "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_certificate_of_the_operators_is_used() {
    let dir = tempfile::tempdir().expect("directory");
    let key = rcgen::KeyPair::generate().expect("key");
    let params = rcgen::CertificateParams::new(vec!["call.example".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("signed");
    let (chain_file, key_file) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    std::fs::write(&chain_file, certificate.pem()).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let server = Server::start(|config| config.certificate = Some((chain_file, key_file))).await;
    assert_eq!(server.app.web.identity.chain(), [certificate.der().clone()]);
    assert_eq!(server.plain("GET / HTTP/1.1\nHost: call.example").await.status, 200, "a name of the certificate");
    assert_eq!(server.plain("GET /ca.crt HTTP/1.1\nHost: 127.0.0.1").await.code(), "no-local-ca");
    assert!(!server.dir.path().join("state/ca.pem").exists());
}

#[tokio::test]
async fn the_socketio_client_is_served_from_its_directory_or_explained() {
    let server = Server::start(|_| {}).await;
    let missing = server.plain("GET /socket.io/socket.io.js HTTP/1.1\nHost: 127.0.0.1").await;
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("--socketio-client-dir"), "{}", missing.body);
    let client = tempfile::tempdir().expect("directory");
    std::fs::write(client.path().join("socket.io.js"), "io").expect("written");
    let dir = client.path().to_owned();
    let server = Server::start(|config| config.socketio_client_dir = Some(dir)).await;
    let found = server.plain("GET /socket.io/socket.io.js HTTP/1.1\nHost: 127.0.0.1").await;
    let expected = (200, "io", "application/javascript; charset=utf-8");
    assert_eq!((found.status, found.body.as_str(), found.header("content-type")), expected);
    assert_eq!(server.plain("GET /socket.io/package.json HTTP/1.1\nHost: 127.0.0.1").await.status, 404);
}

#[tokio::test]
async fn pages_that_would_serve_the_keys_are_refused() {
    let dir = tempfile::tempdir().expect("directory");
    for (pages, state) in [("a", "a/state"), ("b/state/pages", "b/state"), ("c", "c")] {
        std::fs::create_dir_all(dir.path().join(pages)).expect("created");
        let mut config = config(dir.path());
        config.static_dir = Some(dir.path().join(pages));
        config.state_dir = dir.path().join(state);
        let error = App::start(config).await.err().expect("refused").to_string();
        assert!(error.contains("--static-dir") && error.contains("keys"), "{error}");
    }
}
