//! The built binary as people meet it: help, configuration, exit codes, secrets, start and stop.

mod common;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{LOOPBACK, Output, Place, Server};
use relais::config::{Config, keys, layers, show};
use relais::credentials::token::{Role, Tokens};
use relais::credentials::turn;
use serde_json::Value;

const SAMPLE: &str = include_str!("../systemd/relais.toml");

#[test]
fn every_command_explains_itself() {
    for (command, words) in [
        (
            &["--help"][..],
            &["Usage: relais", "serve", "check", "credentials", "invite", "config", "--udp", "Exit codes"][..],
        ),
        (
            &["serve", "--help"],
            &["--state-dir", "--udp", "--tcp", "--public-ip", "STUN/TURN:", "Web:", "TLS:", "0.0.0.0:3478"],
        ),
        (&["check", "--help"], &["<HOST>", "--user", "--ca", "--insecure", "--json"]),
        (&["credentials", "--help"], &["--name", "--ttl", "--json", "--secret-file"]),
        (&["invite", "--help"], &["--room", "--role", "--ttl", "--base-url", "--qr"]),
        (&["install", "--help"], &["--domain", "--email", "--public-ip", "--no-acme", "--dry-run", "--root"]),
        (&["uninstall", "--help"], &["--purge", "--dry-run", "--root"]),
        (&["status", "--help"], &["--watch", "--json", "--state-dir"]),
        (&["config", "--help"], &["check"]),
        (&["config", "check", "--help"], &["--config", "--relay-ports"]),
    ] {
        let output = Place::new().run(command);
        let help = output.success();
        for word in words {
            assert!(help.contains(word), "{command:?} does not say {word:?}:\n{help}");
        }
    }
    let version = Place::new().run(&["--version"]);
    assert_eq!(version.success(), format!("relais {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_good_configuration_is_printed_and_can_be_read_again() {
    let place = Place::new();
    let file = place.write(
        "good.toml",
        "[turn]\nudp = [\"127.0.0.1:5000\"]\nsecrets = [\"0123456789abcdef-of-ours\"]\n[limits]\nrooms = 7\n",
    );
    let output = place.run(&["config", "check", "--config", text(&file), "--realm", "flagged"]);
    let shown = output.success();
    for word in ["good.toml is good", "udp = [\"127.0.0.1:5000\"]", "rooms = 7", "realm = \"flagged\"", "(hidden)"] {
        assert!(shown.contains(word), "{word:?} is missing in:\n{shown}");
    }
    assert!(!shown.contains("of-ours"), "{shown}");
    let again = place.write("again.toml", shown);
    let second = place.run(&["config", "check", "--config", text(&again)]);
    let body = |text: &str| text.split_once('\n').expect("a first line").1.to_owned();
    assert_eq!(body(second.success()), body(shown));
    assert!(!place.state_dir().exists(), "config check makes nothing");
}

#[test]
fn bad_configurations_are_refused_with_name_place_and_remedy() {
    let place = Place::new();
    for (contents, words) in [
        ("[turn]\nudpp = []", &["bad.toml, line 2", "unknown key turn.udpp", "did you mean udp?"][..]),
        ("realm = \"x\"", &["unknown key realm", "belongs to [turn]"]),
        ("[tls]\nacme_key = 1", &["unknown key tls.acme_key"]),
        ("[turn\n", &["bad.toml, line 1"]),
        ("[turn]\nudp = [\"3478\"]", &["turn.udp", "\"3478\"", "line 2", "write 0.0.0.0:3478"]),
        ("[turn]\nrelay_ports = \"9-5\"", &["turn.relay_ports", "9-5", "reversed", "write 5-9"]),
        ("[turn]\nrelay_ports = \"3000-4000\"", &["turn.udp", "0.0.0.0:3478", "among the relay ports 3000-4000"]),
        ("[turn]\ndeny_peer = [\"10.0.0.0/40\"]", &["turn.deny_peer", "10.0.0.0/40", "from 0 to 32"]),
        ("[turn]\nusers = { 12 = \"x\" }", &["turn.users", "(hidden)", "no number"]),
        ("[tls]\ncert = \"c.pem\"", &["tls.cert", "c.pem", "--key"]),
        ("[tls]\ncert = \"/none/c\"\nkey = \"/none/k\"", &["/none/c", "/none/k", "No such file"]),
        ("[limits]\npeers_per_room = 1", &["limits.peers_per_room", "from 2"]),
        ("[web]\nstatic_dir = \".\"", &["web.static_dir", "state directory", "move one"]),
    ] {
        let file = place.write("bad.toml", contents);
        for command in [&["config", "check"][..], &["serve"], &["credentials"], &["invite"]] {
            let output = place.run(&[command, &["--config", text(&file)]].concat());
            let lines = output.failure(2, words);
            assert!(lines.lines().all(|line| line.starts_with("relais: ")), "{lines}");
        }
    }
    assert!(!place.state_dir().exists(), "a refused start makes nothing");
}

#[test]
fn wrong_command_lines_end_with_2() {
    let place = Place::new();
    place.run(&["--no-such-flag"]).failure(2, &["--no-such-flag"]);
    place.run(&["serve", "--acme"]).failure(2, &["--acme"]);
    place.run(&["serve", "--access", "all"]).failure(2, &["open", "invite"]);
    place.run(&["serve", "--udp", "localhost:1"]).failure(2, &["--udp localhost:1", "literal address"]);
    place.run(&["invite", "--role", "king"]).failure(2, &["king", "host", "member"]);
    place.run(&["invite", "--room", "a/b"]).failure(2, &["a/b"]);
    place.run(&["credentials", "--ttl", "soon"]).failure(2, &["soon", "90s or 24h"]);
    place.run(&["check"]).failure(2, &["HOST"]);
    place.run(&["serve", "--config", "/none/relais.toml"]).failure(2, &["/none/relais.toml", "--config"]);
}

#[test]
fn the_sample_names_every_option_with_its_default() {
    // "#key = value" is an option, "# text" is prose.
    let is_option = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let uncommented: Vec<&str> = SAMPLE.lines().map(|line| if is_option(line) { &line[1..] } else { line }).collect();
    let settings = layers::from_file(Path::new("sample"), &uncommented.join("\n")).expect("every key is known");
    for key in keys::KEYS.iter().filter(|key| key.file) {
        assert!(settings.contains_key(key.name), "{} is not in the sample", key.path());
    }
    let defaults = show::to_toml(&Config::default());
    for line in defaults.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
        let name = line.split(' ').next().expect("a word");
        // These two are the installed server's own.
        if !["state_dir", "tcp"].contains(&name) {
            assert!(uncommented.contains(&line), "the sample does not give the default {line}");
        }
    }
    let place = Place::new();
    let file = place.write("relais.toml", SAMPLE);
    let output = place.run(&["config", "check", "--config", text(&file)]);
    assert!(output.success().contains("0.0.0.0:443"), "{output:?}");
}

#[test]
fn a_port_in_use_stops_the_start_and_is_named() {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").expect("bound"), UdpSocket::bind("127.0.0.1:0").expect("bound"));
    let address = tcp.local_addr().expect("bound").to_string();
    let output = Place::new().run(&["serve", "--udp", "127.0.0.1:0", "--tcp", &address]);
    output.failure(1, &["relais: ", &address, "in use", "--tcp"]);
    let address = udp.local_addr().expect("bound").to_string();
    let output = Place::new().run(&["serve", "--tcp", "127.0.0.1:0", "--udp", &address]);
    output.failure(1, &["relais: ", &address, "in use", "--udp"]);
}

#[test]
fn a_key_that_cannot_be_used_is_named() {
    let place = Place::new();
    let (cert, key) = (place.write("cert.pem", "no certificate\n"), place.write("key.pem", "no key\n"));
    let directory = place.path().join("dir");
    std::fs::create_dir(&directory).expect("made");
    let serve =
        |cert: &Path, key: &Path| place.run(&[&["serve", "--cert", text(cert), "--key", text(key)], LOOPBACK].concat());
    serve(&cert, &directory).failure(2, &["--key", text(&directory), "not a file"]);
    serve(&cert, Path::new("/none/key")).failure(2, &["--key", "/none/key", "No such file", "may read"]);
    serve(&cert, &key).failure(1, &["cert.pem"]);
}

#[test]
fn the_first_run_makes_a_private_state_and_the_second_reuses_it() {
    let server = Server::start(&[]);
    let names = ["turn-secret", "token-key", "admin-token", "ca.pem", "ca.key", "leaf.pem", "leaf.key"];
    let before = names.map(|name| server.place.state_file(name));
    assert_eq!(mode(&server.place.state_dir()), 0o700);
    for name in names {
        assert_eq!(mode(&server.place.state_dir().join(name)), 0o600, "{name}");
    }
    let place = server.stop();
    // As a copy or a careless hand leaves them.
    let loosened = place.state_dir().join("token-key");
    std::fs::set_permissions(&loosened, PermissionsExt::from_mode(0o644)).expect("set");
    std::fs::set_permissions(place.state_dir(), PermissionsExt::from_mode(0o755)).expect("set");
    let server = Server::start_in(place, LOOPBACK);
    assert_eq!(names.map(|name| server.place.state_file(name)), before);
    assert_eq!((mode(&server.place.state_dir()), mode(&loosened)), (0o700, 0o600));
    server.stop();
}

#[test]
fn a_second_server_on_one_state_directory_is_refused() {
    let server = Server::start(&[]);
    let output = server.place.run(&[&["serve"], LOOPBACK].concat());
    let (dir, pid) = (server.place.state_dir(), server.pid().to_string());
    output.failure(1, &["relais: ", text(&dir), "in use", &pid, "--state-dir"]);
}

#[test]
fn other_commands_make_no_state_and_name_what_is_missing() {
    let place = Place::new();
    place.run(&["credentials"]).failure(1, &["turn-secret", "does not exist", "relais serve"]);
    place.run(&["invite"]).failure(1, &["token-key", "does not exist", "relais serve"]);
    assert!(!place.state_dir().exists());
}

#[test]
fn status_shows_the_running_server_and_says_when_nothing_runs() {
    let server = Server::start(&[]);
    let screen = server.place.run(&["status"]);
    for words in
        [&server.tcp[0].to_string(), &server.udp[0].to_string(), "Allocations", "local authority", "0 connections"]
    {
        assert!(screen.success().contains(words), "{words} is not on the screen: {screen:?}");
    }
    let object: Value = serde_json::from_str(server.place.run(&["status", "--json"]).success()).expect("JSON");
    assert_eq!(object["pid"], server.pid());
    assert_eq!((&object["allocations"], &object["rates"]["to_peer_bytes"]), (&0.0.into(), &0.0.into()));
    let place = server.stop();
    place.run(&["status"]).failure(1, &["no relais serves from", text(&place.state_dir()), "systemctl start"]);
}

#[test]
fn an_image_is_installed_once_and_taken_away_again() {
    let place = Place::new();
    let image = place.path().join("image");
    let options = ["install", "--root", text(&image), "--domain", "call.example.org", "--email", "ada@example.org"];
    let plan = place.run(&[&options[..], &["--dry-run"]].concat());
    assert!(plan.success().contains("would write") && !image.exists(), "{plan:?}");
    let first = place.run(&options);
    assert_eq!(first.success().matches("\nwritten ").count() + 1, 9, "{first:?}");
    let file = image.join("etc/relais/relais.toml");
    let written = std::fs::read_to_string(&file).expect("written");
    for line in ["domain = \"call.example.org\"", "acme = true", "acme_email = \"ada@example.org\""] {
        assert!(written.lines().any(|one| one == line), "{line} is not in {written}");
    }
    assert_eq!(mode(&file), 0o640);
    let again = place.run(&["install", "--root", text(&image), "--domain", "call.example.net", "--no-acme"]);
    for words in ["kept ", "web.domain: there call.example.org; this installation would have written call.example.net"]
    {
        assert!(again.success().contains(words), "{words:?} is missing: {again:?}");
    }
    assert!(
        !again.stdout.contains("written  ") && std::fs::read_to_string(&file).expect("kept") == written,
        "{again:?}"
    );
    let gone = place.run(&["uninstall", "--root", text(&image)]);
    assert!(gone.success().contains("kept ") && file.exists() && !image.join("usr/local/bin/relais").exists());
    place.run(&["uninstall", "--root", text(&image), "--purge"]).success();
    assert!(!file.exists());
}

#[test]
fn credentials_fit_the_secret_and_name_the_urls() {
    let server = Server::start(&[]);
    let options = ["--name", "ada", "--ttl", "1h", "--domain", "call.example.org"];
    let output = server.place.run(&[&["credentials", "--json"][..], &options].concat());
    let object: Value = serde_json::from_str(output.success()).expect("JSON");
    let username = object["username"].as_str().expect("text");
    let secret = server.place.state_file("turn-secret");
    assert_eq!(object["password"], turn::password(secret.as_bytes(), username));
    let (expires, subject) = turn::parse_username(username).expect("time-limited");
    assert_eq!(subject, "c.ada");
    assert_eq!(object["expiresAt"], expires);
    assert_eq!(object["ttl"], 3600);
    let left = i64::try_from(expires).expect("small") - i64::try_from(relais::clock::now().unix).expect("small");
    assert!((3500..=3600).contains(&left), "{left} s left");
    assert_eq!(object["iceServers"][0]["urls"][0], "stun:call.example.org:3478");
    assert_eq!(object["iceServers"][1]["urls"][0], "turn:call.example.org:3478?transport=udp");
    assert_eq!(object["iceServers"][1]["username"], username);

    let plain = server.place.run(&[&["credentials"][..], &options].concat());
    for word in ["username  ", ":c.ada", "password  ", "1 hour, until 20", "iceServers: ["] {
        assert!(plain.success().contains(word), "{word:?} is missing in:\n{}", plain.stdout);
    }
}

#[test]
fn a_secret_file_is_used_instead_of_the_state() {
    let place = Place::new();
    let file = place.write("secrets", "# the new one\nnew-secret-of-ours\nold-secret-of-ours\n");
    let output = place.run(&["credentials", "--json", "--secret-file", text(&file)]);
    let object: Value = serde_json::from_str(output.success()).expect("JSON");
    let username = object["username"].as_str().expect("text");
    assert_eq!(object["password"], turn::password(b"new-secret-of-ours", username));
}

#[test]
fn an_invite_opens_its_room_for_its_role_and_time() {
    let server = Server::start(&[]);
    let now = relais::clock::now().unix;
    let output = server.place.run(&[
        "invite",
        "--room",
        "blue-fox",
        "--role",
        "host",
        "--ttl",
        "2h",
        "--name",
        "Ada",
        "--base-url",
        "https://a.b:1/",
    ]);
    let token = output.success().strip_prefix("https://a.b:1/call/blue-fox#t=").expect("a link").trim_end();
    let tokens = Tokens::new(server.place.state_file("token-key").into_bytes());
    let claims = tokens.verify(token, now).expect("ours");
    assert_eq!((claims.room.as_str(), claims.role, claims.name.as_deref()), ("blue-fox", Role::Host, Some("Ada")));
    assert_eq!(claims.exp - claims.iat, 7200);
    assert!(tokens.verify(token, claims.exp).is_err());
    assert!(tokens.verify(&server.invite, now).is_ok(), "the printed invite is of the same key");

    let live = server.place.run(&["invite", "--room", "show", "--role", "viewer", "--domain", "call.example.org"]);
    assert!(live.success().starts_with("https://call.example.org:8443/live/show#t="), "{live:?}");

    let scanned =
        server.place.run(&["invite", "--qr", "--room", "show", "--role", "streamer", "--base-url", "https://a.b"]);
    let (link, code) = scanned.success().split_once('\n').expect("a link and a code");
    assert!(link.starts_with("https://a.b/live/show/studio#t="), "{link}");
    assert_eq!(Some(code), relais::qr::terminal(link).as_deref(), "the code says the link");
}

#[test]
fn signals_stop_it_cleanly_and_free_the_ports() {
    // Addresses of its own: the ports freed here must not be drawn by the tests beside this one.
    for (signal, host) in [("TERM", "127.88.0.1:0"), ("INT", "127.88.0.2:0")] {
        let server = Server::start_in(Place::new(), &["--udp", host, "--tcp", host]);
        let (udp, tcp) = (server.udp[0], server.tcp[0]);
        let (status, place) = server.stop_by(signal);
        assert_eq!(status.code(), Some(0), "{signal}");
        UdpSocket::bind(udp).expect("UDP is free again");
        let again = ["--udp", &udp.to_string(), "--tcp", &tcp.to_string()];
        let server = Server::start_in(place, &again);
        assert_eq!((server.udp[0], server.tcp[0]), (udp, tcp));
        server.stop();
    }
}

#[test]
fn check_sends_packets_through_the_relay_over_every_transport() {
    let server = Server::start(&[]);
    let udp = checked(&check(&server, server.udp[0], &["--transport", "udp"]), 0);
    assert_passage(&udp, "udp");
    // The CA of the state directory is trusted without a word.
    let stream = checked(&check(&server, server.tcp[0], &["--transport", "tcp", "--transport", "tls"]), 0);
    assert_passage(&stream, "tcp");
    assert_passage(&stream, "tls");
    let text = server.place.run(&["check", &server.udp[0].to_string(), "--transport", "udp"]);
    for word in ["ok    dns", "ok    stun UDP", "0 of 50 packets lost", "Good: everything that was tested works."] {
        assert!(text.success().contains(word), "{word:?} is missing in:\n{}", text.stdout);
    }
}

#[test]
fn check_names_the_cause_of_each_failure() {
    let server = Server::start(&[]);
    let wrong = checked(&check(&server, server.udp[0], &["--transport", "udp", "--user", "x", "--password", "y"]), 2);
    assert_cause(&wrong, "turn", "the user name or the password is wrong");

    let elsewhere = Place::new();
    let tcp = server.tcp[0].to_string();
    let untrusted = elsewhere.run(&["check", &tcp, "--transport", "tls", "--json"]);
    assert_cause(&checked(&untrusted, 2), "stun", "--ca FILE");
    let ca = server.ca.clone().expect("a local CA");
    for trust in [&["--ca", text(&ca)][..], &["--insecure"]] {
        let trusted = elsewhere.run(&[&["check", &tcp, "--transport", "tls", "--json"], trust].concat());
        let report = checked(&trusted, 0);
        assert_cause(&report, "turn", "asks for credentials (realm relais)");
    }

    let closed = {
        let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
        socket.local_addr().expect("bound")
    };
    let refused = checked(&check(&server, closed, &["--transport", "tcp"]), 2);
    assert_cause(&refused, "stun", "nothing listens on port");

    let silent = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = silent.local_addr().expect("bound");
    let unanswered = checked(&check(&server, address, &["--transport", "udp", "--timeout", "1"]), 2);
    assert_cause(&unanswered, "stun", "a firewall drops UDP");
}

fn check(server: &Server, address: SocketAddr, options: &[&str]) -> Output {
    server.place.run(&[&["check", &address.to_string(), "--json"], options].concat())
}

/// The report of a check that must have ended with `code`.
#[track_caller]
fn checked(output: &Output, code: i32) -> Value {
    assert_eq!(output.code, Some(code), "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], code == 0);
    assert_eq!(report["status"], ["good", "degraded", "broken"][code as usize]);
    report
}

#[track_caller]
fn assert_passage(report: &Value, transport: &str) {
    let findings = report["findings"].as_array().expect("a list");
    let finding = findings.iter().find(|finding| finding["test"] == "turn" && finding["transport"] == transport);
    let finding = finding.unwrap_or_else(|| panic!("no TURN over {transport} in {report}"));
    assert_eq!((finding["sent"].as_u64(), finding["received"].as_u64()), (Some(50), Some(50)), "{finding}");
    assert!(finding["relayed"].is_string() && finding["rttMs"].is_number(), "{finding}");
}

#[track_caller]
fn assert_cause(report: &Value, test: &str, words: &str) {
    let findings = report["findings"].as_array().expect("a list");
    let finding = findings.iter().rfind(|finding| finding["test"] == test).expect("the test was made");
    assert!(finding["text"].as_str().expect("text").contains(words), "{words:?} is missing in {finding}");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("exists").permissions().mode() & 0o7777
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn pages_that_would_serve_the_keys_are_refused() {
    let place = Place::new();
    for (pages, state) in [("a", "a/state"), ("b/state/pages", "b/state"), ("c", "c")] {
        let (pages, state) = (place.path().join(pages), place.path().join(state));
        std::fs::create_dir_all(&pages).expect("created");
        let output = place.run(&["serve", "--static-dir", text(&pages), "--state-dir", text(&state)]);
        output.failure(2, &["--static-dir", "state directory", "move"]);
    }
}
