//! A revocation against an Allocate in its two phases, step by step in every order.

use std::collections::HashSet;

use stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, AttrType};
use stun::integrity::MessageIntegrity;
use stun::message::{CLASS_REQUEST, METHOD_ALLOCATE, METHOD_REFRESH, Message, MessageType, Method, Setter};

use super::*;
use crate::credentials::turn;
use crate::relay::{Output, Relay};

/// The steps of an Allocate, and those of a revocation: the table first, then the order to the owner of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Request,
    Grant,
    Opened,
    Listed,
    Ordered,
}

/// A shard, one step at a time.
struct Bench {
    grants: Arc<Grants>,
    revoked: Arc<Revocations>,
    relay: Relay,
    now: Now,
    opening: Vec<OpenRelay>,
    outcomes: Vec<(OpenRelay, Result<Granted, OpenError>)>,
    /// The sockets that the shell holds.
    held: Vec<(RelayId, Granted)>,
    replies: Vec<Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        let revoked = Arc::<Revocations>::default();
        let (grants, shared) = parts(&Limits::default(), Arc::clone(&revoked));
        let relay = Relay::new(shared, 7);
        let (opening, outcomes, held, replies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { relay, grants, revoked, now: clock::now(), opening, outcomes, held, replies }
    }

    fn send(&mut self, bytes: &[u8]) {
        let address: SocketAddr = "127.0.0.1:3478".parse().unwrap();
        let tuple = FiveTuple { client: address, server: address, transport: Transport::Udp };
        assert!(self.relay.handle_client(self.now, &tuple, bytes).is_none());
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::ToClient { bytes, .. } => self.replies.push(bytes.to_vec()),
                Output::OpenRelay(open) => self.opening.push(open),
                Output::CloseRelay(id) => {
                    let before = self.held.len();
                    self.held.retain(|(held, _)| *held != id);
                    assert_eq!(self.held.len() + 1, before, "it was held, and once");
                }
                Output::Tcp(_) | Output::Event(_) => {}
            }
        }
    }

    fn step(&mut self, step: Step, subject: &str, request: &[u8]) {
        match step {
            Step::Request => self.send(request),
            Step::Grant => {
                for open in std::mem::take(&mut self.opening) {
                    let first = self.outcomes.first().and_then(|(_, granted)| granted.as_ref().ok());
                    let first = first.map(|granted| Arc::clone(granted.lease.charge()));
                    let outcome = self.grants.open(self.now, &open, first);
                    self.outcomes.push((open, outcome));
                }
            }
            Step::Opened => {
                for (open, outcome) in std::mem::take(&mut self.outcomes) {
                    let bound = outcome.map(|granted| {
                        let bound = granted.bound;
                        self.held.push((open.relay, granted));
                        bound
                    });
                    self.relay.relay_opened(self.now, open.relay, bound);
                    self.drain();
                }
            }
            Step::Listed => self.revoked.revoke_subject(self.now.unix, subject, self.now.unix + 60),
            Step::Ordered => {
                self.relay.revoke(self.now, subject);
                self.drain();
            }
        }
    }

    /// A nonce, from the answer to a request without credentials.
    fn nonce(&mut self) -> Vec<u8> {
        self.send(&request(METHOD_ALLOCATE, None, true));
        let mut message = Message::new();
        message.unmarshal_binary(&self.replies.pop().unwrap()).unwrap();
        message.get(ATTR_NONCE).unwrap()
    }

    fn code(&self, reply: usize) -> Option<u16> {
        let mut message = Message::new();
        message.unmarshal_binary(self.replies.get(reply)?).unwrap();
        let value = message.get(AttrType(0x0009)).ok()?;
        Some(u16::from(value[2]) * 100 + u16::from(value[3]))
    }
}

/// A request, signed as (subject, nonce, expiry) when there is one.
fn request(method: Method, signer: Option<(&str, &[u8], u64)>, both_families: bool) -> Vec<u8> {
    let mut message = Message::new();
    message.transaction_id = stun::agent::TransactionId::new();
    message.set_type(MessageType::new(method, CLASS_REQUEST));
    message.write_header();
    if method == METHOD_ALLOCATE {
        message.add(AttrType(0x0019), &[17, 0, 0, 0]);
        if both_families {
            message.add(AttrType(0x8000), &[2, 0, 0, 0]);
        }
    }
    if let Some((subject, nonce, expires)) = signer {
        let credential = turn::mint(SECRET, subject, expires);
        message.add(ATTR_USERNAME, credential.username.as_bytes());
        message.add(ATTR_REALM, b"relais");
        message.add(ATTR_NONCE, nonce);
        let key = MessageIntegrity::new_long_term_integrity(credential.username, "relais".into(), credential.password);
        key.add_to(&mut message).unwrap();
    }
    message.write_length();
    message.raw
}

/// Every way to run `left` and `right` that keeps the order of each.
fn interleavings(left: &[Step], right: &[Step]) -> Vec<Vec<Step>> {
    let (Some((first, left_rest)), Some((second, right_rest))) = (left.split_first(), right.split_first()) else {
        return vec![[left, right].concat()];
    };
    let behind = |first: &Step, rest: Vec<Vec<Step>>| {
        rest.into_iter().map(|rest| [&[*first], &rest[..]].concat()).collect::<Vec<_>>()
    };
    [behind(first, interleavings(left_rest, right)), behind(second, interleavings(left, right_rest))].concat()
}

#[test]
fn no_allocation_survives_a_revocation_whatever_the_order() {
    let orders = interleavings(&[Step::Request, Step::Grant, Step::Opened], &[Step::Listed, Step::Ordered]);
    assert_eq!(orders.iter().collect::<HashSet<_>>().len(), 10);
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let expires = bench.now.unix + 600;
    let mut granted = HashSet::new();
    for round in 0..100 {
        for (number, order) in orders.iter().enumerate() {
            let subject = format!("p.{round}-{number}");
            // Every other one asks for both families: two sockets, one allocation.
            let request = request(METHOD_ALLOCATE, Some((&subject, &nonce, expires)), round % 2 == 1);
            bench.replies.clear();
            for step in order {
                bench.step(*step, &subject, &request);
            }
            let left = (bench.relay.allocations(), bench.held.len(), bench.grants.allocations());
            assert_eq!(left, (0, 0, 0), "round {round}, {order:?}");
            assert_eq!(bench.replies.len(), 1, "round {round}, {order:?}: one answer");
            match bench.code(0) {
                None => drop(granted.insert(order)),
                code => assert_eq!(code, Some(401), "round {round}, {order:?}"),
            }
        }
    }
    // It lived for a moment only where all of it came before the revocation.
    let [Step::Request, Step::Grant, Step::Opened, Step::Listed, Step::Ordered] = granted.iter().next().unwrap()[..]
    else {
        panic!("{granted:?}")
    };
    assert_eq!(granted.len(), 1, "{granted:?}");
}

#[test]
fn a_refresh_asks_even_where_the_order_has_not_come_yet() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let expires = bench.now.unix + 600;
    for subject in ["p.a", "t.token.0011"] {
        bench.replies.clear();
        let allocate = request(METHOD_ALLOCATE, Some((subject, &nonce, expires)), false);
        for step in [Step::Request, Step::Grant, Step::Opened] {
            bench.step(step, subject, &allocate);
        }
        let refresh = request(METHOD_REFRESH, Some((subject, &nonce, expires)), false);
        bench.send(&refresh);
        assert_eq!((bench.code(0), bench.code(1), bench.relay.allocations()), (None, None, 1));
        // The account is revoked, of which the subject is one.
        let revoked = if subject == "p.a" { subject } else { "t.token.*" };
        bench.step(Step::Listed, revoked, &[]);
        bench.send(&refresh);
        assert_eq!((bench.code(2), bench.relay.allocations(), bench.held.len()), (Some(401), 0, 0), "{subject}");
    }
}
