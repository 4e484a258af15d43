//! WebSocket connections: native on `/api/ws`, live on any other path; and the handshake of all.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::desk::{Desk, host, query, query_token, text};
use super::hub::{Port, Speech, sleep};
use super::routes::refusal;
use super::{Connection, Web};
use crate::clock;
use crate::signaling::dialect::live::Live;
use crate::signaling::dialect::native::Native;
use crate::signaling::dialect::{Dialect, Output};
use crate::signaling::{Command, Fault, Rate};
use crate::time::Mono;

/// The server pings this often.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A connection from which nothing came for so long is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// A client that takes nothing for so long reads too slowly.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The close code of a client that said it leaves.
const LEFT: u16 = 1000;

/// What a closing connection may still send until the client has read why.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 << 20;

/// The library's own default of 128 KiB for each connection is most of an idle connection's memory. A larger message gets
/// a larger buffer; this much stays with a connection that says nothing.
const READ_BUFFER: usize = 2 * 1024;

/// A connection after its handshake.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers a WebSocket upgrade: checks origin and limits, replies 101 and spawns the connection's task; a request
/// that is no valid upgrade gets 400 or 426. `routes.rs` calls this for every request with `Upgrade: websocket` that is
/// not Engine.IO's.
pub async fn upgrade(web: Arc<Web>, connection: Connection, mut request: Request<Body>) -> Response<Body> {
    let accept = match accept_key(&request) {
        Ok(accept) => accept,
        Err(refusal) => return *refusal,
    };
    let origin = text(request.headers(), header::ORIGIN);
    if let Err(error) = web.check_origin(&connection, origin, host(&request)) {
        return refusal(StatusCode::FORBIDDEN, error.code(), &error.to_string());
    }
    if start(&web, connection, &mut request) {
        switching(&accept)
    } else {
        refusal(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", "too many signaling connections")
    }
}

/// Starts the task of a native or live connection; false when there is no place for one more.
fn start(web: &Arc<Web>, connection: Connection, request: &mut Request<Body>) -> bool {
    let Some(place) = web.hub.admit(connection.client.ip()) else { return false };
    let is_native = request.uri().path() == "/api/ws";
    let (stream, token) = (query(request, "stream"), query_token(request));
    let desk = Desk::new(Arc::clone(web), connection, request);
    let on_upgrade = hyper::upgrade::on(request);
    let (hub, resume) = (web.hub.clone(), web.config().resume);
    tokio::spawn(async move {
        let Some(socket) = accept(on_upgrade, hub.limits().message_bytes).await else { return };
        let Some(port) = hub.open(place, if is_native { Speech::Native } else { Speech::Live }).await else { return };
        let now = clock::now().mono;
        // A task of its own: this one holds what the way here needed.
        if is_native {
            tokio::spawn(Client::new(now, Native::new(now), socket, port, desk).serve(resume));
        } else {
            tokio::spawn(Client::new(now, Live::new(now, stream, token), socket, port, desk).serve(Duration::ZERO));
        }
    });
    true
}

/// Waits until the connection is ours.
pub(super) async fn accept(on_upgrade: OnUpgrade, max_message: usize) -> Option<Socket> {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a WebSocket upgrade did not complete");
            return None;
        }
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(READ_BUFFER)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
}

/// One connection of a text dialect.
struct Client<D> {
    dialect: D,
    socket: Socket,
    port: Port,
    desk: Desk,
    rate: Rate,
    bytes: Rate,
    /// When the client last sent anything.
    heard: Mono,
    ping_at: Mono,
    /// The hub wants to know whether anything comes from this client.
    is_probed: bool,
    /// The page was closed or left (close code 1001): nobody will come back for this session. Browsers that end as a
    /// whole let no last message out, but they do send this.
    is_gone: bool,
}

/// The connection is over, and there is nobody to tell.
struct Over;

impl<D: Dialect> Client<D> {
    fn new(now: Mono, dialect: D, socket: Socket, port: Port, desk: Desk) -> Self {
        let limits = port.hub().limits();
        let rate = Rate::new(limits.messages_per_second, now);
        let bytes = Rate::with_burst(limits.bytes_per_second, limits.bytes_burst(), now);
        Self {
            dialect,
            socket,
            port,
            desk,
            rate,
            bytes,
            heard: now,
            ping_at: now + PING_INTERVAL,
            is_probed: false,
            is_gone: false,
        }
    }

    /// Carries the connection until it ends or is cut; `waits`: how long its session may come back. Boxed first: a
    /// future holds what is moved through it once for every step.
    fn serve(self, waits: Duration) -> impl Future<Output = ()> {
        let client = Box::new(self);
        async move {
            let cut = client.port.cut();
            tokio::select! {
                () = client.run(waits) => {}
                () = cut => {}
            }
        }
    }

    async fn run(mut self: Box<Self>, waits: Duration) {
        let code = self.carry().await;
        let Self { socket, port, is_gone, .. } = *self;
        // Without a code nobody is there: its descriptor is free before the hub has time for us.
        let closing = code.map(|code| close(socket, code));
        if is_gone {
            port.send(0, Command::Leave).await;
        }
        let place = port.close().await;
        if let Some(closing) = closing {
            closing.await;
        }
        // After a leave nothing waits.
        if code != Some(LEFT) && !waits.is_zero() {
            place.wait(waits);
        }
    }

    /// The code to close with; `None` when there is nobody to tell.
    async fn carry(&mut self) -> Option<u16> {
        loop {
            match self.drain().await {
                Ok(None) => {}
                Ok(code) => return code,
                Err(Over) => return None,
            }
            self.step().await.ok()?;
        }
    }

    /// Does what the dialect wants. The close code, when it wants to close.
    async fn drain(&mut self) -> Result<Option<u16>, Over> {
        let mut has_written = false;
        let mut code = None;
        while let Some(output) = self.dialect.poll_output() {
            match output {
                Output::Text(text) => {
                    self.write(Message::text(text)).await?;
                    has_written = true;
                }
                Output::Command(command) => self.port.send(0, command).await,
                Output::Ping => {
                    self.write(Message::Ping(Bytes::new())).await?;
                    has_written = true;
                    self.is_probed = true;
                }
                Output::Close(with) => code = Some(with),
            }
        }
        if has_written {
            timeout(WRITE_TIMEOUT, self.socket.flush()).await.map_err(|_| Over)?.map_err(|_| Over)?;
        }
        Ok(code)
    }

    /// Waits for whatever comes next and gives it to the dialect.
    async fn step(&mut self) -> Result<(), Over> {
        let due = [Some(self.ping_at), Some(self.heard + SILENCE), self.dialect.poll_timeout()];
        let due = due.into_iter().flatten().min().map(|due| due - clock::now().mono);
        tokio::select! {
            message = self.socket.next() => {
                self.handle_message(message)?;
                if std::mem::take(&mut self.is_probed) {
                    self.port.send(0, Command::Alive).await;
                }
            }
            delivery = self.port.receive() => match delivery {
                Some((_, delivery)) => {
                    self.dialect.handle_delivery(clock::now().mono, delivery, &self.desk);
                    while let Some((_, delivery)) = self.port.try_receive() {
                        self.dialect.handle_delivery(clock::now().mono, delivery, &self.desk);
                    }
                }
                None => {
                    let closing = self.port.hub().is_closing();
                    self.dialect.handle_fault(if closing { Fault::Shutdown } else { Fault::SlowReader });
                }
            },
            () = sleep(due) => self.handle_timeout().await?,
        }
        Ok(())
    }

    fn handle_message(&mut self, message: Option<Result<Message, Error>>) -> Result<(), Over> {
        let now = clock::now().mono;
        self.heard = now;
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if !self.rate.take(now) || !self.bytes.take_many(message.len() as u64, now) {
                    self.dialect.handle_fault(Fault::TooFast);
                    return Ok(());
                }
                // Some clients send their JSON in binary frames.
                match message.to_text() {
                    Ok(text) => self.dialect.handle_text(now, text, &self.desk),
                    Err(_) => self.dialect.handle_text(now, "", &self.desk),
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                // Control frames cost as much as messages.
                if !self.rate.take(now) {
                    self.dialect.handle_fault(Fault::TooFast);
                }
            }
            Some(Err(Error::Capacity(_))) => self.dialect.handle_fault(Fault::TooLarge),
            Some(Ok(Message::Close(frame))) => {
                self.is_gone = frame.is_some_and(|frame| frame.code == CloseCode::Away);
                return Err(Over);
            }
            Some(Err(_)) | None => return Err(Over),
        }
        Ok(())
    }

    async fn handle_timeout(&mut self) -> Result<(), Over> {
        let now = clock::now().mono;
        if self.heard + SILENCE <= now {
            return Err(Over);
        }
        if self.ping_at <= now {
            self.ping_at = now + PING_INTERVAL;
            self.write(Message::Ping(Bytes::new())).await?;
            timeout(WRITE_TIMEOUT, self.socket.flush()).await.map_err(|_| Over)?.map_err(|_| Over)?;
        }
        self.dialect.handle_timeout(now);
        Ok(())
    }

    async fn write(&mut self, message: Message) -> Result<(), Over> {
        timeout(WRITE_TIMEOUT, self.socket.feed(message)).await.map_err(|_| Over)?.map_err(|_| Over)
    }
}

/// Closes with `code`, and reads on for a moment: unread bytes would turn the close into a reset, and the client would
/// not learn why.
///
/// Boxed: a connection's task would hold the place for it, buffer and all, as long as it lives.
pub(super) fn close(mut socket: Socket, code: u16) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
    Box::pin(async move {
        let _ = timeout(LINGER, say_and_listen(&mut socket, frame)).await;
    })
}

async fn say_and_listen(socket: &mut Socket, frame: CloseFrame) {
    let code = frame.code.into();
    if socket.close(Some(frame)).await.is_err() {
        return;
    }
    let stream = socket.get_mut();
    let mut buffer = [0; 2048];
    let mut left = LINGER_BYTES;
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        left = left.saturating_sub(read);
        if left == 0 || ends_with_close_frame(&buffer[..read], code) {
            break;
        }
    }
}

/// The client's close frame, its last (RFC 6455 section 5.5.1): masked, and with our code, or with nothing. What comes
/// before it is not parsed, and masked bytes look like anything: so the code is compared, and an empty frame counts only
/// where it came alone.
fn ends_with_close_frame(bytes: &[u8], code: u16) -> bool {
    match bytes {
        [0x88, 0x80, _, _, _, _] => true,
        [.., 0x88, 0x82, first, second, _, _, high, low] => u16::from_be_bytes([high ^ first, low ^ second]) == code,
        _ => false,
    }
}

/// Checks the handshake (RFC 6455 section 4.2.1) and gives the answer to the client's key.
pub(super) fn accept_key(request: &Request<Body>) -> Result<String, Box<Response<Body>>> {
    let headers = request.headers();
    if request.method() != Method::GET || !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(Box::new(refusal(StatusCode::BAD_REQUEST, "no-handshake", "this is no WebSocket handshake")));
    }
    if text(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let mut response =
            refusal(StatusCode::UPGRADE_REQUIRED, "websocket-version", "this server speaks WebSocket version 13");
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, header::HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    match headers.get(header::SEC_WEBSOCKET_KEY) {
        // 16 bytes as base64.
        Some(key) if key.len() == 24 => Ok(derive_accept_key(key.as_bytes())),
        _ => {
            Err(Box::new(refusal(StatusCode::BAD_REQUEST, "no-handshake", "the WebSocket handshake has no valid key")))
        }
    }
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut tokens = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
}

pub(super) fn switching(accept: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    if let Ok(accept) = header::HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_is_told_from_masked_bytes_that_look_like_one() {
        // Masked with 11 22 33 44: the code 1008, which is 03 f0.
        let close = [0x88, 0x82, 0x11, 0x22, 0x33, 0x44, 0x03 ^ 0x11, 0xf0 ^ 0x22];
        assert!(ends_with_close_frame(&close, 1008));
        assert!(ends_with_close_frame(&[&[1, 2, 3], &close[..]].concat(), 1008));
        assert!(ends_with_close_frame(&[0x88, 0x80, 1, 2, 3, 4], 1008), "without a code");
        assert!(!ends_with_close_frame(&close, 1001), "another code");
        assert!(!ends_with_close_frame(&[&close[..], &[1, 2, 3]].concat(), 1008), "in the middle of a flood");
        assert!(!ends_with_close_frame(&[0x88, 0x80, 1, 2, 3, 4, 5], 1008), "the beginning of a part of a flood");
        assert!(!ends_with_close_frame(&[], 1008));
    }
}
