//! One TCP port: STUN, TLS with the local CA or the operator's certificate, HTTP, and connections that say nothing.

use std::time::Duration;

use relais::app::App;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Server, binding, config};

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
async fn a_port_in_use_stops_the_start_with_holder_and_remedy() {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let addresses = [udp.local_addr().expect("address"), tcp.local_addr().expect("address")];
    let own = format!("pid {}", std::process::id());
    for (address, flag) in addresses.into_iter().zip(["--udp", "--tcp"]) {
        let dir = tempfile::tempdir().expect("directory");
        let mut config = config(dir.path());
        let listen = crate::server::listen(&address.to_string());
        if flag == "--udp" {
            config.udp = listen
        } else {
            config.tcp = listen
        }
        let text = format!("{:#}", App::start(config).await.err().expect("refused"));
        assert!([address.to_string().as_str(), &own, flag].iter().all(|part| text.contains(part)), "{text}");
    }
}
