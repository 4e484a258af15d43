//! Signaling through the front: upgrades over TLS, the ICE configuration in the join reply, the notice of a stop.

use futures_util::{SinkExt, StreamExt};
use relais::clock;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::server::Server;

pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Upgrades on `path`, as a page of `origin` would.
pub(crate) async fn open(server: &Server, path: &str, origin: &str) -> Result<Socket, Error> {
    let mut request = format!("wss://localhost:{}{path}", server.tcp().port()).into_client_request()?;
    request.headers_mut().insert("origin", origin.parse().expect("origin"));
    let stream = server.handshake("localhost", &["http/1.1"]).await.expect("handshake");
    tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
}

pub(crate) async fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.expect("open").expect("message") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn join(server: &Server) -> (Socket, Value) {
    let token = server.token("abc", clock::now().unix + 60);
    let (socket, joined) = join_with(server, &token).await;
    assert_eq!(joined["type"], "joined", "{joined}");
    (socket, joined)
}

/// Joins the room `blue`; with what came back.
pub(crate) async fn join_with(server: &Server, token: &str) -> (Socket, Value) {
    let origin = format!("https://localhost:{}", server.tcp().port());
    let mut socket = open(server, "/api/ws", &origin).await.expect("upgraded");
    let join = json!({ "type": "join", "v": 1, "room": "blue", "token": token, "name": "Ada", "instance": "k3v" });
    socket.send(Message::text(join.to_string())).await.expect("sent");
    let joined = next(&mut socket).await;
    (socket, joined)
}

#[tokio::test]
async fn a_page_joins_over_tls_and_is_told_its_ice_servers() {
    let server = Server::start_public(|_| {}).await;
    let (_socket, joined) = join(&server).await;
    let turn = &joined["ice"]["iceServers"][1];
    let port = server.tcp().port();
    assert_eq!(turn["urls"][1], format!("turn:localhost:{port}?transport=tcp"));
    let subject = format!(":p.{}", joined["peer"].as_str().expect("id"));
    assert!(turn["username"].as_str().expect("text").ends_with(&subject), "{turn}");
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let server = Server::start_public(|_| {}).await;
    for path in ["/api/ws", "/anything", "/socket.io/?EIO=4&transport=websocket"] {
        match open(&server, path, "https://evil.example").await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    // What is refused is told in the form of every other refusal.
    let server = Server::start(|_| {}).await;
    let refused = server.plain("GET /api/ws HTTP/1.1\nHost: 127.0.0.1\nUpgrade: websocket").await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "no-handshake"));
}

#[tokio::test]
async fn polling_answers_as_socketio_clients_expect() {
    let server = Server::start(|_| {}).await;
    for path in ["/socket.io/", "/socket.io"] {
        let ask = |query: &str| format!("GET {path}{query} HTTP/1.1\nHost: 127.0.0.1");
        let opened = server.plain(&ask("?EIO=4&transport=polling")).await;
        assert_eq!(opened.status, 200);
        assert!(opened.body.starts_with("0{\"sid\":\""), "{}", opened.body);
        let refused = server.plain(&ask("")).await;
        assert_eq!((refused.status, refused.json()["code"].as_u64()), (400, Some(0)));
    }
}

#[tokio::test]
async fn a_stop_tells_the_pages_and_waits_for_nobody_else() {
    let server = Server::start_public(|_| {}).await;
    let (mut socket, _) = join(&server).await;
    // A TURN connection and a browser's spare connection, which say nothing.
    let mut turn = TcpStream::connect(server.tcp()).await.expect("connected");
    crate::server::binding(&mut turn).await;
    let _spare = TcpStream::connect(server.tcp()).await.expect("connected");
    let address = server.tcp();
    let reading = tokio::spawn(async move {
        let closing = next(&mut socket).await;
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
        closing
    });
    let before = clock::now().mono;
    server.app.stop().await;
    let took = clock::now().mono - before;
    assert!(took.as_secs() < 5, "{took:?}, which is half of the drain's limit");
    assert_eq!(reading.await.expect("read")["type"], "closing");
    assert!(TcpStream::connect(address).await.is_err(), "no more connections are taken");
}
