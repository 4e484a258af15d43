//! Random operations against a hub and a plain model of its rooms: everybody in a room agrees who is in it, nothing
//! crosses rooms, no message is lost or doubled however connections are cut and come back, and hosts have their way.

mod signaling_common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use relais::signaling::{Command, Delivery, Event, Fault, HubLimits, Kind, Role, To};
use signaling_common::{Wish, World, peer};

const CLIENTS: usize = 6;
const ROOMS: usize = 2;
const PLACES: usize = 4;
const RESUME: u64 = 60_000;

#[derive(Clone, Debug)]
enum Step {
    Join {
        client: usize,
        room: usize,
    },
    Leave {
        client: usize,
    },
    /// The client hears so many of the messages that are on their way to it.
    Read {
        client: usize,
        messages: usize,
    },
    /// The connection breaks: whatever was on its way is lost. The server may not notice.
    Cut {
        client: usize,
        noticed: bool,
    },
    /// It connects again with its session, by an invite that may have expired meanwhile.
    Back {
        client: usize,
        expired: bool,
    },
    /// Its page is loaded again and shows the session.
    Reload {
        client: usize,
    },
    Send {
        from: usize,
        to: usize,
    },
    Kick {
        by: usize,
        whom: usize,
    },
    Lock {
        by: usize,
        locked: bool,
    },
    Close {
        by: usize,
    },
    Pass {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let two = (client.clone(), client.clone());
    prop_oneof![
        6 => (client.clone(), 0..ROOMS).prop_map(|(client, room)| Step::Join { client, room }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        8 => (client.clone(), 0..6usize).prop_map(|(client, messages)| Step::Read { client, messages }),
        4 => (client.clone(), any::<bool>()).prop_map(|(client, noticed)| Step::Cut { client, noticed }),
        6 => (client.clone(), any::<bool>()).prop_map(|(client, expired)| Step::Back { client, expired }),
        1 => client.clone().prop_map(|client| Step::Reload { client }),
        12 => two.clone().prop_map(|(from, to)| Step::Send { from, to }),
        1 => two.prop_map(|(by, whom)| Step::Kick { by, whom }),
        1 => (client.clone(), any::<bool>()).prop_map(|(by, locked)| Step::Lock { by, locked }),
        1 => client.prop_map(|by| Step::Close { by }),
        3 => prop_oneof![0..3_000u64, 0..50_000u64].prop_map(|millis| Step::Pass { millis }),
    ]
}

/// The first two are hosts, the last two viewers.
fn role(client: usize) -> Role {
    match client {
        0 | 1 => Role::Host,
        4.. => Role::Viewer,
        _ => Role::Member,
    }
}

fn sees(one: usize, other: usize) -> bool {
    one != other && !(role(one) == Role::Viewer && role(other) == Role::Viewer)
}

/// A client as a page would be: it believes what it hears.
#[derive(Clone, Default)]
struct Client {
    /// Its present connection.
    link: Option<u64>,
    /// What is on its way to it.
    wire: VecDeque<Delivery>,
    peer: Option<String>,
    room: usize,
    others: BTreeSet<String>,
    locked: bool,
    viewers: usize,
    /// The last number heard, and the secret to come back with.
    seq: u64,
    secret: String,
    /// Bodies of the messages heard in this session.
    inbox: Vec<String>,
}

/// One peer as the model has it.
struct Member {
    peer: String,
    /// When it is given up; `None`: it is connected.
    until: Option<u64>,
    /// What was sent to it, in order.
    sent: Vec<String>,
}

#[derive(Default)]
struct Room {
    /// By client.
    members: BTreeMap<usize, Member>,
    locked: bool,
    barred: BTreeSet<usize>,
}

struct Model {
    world: World,
    clients: Vec<Client>,
    rooms: [Room; ROOMS],
    /// Milliseconds passed.
    now: u64,
    last_link: u64,
    last_peer: u64,
    last_body: u64,
    pages: [u64; CLIENTS],
    /// Every session that lives is taken up: nothing is ever forgotten.
    resumes_always: bool,
}

impl Model {
    fn new(limits: HubLimits, resumes_always: bool) -> Self {
        let limits = HubLimits { peers_per_room: PLACES, ..limits };
        Self {
            world: World::new(limits),
            clients: vec![Client::default(); CLIENTS],
            rooms: Default::default(),
            now: 0,
            last_link: 0,
            last_peer: 0,
            last_body: 0,
            pages: [0; CLIENTS],
            resumes_always,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { client, room } => {
                if self.clients[client].peer.is_none() && self.clients[client].link.is_none() {
                    self.clients[client].room = room;
                    self.enter(client, None, false);
                }
            }
            Step::Leave { client } => {
                if let Some(link) = self.clients[client].link {
                    self.world.command(link, Command::Leave);
                    self.forget(client);
                    self.clients[client] = Client::default();
                }
            }
            Step::Read { client, messages } => self.read(client, messages),
            Step::Cut { client, noticed } => self.cut(client, noticed),
            Step::Back { client, expired } => {
                if self.clients[client].link.is_none() && self.clients[client].peer.is_some() {
                    self.come_back(client, expired, false);
                }
            }
            Step::Reload { client } => {
                if self.clients[client].peer.is_some() {
                    self.cut(client, true);
                    self.pages[client] += 1;
                    self.come_back(client, false, true);
                }
            }
            Step::Send { from, to } => self.send(from, to),
            Step::Kick { by, whom } => self.kick(by, whom),
            Step::Lock { by, locked } => self.lock(by, locked),
            Step::Close { by } => self.close(by),
            Step::Pass { millis } => {
                self.now += millis;
                self.world.pass(Duration::from_millis(millis));
                for room in &mut self.rooms {
                    room.members.retain(|_, member| member.until.is_none_or(|until| until > self.now));
                    room.settle();
                }
            }
        }
        self.collect();
    }

    /// Where the client is, as the model has it.
    fn place(&self, client: usize) -> Option<usize> {
        self.rooms.iter().position(|room| room.members.contains_key(&client))
    }

    /// The room of a client that is connected and in it.
    fn active(&self, client: usize) -> Option<(usize, u64)> {
        let link = self.clients[client].link?;
        Some((self.place(client)?, link))
    }

    fn forget(&mut self, client: usize) {
        for room in &mut self.rooms {
            room.members.remove(&client);
            room.settle();
        }
    }

    fn enter(&mut self, client: usize, resume: Option<(String, u64)>, expired: bool) {
        self.last_link += 1;
        self.last_peer += 1;
        let (link, id, room) = (self.last_link, format!("p{}", self.last_peer), self.clients[client].room);
        let mut wish = Wish::call(&format!("room{room}"), &id)
            .role(role(client))
            .token(&format!("t{client}"))
            .instance(&format!("{client}.{}", self.pages[client]));
        if expired {
            wish = wish.refused(Fault::TokenExpired);
        }
        if let Some((secret, seq)) = &resume {
            wish = wish.resume(secret, Some(*seq));
        }
        let lives = resume.is_some() && self.rooms[room].members.contains_key(&client);
        let expected = if lives { None } else { self.refusal(client, room, expired) };
        self.clients[client].link = Some(link);
        self.clients[client].wire.clear();
        let lines = self.world.join(link, wish);
        let own: Vec<&String> = lines.iter().filter(|line| line.starts_with(&format!("{link} "))).collect();
        match expected {
            Some(fault) => {
                assert_eq!(own, [&format!("{link} closed {fault:?}")], "client {client}");
                self.clients[client].link = None;
                self.clients[client].peer = None;
            }
            None => {
                let resumed = own[0].contains(" resumed ");
                assert!(own[0].contains(" joined "), "{own:?}");
                assert!(lives || !resumed, "{own:?}");
                if resumed {
                    let member = self.rooms[room].members.get_mut(&client).expect("it lives");
                    member.until = None;
                } else {
                    let member = Member { peer: id, until: None, sent: Vec::new() };
                    self.rooms[room].members.insert(client, member);
                    // Without the secret it could not come back, and its place would be somebody else's.
                    self.collect();
                    self.read(client, 1);
                }
            }
        }
        self.collect();
    }

    fn refusal(&self, client: usize, room: usize, expired: bool) -> Option<Fault> {
        let room = &self.rooms[room];
        if expired {
            Some(Fault::TokenExpired)
        } else if room.barred.contains(&client) {
            Some(Fault::Kicked)
        } else if room.locked && role(client) != Role::Host {
            Some(Fault::RoomLocked)
        } else if room.members.len() >= PLACES {
            Some(Fault::RoomFull)
        } else {
            None
        }
    }

    fn come_back(&mut self, client: usize, expired: bool, is_reload: bool) {
        let page = &self.clients[client];
        let (secret, seq) = (page.secret.clone(), page.seq);
        let before = self.place(client).map(|room| self.rooms[room].members[&client].peer.clone());
        self.enter(client, Some((secret, seq)), expired);
        let after = self.place(client).map(|room| self.rooms[room].members[&client].peer.clone());
        if before.is_some() && is_reload {
            assert_ne!(before, after, "another page is another peer");
        } else if before.is_some() && self.resumes_always {
            assert_eq!(before, after, "a living session is taken up");
        }
    }

    fn cut(&mut self, client: usize, noticed: bool) {
        let place = self.place(client);
        let Some(link) = self.clients[client].link.take() else { return };
        self.clients[client].wire.clear();
        if !noticed {
            return;
        }
        self.world.lose(link);
        if let Some(member) = place.and_then(|room| self.rooms[room].members.get_mut(&client)) {
            member.until = Some(self.now + RESUME);
        }
    }

    fn send(&mut self, from: usize, to: usize) {
        let (Some((room, link)), Some(receiver)) = (self.active(from), self.clients[to].peer.clone()) else { return };
        self.last_body += 1;
        let body = format!("\"{}\"", self.last_body);
        let lines = self.world.send(link, To::Peer(peer(&receiver)), Kind::Candidate, &body);
        let found = self.rooms[room].members.get_mut(&to).filter(|member| sees(from, to) && member.peer == receiver);
        let is_refused = lines.iter().any(|line| line.contains("complaint"));
        assert_eq!(found.is_none(), is_refused, "{from} sends to {to}: {lines:?}");
        if let Some(member) = found {
            member.sent.push(body);
        }
    }

    fn kick(&mut self, by: usize, whom: usize) {
        let (Some((room, link)), Some(id)) = (self.active(by), self.clients[whom].peer.clone()) else { return };
        let lines = self.world.command(link, Command::Kick(peer(&id)));
        let is_there = self.rooms[room].members.get(&whom).is_some_and(|member| member.peer == id);
        let allowed = role(by) == Role::Host && by != whom && is_there;
        assert_eq!(!allowed, lines.iter().any(|line| line.contains("complaint")), "{lines:?}");
        if allowed {
            self.rooms[room].barred.insert(whom);
            self.rooms[room].members.remove(&whom);
        }
    }

    fn lock(&mut self, by: usize, locked: bool) {
        let Some((room, link)) = self.active(by) else { return };
        self.world.command(link, Command::Lock(locked));
        if role(by) == Role::Host {
            self.rooms[room].locked = locked;
        }
    }

    fn close(&mut self, by: usize) {
        let Some((room, link)) = self.active(by) else { return };
        self.world.command(link, Command::Close);
        if role(by) == Role::Host {
            self.rooms[room] = Room::default();
        }
    }

    /// What the hub handed out is on its way.
    fn collect(&mut self) {
        for (link, delivery) in self.world.received.drain(..) {
            if let Some(client) = self.clients.iter_mut().find(|client| client.link == Some(link)) {
                client.wire.push_back(delivery);
            }
        }
    }

    fn read(&mut self, client: usize, messages: usize) {
        let client = &mut self.clients[client];
        for _ in 0..messages {
            let Some(delivery) = client.wire.pop_front() else { break };
            client.hear(delivery);
        }
    }

    fn check(&self, limits: &HubLimits) {
        let stats = self.world.hub.stats();
        let members = || self.rooms.iter().flat_map(|room| room.members.values());
        assert_eq!(stats.peers, members().count());
        assert_eq!(stats.lost, members().filter(|member| member.until.is_some()).count());
        assert_eq!(stats.rooms, self.rooms.iter().filter(|room| !room.members.is_empty()).count());
        let floor = relais::signaling::REPLAY_FLOOR;
        assert!(stats.kept <= limits.replay_total_bytes + stats.peers * floor, "{stats:?}");
        for (number, client) in self.clients.iter().enumerate() {
            // What it would believe if it heard all that is on its way.
            let mut reader = client.clone();
            let connected = reader.link.is_some();
            while let Some(delivery) = reader.wire.pop_front() {
                reader.hear(delivery);
            }
            let Some(room) = self.place(number).filter(|_| connected) else { continue };
            let room = &self.rooms[room];
            let me = &room.members[&number];
            assert_eq!(reader.peer.as_ref(), Some(&me.peer));
            let seen = room.members.iter().filter(|(other, _)| sees(number, **other));
            let others: BTreeSet<String> = seen.map(|(_, member)| member.peer.clone()).collect();
            assert_eq!(reader.others, others, "who is with {}", me.peer);
            assert_eq!(reader.locked, room.locked, "locked for {}", me.peer);
            assert_eq!(reader.inbox, me.sent, "what {} got, and what was sent to it", me.peer);
        }
    }

    /// After a moment of quiet the number of viewers is known to all.
    fn check_viewers(&mut self) {
        self.take(&Step::Pass { millis: 1_000 });
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
            let Some((room, _)) = self.active(client) else { continue };
            let is_watching =
                |(client, member): (&usize, &Member)| role(*client) == Role::Viewer && member.until.is_none();
            let count = self.rooms[room].members.iter().filter(|entry| is_watching(*entry)).count();
            assert_eq!(self.clients[client].viewers, count);
        }
    }
}

impl Room {
    /// A room without peers is none: its lock and its bars go.
    fn settle(&mut self) {
        if self.members.is_empty() {
            *self = Self::default();
        }
    }
}

impl Client {
    fn hear(&mut self, delivery: Delivery) {
        match delivery.event {
            Event::Joined(joined) => {
                if joined.resumed {
                    assert_eq!((delivery.seq, Some(joined.peer.as_str())), (self.seq, self.peer.as_deref()));
                } else {
                    self.inbox.clear();
                }
                self.seq = delivery.seq;
                self.peer = Some(joined.peer.to_string());
                self.secret = joined.session.map(|secret| secret.as_str().to_owned()).unwrap_or_default();
                self.others = joined.peers.iter().map(|view| view.peer.to_string()).collect();
                (self.locked, self.viewers) = (joined.locked, joined.viewers);
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
            Event::Lock { locked, .. } => self.locked = locked,
            Event::Viewers(count) => self.viewers = count,
            Event::Message { body, .. } => self.inbox.push(body.expect("a body").get().to_owned()),
            _ => {}
        }
        assert_eq!(delivery.seq, self.seq + 1, "a gap in {:?}", self.peer);
        self.seq = delivery.seq;
    }
}

fn run(steps: &[Step], limits: &HubLimits, resumes_always: bool) {
    let mut model = Model::new(limits.clone(), resumes_always);
    for step in steps {
        model.take(step);
        model.check(limits);
    }
    model.check_viewers();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn everybody_agrees_and_nothing_is_lost(steps in proptest::collection::vec(step(), 1..150)) {
        run(&steps, &HubLimits { replay_messages: 10_000, ..HubLimits::default() }, true);
    }

    #[test]
    fn and_so_it_is_when_little_is_kept(steps in proptest::collection::vec(step(), 1..150)) {
        let limits = HubLimits { replay_messages: 6, replay_bytes: 1_000, replay_total_bytes: 2_000, ..HubLimits::default() };
        run(&steps, &limits, false);
    }
}
