//! Random operations against a hub: everybody in a room agrees who is in it, nothing crosses rooms, and no message is
//! lost or doubled when connections break and come back.

mod signaling_common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use relais::signaling::{Delivery, Event, HubLimits, Kind, To};
use signaling_common::{Wish, World, peer};

const CLIENTS: usize = 6;
const ROOMS: usize = 2;
const LIMIT: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, room: usize },
    Leave { client: usize },
    Lose { client: usize, unread: usize },
    Back { client: usize },
    Send { from: usize, to: usize },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        3 => (client.clone(), 0..ROOMS).prop_map(|(client, room)| Step::Join { client, room }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        2 => (client.clone(), 0..4usize).prop_map(|(client, unread)| Step::Lose { client, unread }),
        3 => client.clone().prop_map(|client| Step::Back { client }),
        8 => (client.clone(), client).prop_map(|(from, to)| Step::Send { from, to }),
        1 => (0..50u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// A client as a page would be: it believes what it is told.
#[derive(Default)]
struct Client {
    /// Its present connection.
    link: Option<u64>,
    peer: Option<String>,
    room: Option<usize>,
    others: BTreeSet<String>,
    /// The last number received, and the secret to come back with.
    seq: u64,
    secret: String,
    /// Bodies of the messages received in this session.
    inbox: Vec<String>,
}

struct Model {
    world: World,
    clients: Vec<Client>,
    next_link: u64,
    next_peer: u64,
    next_body: u64,
    /// What was sent to each peer id, in order.
    sent: BTreeMap<String, Vec<String>>,
    read: usize,
}

impl Model {
    fn new() -> Self {
        let limits = HubLimits { peers_per_room: LIMIT, ..HubLimits::default() };
        Self {
            world: World::new(limits),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            next_link: 0,
            next_peer: 0,
            next_body: 0,
            sent: BTreeMap::new(),
            read: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { client, room } => self.join(client, room),
            Step::Leave { client } => {
                if let Some(link) = self.clients[client].link {
                    self.world.leave(link);
                    self.clients[client] = Client::default();
                }
            }
            Step::Lose { client, unread } => self.lose(client, unread),
            Step::Back { client } => self.back(client),
            Step::Send { from, to } => self.send(from, to),
            Step::Pass { seconds } => {
                self.world.pass(Duration::from_secs(seconds));
            }
        }
        self.receive();
    }

    fn join(&mut self, client: usize, room: usize) {
        if self.clients[client].peer.is_some() {
            return;
        }
        let link = self.connect(client);
        self.clients[client].room = Some(room);
        let wish = Wish::call(&format!("room{room}"), &self.fresh_peer()).instance(&client.to_string());
        self.world.join(link, wish);
    }

    /// The connection breaks; what was on its way, up to `unread` messages, the client never saw.
    fn lose(&mut self, client: usize, unread: usize) {
        let Some(link) = self.clients[client].link.take() else { return };
        let client = &mut self.clients[client];
        // Only what can be taken back without guessing: bodies, the newest first.
        for _ in 0..unread {
            if client.inbox.last().is_some_and(|last| last.starts_with(&format!("{}:", client.seq))) {
                client.inbox.pop();
                client.seq -= 1;
            }
        }
        self.world.lose(link);
    }

    fn back(&mut self, client: usize) {
        if self.clients[client].link.is_some() || self.clients[client].peer.is_none() {
            return;
        }
        let link = self.connect(client);
        let peer = self.fresh_peer();
        let client_state = &self.clients[client];
        let room = client_state.room.unwrap_or_default();
        let wish = Wish::call(&format!("room{room}"), &peer)
            .instance(&client.to_string())
            .resume(&client_state.secret, Some(client_state.seq));
        self.world.join(link, wish);
    }

    fn send(&mut self, from: usize, to: usize) {
        let (Some(link), Some(to)) = (self.clients[from].link, self.clients[to].peer.clone()) else { return };
        self.next_body += 1;
        let body = format!("\"{}\"", self.next_body);
        let lines = self.world.send(link, To::Peer(peer(&to)), Kind::Candidate, &body);
        let me = self.clients[from].peer.clone().unwrap_or_default();
        let is_neighbour = self.clients[from].others.contains(&to);
        let was_refused = lines.iter().any(|line| line.contains("complaint"));
        assert_eq!(is_neighbour, !was_refused, "{me} sends to {to}: {lines:?}");
        if is_neighbour {
            self.sent.entry(to).or_default().push(body);
        }
    }

    fn receive(&mut self) {
        let news: Vec<(u64, Delivery)> = self.world.received.drain(..).collect();
        self.read += news.len();
        for (link, delivery) in news {
            let Some(client) = self.clients.iter_mut().find(|client| client.link == Some(link)) else { continue };
            client.hear(delivery);
        }
    }

    fn connect(&mut self, client: usize) -> u64 {
        self.next_link += 1;
        self.clients[client].link = Some(self.next_link);
        self.next_link
    }

    fn fresh_peer(&mut self) -> String {
        self.next_peer += 1;
        format!("p{}", self.next_peer)
    }

    fn check(&self) {
        let stats = self.world.hub.stats();
        assert!(stats.peers <= ROOMS * LIMIT);
        for client in self.clients.iter().filter(|client| client.link.is_some()) {
            let Some(me) = &client.peer else { continue };
            let mut together: Vec<&Client> = self.clients.iter().filter(|other| other.room == client.room).collect();
            together.retain(|other| other.link.is_some() && other.peer.is_some());
            for other in &together {
                let id = other.peer.as_ref().expect("filtered");
                assert!(id == me || client.others.contains(id), "{me} does not know {id}");
            }
            let bodies: Vec<&str> = client.inbox.iter().map(|kept| kept.split_once(':').expect("number").1).collect();
            let sent = self.sent.get(me).cloned().unwrap_or_default();
            assert_eq!(bodies, sent, "what {me} got, and what was sent to it");
        }
    }
}

impl Client {
    fn hear(&mut self, delivery: Delivery) {
        match delivery.event {
            Event::Joined(joined) => {
                if joined.resumed {
                    assert_eq!(delivery.seq, self.seq);
                    assert_eq!(Some(joined.peer.as_str()), self.peer.as_deref());
                } else {
                    self.inbox.clear();
                }
                self.seq = delivery.seq;
                self.peer = Some(joined.peer.to_string());
                self.secret = joined.session.map(|secret| secret.as_str().to_owned()).unwrap_or_default();
                self.others = joined.peers.iter().map(|view| view.peer.to_string()).collect();
                return;
            }
            Event::Closed(_) => {
                *self = Self::default();
                return;
            }
            Event::PeerJoined(view) => {
                self.others.insert(view.peer.to_string());
            }
            Event::PeerLeft { peer, .. } => {
                self.others.remove(peer.as_str());
            }
            Event::Message { body, .. } => {
                let body = body.expect("a body");
                self.inbox.push(format!("{}:{}", delivery.seq, body.get()));
            }
            _ => {}
        }
        assert_eq!(delivery.seq, self.seq + 1, "a gap in {:?}", self.peer);
        self.seq = delivery.seq;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn everybody_agrees_and_nothing_is_lost(steps in proptest::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
            model.check();
        }
        let joins = steps.iter().any(|step| matches!(step, Step::Join { .. }));
        prop_assert_eq!(model.read > 0, joins);
    }
}
