//! What the running server tells `relais status`: one JSON object for whoever connects to a socket in the state
//! directory, which only the service's user and root can reach.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::App;
use crate::clock;
use crate::config::Access;
use crate::time::Mono;
use crate::web::Web;
use crate::web::metrics;
use crate::web::tls::Tls;

/// How long a reader may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, so that the loop does not spin.
const BACKOFF: Duration = Duration::from_millis(100);

/// The socket's file.
pub fn socket_file(state_dir: &Path) -> PathBuf {
    state_dir.join("status.sock")
}

/// Answers until the runtime ends. A state directory that takes no socket costs `relais status` and nothing else.
pub(super) fn serve(app: &App, started: Mono) {
    let (web, tls) = (app.web.clone(), app.tls.clone());
    let path = socket_file(&web.config().state_dir);
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "`relais status` will not work: its socket cannot be made");
            return;
        }
    };
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // One at a time: it is for an operator's eyes.
                Ok((mut stream, _)) => {
                    let text = report(&web, &tls, started).await.to_string();
                    let answer = async { stream.write_all(text.as_bytes()).await };
                    let _ = tokio::time::timeout(PATIENCE, answer).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot answer `relais status`");
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    });
}

/// Replaces what an earlier run left: this one holds the lock of the directory.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

async fn report(web: &Web, tls: &Tls, started: Mono) -> Value {
    let metrics = metrics::page(web).await;
    let (now, bound, config) = (clock::now(), &web.bound, web.config());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptimeSeconds": (now.mono - started).as_secs(),
        "domain": config.domain,
        "publicIps": config.public_ips.iter().map(|ip| ip.public).collect::<Vec<_>>(),
        "access": if web.live.get().access == Access::Open { "open" } else { "invite" },
        "sockets": { "udp": bound.udp, "tcp": bound.tcp, "http": bound.http, "metrics": bound.metrics },
        "certificate": certificate(web, tls, now.unix),
        "connections": web.hub.connections(),
        "metrics": metrics,
    })
}

fn certificate(web: &Web, tls: &Tls, now: u64) -> Value {
    let acme = tls.acme.as_ref().map(|acme| acme.status());
    let source = match &acme {
        _ if web.config().certificate.is_some() => "files",
        Some(status) if status.validity.is_some() => "acme",
        Some(_) | None => "local",
    };
    let validity = web.identity.chain().first().and_then(|leaf| {
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
        let at = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok();
        Some((at(parsed.validity().not_before)?, at(parsed.validity().not_after)?))
    });
    json!({
        "source": source,
        "notBefore": validity.map(|(from, _)| from),
        "notAfter": validity.map(|(_, to)| to),
        "ageSeconds": validity.map(|(from, _)| now.saturating_sub(from)),
        "acmeFailures": acme.as_ref().map(|status| status.failures),
        "acmeFailingSince": acme.as_ref().and_then(|status| status.failing_since),
        "acmeLastError": acme.as_ref().and_then(|status| status.last_error.as_deref()),
    })
}
