//! The task of one session: what it is reached by, and what it waits for.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Held, Reply, RequestToSession};
use crate::clock;
use crate::signaling::Fault;
use crate::signaling::dialect::socketio::{Frame, Output, Protocol, Session, Signal};
use crate::web::desk::Desk;
use crate::web::hub::{Port, sleep};
use crate::web::websocket::{self, Socket};

/// A client that takes nothing for so long reads too slowly.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One session and what it is reached by.
pub(super) struct Task<P> {
    session: Session<P>,
    port: Port,
    desk: Desk,
    held: Held,
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

impl<P: Protocol> Task<P> {
    pub(super) fn new(session: Session<P>, port: Port, desk: Desk, held: Held) -> Self {
        Self { session, port, desk, held, requests: None, poll: None, socket: None, probe: None }
    }

    /// With HTTP requests from here.
    pub(super) fn polled(self, requests: mpsc::Receiver<RequestToSession>) -> Self {
        Self { requests: Some(requests), ..self }
    }

    /// On a WebSocket from the beginning.
    pub(super) fn connected(self, socket: Socket) -> Self {
        Self { socket: Some(socket), ..self }
    }

    /// Runs until the session is over, or what waits for it is needed by others.
    pub(super) async fn run(self) {
        let cut = self.port.cut();
        tokio::select! {
            () = self.serve() => {}
            () = cut => {}
        }
    }

    async fn serve(mut self) {
        while !self.drain().await {
            let happening = self.wait().await;
            self.handle(happening);
        }
        let resume = self.desk.resume();
        let waits = self.session.can_come_back() && !self.port.hub().is_closing() && !resume.is_zero();
        let code = self.session.fault().map_or(1000, Fault::close_code);
        // A GET that is waiting is let go with an error.
        let Self { port, socket, probe, .. } = self;
        let place = port.close().await;
        for socket in [socket, probe].into_iter().flatten() {
            websocket::close(socket, code).await;
        }
        if waits {
            place.wait(resume);
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
        match happening {
            Happening::Request(request) => self.handle_request(request),
            Happening::Delivery(Some((slot, delivery))) => {
                self.session.handle_delivery(slot, delivery);
                while let Some((slot, delivery)) = self.port.try_receive() {
                    self.session.handle_delivery(slot, delivery);
                }
            }
            Happening::Delivery(None) => {
                let is_closing = self.port.hub().is_closing();
                self.session.handle_fault(if is_closing { Fault::Shutdown } else { Fault::SlowReader });
            }
            Happening::Socket(message) => self.handle_socket(message),
            Happening::Probe(message) => self.handle_probe(message),
            // A client that gives up a poll is gone: what went into the answer would be lost.
            Happening::PollGone => {
                self.poll = None;
                self.session.handle_fault(Fault::SlowReader);
            }
            Happening::Timeout => self.session.handle_timeout(clock::now().mono),
        }
        if !self.held.set(self.session.buffered()) {
            self.session.handle_fault(Fault::SlowReader);
        }
    }

    fn handle_socket(&mut self, message: Option<Result<Message, Error>>) {
        let now = clock::now().mono;
        match message {
            Some(Ok(Message::Text(text))) => {
                self.session.handle_frame(now, Frame::Text(text.as_str().to_owned()), &self.desk);
            }
            Some(Ok(Message::Binary(bytes))) => self.session.handle_frame(now, Frame::Binary(bytes), &self.desk),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                self.session.handle_control(now, &self.desk);
            }
            Some(Err(Error::Capacity(_))) => self.session.handle_fault(Fault::TooLarge),
            // Browsers say so when a page is closed or left.
            Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Away => {
                self.socket = None;
                self.session.handle_gone();
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => {
                self.socket = None;
                self.session.handle_fault(Fault::SlowReader);
            }
        }
    }

    fn handle_probe(&mut self, message: Option<Result<Message, Error>>) {
        match message {
            Some(Ok(Message::Text(text))) => {
                self.session.handle_probe_frame(&Frame::Text(text.as_str().to_owned()));
            }
            Some(Ok(Message::Binary(bytes))) => self.session.handle_probe_frame(&Frame::Binary(bytes)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                self.session.handle_control(clock::now().mono, &self.desk);
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => self.lose_probe(),
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
            RequestToSession::End(fault) => self.session.handle_fault(fault),
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
                Output::Transport(Signal::Message(_) | Signal::Broken(_)) => {}
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
