//! The cases of Socket.IO 5.

use serde_json::Value;

use super::Case;
use super::applications::World;
use super::client::Socket;

const BINARY: &str = r#"[NAME{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;

/// The suite's.
pub(crate) const CASES: &[Case] = &[
    ("the main namespace is joined", "Connection to a namespace", |world| Box::pin(joins(world, "", "{}"))),
    ("the main namespace, with a payload", "Connection to a namespace", |world| {
        Box::pin(joins(world, "", r#"{"token":"123"}"#))
    }),
    ("another namespace is joined", "Connection to a namespace", |world| Box::pin(joins(world, "/custom,", "{}"))),
    ("another namespace, with a payload", "Connection to a namespace", |world| {
        Box::pin(joins(world, "/custom,", r#"{"token":"abc"}"#))
    }),
    ("a namespace that is none is refused", "Connection to a namespace", |world| Box::pin(unknown_namespace(world))),
    ("a first packet that is none ends it", "Connection to a namespace", |world| Box::pin(ends_new(world))),
    ("without a first packet it ends", "Connection to a namespace", |world| Box::pin(ends_idle(world))),
    ("leaving the only namespace keeps the connection", "Disconnection", |world| Box::pin(leaves_main(world))),
    ("leaving one namespace keeps the other", "Disconnection", |world| Box::pin(leaves_custom(world))),
    ("a text event there and back", "Sending and receiving data", |world| {
        Box::pin(answers(world, r#"42["message",1,"2",{"3":[true]}]"#, r#"42["message-back",1,"2",{"3":[true]}]"#))
    }),
    ("a binary event there and back", "Sending and receiving data: binary", |world| {
        Box::pin(binary(world, "452-", "452-", [r#""message","#, r#""message-back","#]))
    }),
    ("a text acknowledgement", "Acknowledgement", |world| {
        Box::pin(answers(world, r#"42456["message-with-ack",1,"2",{"3":[false]}]"#, r#"43456[1,"2",{"3":[false]}]"#))
    }),
    ("a binary acknowledgement", "Acknowledgement: binary", |world| {
        Box::pin(binary(world, "452-789", "462-789", [r#""message-with-ack","#, ""]))
    }),
    ("an unknown kind of packet ends it", "Packet encoding", |world| Box::pin(ends_joined(world, "4abc"))),
    ("an event that is no array ends it", "Packet encoding", |world| Box::pin(ends_joined(world, "42{}"))),
    ("an acknowledgement id that is no number ends it", "Packet encoding", |world| {
        Box::pin(ends_joined(world, r#"42abc["message-with-ack",1]"#))
    }),
];

/// What the suite leaves out: the server's own questions and goodbyes, and binary packets that are not whole.
pub(crate) const MORE: &[Case] = &[
    ("the server asks, the client acknowledges", "Acknowledgement", |world| Box::pin(server_asks(world))),
    ("the server puts a client out", "Disconnection", |world| Box::pin(server_leaves(world))),
    ("a text between attachments ends it", "Packet encoding: binary", |world| {
        Box::pin(ends_joined(world, "451-[\"message\"]\n42[\"message\"]"))
    }),
    ("more attachments than allowed end it", "Packet encoding: binary", |world| {
        Box::pin(ends_joined(world, "4511-[\"message\"]"))
    }),
    ("an event outside its namespace ends it", "Connection to a namespace", |world| {
        Box::pin(ends_joined(world, "42/custom,[\"message\"]"))
    }),
];

/// In the main namespace.
async fn joined(world: World) -> Socket {
    let mut socket = world.socket().await;
    socket.say("40").await;
    assert!(socket.packet().await.starts_with("40{"));
    assert_eq!(socket.packet().await, r#"42["auth",{}]"#);
    socket
}

async fn joins(world: World, namespace: &str, auth: &str) {
    let mut socket = world.socket().await;
    let payload = if auth == "{}" { "" } else { auth };
    socket.say(&format!("40{namespace}{payload}")).await;
    let packet = socket.packet().await;
    let connect = packet.strip_prefix(&format!("40{namespace}")).unwrap_or_else(|| panic!("{packet}"));
    let connect: Value = serde_json::from_str(connect).expect("JSON");
    assert!(connect["sid"].is_string() && connect.as_object().is_some_and(|fields| fields.len() == 1), "{connect}");
    assert_eq!(socket.packet().await, format!(r#"42{namespace}["auth",{auth}]"#));
}

async fn unknown_namespace(world: World) {
    let mut socket = world.socket().await;
    socket.say("40/random").await;
    assert_eq!(socket.packet().await, r#"44/random,{"message":"Invalid namespace"}"#);
}

async fn ends_new(world: World) {
    let mut socket = world.socket().await;
    socket.say("4abc").await;
    assert_eq!(socket.closed().await, [""; 0]);
}

/// Though every ping is answered.
async fn ends_idle(world: World) {
    let mut socket = world.socket().await;
    let mut pings = 0;
    while let Some(text) = socket.next().await {
        assert_eq!(text, "2");
        socket.say("3").await;
        pings += 1;
    }
    assert!(pings > 1, "{pings}");
}

async fn leaves_main(world: World) {
    let mut socket = joined(world).await;
    socket.say("41").await;
    assert_eq!(socket.text().await, "2", "the next that comes is a heartbeat");
}

async fn leaves_custom(world: World) {
    let mut socket = joined(world).await;
    socket.say("40/custom").await;
    assert!(socket.packet().await.starts_with("40/custom,{"));
    assert_eq!(socket.packet().await, r#"42/custom,["auth",{}]"#);
    socket.say("41/custom").await;
    socket.say(r#"42["message","to the main one"]"#).await;
    assert_eq!(socket.packet().await, r#"42["message-back","to the main one"]"#);
}

async fn answers(world: World, say: &str, hear: &str) {
    let mut socket = joined(world).await;
    socket.say(say).await;
    assert_eq!(socket.packet().await, hear);
}

async fn binary(world: World, say: &str, hear: &str, names: [&str; 2]) {
    let mut socket = joined(world).await;
    socket.say(&format!("{say}{}", BINARY.replace("NAME", names[0]))).await;
    socket.send(&[1, 2, 3]).await;
    socket.send(&[4, 5, 6]).await;
    assert_eq!(socket.packet().await, format!("{hear}{}", BINARY.replace("NAME", names[1])));
    assert_eq!(socket.binary().await, [1, 2, 3]);
    assert_eq!(socket.binary().await, [4, 5, 6]);
}

async fn ends_joined(world: World, lines: &str) {
    let mut socket = joined(world).await;
    for line in lines.lines() {
        socket.say(line).await;
    }
    assert_eq!(socket.closed().await, [""; 0]);
}

async fn server_asks(world: World) {
    let mut socket = joined(world).await;
    socket.say(r#"42["ask-me"]"#).await;
    assert_eq!(socket.packet().await, r#"427["well"]"#);
    socket.say("439[\"not asked\"]").await;
    socket.say(r#"461-7[{"_placeholder":true,"num":0}]"#).await;
    socket.send(&[9]).await;
    assert_eq!(socket.packet().await, r#"451-["you-said",{"_placeholder":true,"num":0}]"#);
    assert_eq!(socket.binary().await, [9]);
    socket.say("437[\"twice\"]").await;
    socket.say(r#"42["message"]"#).await;
    assert_eq!(socket.packet().await, r#"42["message-back"]"#);
}

async fn server_leaves(world: World) {
    let mut socket = joined(world).await;
    socket.say(r#"42["leave-me"]"#).await;
    assert_eq!(socket.packet().await, "41");
    socket.say("40").await;
    assert!(socket.packet().await.starts_with("40{"));
}
