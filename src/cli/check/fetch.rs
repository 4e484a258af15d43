//! What the server tells over HTTP: its clock, and with an access token its ICE configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::cause::{Cause, Fault};
use super::open::Opener;
use super::relay::Login;
use super::report::Finding;
use super::stream;
use super::target::{self, Target};
use crate::clock;

/// How long the server may take to tell the time; many TURN servers speak no HTTP.
const DATE_WAIT: Duration = Duration::from_secs(2);
/// Most bytes of a configuration.
const MAX_BODY: usize = 64 * 1024;
/// Seconds by which two clocks may differ: `Date` has whole seconds, and credentials live for hours.
const MAX_SKEW: u64 = 30;

/// Where an ICE configuration is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub is_tls: bool,
    pub host: String,
    pub port: u16,
    pub token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    ice_servers: Vec<IceServer>,
}

#[derive(Deserialize)]
struct IceServer {
    urls: Vec<String>,
    username: Option<String>,
    credential: Option<String>,
}

/// What a configuration says: where to go and how to authenticate.
pub struct Offer {
    pub targets: Vec<Target>,
    pub login: Option<Login>,
}

/// Fetches `/api/ice` with every URL. The token goes over a connection that `opener` trusts, or to an `http:` link.
pub async fn offer(opener: &Opener, source: &Source) -> Result<Offer, Fault> {
    let servers = target::resolve(&source.host, source.port).await.unwrap_or_default();
    let server = *servers.first().ok_or_else(|| Fault::new(Cause::NameUnknown, "the name has no address"))?;
    let stream = opener.connect(server).await?;
    let host = if source.host.contains(':') { format!("[{}]", source.host) } else { source.host.clone() };
    let request = Request::get("/api/ice?all=1")
        .header(header::HOST, format!("{host}:{}", source.port))
        .header(header::AUTHORIZATION, format!("Bearer {}", source.token))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(Fault::other)?;
    let exchange = async {
        if source.is_tls {
            send(opener.handshake(Arc::clone(&opener.tls), stream).await?, request).await
        } else {
            send(stream, request).await
        }
    };
    let answer = tokio::time::timeout(opener.timeout, exchange).await;
    let (answer, body) = answer.map_err(|_| Fault::new(Cause::NoAnswer, "no answer to GET /api/ice"))??;
    if answer.status() != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
        return Err(Fault::new(Cause::TokenRefused, format!("GET /api/ice: {}: {text}", answer.status())));
    }
    let skew = skew(&answer);
    let configuration: Configuration = serde_json::from_slice(&body).map_err(|error| {
        Fault::new(Cause::TokenRefused, format!("GET /api/ice gives no ICE configuration: {error}"))
    })?;
    let mut offer = Offer { targets: Vec::new(), login: None };
    for entry in configuration.ice_servers {
        offer.targets.extend(entry.urls.iter().filter_map(|url| target::parse(url).ok()));
        if let (Some(username), Some(password)) = (entry.username, entry.credential) {
            offer.login = Some(Login { username, password, skew });
        }
    }
    Ok(offer)
}

/// Seconds by which the server's clock is ahead of ours; `None` when it speaks no HTTP there.
pub async fn skew_of(opener: &Opener, server: SocketAddr, is_tls: bool) -> Option<i64> {
    let exchange = async {
        let stream = opener.connect(server).await.ok()?;
        let request = Request::head("/healthz").header(header::HOST, server.to_string()).body(Empty::new()).ok()?;
        let (answer, _) = if is_tls {
            // Nothing is told, and the clock of an untrusted server is of interest as well.
            let tls = Arc::new(stream::tls_config(RootCertStore::empty(), true).ok()?);
            send(opener.handshake(tls, stream).await.ok()?, request).await.ok()?
        } else {
            send(stream, request).await.ok()?
        };
        skew(&answer)
    };
    tokio::time::timeout(DATE_WAIT, exchange).await.ok()?
}

/// The finding on a difference of clocks.
pub fn clock_finding(skew: i64) -> Finding {
    if skew.unsigned_abs() <= MAX_SKEW {
        return Finding::good("clock", format!("the server's clock differs from ours by {} s", skew.unsigned_abs()));
    }
    let side = if skew > 0 { "ahead of" } else { "behind" };
    let text = format!(
        "the server's clock is {} s {side} ours: credentials and certificates seem expired, or live too long",
        skew.unsigned_abs()
    );
    Finding::warning("clock", Fault::new(Cause::ClockSkew, text))
}

fn skew<B>(answer: &Response<B>) -> Option<i64> {
    let date = httpdate::parse_http_date(answer.headers().get(header::DATE)?.to_str().ok()?).ok()?;
    let theirs = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(theirs as i64 - clock::now().unix as i64)
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(Response<()>, Bytes), Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Fault::other)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let answer = sender.send_request(request).await.map_err(Fault::other)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(Fault::other)?;
        Ok((Response::from_parts(head, ()), body.to_bytes()))
    };
    let answer = answer.await;
    connection.abort();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        assert!(clock_finding(-30).ok);
        let ahead = clock_finding(3600);
        assert_eq!(ahead.cause, Some(Cause::ClockSkew));
        assert!(ahead.text.contains("3600 s ahead of"), "{}", ahead.text);
        let now = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(clock::now().unix + 100));
        let answer = Response::builder().header(header::DATE, now).body(()).expect("built");
        assert!((99..=100).contains(&skew(&answer).expect("a date")));
        assert_eq!(skew(&Response::new(())), None);
    }
}
