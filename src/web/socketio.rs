//! The shell of Socket.IO: one task for each session, over whichever transport, and the table that finds it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::desk::{Desk, SystemRandom, query};
use super::hub::{Port, sleep};
use super::websocket::{self, Socket};
use super::{Connection, Web};
use crate::clock;
use crate::config::Limits;
use crate::signaling::Fault;
use crate::signaling::dialect::socketio::{BadRequest, Frame, Output, Session, Signal, Terms, Transport, session_id};

/// Requests that wait for one session's task: a GET, a POST and an upgrade at a time.
const REQUESTS: usize = 8;

/// A client that takes nothing for so long reads too slowly.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The Engine.IO errors of a handshake, worded as the stock server words them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    #[error("Transport unknown")]
    UnknownTransport,
    #[error("Session ID unknown")]
    UnknownSession,
    #[error("Bad handshake method")]
    BadMethod,
    #[error("Bad request")]
    BadRequest,
    #[error("Forbidden")]
    Forbidden,
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl EngineError {
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn status(self) -> StatusCode {
        if self == Self::Forbidden { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST }
    }
}

/// The sessions that polling requests and upgrades may name.
#[derive(Default)]
pub(super) struct Sessions {
    table: Mutex<HashMap<String, Entry>>,
}

impl Sessions {
    pub(super) fn get(&self, sid: &str) -> Option<Entry> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).get(sid).cloned()
    }

    fn insert(&self, sid: String, entry: Entry) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).insert(sid, entry);
    }

    fn remove(&self, sid: &str) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).remove(sid);
    }
}

/// The way to a session's task.
#[derive(Clone)]
pub(super) struct Entry {
    requests: mpsc::Sender<RequestToSession>,
    posting: Arc<AtomicBool>,
}

/// What an HTTP request wants of its session.
pub(super) enum RequestToSession {
    Poll(oneshot::Sender<Reply>),
    Post { payload: String, reply: oneshot::Sender<Reply> },
    Upgrade(Box<Socket>),
    End,
}

/// The body of the answer, or 400.
pub(super) type Reply = Result<String, BadRequest>;

impl Entry {
    /// `Err`: the session is over.
    pub(super) async fn send(&self, request: RequestToSession) -> Result<(), ()> {
        self.requests.send(request).await.map_err(|_| ())
    }

    /// The client broke the rules: its session ends.
    pub(super) async fn end(&self) {
        let _ = self.send(RequestToSession::End).await;
    }

    /// Marks that a POST is being read; `None` when one is already.
    pub(super) fn begin_post(&self) -> Option<Posting> {
        let is_first = !self.posting.swap(true, Ordering::AcqRel);
        is_first.then(|| Posting(Arc::clone(&self.posting)))
    }
}

/// A POST is being read, until this is dropped.
pub(super) struct Posting(Arc<AtomicBool>);

impl Drop for Posting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Opens a session over long polling. The future borrows nothing: a request's body is not `Sync`.
pub(super) fn start_polling(
    web: &Arc<Web>,
    connection: Connection,
    request: &Request<Body>,
) -> impl Future<Output = Result<Entry, EngineError>> + Send + use<> {
    let terms = terms(&web.config.limits, request);
    let hub = web.hub.clone();
    let client = connection.client.ip();
    let desk = Desk::new(Arc::clone(web), connection, request);
    async move {
        let place = hub.admit(client).ok_or(EngineError::Forbidden)?;
        let port = hub.open(place).await.ok_or(EngineError::Forbidden)?;
        let sid = session_id(&SystemRandom);
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let entry = Entry { requests, posting: Arc::default() };
        hub.sessions().insert(sid.clone(), entry.clone());
        let session = Session::new(clock::now().mono, &sid, Transport::Polling, terms);
        tokio::spawn(Task::new(session, port, desk, Some(receiver), None).run(Some(sid)));
        Ok(entry)
    }
}

/// Opens a session over WebSocket, or hands the connection to the session that it names.
pub(super) fn start_websocket(
    web: &Arc<Web>,
    connection: Connection,
    request: &mut Request<Body>,
) -> Result<(), EngineError> {
    if query(request, "transport").as_deref() != Some("websocket") {
        return Err(EngineError::UnknownTransport);
    }
    let max_message = web.config.limits.message_bytes;
    if let Some(sid) = query(request, "sid") {
        let entry = web.hub.sessions().get(&sid).ok_or(EngineError::UnknownSession)?;
        let on_upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move {
            if let Some(socket) = websocket::accept(on_upgrade, max_message).await {
                let _ = entry.send(RequestToSession::Upgrade(Box::new(socket))).await;
            }
        });
        return Ok(());
    }
    if query(request, "EIO").as_deref() != Some("4") {
        return Err(EngineError::UnsupportedVersion);
    }
    let place = web.hub.admit(connection.client.ip()).ok_or(EngineError::Forbidden)?;
    let terms = terms(&web.config.limits, request);
    let desk = Desk::new(Arc::clone(web), connection, request);
    let on_upgrade = hyper::upgrade::on(request);
    let hub = web.hub.clone();
    tokio::spawn(async move {
        let Some(socket) = websocket::accept(on_upgrade, max_message).await else { return };
        let Some(port) = hub.open(place).await else { return };
        let session = Session::new(clock::now().mono, &session_id(&SystemRandom), Transport::WebSocket, terms);
        Task::new(session, port, desk, None, Some(socket)).run(None).await;
    });
    Ok(())
}

fn terms(limits: &Limits, request: &Request<Body>) -> Terms {
    Terms {
        max_payload: limits.message_bytes,
        messages_per_second: limits.messages_per_second,
        token: query(request, "token"),
    }
}

/// One session and what it is reached by.
struct Task {
    session: Session,
    port: Port,
    desk: Desk,
    /// `None`: it never was on polling, and no request can name it.
    requests: Option<mpsc::Receiver<RequestToSession>>,
    /// The GET that waits.
    poll: Option<oneshot::Sender<Reply>>,
    socket: Option<Socket>,
    /// The WebSocket that wants to take over.
    probe: Option<Socket>,
}

/// What a task waits for.
enum Happening {
    Request(RequestToSession),
    Delivery(Option<(u8, crate::signaling::Delivery)>),
    Socket(Option<Result<Message, Error>>),
    Probe(Option<Result<Message, Error>>),
    PollGone,
    Timeout,
}

impl Task {
    fn new(
        session: Session,
        port: Port,
        desk: Desk,
        requests: Option<mpsc::Receiver<RequestToSession>>,
        socket: Option<Socket>,
    ) -> Self {
        Self { session, port, desk, requests, poll: None, socket, probe: None }
    }

    /// Runs until the session is over; `sid` is its name in the table.
    async fn run(mut self, sid: Option<String>) {
        while !self.drain().await {
            let happening = self.wait().await;
            self.handle(happening);
        }
        if let Some(sid) = sid {
            self.port.hub().sessions().remove(&sid);
        }
        let Self { port, socket, probe, .. } = self;
        let _place = port.close().await;
        for socket in [socket, probe].into_iter().flatten() {
            websocket::close(socket, 1000).await;
        }
    }

    async fn wait(&mut self) -> Happening {
        let due = self.session.poll_timeout().map(|due| due - clock::now().mono);
        tokio::select! {
            request = receive(&mut self.requests) => Happening::Request(request),
            delivery = self.port.receive() => Happening::Delivery(delivery),
            message = next(&mut self.socket) => Happening::Socket(message),
            message = next(&mut self.probe) => Happening::Probe(message),
            () = gone(&mut self.poll) => Happening::PollGone,
            () = sleep(due) => Happening::Timeout,
        }
    }

    fn handle(&mut self, happening: Happening) {
        let now = clock::now().mono;
        match happening {
            Happening::Request(request) => self.handle_request(request),
            Happening::Delivery(Some((slot, delivery))) => self.session.handle_delivery(slot, delivery),
            Happening::Delivery(None) => self.session.handle_fault(Fault::SlowReader),
            Happening::Socket(Some(Ok(message))) => match frame(message) {
                Ok(Some(frame)) => self.session.handle_frame(now, frame, &self.desk),
                Ok(None) => {}
                Err(()) => self.session.handle_fault(Fault::BadMessage),
            },
            Happening::Socket(_) => {
                self.socket = None;
                self.session.handle_fault(Fault::BadMessage);
            }
            Happening::Probe(Some(Ok(message))) => match frame(message) {
                Ok(Some(frame)) => self.session.handle_probe_frame(&frame),
                Ok(None) => {}
                Err(()) => self.lose_probe(),
            },
            Happening::Probe(_) => self.lose_probe(),
            // A client that gives up a poll is gone: what went into the answer would be lost.
            Happening::PollGone => {
                self.poll = None;
                self.session.handle_fault(Fault::SlowReader);
            }
            Happening::Timeout => self.session.handle_timeout(now),
        }
    }

    fn handle_request(&mut self, request: RequestToSession) {
        let now = clock::now().mono;
        match request {
            RequestToSession::Poll(reply) => match self.session.handle_poll() {
                Ok(()) => self.poll = Some(reply),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            RequestToSession::Post { payload, reply } => {
                let result = self.session.handle_payload(now, &payload, &self.desk);
                let _ = reply.send(result.map(|()| String::new()));
            }
            RequestToSession::Upgrade(socket) => {
                if self.session.handle_probe_opened(now).is_ok() {
                    self.probe = Some(*socket);
                } else {
                    tokio::spawn(websocket::close(*socket, 1008));
                }
            }
            RequestToSession::End => self.session.handle_fault(Fault::BadMessage),
        }
    }

    fn lose_probe(&mut self) {
        self.probe = None;
        self.session.handle_probe_closed();
    }

    /// Does what the session wants. True when it is over.
    async fn drain(&mut self) -> bool {
        let mut over = false;
        let mut written = false;
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Command { slot, command } => self.port.send(slot, command).await,
                Output::Transport(Signal::Reply(payload)) => {
                    if let Some(poll) = self.poll.take() {
                        let _ = poll.send(Ok(payload));
                    }
                }
                Output::Transport(Signal::Frame(frame)) => {
                    written = true;
                    self.write(frame, false).await;
                }
                Output::Transport(Signal::Probe(text)) => self.write(Frame::Text(text), true).await,
                Output::Transport(Signal::Switch) => self.socket = self.probe.take(),
                Output::Transport(Signal::DropProbe) => {
                    if let Some(probe) = self.probe.take() {
                        tokio::spawn(websocket::close(probe, 1008));
                    }
                }
                Output::Transport(Signal::Close) => over = true,
                Output::Transport(Signal::Message(_)) => {}
            }
        }
        if written
            && let Some(socket) = &mut self.socket
            && !matches!(timeout(WRITE_TIMEOUT, socket.flush()).await, Ok(Ok(())))
        {
            self.socket = None;
            self.session.handle_fault(Fault::SlowReader);
        }
        over || self.session.is_closed()
    }

    async fn write(&mut self, frame: Frame, to_probe: bool) {
        let socket = if to_probe { &mut self.probe } else { &mut self.socket };
        let Some(open) = socket else { return };
        let message = match frame {
            Frame::Text(text) => Message::text(text),
            Frame::Binary(bytes) => Message::Binary(bytes),
        };
        let sent = if to_probe {
            timeout(WRITE_TIMEOUT, open.send(message)).await
        } else {
            timeout(WRITE_TIMEOUT, open.feed(message)).await
        };
        if !matches!(sent, Ok(Ok(()))) {
            *socket = None;
            if to_probe {
                self.session.handle_probe_closed();
            } else {
                self.session.handle_fault(Fault::SlowReader);
            }
        }
    }
}

/// `Ok(None)`: a control frame. `Err`: the end.
fn frame(message: Message) -> Result<Option<Frame>, ()> {
    match message {
        Message::Text(text) => Ok(Some(Frame::Text(text.as_str().to_owned()))),
        Message::Binary(bytes) => Ok(Some(Frame::Binary(bytes))),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
        Message::Close(_) => Err(()),
    }
}

async fn receive(requests: &mut Option<mpsc::Receiver<RequestToSession>>) -> RequestToSession {
    if let Some(receiver) = requests
        && let Some(request) = receiver.recv().await
    {
        return request;
    }
    // Nobody knows the session any more, or ever did.
    std::future::pending().await
}

async fn next(socket: &mut Option<Socket>) -> Option<Result<Message, Error>> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

async fn gone(poll: &mut Option<oneshot::Sender<Reply>>) {
    match poll {
        Some(poll) => poll.closed().await,
        None => std::future::pending().await,
    }
}
