//! Who is here and what they use of the relay: the peers of the hub joined with the allocations of their credentials.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock;
use crate::credentials::token::Role;
use crate::net::Query;
use crate::relay::{Contacts, Usage, is_private};
use crate::signaling::{PeerId, PeerInfo, RoomInfo, RoomKey};
use crate::time::Mono;
use crate::web::Web;

/// Peers, rooms and relayed addresses that one look takes in; a search finds what lies beyond.
pub const TAKEN: usize = 4096;
/// Rows of one page.
pub const PAGE: usize = 25;
/// Longest text to search for, in characters.
pub const MAX_SEARCH: usize = 64;

/// What an administrator looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// In lower case.
    pub search: String,
    pub page: usize,
}

/// One row: a peer, or the credential of somebody who is no peer (yet).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// The peer's id; `null` for other credentials.
    peer: Option<String>,
    subject: String,
    name: Option<String>,
    room: Option<String>,
    role: Option<Role>,
    /// The id of the token it came by, for revoking.
    token: Option<String>,
    /// Its signaling connection stands.
    connected: Option<bool>,
    allocations: usize,
    /// How its allocations' clients reach us.
    transports: Vec<&'static str>,
    /// Where these are: `private`, `public`, `ipv6`.
    from: Vec<&'static str>,
    /// Whom they have permissions for: `relay` (this server), `private`, `public`, `ipv6`.
    to: Vec<&'static str>,
    to_peer: u64,
    to_client: u64,
    /// Bytes a second, both ways together, since the look before.
    rate: u64,
    /// Seconds since the oldest of them was made.
    age: Option<u64>,
}

/// What the last look saw, to make rates of. Bounded by [`TAKEN`].
#[derive(Default)]
pub struct Before {
    at: Mono,
    bytes: HashMap<String, u64>,
}

/// The page of people and of rooms that `view` asks for.
pub async fn look(web: &Web, view: &View, before: &mut Before) -> Value {
    let survey = web.hub.survey(&view.search, TAKEN).await;
    let query = if view.search.is_empty() {
        Query::All
    } else {
        let subjects: HashSet<String> = survey.peers.iter().map(|(peer, _)| format!("p.{peer}")).collect();
        Query::Matching { subjects, text: view.search.clone() }
    };
    let usage = web.net.survey(query, TAKEN).await;
    let is_partial = survey.peers_found > survey.peers.len() || usage.len() >= TAKEN;
    let mut rows = join(survey.peers, &usage);
    before.rate(&mut rows, clock::now().mono);
    // Who has relayed most stands first, in powers of two: rows that changed places each second could not be clicked.
    rows.sort_by(|one, other| {
        let weight = |row: &Row| (row.allocations > 0, (row.to_peer + row.to_client).checked_ilog2());
        weight(other).cmp(&weight(one)).then_with(|| one.subject.cmp(&other.subject))
    });
    let (found, pages) = (rows.len(), rows.len().div_ceil(PAGE).max(1));
    let page = view.page.min(pages - 1);
    let shown: Vec<Row> = rows.into_iter().skip(page * PAGE).take(PAGE).collect();
    let rooms: Vec<Value> = survey.rooms.iter().take(PAGE).map(room).collect();
    json!({
        "people": { "rows": shown, "found": found, "page": page, "pages": pages, "partial": is_partial },
        "rooms": { "rows": rooms, "found": survey.rooms_found },
        "search": view.search,
    })
}

fn room(room: &RoomInfo) -> Value {
    let (kind, name) = match &room.key {
        RoomKey::Call(name) => ("call", &**name),
        RoomKey::Stream(name) => ("live", &**name),
        RoomKey::Direct => ("by-id", ""),
    };
    json!({ "kind": kind, "name": name, "members": room.members, "locked": room.locked })
}

fn join(peers: Vec<(PeerId, PeerInfo)>, usage: &[Usage]) -> Vec<Row> {
    let mut rows: Vec<Row> = peers.into_iter().map(|(peer, info)| of_peer(&peer, info)).collect();
    let mut index: HashMap<String, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.subject.clone(), place)).collect();
    for usage in usage {
        let place = *index.entry(usage.subject.to_string()).or_insert_with(|| {
            rows.push(of_subject(&usage.subject));
            rows.len() - 1
        });
        if let Some(row) = rows.get_mut(place) {
            row.add(usage);
        }
    }
    rows
}

fn of_peer(peer: &PeerId, info: PeerInfo) -> Row {
    Row {
        peer: Some(peer.to_string()),
        name: info.name,
        room: Some(info.room.to_string()),
        role: Some(info.role),
        token: info.token.map(|token| token.to_string()),
        connected: Some(info.connected),
        ..of_subject(&format!("p.{peer}"))
    }
}

fn of_subject(subject: &str) -> Row {
    Row {
        peer: None,
        subject: subject.to_owned(),
        name: None,
        room: None,
        role: None,
        token: None,
        connected: None,
        allocations: 0,
        transports: Vec::new(),
        from: Vec::new(),
        to: Vec::new(),
        to_peer: 0,
        to_client: 0,
        rate: 0,
        age: None,
    }
}

impl Row {
    fn add(&mut self, usage: &Usage) {
        self.allocations += 1;
        self.to_peer += usage.traffic.to_peer_bytes;
        self.to_client += usage.traffic.to_client_bytes;
        self.age = self.age.max(Some(usage.age.as_secs()));
        note(&mut self.transports, usage.transport.name());
        note(&mut self.from, kind(usage.client));
        let Contacts { relay, private, public_v4, public_v6 } = usage.contacts;
        for (is_there, name) in [(relay, "relay"), (private, "private"), (public_v4, "public"), (public_v6, "ipv6")] {
            if is_there {
                note(&mut self.to, name);
            }
        }
    }
}

fn note(list: &mut Vec<&'static str>, name: &'static str) {
    if !list.contains(&name) {
        list.push(name);
    }
}

/// The address itself is told at log level debug alone.
fn kind(client: IpAddr) -> &'static str {
    match client {
        client if is_private(client) => "private",
        IpAddr::V4(_) => "public",
        IpAddr::V6(_) => "ipv6",
    }
}

impl Before {
    fn rate(&mut self, rows: &mut [Row], now: Mono) {
        let millis = (now - self.at).as_millis() as u64;
        for row in rows.iter_mut() {
            let bytes = row.to_peer + row.to_client;
            // One that was not there before has no rate yet: all it relayed may be long ago.
            let more = self.bytes.get(&row.subject).map_or(0, |before| bytes.saturating_sub(*before));
            row.rate = (more * 1000).checked_div(millis).unwrap_or(0);
        }
        self.at = now;
        let of_users = rows.iter().filter(|row| row.allocations > 0);
        self.bytes = of_users.map(|row| (row.subject.clone(), row.to_peer + row.to_client)).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::relay::{Family, RelayId, Traffic, Transport};

    fn usage(subject: &str, client: &str, bytes: u64) -> Usage {
        Usage {
            relay: RelayId { slot: 0, generation: 0, family: Family::V4 },
            subject: subject.into(),
            transport: Transport::Tls,
            client: client.parse().expect("address"),
            relayed: "192.0.2.1:50000".parse().expect("address"),
            traffic: Traffic { to_peer_bytes: bytes, to_client_bytes: 1, ..Traffic::default() },
            permissions: 1,
            channels: 0,
            contacts: Contacts { relay: true, ..Contacts::default() },
            age: Duration::from_secs(9),
            expires_in: Duration::from_secs(600),
        }
    }

    #[test]
    fn peers_meet_their_allocations_and_strangers_have_rows_of_their_own() {
        let info = PeerInfo {
            room: RoomKey::Call("blue".into()),
            role: Role::Member,
            name: Some("Ada".into()),
            token: None,
            connected: true,
        };
        let peers = vec![(PeerId::from("x"), info.clone()), (PeerId::from("y"), info)];
        let used = [usage("p.x", "192.168.1.1", 10), usage("p.x", "2001:db8::1", 5), usage("c.cli", "198.51.100.1", 7)];
        let rows = join(peers, &used);
        let told = |row: &Row| (row.subject.clone(), row.allocations, row.to_peer, row.from.clone());
        assert_eq!(told(&rows[0]), ("p.x".into(), 2, 15, vec!["private", "ipv6"]));
        assert_eq!(told(&rows[1]), ("p.y".into(), 0, 0, vec![]));
        assert_eq!(told(&rows[2]), ("c.cli".into(), 1, 7, vec!["public"]));
        assert_eq!((rows[0].transports.as_slice(), rows[0].to.as_slice()), (&["tls"][..], &["relay"][..]));
        assert_eq!((rows[2].peer.as_deref(), rows[2].room.as_deref()), (None, None));
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let mut before = Before::default();
        let mut look = |bytes, now| {
            let mut rows = join(Vec::new(), &[usage("c.x", "192.0.2.1", bytes)]);
            before.rate(&mut rows, Mono(now));
            rows[0].rate
        };
        assert_eq!(look(5_000_000, 1000), 0, "the first look knows no time");
        assert_eq!(look(5_002_000, 3000), 1000);
        assert_eq!(look(5_002_000, 3000), 0, "no time has passed");
        assert_eq!(look(7, 4000), 0, "another allocation of the same subject");
    }
}
