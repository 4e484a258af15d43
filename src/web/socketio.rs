//! The shell of Socket.IO: one task for each session (`task.rs`), over whichever transport, and the table that finds it
//! again.

mod budget;
mod task;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

use super::desk::{Desk, SystemRandom, host, query, query_token, text};
use super::hub::Speech;
use super::websocket::{self, Socket};
use super::{Connection, Web, polling};
use crate::clock;
use crate::config::Limits;
use crate::signaling::dialect::socketio::limits::CONNECT_TIMEOUT;
use crate::signaling::dialect::socketio::{
    self, BadRequest, Protocol, Session, Sockets, Terms, Timing, Transport, session_id,
};
use crate::time::Mono;
use budget::Budget;
use task::Task;

pub(super) use budget::Held;

/// Requests that wait for one session's task: a GET, a POST and an upgrade at a time.
const REQUESTS: usize = 8;

/// What existing pages speak to.
pub type Pages = Sockets<socketio::Pages>;

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

/// Makes the protocol of a new connection: the time, and the token of its URL.
type Make<P> = dyn Fn(Mono, Option<String>) -> P + Send + Sync;

/// An Engine.IO endpoint whose sessions all speak `P`.
pub struct Mount<P> {
    web: Arc<Web>,
    /// `None`: the limits of the configuration in force.
    terms: Option<Terms>,
    make: Box<Make<P>>,
    /// The sessions that polling requests and upgrades may name.
    sessions: Mutex<HashMap<String, Entry>>,
    budget: Arc<Budget>,
}

/// The endpoint of existing pages.
pub fn pages(web: Arc<Web>) -> Arc<Mount<Pages>> {
    let limits = Arc::clone(&web);
    Mount::new(web, None, move |now, token| {
        Sockets::new(now, CONNECT_TIMEOUT, limits.config().limits.message_bytes, socketio::Pages::new(token))
    })
}

fn terms_of(limits: &Limits) -> Terms {
    Terms {
        timing: Timing::default(),
        max_payload: limits.message_bytes,
        packets_per_second: limits.messages_per_second,
        bytes_per_second: limits.bytes_per_second,
        bytes_burst: limits.bytes_burst(),
    }
}

impl<P: Protocol + Send + 'static> Mount<P> {
    /// An endpoint with the hub, access rules and allowed origins of `web`; without `terms` also with its limits.
    pub fn new(
        web: Arc<Web>,
        terms: impl Into<Option<Terms>>,
        make: impl Fn(Mono, Option<String>) -> P + Send + Sync + 'static,
    ) -> Arc<Self> {
        let terms = terms.into();
        Arc::new(Self { web, terms, make: Box::new(make), sessions: Mutex::default(), budget: Arc::default() })
    }

    fn terms(&self) -> Terms {
        self.terms.unwrap_or_else(|| terms_of(&self.web.config().limits))
    }

    /// Answers a request to the endpoint: a poll, a post, a preflight or a WebSocket upgrade.
    pub fn answer(
        self: Arc<Self>,
        connection: Connection,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        let is_upgrade =
            text(request.headers(), header::UPGRADE).is_some_and(|name| name.eq_ignore_ascii_case("websocket"));
        if !is_upgrade {
            return Box::pin(polling::handle(self, connection, request));
        }
        let answer = self.upgrade(connection, request);
        Box::pin(std::future::ready(answer))
    }

    pub(super) fn web(&self) -> &Arc<Web> {
        &self.web
    }

    pub(super) fn max_payload(&self) -> usize {
        self.terms().max_payload
    }

    /// A share, so far empty, of the bytes that all sessions together may hold.
    pub(super) fn held(&self) -> Held {
        Held::new(&self.budget)
    }

    pub(super) fn entry(&self, sid: &str) -> Option<Entry> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(sid).cloned()
    }

    /// Opens a session over long polling. The future borrows nothing: a request's body is not `Sync`.
    pub(super) fn start_polling(
        self: &Arc<Self>,
        connection: Connection,
        request: &Request<Body>,
    ) -> impl Future<Output = Result<Entry, EngineError>> + Send + use<P> {
        let mount = Arc::clone(self);
        let token = query_token(request);
        let client = connection.client.ip();
        let desk = Desk::new(Arc::clone(&self.web), connection, request);
        async move {
            let place = mount.web.hub.admit(client).ok_or(EngineError::Forbidden)?;
            let port = mount.web.hub.open(place, Speech::SocketIo).await.ok_or(EngineError::Forbidden)?;
            let sid = session_id(&SystemRandom);
            let (requests, receiver) = mpsc::channel(REQUESTS);
            let entry = Entry { requests, posting: Arc::default() };
            mount.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(sid.clone(), entry.clone());
            let session = mount.session(&sid, Transport::Polling, token);
            let task = Task::new(session, port, desk, mount.held()).polled(receiver);
            tokio::spawn(async move {
                task.run().await;
                mount.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&sid);
            });
            Ok(entry)
        }
    }

    fn session(&self, sid: &str, transport: Transport, token: Option<String>) -> Session<P> {
        let now = clock::now().mono;
        Session::new(now, sid, transport, &self.terms(), (self.make)(now, token))
    }

    fn upgrade(self: &Arc<Self>, connection: Connection, mut request: Request<Body>) -> Response<Body> {
        let accept = match websocket::accept_key(&request) {
            Ok(accept) => accept,
            Err(refusal) => return *refusal,
        };
        match self.start_websocket(connection, &mut request) {
            Ok(()) => websocket::switching(&accept),
            Err(error) => polling::bad_request(error),
        }
    }

    /// Opens a session over WebSocket, or hands the connection to the session that it names.
    fn start_websocket(
        self: &Arc<Self>,
        connection: Connection,
        request: &mut Request<Body>,
    ) -> Result<(), EngineError> {
        let origin = text(request.headers(), header::ORIGIN);
        self.web.check_origin(&connection, origin, host(request)).map_err(|_| EngineError::Forbidden)?;
        if query(request, "transport").as_deref() != Some("websocket") {
            return Err(EngineError::UnknownTransport);
        }
        let max_message = self.terms().max_payload;
        if let Some(sid) = query(request, "sid") {
            let entry = self.entry(&sid).ok_or(EngineError::UnknownSession)?;
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
        let place = self.web.hub.admit(connection.client.ip()).ok_or(EngineError::Forbidden)?;
        let token = query_token(request);
        let desk = Desk::new(Arc::clone(&self.web), connection, request);
        let on_upgrade = hyper::upgrade::on(request);
        let mount = Arc::clone(self);
        tokio::spawn(async move {
            let Some(socket) = websocket::accept(on_upgrade, max_message).await else { return };
            let Some(port) = mount.web.hub.open(place, Speech::SocketIo).await else { return };
            let session = mount.session(&session_id(&SystemRandom), Transport::WebSocket, token);
            // A task of its own: this one holds what the way here needed.
            tokio::spawn(Task::new(session, port, desk, mount.held()).connected(Box::new(socket)).run());
        });
        Ok(())
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
    Post {
        payload: String,
        reply: oneshot::Sender<Reply>,
    },
    Upgrade(Box<Socket>),
    /// The client broke the rules.
    End(crate::signaling::Fault),
}

/// The body of the answer, or 400.
pub(super) type Reply = Result<String, BadRequest>;

impl Entry {
    /// `Err`: the session is over.
    pub(super) async fn send(&self, request: RequestToSession) -> Result<(), ()> {
        self.requests.send(request).await.map_err(|_| ())
    }

    /// Ends the session for this reason.
    pub(super) async fn end(&self, fault: crate::signaling::Fault) {
        let _ = self.send(RequestToSession::End(fault)).await;
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
