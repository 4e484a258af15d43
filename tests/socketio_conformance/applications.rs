//! What the cases are run against: small applications on our layers, served by our shell on a port of their own.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relais::signaling::dialect::socketio::{
    Action, Application, Arguments, Connect, Emit, Message, Protocol, Services, Sockets, Step, Terms, Timing,
};
use relais::signaling::{Delivery, Fault, PeerId};
use relais::time::Mono;
use relais::web::socketio::Mount;
use relais::web::{Connection, Web};
use tokio::net::TcpListener;

use super::server::Server;

pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(300);
/// Longer than the suite's own, since a busy machine answers late.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_millis(1000);
/// For a client that asks for no namespace.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3000);

const TERMS: Terms = Terms {
    timing: Timing {
        ping_interval: PING_INTERVAL,
        ping_timeout: PING_TIMEOUT,
        upgrade_timeout: Duration::from_secs(10),
    },
    max_payload: 1_000_000,
    packets_per_second: 100,
    bytes_per_second: 1_000_000,
    bytes_burst: 4_000_000,
};

/// Where the applications listen.
#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) address: SocketAddr,
}

impl World {
    /// Serves what `mount` makes on the hub and the rules of a real server, which has to live as long.
    pub(crate) async fn start<P: Protocol + Send + 'static>(mount: fn(Arc<Web>) -> Arc<Mount<P>>) -> (Server, Self) {
        let server = Server::start(|_| {}).await;
        let mount = mount(Arc::clone(&server.app.web));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((stream, client)) = listener.accept().await {
                let mount = Arc::clone(&mount);
                let connection = Connection { client, server: address, secure: false, loopback_listener: true };
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let answer = Arc::clone(&mount).answer(connection.clone(), request.map(Body::new));
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving.with_upgrades());
            }
        });
        (server, Self { address })
    }
}

/// Engine.IO with an echo.
pub(crate) fn echo(web: Arc<Web>) -> Arc<Mount<Echo>> {
    Mount::new(web, TERMS, |_, _| Echo::default())
}

/// Socket.IO with the namespaces `/` and `/custom`.
pub(crate) fn namespaces(web: Arc<Web>) -> Arc<Mount<Sockets<Parrot>>> {
    Mount::new(web, TERMS, |now, _| Sockets::new(now, CONNECT_TIMEOUT, TERMS.max_payload, Parrot))
}

/// Sends every message back.
#[derive(Default)]
pub(crate) struct Echo {
    steps: VecDeque<Step>,
}

impl Protocol for Echo {
    fn handle_message(&mut self, message: Message, _services: &dyn Services) {
        self.steps.push_back(Step::Send(message));
    }

    fn handle_delivery(&mut self, _slot: u8, _delivery: Delivery) {}

    fn handle_fault(&mut self, _fault: Fault) {}

    fn handle_gone(&mut self) {}

    fn handle_timeout(&mut self, _now: Mono) {}

    fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn buffered(&self) -> usize {
        0
    }

    fn can_come_back(&self) -> bool {
        false
    }
}

/// Tells a client what it passed on connecting, sends `message` back as `message-back`, acknowledges
/// `message-with-ack`; on `ask-me` it asks for an acknowledgement, and tells what came as `you-said`.
pub(crate) struct Parrot;

impl Application for Parrot {
    fn namespaces(&self) -> &'static [&'static str] {
        &["/", "/custom"]
    }

    fn handle_connect(&mut self, _slot: u8, connect: &Connect<'_>, services: &dyn Services) -> Vec<Action> {
        let accept = Action::Accept { sid: PeerId::random(services).to_string(), pid: None };
        vec![accept, emit("auth", connect.auth.unwrap_or("{}").to_owned(), &[])]
    }

    fn handle_event(&mut self, _slot: u8, name: &str, event: &Arguments<'_>) -> Vec<Action> {
        match (name, event.ack) {
            ("message", _) => vec![emit("message-back", values(event), &event.attachments)],
            ("message-with-ack", Some(id)) => {
                vec![Action::Ack { id, values: values(event), attachments: event.attachments.clone() }]
            }
            ("ask-me", _) => vec![Action::Emit(Emit { name: "well".into(), ask: Some(7), ..Emit::default() })],
            ("leave-me", _) => vec![Action::Disconnect],
            _ => Vec::new(),
        }
    }

    fn handle_answer(&mut self, _slot: u8, id: u64, answer: &Arguments<'_>) -> Vec<Action> {
        assert_eq!(id, 7);
        vec![emit("you-said", values(answer), &answer.attachments)]
    }

    fn handle_disconnect(&mut self, _slot: u8) -> Vec<Action> {
        Vec::new()
    }

    fn handle_delivery(&mut self, _slot: u8, _delivery: Delivery) -> Vec<Action> {
        Vec::new()
    }

    fn handle_fault(&mut self, _slot: u8, _fault: Fault) -> Vec<Action> {
        Vec::new()
    }

    fn can_come_back(&self) -> bool {
        false
    }
}

fn emit(name: &'static str, values: String, attachments: &[bytes::Bytes]) -> Action {
    Action::Emit(Emit { name: name.into(), values, attachments: attachments.to_vec(), ..Emit::default() })
}

fn values(arguments: &Arguments<'_>) -> String {
    arguments.values.iter().map(|value| value.get()).collect::<Vec<_>>().join(",")
}
