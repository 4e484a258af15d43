//! What the log holds: JSON where that was asked, no secret at any level, nobody's address above debug.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::Server;
use serde_json::{Value, json};

/// Status and body of a request over plain HTTP, which a loopback listener serves.
fn request(server: &Server, head: &str, token: &str, body: &str) -> (u16, String) {
    let address = server.tcp[0];
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let text = format!(
        "{head} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// Username and password that an invite fetches.
fn credentials(server: &Server) -> (String, String) {
    let (status, body) = request(server, "GET /api/ice", &server.invite, "");
    assert_eq!(status, 200, "{body}");
    let configuration: Value = serde_json::from_str(&body).expect("JSON");
    let entry = &configuration["iceServers"][1];
    let text = |name: &str| entry[name].as_str().expect("text").to_owned();
    (text("username"), text("credential"))
}

/// Relays with these credentials over every transport, and fails with wrong ones.
fn relay(server: &Server, username: &str, password: &str) {
    let address = server.tcp[0].to_string();
    let login = ["--user", username, "--password", password];
    let stream = ["check", &address, "--transport", "tcp", "--transport", "tls"];
    server.place.run(&[&stream[..], &login].concat()).success();
    let address = server.udp[0].to_string();
    let datagram = ["check", &address, "--transport", "udp"];
    server.place.run(&[&datagram[..], &login].concat()).success();
    let wrong = server.place.run(&[&datagram[..], &["--user", username, "--password", "a-wrong-password"]].concat());
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}

#[test]
fn every_line_is_json_and_none_holds_a_secret() {
    const SECRET: &str = "a-secret-for-this-test";
    const KEY: &str = "the-key-of-a-back-end-in-this-test-0000";
    let place = common::Place::new();
    let file = place.write("keys.toml", &format!("[api_keys]\nshop = \"{KEY}\"\n"));
    let file = file.to_str().expect("UTF-8");
    let arguments = ["--config", file, "--log-level", "trace", "--secret", SECRET, "--access", "invite"];
    let server = Server::start_in(place, &[common::LOOPBACK, &arguments[..]].concat());
    assert!(
        server.log().iter().any(|line| line.contains("--secret-file")),
        "a secret on the command line is warned about"
    );
    let (username, password) = credentials(&server);
    relay(&server, &username, &password);
    let wish = json!({ "room": "blue", "ttl": 600 }).to_string();
    let (status, minted) = request(&server, "POST /api/tokens", KEY, &wish);
    assert_eq!(status, 201, "{minted}");
    let minted: Value = serde_json::from_str(&minted).expect("JSON");
    let token = minted["token"].as_str().expect("text").to_owned();
    assert_eq!(request(&server, &format!("GET /api/ice?token={token}"), "not-a-token", "").0, 401);
    let (status, refused) =
        request(&server, "POST /api/revoke", &server.admin_token(), &json!({ "token": token }).to_string());
    assert_eq!(status, 200, "{refused}");

    let mut secrets = vec![SECRET.to_owned(), KEY.to_owned(), password, token, "a-wrong-password".to_owned()];
    secrets.extend(["token-key", "admin-token"].map(|name| server.place.state_file(name)));
    let invite = server.invite.clone();
    let log = server.log();
    assert!(log.len() > 50, "at trace there is much to look through: {}", log.len());
    for line in &log {
        let value = serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "{secret} in {line}");
        }
        // Whoever started the server gets the first invite, once.
        assert!(value["event"] == "ready" || !line.contains(&invite), "the invite in {line}");
    }
    server.stop();
}

/// The `IP:port` pairs in `line`.
fn addresses(line: &str) -> Vec<SocketAddr> {
    let words = line.split(|letter: char| !(letter.is_ascii_hexdigit() || ".:[]".contains(letter)));
    words.filter_map(|word| word.trim_matches('.').parse().ok()).collect()
}

#[test]
fn addresses_of_clients_and_peers_are_told_at_debug_only() {
    for (level, is_told) in [("info", false), ("debug", true)] {
        let server = Server::start(&["--log-level", level, "--access", "invite"]);
        let (username, password) = credentials(&server);
        relay(&server, &username, &password);
        let own: Vec<SocketAddr> = server.udp.iter().chain(&server.tcp).copied().collect();
        let log = server.log();
        let foreign: Vec<_> =
            log.iter().filter(|line| addresses(line).iter().any(|found| !own.contains(found))).collect();
        assert_eq!(!foreign.is_empty(), is_told, "{level}: {foreign:#?}");
        server.stop();
    }
}
