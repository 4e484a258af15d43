//! QR codes of links: for our own pages, bounded, and never in a log.

use relais::web::gate::CODES_PER_SECOND;

use tokio::net::TcpStream;

use crate::server::{Reply, Server, exchange, post};

async fn draw(server: &Server, text: &str) -> Reply {
    server.plain(&post("/api/qr", "", text)).await
}

#[tokio::test]
async fn a_link_becomes_a_picture_that_nobody_keeps() {
    let server = Server::start(|_| {}).await;
    let reply = draw(&server, "https://localhost:8443/call/blue#t=abc").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "image/svg+xml"));
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(reply.body.starts_with("<svg ") && reply.body.ends_with("</svg>"), "{}", reply.body);
    assert!(reply.body.contains("#fff") && !reply.body.contains("currentColor"), "dark on white: {}", reply.body);
    for text in ["", &"x".repeat(1025), "\u{fffd}"] {
        let reply = draw(&server, text).await;
        let expected = if text == "\u{fffd}" { 200 } else { 400 };
        assert!(reply.status == expected || (text.len() > 1024 && reply.status == 413), "{}: {reply:?}", text.len());
    }
    assert_eq!(server.plain("GET /api/qr?text=x HTTP/1.1\nHost: localhost").await.status, 405, "no link in an address");
}

#[tokio::test]
async fn codes_are_for_allowed_origins_and_bounded_by_network() {
    let server = Server::start(|_| {}).await;
    let from = |origin: &str| post("/api/qr", "", "x").replacen('\n', &format!("\nOrigin: {origin}\n"), 1);
    assert_eq!(server.tls(&from("https://evil.example")).await.code(), "origin-refused");
    assert_eq!(server.tls(&from("https://localhost")).await.status, 200);
    // At once, so that they fall into one second on a slow machine as well.
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..3 * CODES_PER_SECOND {
        let (address, request) = (server.tcp(), post("/api/qr", "", "x"));
        asked.spawn(async move { exchange(TcpStream::connect(address).await.expect("connected"), &request).await });
    }
    let replies = asked.join_all().await;
    let refused = replies.iter().find(|reply| reply.status == 429).expect("the limit is reached");
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("too-many-requests", "1"));
}
