//! The figures of the moment as JSON: counters since the start, of which the page makes rates, and how the server is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock;
use crate::config::Access;
use crate::metrics::process;
use crate::net::Snapshot;
use crate::relay::Transport;
use crate::state;
use crate::web::Web;
use crate::web::hub::Speech;
use crate::web::tls::{BACKDATED, Tls};

/// How long the hub may take to count.
const HUB: Duration = Duration::from_secs(1);

/// Everything that changes from one second to the next. The counters are read without a lock on the packet path.
pub async fn figures(web: &Web) -> Value {
    // A hub that does not answer is a finding of its own; the other figures tell more about it.
    let stats = tokio::time::timeout(HUB, web.hub.stats()).await.ok();
    let snapshot = web.net.snapshot();
    let totals = &snapshot.totals;
    let messages = Speech::ALL.map(|speech| web.hub.figures().messages(speech));
    let live = Transport::ALL.map(|transport| (transport.name(), json!(live_addresses(&snapshot, transport))));
    let seconds: BTreeMap<usize, f64> = process::shard_seconds().into_iter().collect();
    let shards = web.net.shard_totals().into_iter().enumerate().map(
        |(shard, totals)| json!({ "received": totals.received, "sent": totals.sent, "seconds": seconds.get(&shard) }),
    );
    json!({
        "at": clock::now().mono.0,
        "draining": web.net.is_draining(),
        "toPeer": { "bytes": totals.to_peer_bytes + totals.tcp_to_peer_bytes, "packets": totals.to_peer_packets },
        "toClient": { "bytes": totals.to_client_bytes + totals.tcp_to_client_bytes, "packets": totals.to_client_packets },
        "allocations": snapshot.allocations,
        "relayed": Value::Object(live.map(|(name, count)| (name.to_owned(), count)).into_iter().collect()),
        "rooms": stats.map(|stats| stats.rooms),
        "streams": stats.map(|stats| stats.streams),
        "peers": stats.map(|stats| stats.peers),
        "lost": stats.map(|stats| stats.lost),
        "connections": web.hub.connections(),
        "messages": {
            "in": messages.iter().map(|(received, _)| received).sum::<u64>(),
            "out": messages.iter().map(|(_, sent)| sent).sum::<u64>(),
        },
        "refused": refused(&snapshot),
        "dropped": snapshot.dropped.iter().map(|(_, count)| count).sum::<u64>(),
        "strangers": { "replies": totals.stranger_replies, "bytes": totals.stranger_sent_bytes },
        "amplification": snapshot.amplification(),
        "shards": shards.collect::<Vec<_>>(),
    })
}

fn live_addresses(snapshot: &Snapshot, transport: Transport) -> u64 {
    let made = snapshot.created.iter().filter(|((of, _), _)| *of == transport).map(|(_, count)| count);
    let ended = snapshot.ended.iter().filter(|((of, _), _)| *of == transport).map(|(_, count)| count);
    made.sum::<u64>().saturating_sub(ended.sum())
}

/// Requests refused, those aside that are the usual first step of every client; by method and code.
fn refused(snapshot: &Snapshot) -> Value {
    let mut sums = BTreeMap::new();
    for ((_, method, code), count) in &snapshot.refused {
        if !matches!(code, 401 | 438) {
            *sums.entry(format!("{method}.{code}")).or_insert(0) += count;
        }
    }
    sums.insert("credential".into(), snapshot.totals.wrong_credentials);
    sums.insert("denied".into(), snapshot.denied);
    json!(sums)
}

/// What changes seldom: version, sockets, access, certificates, secrets. Blocking: it looks at files.
pub fn server(web: &Web, tls: &Tls) -> Value {
    let (now, config, bound) = (clock::now(), web.config(), &web.bound);
    let all = bound.udp.iter().chain(&bound.tcp).chain(&bound.http);
    let is_local = all.clone().all(|address| address.ip().is_loopback());
    let is_open = web.live.get().access == Access::Open;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": now.unix,
        "uptime": now.mono.0 / 1000,
        "access": if is_open { "open" } else { "invite" },
        "openToAll": is_open && !is_local,
        "sockets": { "udp": bound.udp, "tcp": bound.tcp, "http": bound.http },
        "limits": {
            "allocations": config.limits.allocations_total,
            "rooms": config.limits.rooms,
        },
        "certificate": certificate(web, tls),
        "authority": tls.authority_pem().and_then(|pem| pem_validity(pem.as_bytes())).map(made_here).map(life),
        "acme": web.acme.as_ref().map(|acme| {
            let status = acme.status();
            json!({
                "failures": status.failures,
                "failingSince": status.failing_since,
                "lastError": status.last_error,
                "next": status.next,
            })
        }),
        "secrets": secrets(web, now.unix),
    })
}

/// Where the certificate in use comes from, and its life in unix seconds.
fn certificate(web: &Web, tls: &Tls) -> Value {
    let source = match tls.acme.as_ref().map(|acme| acme.status()) {
        _ if web.config().certificate.is_some() => "files",
        Some(status) if status.validity.is_some() => "acme",
        Some(_) | None => "local",
    };
    let chain = web.identity.chain();
    let parsed = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok()).map(|(_, leaf)| validity(&leaf));
    let parsed = if source == "local" { parsed.map(made_here) } else { parsed };
    json!({ "source": source, "from": parsed.map(|(from, _)| from), "until": parsed.map(|(_, until)| until) })
}

fn pem_validity(pem: &[u8]) -> Option<(i64, i64)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(validity(&pem.parse_x509().ok()?))
}

fn validity(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

/// From when a certificate of ours was made, not from when it is valid: a new one is not a day old.
fn made_here((from, until): (i64, i64)) -> (i64, i64) {
    (from.saturating_add_unsigned(BACKDATED.as_secs()), until)
}

fn life((from, until): (i64, i64)) -> Value {
    json!({ "from": from, "until": until })
}

/// How old each secret is, in seconds: by the time its file was written.
fn secrets(web: &Web, now: u64) -> Value {
    let config = web.config();
    let turn: Option<PathBuf> = match &config.secret_file {
        _ if !config.secrets.is_empty() => None,
        Some(file) => Some(file.clone()),
        None => Some(config.state_dir.join(state::TURN_SECRET)),
    };
    let age = |path: &Path| {
        let written = fs::metadata(path).and_then(|file| file.modified()).ok()?;
        Some(now.saturating_sub(written.duration_since(UNIX_EPOCH).ok()?.as_secs()))
    };
    let of_state = |name: &str| age(&config.state_dir.join(name));
    json!({
        "turn-secret": turn.as_deref().and_then(age),
        "token-key": of_state(state::TOKEN_KEY),
        "admin-token": of_state(state::ADMIN_TOKEN),
    })
}
