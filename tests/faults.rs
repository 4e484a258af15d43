//! Faults of the machine under the built binary: killed, disk full or read-only, the clock jumps, no descriptors, no
//! ports. Each is named in the log with its remedy, nothing is corrupted, and the service goes on.
//!
//! What needs a small disk runs in a user and mount namespace of its own, which needs no root and vanishes with it.

mod common;
mod net_common;
mod ws_common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{LOOPBACK, Place, Server};
use net_common::core::{Ask, REFRESH};
use net_common::{Got, TurnClient, large_socket, soon, udp_link};
use relais::credentials::turn;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use ws_common::Page;

/// A client whose credential comes from the server's own secret.
async fn client(server: &Server, subject: &str, lifetime: u64) -> TurnClient {
    let mut client = TurnClient::new(udp_link(server.udp[0]).await, server.udp[0], subject);
    let secret = server.place.state_file("turn-secret");
    let minted = turn::mint(secret.as_bytes(), subject, relais::clock::now().unix + lifetime);
    (client.credential.username, client.credential.password) = (minted.username, minted.password);
    client
}

fn config(place: &Place, turn: &str) -> String {
    let text = format!("[turn]\nrelay_ip = [\"127.0.0.1\"]\nallow_peer = [\"127.0.0.0/8\"]\n{turn}\n");
    place.write("relais.toml", &text).display().to_string()
}

/// An allocation that relays; fails when it does not.
async fn relays(client: &mut TurnClient, relayed: std::net::SocketAddr) {
    let peer = large_socket("127.0.0.1:0");
    client.permit(peer.local_addr().expect("bound")).await;
    peer.send_to(b"alive", relayed).await.expect("sent");
    let from = peer.local_addr().expect("bound");
    assert_eq!(client.got().await, Got::Data { from, payload: b"alive".to_vec() });
}

/// The code of a request of the API with the admin token.
async fn ask(server: &Server, request: &str, body: &Value) -> u16 {
    let mut stream = TcpStream::connect(server.tcp[0]).await.expect("connected");
    let (token, body) = (server.admin_token(), body.to_string());
    let head = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("received");
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

async fn revoke(server: &Server, subject: &str) -> u16 {
    ask(server, "POST /api/revoke", &json!({ "subject": subject })).await
}

/// Contents of the files that must survive anything.
fn kept(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = ["turn-secret", "token-key", "admin-token", "ca.pem", "ca.key", "leaf.pem", "leaf.key"];
    names.map(|name| (name.to_owned(), std::fs::read(dir.join(name)).expect(name))).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again_pages_come_back_and_nothing_is_forgotten() {
    let place = Place::new();
    let config = config(&place, "");
    let server = Server::start_in(place, &[LOOPBACK, &["--config", &config]].concat());
    let (udp, tcp) = (server.udp[0].to_string(), server.tcp[0].to_string());
    let (mut page, joined) = Page::join(&server, "blue", json!({ "token": server.invite, "instance": "page-1" })).await;
    assert_eq!(joined["resumed"], false);
    let mut caller = client(&server, "c.caller", 3600).await;
    caller.allocate().await;
    let mut revoked = client(&server, "c.revoked", 3600).await;
    revoked.allocate().await;
    assert_eq!(revoke(&server, "c.revoked").await, 200);
    let (before, invite) = (kept(&server.place.state_dir()), server.invite.clone());
    let (status, place) = server.stop_by("KILL");
    assert_eq!(status.code(), None);
    page.closed().await;
    let began = common::now();
    let server = Server::start_in(place, &["--udp", &udp, "--tcp", &tcp, "--config", &config]);
    // The page knows its session still; the server does not, and lets it in anew by the same invite.
    let again = json!({ "token": invite, "instance": "page-1", "session": joined["session"], "seq": 1 });
    let (_page, joined) = Page::join(&server, "blue", again).await;
    assert_eq!(joined["resumed"], false);
    let took = common::now() - began;
    assert!(took < Duration::from_secs(5), "back after {took:?}");
    println!("kill -9: serving again and the page in its room after {took:?}");
    assert_eq!(kept(&server.place.state_dir()), before);
    // The same credential makes a new allocation, with the nonce of before; the one that was taken back does not.
    caller.allocate().await;
    revoked.credential.nonce.clear();
    assert_eq!(revoked.try_allocate().await.code(), Some(401), "revoked.json is intact");
    server.stop();
}

/// Starts with a state directory on a disk of its own, of `size`, in a mount namespace.
fn start_on_small_disk(place: Place, size: &str) -> Server {
    let state = place.state_dir();
    std::fs::create_dir_all(&state).expect("made");
    let config = config(&place, "");
    let script = format!("mount -t tmpfs -o mode=0700,size={size} tmpfs '{}' && exec \"$0\" \"$@\"", state.display());
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script];
    Server::start_wrapped(place, &wrapper, &["--config", &config])
}

/// The state directory as the server sees it.
fn seen(server: &Server) -> PathBuf {
    let path = server.place.state_dir();
    PathBuf::from(format!("/proc/{}/root", server.pid())).join(path.strip_prefix("/").expect("absolute"))
}

fn run_in(server: &Server, command: &str) {
    let pid = server.pid().to_string();
    let output = Command::new("nsenter")
        .args(["--target", &pid, "--user", "--preserve-credentials", "--mount", "sh", "-c", command])
        .output()
        .expect("nsenter of util-linux");
    assert!(output.status.success(), "{command}: {output:?}");
}

/// The secrets of a server whose state directory only it sees, where the tests' helpers look for them.
fn copy_secrets(server: &Server) {
    for name in ["turn-secret", "admin-token", "token-key"] {
        std::fs::copy(seen(server).join(name), server.place.state_dir().join(name)).expect(name);
    }
}

/// What was revoked while the directory could not be written, is written as soon as it can be.
async fn survives_a_directory_that_cannot_be_written(server: Server, fail: &str, heal: &str) {
    copy_secrets(&server);
    assert_eq!(revoke(&server, "c.first").await, 200);
    let (before, file) = (kept(&seen(&server)), seen(&server).join("revoked.json"));
    let first = std::fs::read(&file).expect("written");
    run_in(&server, fail);
    let mut revoked = client(&server, "c.second", 3600).await;
    let relayed = revoked.allocate().await;
    relays(&mut revoked, relayed).await;
    let code = revoke(&server, "c.second").await;
    let said = server.wait_for_log("cannot keep what was revoked");
    assert!(said.contains("revoked.json") && said.contains("free space there, or make it writable"), "{said}");
    println!("{fail}: POST /api/revoke is answered {code}, the log says {said}");
    // It counts all the same, and the old file is whole.
    assert_eq!(revoked.try_allocate().await.code(), Some(401));
    assert_eq!(std::fs::read(&file).expect("still there"), first);
    let mut other = client(&server, "c.other", 3600).await;
    let relayed = other.allocate().await;
    relays(&mut other, relayed).await;
    let _ = Page::join(&server, "blue", json!({})).await;
    run_in(&server, heal);
    soon("the file", async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("c.second")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(kept(&seen(&server)), before);
    let names = std::fs::read_dir(seen(&server)).expect("listed").map(|entry| entry.expect("entry").file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".tmp")).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_survived() {
    let server = start_on_small_disk(Place::new(), "256k");
    let state = server.place.state_dir().display().to_string();
    let fail = format!("head -c 1000000 /dev/zero >'{state}/fill' || test -s '{state}/fill'");
    survives_a_directory_that_cannot_be_written(server, &fail, &format!("rm '{state}/fill'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_turns_read_only_is_named_and_survived() {
    let server = start_on_small_disk(Place::new(), "256k");
    let state = server.place.state_dir().display().to_string();
    // Another mount over it: a disk on which a file is open for writing turns read-only by a fault alone.
    let fail = format!("mount --bind '{state}' '{state}' && mount -o remount,bind,ro '{state}'");
    let heal = format!("umount '{state}'");
    survives_a_directory_that_cannot_be_written(server, &fail, &heal).await;
}

#[test]
fn a_start_on_a_full_or_read_only_disk_says_what_to_do() {
    let place = Place::new();
    let state = place.state_dir();
    std::fs::create_dir_all(&state).expect("made");
    for (options, words) in [
        ("mode=0700,size=4k", &["No space left", "with space left, or choose another --state-dir"][..]),
        ("mode=0700,ro", &["Read-only", "make it writable", "--state-dir"]),
    ] {
        let script = format!("mount -t tmpfs -o {options} tmpfs '{}' && exec \"$0\" \"$@\"", state.display());
        let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script];
        let output = common::finish(&mut place.wrapped(&wrapper, LOOPBACK), LOOPBACK);
        output.failure(1, words);
        assert!(output.stderr.contains(&state.display().to_string()), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_what_is_there_goes_on() {
    let place = Place::new();
    let config = config(&place, "shards = 1");
    let server =
        Server::start_wrapped(place, &["sh", "-c", "ulimit -n 96; exec \"$0\" \"$@\""], &["--config", &config]);
    let mut first = client(&server, "c.first", 3600).await;
    let relayed = first.allocate().await;
    let mut more = Vec::new();
    loop {
        let mut one = client(&server, &format!("c.{}", more.len()), 3600).await;
        match one.try_allocate().await.code() {
            None => more.push(one),
            code => {
                assert_eq!(code, Some(508));
                break;
            }
        }
        assert!(more.len() < 96, "there are no descriptors left for that");
    }
    let said = server.wait_for_log("a relay socket could not be opened");
    assert!(said.contains("LimitNOFILE") && said.contains("Too many open files"), "{said}");
    // A connection waits, as the kernel took it; it is served when there is room again.
    let mut waiting = TcpStream::connect(server.tcp[0]).await.expect("the kernel takes it");
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("sent");
    let said = server.wait_for_log("cannot take a connection");
    assert!(said.contains("LimitNOFILE"), "{said}");
    relays(&mut first, relayed).await;
    for one in more {
        assert_eq!(one.into_released().await, None);
    }
    let mut answer = String::new();
    soon("an answer", waiting.read_to_string(&mut answer)).await.expect("received");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    client(&server, "c.after", 3600).await.allocate().await;
    // The log is not flooded by it.
    let complaints = server.log().iter().filter(|line| line.contains("cannot take a connection")).count();
    assert!(complaints <= 3, "{complaints} lines");
    server.signal("TERM");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_relay_ports_what_is_there_goes_on() {
    let place = Place::new();
    // Below what the kernel hands out by itself, and another place for each process that runs this.
    let first_port = 15_000 + (std::process::id() % 500) * 4;
    let config = config(&place, &format!("relay_ports = \"{first_port}-{}\"", first_port + 3));
    let server = Server::start_in(place, &[LOOPBACK, &["--config", &config]].concat());
    let mut clients = Vec::new();
    let code = loop {
        let mut one = client(&server, &format!("c.{}", clients.len()), 3600).await;
        let reply = one.try_allocate().await;
        match reply.code() {
            None => clients.push((one, reply.relayed())),
            code => break code,
        }
    };
    assert_eq!((code, clients.len()), (Some(508), 4));
    let said = server.wait_for_log("no relay port is free");
    assert!(said.contains("--relay-ports") && said.contains("127.0.0.1"), "{said}");
    for (one, relayed) in &mut clients {
        relays(one, *relayed).await;
    }
    let (one, _) = clients.pop().expect("four");
    assert_eq!(one.into_released().await, None);
    client(&server, "c.after", 3600).await.allocate().await;
    server.signal("TERM");
}

/// Shifts the wall clock of the program that it is loaded into by what a file says, in seconds.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, id, now);
    if (done == 0 && id == CLOCK_REALTIME) {
        char text[32] = "";
        int file = open(getenv("CLOCK_SHIFT"), O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
            close(file);
        }
        now->tv_sec += atol(text);
    }
    return done;
}
"#;

fn start_with_shifted_clock(place: Place) -> Server {
    let source = place.write("shim.c", SHIM);
    let shim = place.path().join("shim.so");
    // The C compiler that the build needs anyway.
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).output();
    let built = built.expect("a C compiler");
    assert!(built.status.success(), "{built:?}");
    let shift = place.write("shift", "0");
    let config = config(&place, "");
    let arguments = [&["serve", "--log-format", "json", "--config", &config], LOOPBACK].concat();
    let mut command = place.command(&arguments);
    command.env("LD_PRELOAD", &shim).env("CLOCK_SHIFT", &shift);
    Server::launch(place, command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_ends_no_call() {
    let server = start_with_shifted_clock(Place::new());
    // Good for longer than the jump, and for less.
    let mut long = client(&server, "c.long", 4 * 3600).await;
    let mut short = client(&server, "c.short", 1800).await;
    let relayed = [long.allocate().await, short.allocate().await];
    let (mut one, joined) = Page::join(&server, "blue", json!({})).await;
    let (mut two, _) = Page::join(&server, "blue", json!({})).await;
    for (shift, seconds) in [("3600", 3600), ("0", -3600), ("-3600", -3600), ("0", 3600)] {
        // In one piece: the server reads it all the time.
        std::fs::rename(server.place.write("next", shift), server.place.path().join("shift")).expect("renamed");
        let said: Value = serde_json::from_str(&server.wait_for_log("clock of this machine has jumped")).expect("JSON");
        let off = said["seconds"].as_i64().expect("a number") - seconds;
        assert!(off.abs() <= 2 && said["message"].as_str().is_some_and(|text| text.contains("NTP")), "{said}");
        for (client, relayed) in [&mut long, &mut short].into_iter().zip(relayed) {
            // The nonce may be of another time now: the client gets a new one and goes on, also with a credential that
            // has expired by the new clock.
            let reply = client.ask(|id| Ask::request(REFRESH, id)).await;
            if reply.code() == Some(438) {
                client.credential.nonce = reply.get(0x0015).expect("a nonce");
                assert_eq!(client.ask(|id| Ask::request(REFRESH, id)).await.code(), None);
            } else {
                assert_eq!(reply.code(), None, "{reply:?}");
            }
            relays(client, relayed).await;
        }
        let to = joined["peer"].clone();
        two.say(&json!({ "type": "candidate", "to": to, "candidate": { "candidate": shift } })).await;
        assert_eq!(one.message_of("candidate").await["candidate"]["candidate"], shift);
    }
    // New work is taken.
    client(&server, "c.new", 3600).await.allocate().await;
    server.signal("TERM");
}
