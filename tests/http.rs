//! The HTTP surface and the one TCP port, over real sockets on loopback.

#[path = "http/admin.rs"]
mod admin;
#[path = "http/backend.rs"]
mod backend;
#[path = "http/ice.rs"]
mod ice;
mod net_common;
#[path = "http/openapi.rs"]
mod openapi;
#[path = "http/passes.rs"]
mod passes;
#[path = "http/port.rs"]
mod port;
#[path = "http/qr.rs"]
mod qr;
#[path = "http/revocation.rs"]
mod revocation;
#[path = "http/server.rs"]
mod server;
#[path = "http/signaling.rs"]
mod signaling;
#[path = "http/webhooks.rs"]
mod webhooks;

use relais::config::PublicIp;
use server::{Server, exchange, listen};
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
async fn embedded_files_travel_as_gzip_to_whoever_takes_it() {
    use std::io::Read;
    let server = Server::start(|config| config.static_dir = None).await;
    let ask = |method: &str, more: &str| {
        format!("{method} /relais/room.js HTTP/1.1\nHost: 127.0.0.1{more}").trim().to_owned()
    };
    const GZIP: &str = "\nAccept-Encoding: gzip, deflate, br";
    let plain = server.plain(&ask("GET", "")).await;
    let packed = server.plain(&ask("GET", GZIP)).await;
    assert_eq!((plain.status, plain.header("content-encoding"), plain.header("vary")), (200, "", "Accept-Encoding"));
    assert_eq!(
        (packed.status, packed.header("content-encoding"), packed.header("vary")),
        (200, "gzip", "Accept-Encoding")
    );
    assert_eq!(packed.header("content-type"), plain.header("content-type"));
    assert_eq!(packed.header("content-length"), packed.bytes.len().to_string());
    assert!(packed.bytes.len() * 2 < plain.bytes.len(), "{} of {}", packed.bytes.len(), plain.bytes.len());
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_string(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain.body);
    // Each of the two has its own tag, and is told unchanged by that alone.
    let (of_plain, of_packed) = (plain.header("etag"), packed.header("etag"));
    assert_ne!(of_plain, of_packed);
    for (accept, own, other) in [("", of_plain, of_packed), (GZIP, of_packed, of_plain)] {
        let unchanged = server.plain(&ask("GET", &format!("{accept}\nIf-None-Match: {own}"))).await;
        assert_eq!((unchanged.status, unchanged.bytes.len(), unchanged.header("etag")), (304, 0, own));
        assert_eq!((unchanged.header("vary"), unchanged.header("content-encoding")), ("Accept-Encoding", ""));
        assert_eq!(server.plain(&ask("GET", &format!("{accept}\nIf-None-Match: {other}"))).await.status, 200);
        let head = server.plain(&ask("HEAD", accept)).await;
        let got = if accept.is_empty() { &plain } else { &packed };
        assert_eq!((head.status, head.bytes.len(), head.header("etag")), (200, 0, own));
        assert_eq!(head.header("content-length"), got.header("content-length"));
        assert_eq!(head.header("content-encoding"), got.header("content-encoding"));
    }
    let refused = server.plain(&ask("GET", "\nAccept-Encoding: gzip;q=0")).await;
    assert_eq!((refused.header("content-encoding"), refused.body.as_str()), ("", plain.body.as_str()));
}

#[tokio::test]
async fn the_operators_own_files_are_served_as_they_lie_there() {
    let server = Server::start(|_| {}).await;
    let own = "let own = 1;\n".repeat(1000);
    std::fs::write(server.dir.path().join("pages/own.js"), &own).expect("written");
    let reply = server.plain("GET /own.js HTTP/1.1\nHost: 127.0.0.1\nAccept-Encoding: gzip").await;
    assert_eq!((reply.header("content-encoding"), reply.header("vary"), reply.body.as_str()), ("", "", own.as_str()));
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
async fn oversized_requests_cost_nobody_else_anything() {
    let server = Server::start(|_| {}).await;
    let many = (0..200).map(|index| format!("X-{index}: y")).collect::<Vec<_>>().join("\n");
    let reply = server.plain(&format!("GET / HTTP/1.1\nHost: 127.0.0.1\n{many}")).await;
    assert_eq!(reply.status, 431);
    // As one header, as many, and as a target, a little more and a lot more than 64 KiB.
    let forty = |len: usize| (0..40).map(|index| format!("X-{index}: {}", "y".repeat(len / 40))).collect::<Vec<_>>();
    for len in [66_000, 100_000, 120_000, 200_000] {
        for lines in [format!("X: {}", "y".repeat(len)), forty(len).join("\n")] {
            let reply = server.plain(&format!("GET / HTTP/1.1\nHost: 127.0.0.1\n{lines}")).await;
            assert_eq!(reply.status, 431, "{len}");
        }
    }
    let fits = server.plain(&format!("GET / HTTP/1.1\nHost: 127.0.0.1\nX: {}", "y".repeat(60_000))).await;
    assert_eq!(fits.status, 200);
    let long = server.plain(&format!("GET /{} HTTP/1.1\nHost: 127.0.0.1", "a".repeat(70_000))).await;
    assert!(matches!(long.status, 414 | 431), "{}", long.status);
    assert_eq!(server.plain("GET /healthz HTTP/1.1\nHost: 127.0.0.1").await.status, 200);
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
