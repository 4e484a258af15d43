//! The built binary as its pages use it: hosts, leaving and the relay, expired invites, dead connections.

mod common;
mod net_common;
mod ws_common;

use std::time::Duration;

use common::{LOOPBACK, Place, Server, deadline, now};
use net_common::{TurnClient, udp_link};
use relais::credentials::token::Role;
use serde_json::{Value, json};
use ws_common::{Heard, Page, token};

/// How soon the allocations of who left must be gone.
const SOON: Duration = Duration::from_secs(1);

fn start(extra: &[&str], limits: &str) -> Server {
    let place = Place::new();
    let file = place.write("more.toml", limits);
    let arguments = ["--config", file.to_str().expect("UTF-8"), "--access", "invite"];
    Server::start_in(place, &[LOOPBACK, &arguments, extra].concat())
}

/// An allocation with the credential that `ice` gives.
async fn allocate(server: &Server, ice: &Value) -> TurnClient {
    let entry = &ice["iceServers"][1];
    let text = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("{ice}")).to_owned();
    let mut client = TurnClient::new(udp_link(server.udp[0]).await, server.udp[0], "");
    client.credential.username = text("username");
    client.credential.password = text("credential");
    client.allocate().await;
    client
}

/// True when the relay refuses to refresh: the allocation is gone, and so is the credential.
async fn is_gone(client: &mut TurnClient) -> bool {
    let reply = client.ask(|id| net_common::core::Ask::request(net_common::core::REFRESH, id)).await;
    reply.code().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_in_whatever_way_loses_its_allocation_at_once() {
    let server = start(&[], "[limits]\npeers_per_room = 5\n");
    let host_token = json!({"token": token(&server, "r", Role::Host, false)});
    let (mut host, _) = Page::join(&server, "r", host_token).await;
    let mut secrets = Vec::new();
    let guest = || json!({"token": token(&server, "r", Role::Member, false)});
    for (number, way) in ["kick", "leave", "going away", "close"].into_iter().enumerate() {
        let (mut page, joined) = Page::join(&server, "r", guest()).await;
        let peer = joined["peer"].as_str().expect("an id").to_owned();
        for secret in [&joined["session"], &joined["ice"]["iceServers"][1]["credential"]] {
            secrets.push(secret.as_str().expect("a text").to_owned());
        }
        let mut client = allocate(&server, &joined["ice"]).await;
        assert!(!is_gone(&mut client).await);
        let before = now();
        match way {
            "kick" => {
                host.say(&json!({"type": "kick", "peer": peer})).await;
                let told = page.message_of("error").await;
                assert_eq!((&told["code"], &told["fatal"]), (&json!("kicked"), &json!(true)));
                assert_eq!(page.hear().await, Heard::Closed(Some(1008)));
            }
            "leave" => page.say(&json!({"type": "leave"})).await,
            "going away" => {
                let away =
                    tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 1001.into(), reason: "".into() };
                page.socket.close(Some(away)).await.expect("closed");
            }
            _ => {
                host.say(&json!({"type": "close"})).await;
                assert_eq!(page.message_of("error").await["code"], "room-closed");
                assert_eq!(host.message_of("error").await["code"], "room-closed");
            }
        }
        while !is_gone(&mut client).await {
            assert!(now() - before < SOON, "{way}: it still relays");
        }
        assert!(now() - before < SOON, "{way}: {:?}", now() - before);
        // One line names the room, the peer and the allocation.
        let subject = format!("\"subject\":\"p.{peer}\"");
        let ended = loop {
            let line = server.wait_for_log(&subject);
            if line.contains("allocation ended") {
                break line;
            }
        };
        let ended: Value = serde_json::from_str(&ended).expect("JSON");
        assert_eq!(ended["message"], "allocation ended", "{ended}");
        assert_eq!((&ended["span"]["room"], &ended["span"]["peer"]), (&json!("r"), &json!(peer)), "{ended}");
        assert_eq!(ended["reason"], "Revoked");
        if number < 3 {
            let left = host.message_of("peer-left").await;
            let reason = if way == "kick" { "kicked" } else { "left" };
            assert_eq!((&left["peer"], &left["reason"]), (&json!(peer), &json!(reason)));
        }
    }
    let log = server.log().join("\n");
    for word in ["\"reason\":\"kicked\"", "\"reason\":\"closed\"", "room closed", "peer joined"] {
        assert!(log.contains(word), "{word}");
    }
    for secret in secrets {
        assert!(!log.contains(&secret), "a secret is in the log");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_of_a_host_opens_its_room_and_nothing_beyond() {
    let server = start(&[], "[limits]\npeers_per_room = 5\n");
    let host_token = json!({"token": token(&server, "r", Role::Host, false)});
    let (mut host, _) = Page::join(&server, "r", host_token).await;
    host.say(&json!({"type": "invite", "role": "viewer", "name": "Vera", "ttl": 86_400_000, "id": "7"})).await;
    let invite = host.message_of("invite").await;
    assert_eq!((&invite["id"], &invite["room"], &invite["role"]), (&json!("7"), &json!("r"), &json!("viewer")));
    let expires = invite["expiresAt"].as_u64().expect("seconds");
    assert!(expires <= relais::clock::now().unix + 60, "no longer than the host's own");
    let (mut vera, joined) = Page::join(&server, "r", json!({"token": invite["token"], "name": "Mallory"})).await;
    assert_eq!((&joined["name"], &joined["role"]), (&json!("Vera"), &json!("viewer")));
    assert_eq!(host.message_of("viewers").await["count"], 1);
    vera.say(&json!({"type": "invite"})).await;
    assert_eq!(vera.message_of("error").await["code"], "not-host");
    let mut elsewhere = Page::open(server.tcp[0], "/api/ws").await;
    elsewhere.say(&json!({"type": "join", "v": 1, "room": "s", "token": invite["token"]})).await;
    assert_eq!(elsewhere.message().await["code"], "wrong-room");

    host.say(&json!({"type": "lock", "locked": true})).await;
    assert_eq!(vera.message_of("lock").await["locked"], true);
    let mut late = Page::open(server.tcp[0], "/api/ws").await;
    late.say(&json!({"type": "join", "v": 1, "room": "r", "token": token(&server, "r", Role::Member, false)})).await;
    assert_eq!(late.message().await["code"], "room-locked");
    host.say(&json!({"type": "kick", "peer": joined["peer"]})).await;
    assert_eq!(vera.message_of("error").await["code"], "kicked");
    let mut again = Page::open(server.tcp[0], "/api/ws").await;
    again.say(&json!({"type": "join", "v": 1, "room": "r", "token": invite["token"]})).await;
    assert_eq!(again.message().await["code"], "kicked");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_invite_expired_resumes() {
    let server = start(&[], "");
    let now = relais::clock::now().unix;
    let claims = relais::credentials::token::Claims::new("r", Role::Member, None, now, 2);
    let short = ws_common::tokens(&server).mint(&claims);
    let (page, joined) = Page::join(&server, "r", json!({"token": short, "instance": "i"})).await;
    let deadline = deadline();
    while relais::clock::now().unix < claims.exp {
        assert!(common::now() < deadline);
        tokio::task::yield_now().await;
    }
    let mut stranger = Page::open(server.tcp[0], "/api/ws").await;
    stranger.say(&json!({"type": "join", "v": 1, "room": "r", "token": short})).await;
    assert_eq!(stranger.message().await["code"], "token-expired");
    drop(page);
    let back = json!({"token": short, "instance": "i", "session": joined["session"], "seq": 1});
    let (_page, resumed) = Page::join(&server, "r", back).await;
    assert_eq!((&resumed["resumed"], &resumed["peer"]), (&json!(true), &joined["peer"]));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_died_gives_way_within_seconds_and_a_living_one_does_not() {
    let server = start(&[], "");
    let register = json!({"type": "streamer", "token": server.invite});
    // It never reads, so no pong leaves it: as dead as one whose network is gone.
    let mut dead = Page::open(server.tcp[0], "/").await;
    dead.say(&register).await;
    let mut viewer = Page::open(server.tcp[0], "/").await;
    let watch = json!({"type": "viewer", "viewerId": 7, "token": server.invite, "extras": true});
    viewer.say(&watch).await;
    viewer.say(&json!({"type": "ping"})).await;
    assert_eq!(viewer.message().await["type"], "pong");
    let before = now();
    let mut streamer = Page::open(server.tcp[0], "/").await;
    streamer.say(&register).await;
    assert_eq!(streamer.message().await, json!({"type": "newViewer", "viewerId": 7}), "the page did not try again");
    assert!(now() - before < Duration::from_secs(10), "{:?}", now() - before);
    assert_eq!(viewer.message().await["type"], "streamerLeft");
    // This one lives: reading is what a browser does all the time.
    let (living, newcomer) = tokio::join!(
        async {
            streamer.say(&json!({"type": "offer", "offer": {"sdp": "x"}, "viewerId": 7})).await;
            streamer.say(&json!({"type": "ping"})).await;
            let pong = streamer.message().await;
            // Whatever comes next; nothing does, while the newcomer is refused.
            let next = tokio::time::timeout(Duration::from_millis(700), streamer.hear()).await;
            (pong, next.is_err())
        },
        async {
            let mut newcomer = Page::open(server.tcp[0], "/").await;
            newcomer.say(&register).await;
            (newcomer.message().await, newcomer.hear().await)
        }
    );
    assert_eq!(living, (json!({"type": "pong"}), true));
    assert_eq!((&newcomer.0["code"], newcomer.1), (&json!("stream-taken"), Heard::Closed(Some(1008))));
    assert_eq!(viewer.message_of("offer").await["offer"], json!({"sdp": "x"}));
    // The same goes for the id of a viewer.
    let (_, thief) = tokio::join!(
        async {
            let next = tokio::time::timeout(Duration::from_millis(700), viewer.hear()).await;
            assert!(next.is_err(), "{next:?}");
        },
        async {
            let mut thief = Page::open(server.tcp[0], "/").await;
            thief.say(&json!({"type": "viewer", "viewerId": 7.0, "token": server.invite})).await;
            thief.message().await
        }
    );
    assert_eq!(thief["code"], "viewer-taken");
    server.stop();
}
