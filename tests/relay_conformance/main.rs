//! The table: RFC section | request | expected. Each row runs in a world of its own.

mod algorithms;
mod allocations;
mod base;
mod discovery;
mod peers;
#[path = "../relay_common/mod.rs"]
mod relay_common;
mod tcp;

use relais::relay::Settings;
use relay_common::*;
use stun::message::Method;

/// How far the client has come before the row's message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It has a nonce.
    Challenged,
    /// And an allocation (IPv4).
    Allocated,
    /// And a permission for PEER's IP.
    Permitted,
    /// And PEER bound to 0x4000.
    Bound,
    /// An allocation of both families.
    Dual,
    /// The client reaches us over IPv6, no allocation yet.
    ChallengedV6,
    /// An Allocate (id 1) whose relay socket the shell has yet to grant.
    Pending,
    /// Over TCP, no allocation yet.
    ChallengedTcp,
    /// Over TCP, a TCP allocation.
    Tcp,
    /// And a permission for PEER's IP.
    TcpPermitted,
    /// And a Connect to PEER that waits for the shell.
    Connecting,
    /// And the peer connected.
    Connected,
    /// And the client's side bound.
    Joined,
}
use Stage::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Expected {
    Success,
    Error(u16),
    /// No answer and nothing forwarded.
    Silence,
    /// The payload goes to this peer.
    To(&'static str),
}
use Expected::*;

type Make = fn(&Client) -> Ask;
type Tune = fn(&mut World);
type Check = fn(&Client, &Reply);

struct Row {
    section: &'static str,
    input: &'static str,
    stage: Stage,
    tune_settings: fn(&mut Settings),
    tune: Tune,
    make: Make,
    expected: Expected,
    check: Check,
}

fn row(section: &'static str, input: &'static str, stage: Stage, make: Make, expected: Expected) -> Row {
    Row { section, input, stage, tune_settings: |_| {}, tune: |_| {}, make, expected, check: |_, _| {} }
}

impl Row {
    fn settings(mut self, tune: fn(&mut Settings)) -> Self {
        self.tune_settings = tune;
        self
    }

    fn world(mut self, tune: Tune) -> Self {
        self.tune = tune;
        self
    }

    fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    fn run(&self) {
        let name = format!("{} | {} | {:?}", self.section, self.input, self.expected);
        let mut settings = settings();
        (self.tune_settings)(&mut settings);
        let mut world = World::new(settings);
        let client = prepare(&mut world, self.stage);
        (self.tune)(&mut world);
        let to_peer = world.send(&client.tuple, &(self.make)(&client).bytes());
        let replies: Vec<Reply> = world.replies.drain(..).map(|(_, reply)| reply).collect();
        match self.expected {
            To(peer) => {
                assert_eq!(to_peer.map(|to| to.peer), Some(addr(peer)), "{name}");
                assert!(replies.is_empty(), "{name}");
            }
            Silence => assert!(to_peer.is_none() && replies.is_empty(), "{name}: {replies:?}"),
            Success | Error(_) => {
                assert_eq!((to_peer, replies.len()), (None, 1), "{name}");
                let code = if let Error(code) = self.expected { Some(code) } else { None };
                assert_eq!(replies[0].code(), code, "{name}");
                check_form(&name, &client, &replies[0]);
                (self.check)(&client, &replies[0]);
            }
        }
    }
}

/// What holds for every reply.
fn check_form(name: &str, client: &Client, reply: &Reply) {
    let is_challenge = matches!(reply.code(), Some(401 | 438));
    assert_eq!(is_challenge, reply.get(0x0014).is_some() && reply.get(0x0015).is_some(), "{name}: realm and nonce");
    let is_signed = reply.get(0x0008).is_some() || reply.get(0x001c).is_some();
    assert_eq!(is_signed, reply.get(0x8022).is_some(), "{name}: SOFTWARE goes with integrity");
    if is_signed {
        let signers = [client.clone(), subject(client, "p.2"), expired(client), of_south(client), alice(client)];
        assert!(
            signers.iter().any(|signer| reply.is_signed_by(signer) || algorithms::is_signed_by(reply, signer)),
            "{name}: integrity"
        );
    } else if reply.code().is_some() {
        assert_eq!(reply.reason(), "", "{name}: no phrase for strangers");
    }
}

fn prepare(world: &mut World, stage: Stage) -> Client {
    let address = if stage == ChallengedV6 { "[2606:4700::7]:4000" } else { "198.51.100.7:4000" };
    if matches!(stage, ChallengedTcp | Tcp | TcpPermitted | Connecting | Connected | Joined) {
        return tcp::prepare(world, stage);
    }
    let client = world.client(address, "p.1");
    let allocate = Ask::request(ALLOCATE, 1).transport(17);
    match stage {
        Challenged | ChallengedV6 => {}
        Pending => {
            world.shell = Shell::Waits;
            assert!(world.try_ask(&client, allocate.signed(&client)).is_none());
        }
        Dual => {
            assert_eq!(world.ask(&client, allocate.additional_family(2).signed(&client)).code(), None);
        }
        Allocated | Permitted | Bound => {
            assert_eq!(world.ask(&client, allocate.signed(&client)).code(), None);
            if stage != Allocated {
                world.permit(&client, PEER);
            }
            if stage == Bound {
                assert_eq!(world.bind(&client, 0x4000, PEER), None);
            }
        }
        ChallengedTcp | Tcp | TcpPermitted | Connecting | Connected | Joined => unreachable!("prepared above"),
    }
    client
}

fn allocate() -> Ask {
    Ask::request(ALLOCATE, 10).transport(17)
}

fn request(method: Method) -> Ask {
    Ask::request(method, 10)
}

fn expired(client: &Client) -> Client {
    let credential = relais::credentials::turn::mint(SECRET, "p.1", UNIX);
    Client { username: credential.username, password: credential.password, ..client.clone() }
}

fn of_south(client: &Client) -> Client {
    let credential = relais::credentials::turn::mint(b"south", "p.1", UNIX + 60);
    Client { username: credential.username, password: credential.password, ..client.clone() }
}

fn alice(client: &Client) -> Client {
    Client { username: "alice".into(), password: "wonderland".into(), ..client.clone() }
}

fn subject(client: &Client, subject: &str) -> Client {
    Client { nonce: client.nonce.clone(), ..Client::new(client.tuple, subject) }
}

#[test]
fn every_row_of_the_table() {
    let tables = [
        base::binding(),
        base::authentication(),
        algorithms::offers(),
        algorithms::algorithms(),
        algorithms::integrity(),
        algorithms::userhash(),
        allocations::allocation(),
        allocations::refresh(),
        peers::permissions(),
        peers::channels(),
        peers::indications(),
        discovery::discovery(),
        tcp::allocations(),
        tcp::connects(),
        tcp::connection_binds(),
    ];
    let rows: Vec<Row> = tables.into_iter().flatten().collect();
    let mut seen = std::collections::HashSet::new();
    for row in &rows {
        assert!(seen.insert((row.section, row.input, row.stage as u8)), "{} | {} twice", row.section, row.input);
        row.run();
    }
    let codes = [400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 508];
    for code in codes {
        assert!(rows.iter().any(|row| row.expected == Error(code)), "no row expects {code}");
    }
    assert!(rows.len() >= 150, "{} rows", rows.len());
}
